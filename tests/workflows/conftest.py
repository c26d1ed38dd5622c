"""Whole runs on st2local against the sandbox, without waiting: the back-off is switched off."""
import os
import pathlib

import pytest
from fixtures import pack_copies
from fixtures.waiting import PATIENCE_SECONDS
from workflows.alerting import body

from sandbox import Sandbox
from st2local import St2Local

HERE = pathlib.Path(__file__).resolve().parent
PACK = HERE.parent.parent


class World:
    """The sandbox, and the pack on st2local that is configured for it."""

    def __init__(self, box, folder, action_processes):
        self.box, self.folder, self.action_processes = box, folder, action_processes
        self.pack, self.delay, self.packs = PACK, None, ()
        self.config = dict(
            box.pack_config(), backoff={"strategy": "immediate"},
            # The sandbox answers, however busy the machine is.
            attempt_timeouts=dict.fromkeys(("connect", "request", "llm"), PATIENCE_SECONDS))
        self._local = None

    @property
    def local(self):
        if self._local is None:
            self._local = St2Local(
                self.pack, self.config, self.folder / "state", delay=self.delay,
                packs=self.packs, popen=self.action_processes.popen)
        return self._local

    def close(self):
        if self._local is not None:
            self._local.close()

    def run(self, workflow, **parameters):
        """(execution, its output)."""
        execution = self.local.run("synthralos." + workflow, parameters)
        return execution, (execution["result"] or {}).get("output")

    def tasks(self, execution):
        """The actions that the run requested, in order."""
        children = self.local.executions(parent=execution["id"])
        children = sorted(children, key=lambda child: child["start_timestamp"])
        return [child["action"]["ref"].split(".", 1)[1] for child in children]

    def copy_pack(self):
        """Copies the pack to change it, and returns the copy, which runs from then on."""
        copy = self._copy_but_library()
        pack_copies.copy_library(copy)
        return copy

    def with_action(self, name, source):
        """Puts `source` in place of the action `name`, in a copy of the pack.

        Its library is the pack's own: use `copy_pack` to change that.
        """
        (self._copy_but_library() / "actions" / (name + ".py")).write_text(source)

    def _copy_but_library(self):
        copy = self.folder / "pack"
        if not copy.exists():
            pack_copies.copy_pack(copy)
        self.pack = copy
        return copy


@pytest.fixture
def world(tmp_path, monkeypatch, action_processes):
    monkeypatch.setenv("PYTHONPATH", str(HERE / "patient"), prepend=os.pathsep)
    with Sandbox() as box:
        new_world = World(box, tmp_path, action_processes)
        yield new_world
        new_world.close()


@pytest.fixture
def webhook(world):
    """webhook(*alerts) -> the result of alert.receive, as Alertmanager's webhook rule starts it."""

    def post(*alerts, status="succeeded", **parameters):
        run = world.local.run(
            "synthralos.alert.receive", parameters, rule="synthralos.webhook_alertmanager",
            trigger_instance={"payload": {"body": body(*alerts), "headers": {}}},
        )
        assert run["status"] == status, run["result"]
        return run["result"]["result"]

    return post
