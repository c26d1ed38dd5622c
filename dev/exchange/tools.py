"""Checks that run other programs, each with what StackStorm Exchange runs them with.

Each takes the pack's folder and returns its errors, a line each.
"""
import os
import pathlib
import subprocess
import sys

import yaml

from exchange.files import files
from exchange.static import version

HERE = pathlib.Path(__file__).resolve().parent
MAX_LINES_SHOWN = 200
# The only folders that pylint checks.
LINTED = ("actions", "sensors", "etc")
# They hold the pack's files to StackStorm's rules; and to StackStorm, where it is on the path.
RULES = ("test_metadata.py", "test_documents.py", "test_registration.py", "test_workflow_files.py")


def flake8(pack):
    """Every Python file follows the rules in .flake8, by flake8 3.7.7."""
    paths = [str(path) for path in files(pack, ".py")]
    return _run(pack, ["-m", "flake8", "--config", ".flake8"] + paths)


def pylint(pack):
    """No errors, by pylint 3.1.1 with -E, which sees StackStorm (or its stand-ins) and actions/lib.
    """
    errors = []
    for folder in LINTED:
        paths = [str(path) for path in files(pack, ".py") if path.parts[0] == folder]
        if paths:
            errors += _run(
                pack, ["-m", "pylint", "-E", "--rcfile", str(HERE / "pylintrc")] + paths,
                stackstorm(pack) + ["actions/lib"],
            )
    return errors


def rules(pack):
    """Actions, aliases, rules, policies, sensors, triggers, configuration: what registering checks.
    """
    tests = ["tests/contract/" + name for name in RULES]
    return _run(pack, ["-m", "pytest", "-q", "-p", "no:cacheprovider"] + tests, stackstorm(pack))


def tests(pack):
    """Every test passes as st2-run-pack-tests runs it, but for coverage and in two processes."""
    path = stackstorm(pack) + ["lib", "sensors", "actions", "actions/lib", "etc"]
    command = ["-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "tests/"]
    return _run(pack, command, path)


def release(pack, base):
    """Return what a pull request to `base`, a git revision, must still change."""
    changed = set(_git(pack, "diff", "--name-only", base + "...HEAD").split())
    if not changed:
        return []
    errors = ["pack.yaml was not changed since %s" % base] if "pack.yaml" not in changed else []
    if not changed & {"CHANGES.md", "CHANGELOG.md"}:
        errors.append("CHANGES.md was not changed since %s" % base)
    before = yaml.safe_load(_git(pack, "show", base + ":pack.yaml"))["version"]
    now = yaml.safe_load((pack / "pack.yaml").read_text(encoding="utf-8"))["version"]
    if not version(now) > version(before):
        errors.append(
            "pack.yaml: version %s must be above %s, the version of %s" % (now, before, base)
        )
    return errors


def stackstorm(pack):
    """The folders with StackStorm's modules: of a checkout, where ST2_REPO_PATH names one, as the
    Exchange has it; else of the stand-ins.
    """
    checkout = os.environ.get("ST2_REPO_PATH")
    if not checkout:
        return ["dev/standins", "dev/st2local/standins"]
    root = pathlib.Path(checkout)
    folders = sorted(root.glob("st2*")) + sorted(root.glob("contrib/runners/*"))
    return [str(path) for path in folders]


def _run(pack, arguments, path=()):
    python_path = [str(pack / folder) for folder in path]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(python_path), PYTHONDONTWRITEBYTECODE="1")
    completed = subprocess.run(
        [sys.executable] + arguments, cwd=str(pack), env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    if completed.returncode == 0:
        return []
    return completed.stdout.rstrip().splitlines()[-MAX_LINES_SHOWN:] + [
        "ended %d" % completed.returncode
    ]


def _git(pack, *words):
    completed = subprocess.run(
        ["git", "-C", str(pack)] + list(words), capture_output=True, text=True,
    )
    if completed.returncode:
        raise SystemExit("exchange: git: " + completed.stderr.strip())
    return completed.stdout
