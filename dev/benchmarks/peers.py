"""Separate environments for the libraries compared with, and for the servers of agents that judge
the pack, created on first use.
"""
import functools
import pathlib
import shutil
import subprocess
import sys
from typing import Callable, Optional, Union

LITELLM = "1.106.2"
LANGCHAIN = "1.7.4"
_LANGCHAIN_REQUIREMENTS = [
    "langchain-openai==" + LANGCHAIN, "langchain-core==1.8.3", "openai==3.57.0",
]
# Both sides of a ratio use the same requests.
REQUESTS = "2.34.2"
_LITELLM_REQUIREMENTS = ["litellm==" + LITELLM, "requests==" + REQUESTS]
# The servers of agents before which the tests run; {name: requirements}.
AGENT_SERVERS = {
    "langgraph": [
        "langgraph-cli[inmem]==0.4.40", "langgraph-api==0.16.7", "langchain==1.5.2",
    ],
    "a2a": ["a2a-sdk[http-server]==1.3.0", "uvicorn==0.54.0"],
    "a2a-0.3": ["a2a-sdk[http-server]==0.3.26", "uvicorn==0.54.0"],
    "fasta2a": ["fasta2a==2.1.1", "uvicorn==0.54.0"],
}
# The providers' own SDKs, whose types judge what the pack sends and reads. This release of
# Anthropic's is the last one for the version of the API that the pack speaks.
_SDK_REQUIREMENTS = [
    "openai==3.57.0", "anthropic==0.125.0", "google-genai==3.6.1", "botocore==1.44.8",
]
# A fault server that speaks all wires of the pack, on npm.
AIMOCK = "@copilotkit/aimock@1.43.0"
INSTALL_SECONDS = 400
Folder = Union[str, pathlib.Path]
# Lists what an environment was made with, once it is complete.
_READY = ".ready"
_AIMOCK_SCRIPT = pathlib.Path("node_modules", "@copilotkit", "aimock", "dist", "cli.js")


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


def aimock(folder: Folder) -> str:
    """The script that starts aimock, run with `node`; see `litellm`."""
    existing = _ready_aimock(pathlib.Path(folder))
    if existing is not None:
        return existing
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("there is no npm")
    home = pathlib.Path(folder) / "aimock"
    home.mkdir(parents=True, exist_ok=True)
    options = ["--prefix", str(home), "--ignore-scripts", "--no-audit", "--no-fund"]
    _run([npm, "install"] + options + [AIMOCK])
    (home / _READY).write_text(AIMOCK)
    return str(home / _AIMOCK_SCRIPT)


def existing_aimock(folder: Folder) -> str:
    """The script that starts aimock, if it was installed before.

    :raises NotInstalled: if it was not.
    """
    script = _ready_aimock(pathlib.Path(folder))
    if script is None:
        raise NotInstalled("%s has no %s: run `make judges`, which needs npm" % (folder, AIMOCK))
    return script


def _ready_aimock(folder: pathlib.Path) -> Optional[str]:
    ready = folder / "aimock" / _READY
    if ready.exists() and ready.read_text() == AIMOCK:
        return str(folder / "aimock" / _AIMOCK_SCRIPT)
    return None


def langchain(folder: Folder) -> str:
    """The Python of an environment with LangChain's client of OpenAI; see `litellm`."""
    return _environment(pathlib.Path(folder), "langchain", _LANGCHAIN_REQUIREMENTS)


def agent_server(folder: Folder, name: str) -> str:
    """The Python of an environment with a server of AGENT_SERVERS; see `litellm`."""
    return _environment(pathlib.Path(folder), name, AGENT_SERVERS[name])


def existing_agent_server(folder: Folder, name: str) -> str:
    """The Python of an environment with a server of AGENT_SERVERS that was made before.

    :raises NotInstalled: if there is none.
    """
    python = _ready_python(pathlib.Path(folder), name, AGENT_SERVERS[name])
    if python is None:
        raise NotInstalled("%s has no %s: run `make judges`" % (folder, AGENT_SERVERS[name][0]))
    return python


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
    installers: dict[str, Callable[[], object]] = {
        "LiteLLM": functools.partial(litellm, folder),
        "The SDKs of the providers": functools.partial(sdks, folder),
        AIMOCK: functools.partial(aimock, folder),
    }
    for name, requirements in AGENT_SERVERS.items():
        installers[requirements[0]] = functools.partial(agent_server, folder, name)
    exit_code = 0
    for label, install in installers.items():
        try:
            install()
        except NotInstalled as error:
            print("%s could not be installed: %s" % (label, error), file=sys.stderr)
            exit_code = 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
