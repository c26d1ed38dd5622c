"""Separate environments for the libraries compared with, created on first use."""
import pathlib
import subprocess
import sys

LITELLM = "1.106.2"
# Both sides of a ratio use the same requests.
REQUESTS = "2.34.2"
INSTALL_SECONDS = 400


class NotInstalled(Exception):
    """A peer could not be installed. The message is one line with the reason."""


def litellm(folder):
    """The Python of an environment with LiteLLM.

    :param folder: where environments are stored; created if missing.
    :raises NotInstalled: if pip could not install it.
    """
    return _environment(
        pathlib.Path(folder), "litellm",
        ["litellm==" + LITELLM, "requests==" + REQUESTS],
    )


def _environment(folder, name, requirements):
    home = folder / name
    python, ready = home / "bin" / "python", home / ".ready"
    if ready.exists() and ready.read_text().split() == requirements:
        return str(python)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"] +
         requirements)
    ready.write_text("\n".join(requirements))
    return str(python)


def _run(command):
    try:
        completed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled("%s" % error) from None
    if completed.returncode:
        output_lines = (completed.stderr or completed.stdout).strip().splitlines() or [
            "exit code %d" % (completed.returncode)
        ]
        raise NotInstalled(output_lines[-1])
