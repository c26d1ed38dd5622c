"""Puts the library and the programs of dev/ on the path, as StackStorm and the Makefile do.

With StackStorm's own st2tests, tests that start servers and processes are skipped.
"""
import contextlib
import pathlib

import fixtures
import pytest
from fixtures.action_processes import ActionProcesses

HERE = pathlib.Path(__file__).resolve().parent
ALONE = (
    "browser/", "fuzz/", "judge/", "peers/", "sandbox/", "seeds/", "stackstorm/", "st2local/",
    "workflows/", "unit/test_http.py", "unit/test_stackstorm_api.py", "unit/test_escalation",
    "unit/test_inprocess", "unit/test_sensing",
)


def pytest_collection_modifyitems(items):
    if not fixtures.cooperative():
        return
    reason = "st2tests has replaced sockets and threads here: run this folder by itself"
    for item in items:
        if str(item.fspath)[len(str(HERE)) + 1:].startswith(ALONE):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def effects(tmp_path_factory):
    """The file in which the agents of a real server leave a line for each effect."""
    path = tmp_path_factory.mktemp("effects") / "lines"
    path.touch()
    return path


@pytest.fixture(scope="session")
def action_processes():
    """Starts the processes of actions, for St2Local(..., popen=action_processes.popen)."""
    with contextlib.closing(ActionProcesses()) as processes:
        yield processes
