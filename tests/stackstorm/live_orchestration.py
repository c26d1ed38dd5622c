"""Orchestrations on a live StackStorm, with the words of tests/workflows/orchestrations.py."""
from workflows.orchestrations import Orchestrated, at_the_door


class _NoWorld:
    def __init__(self, box):
        self.box = box


class Live(Orchestrated):
    """:param st2: the fixture; what is created is deleted by `clear`."""

    def __init__(self, st2, box):
        super().__init__(_NoWorld(box))
        self.st2, self.box, self._before = st2, box, None
        self._delete()

    def configure(self, **more):
        """Adds to the pack's configuration until `clear`."""
        self._before = self.box.pack_config()
        self.st2.call("PUT", "/configs/synthralos", json=dict(self._before, **more))

    def clear(self):
        if self._before is not None:
            self.st2.call("PUT", "/configs/synthralos", json=self._before)
        self._delete()

    def _delete(self):
        for noun in ("orchestration", "role"):
            for resource in self.action(noun + ".list")[noun + "s"]:
                self.action(noun + ".delete", name=resource["name"], force=True)

    def action(self, ref, **parameters):
        run = self.st2.wait(self.st2.start(ref, **parameters))
        assert run["status"] == "succeeded", run["result"]
        return run["result"]["result"]

    def refused(self, ref, **parameters):
        run = self.st2.wait(self.st2.start(ref, **parameters))
        assert run["status"] == "failed", run["result"]
        return run["result"]["result"]["error"]

    def run(self, orchestration="flow", **parameters):
        run = self.st2.wait(self.start(orchestration, **parameters))
        return run, run["result"].get("output")

    def start(self, orchestration="flow", **parameters):
        parameters = at_the_door(dict({"orchestration": orchestration}, **parameters))
        return self.st2.start("orchestration.run", **parameters)

    def resume(self, run_id):
        started = self.action("orchestration.resume", execution_id=run_id)["execution_id"]
        run = self.st2.wait(started)
        return run, run["result"].get("output")

    def begin(self, orchestration, **parameters):
        """The id of a run that has been started."""
        return self.start(orchestration, **parameters)

    def finish(self, run_id, approve=False):
        """The execution at its end; what it asks is approved."""
        if approve:
            self.st2.wait(run_id, "paused")
            self.action("approval.answer", execution_id=run_id, approved=True)
        return self.st2.wait(run_id)


class Local(Orchestrated):
    """The same on st2local."""

    @property
    def box(self):
        return self.world.box

    def begin(self, orchestration, **parameters):
        self._handle = self.start(orchestration, **parameters)
        return self._handle.id

    def finish(self, run_id, approve=False):
        if approve:
            self._handle.wait_for("paused")
            self.action("approval.answer", execution_id=run_id, approved=True)
        return self.ended(run_id)


def comparable(run, output):
    """What two runs of one orchestration have in common wherever they ran."""
    steps = [
        {name: value for name, value in step.items() if name not in ("duration", "execution_id")}
        for step in output["stepLogs"]
    ]
    # Steps of a group end in any order.
    steps.sort(key=lambda step: step["step_id"])
    return {
        "run": run["status"],
        "status": output["status"],
        "output": output["output"],
        "error": (output["error"] or {}).get("message"),
        "steps": steps,
    }
