"""Separate environments for the libraries compared with, created on first use."""
import pathlib
import subprocess
import sys
from typing import Optional, Union

LITELLM = "1.106.2"
LANGCHAIN = "1.7.4"
_LANGCHAIN_REQUIREMENTS = [
    "langchain-openai==" + LANGCHAIN, "langchain-core==1.8.3", "openai==3.57.0",
]
# Both sides of a ratio use the same requests.
REQUESTS = "2.34.2"
_LITELLM_REQUIREMENTS = ["litellm==" + LITELLM, "requests==" + REQUESTS]
# The providers' own SDKs, whose types judge what the pack sends and reads. This release of
# Anthropic's is the last one for the version of the API that the pack speaks.
_SDK_REQUIREMENTS = [
    "openai==3.57.0", "anthropic==0.125.0", "google-genai==3.6.1", "botocore==1.44.8",
]
INSTALL_SECONDS = 400
Folder = Union[str, pathlib.Path]
# Lists what an environment was made with, once it is complete.
_READY = ".ready"


class NotInstalled(Exception):
    """A peer could not be installed. The message is one line with the reason."""


def litellm(folder: Folder) -> str:
    """The Python of an environment with LiteLLM.

    :param folder: where environments are stored; created if missing.
    :raises NotInstalled: if pip could not install it.
    """
    return _environment(pathlib.Path(folder), "litellm", _LITELLM_REQUIREMENTS)


def existing_litellm(folder: Folder) -> str:
    """The Python of an environment with LiteLLM that was made before.

    :raises NotInstalled: if there is none.
    """
    python = _ready_python(pathlib.Path(folder), "litellm", _LITELLM_REQUIREMENTS)
    if python is None:
        raise NotInstalled("%s has no LiteLLM %s: run `make judges`" % (folder, LITELLM))
    return python


def sdks(folder: Folder) -> str:
    """The Python of an environment with the SDKs of the providers; see `litellm`."""
    return _environment(pathlib.Path(folder), "sdks", _SDK_REQUIREMENTS)


def existing_sdks(folder: Folder) -> str:
    """The Python of an environment with the SDKs that was made before.

    :raises NotInstalled: if there is none.
    """
    python = _ready_python(pathlib.Path(folder), "sdks", _SDK_REQUIREMENTS)
    if python is None:
        raise NotInstalled("%s has not the SDKs of the providers: run `make judges`" % folder)
    return python


def langchain(folder: Folder) -> str:
    """The Python of an environment with LangChain's client of OpenAI; see `litellm`."""
    return _environment(pathlib.Path(folder), "langchain", _LANGCHAIN_REQUIREMENTS)


def _environment(folder: pathlib.Path, name: str, requirements: list[str]) -> str:
    existing = _ready_python(folder, name, requirements)
    if existing is not None:
        return existing
    home = folder / name
    python = home / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"] +
         requirements)
    (home / _READY).write_text("\n".join(requirements))
    return str(python)


def _ready_python(
    folder: pathlib.Path, name: str, requirements: list[str]
) -> Optional[str]:
    home = folder / name
    ready = home / _READY
    if ready.exists() and ready.read_text().split() == requirements:
        return str(home / "bin" / "python")
    return None


def _run(command: list[str]) -> None:
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


def main(folder: str) -> int:
    """Make the environments that the tests use, and return the exit code."""
    exit_code = 0
    for name, install in (("LiteLLM", litellm), ("The SDKs of the providers", sdks)):
        try:
            install(folder)
        except NotInstalled as error:
            print("%s could not be installed: %s" % (name, error), file=sys.stderr)
            exit_code = 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
