"""What the tests of orchestrations share: models that answer by the step that asks, and runs."""
import base64
import json
import threading
import time

from sandbox import ok

MODEL = "gpt-4o"
TARGET = "llm:openai/" + MODEL


class Orchestrated:
    """Orchestrations on a World.

    :ivar answers: {role: text, JSON value, sandbox step, or a function (prompt, number) -> any of
        these}; a role that is not there answers `<role>: <prompt>`.
    :ivar asked: [(role, prompt)], in the order of arrival.
    """

    def __init__(self, world):
        self.world, self.answers, self.asked = world, {}, []
        self._lock, self._numbers = threading.Lock(), {}
        world.box.script(TARGET, [self._answer], forever=True)

    def _answer(self, call):
        role = self.role_of(call.body["messages"][0]["content"])
        prompt = call.body["messages"][-1]["content"]
        with self._lock:
            self.asked.append((role, prompt))
            number = self._numbers[role] = self._numbers.get(role, 0) + 1
        answer = self.answers.get(role, "%s: %s" % (role, prompt))
        answer = answer(prompt, number) if callable(answer) else answer
        if isinstance(answer, str):
            return ok(text=answer)
        return ok(text=json.dumps(answer)) if isinstance(answer, (dict, list)) else answer

    def role_of(self, system):
        """The name of the role whose system message that is."""
        return system.split(":", 1)[0].split("\n", 1)[0]

    def prompts(self, role):
        return [prompt for name, prompt in self.asked if name == role]

    def role(self, name, **more):
        given = dict({"name": name, "base_prompt": "%s: do your part." % name, "model": MODEL},
                     **more)
        return self.action("role.create", fields=at_the_door(given))

    def define(self, steps, name="flow", roles=True, **more):
        """Creates the orchestration, and the roles that its steps name."""
        if roles:
            for role in sorted(set(_roles(steps)) - set(getattr(self, "_known", ()))):
                self.role(role)
                self._known = getattr(self, "_known", ()) + (role,)
        given = dict({"name": name, "steps": steps}, **more)
        return self.action("orchestration.create", fields=at_the_door(given))

    def action(self, ref, **parameters):
        """The result of an action, which must succeed."""
        run = self.world.local.run("synthralos." + ref, parameters)
        assert run["status"] == "succeeded", run["result"]
        return run["result"]["result"]

    def refused(self, ref, **parameters):
        """The error of an action, which must fail."""
        run = self.world.local.run("synthralos." + ref, parameters)
        assert run["status"] == "failed", run["result"]
        return run["result"]["result"]["error"]

    def run(self, orchestration="flow", **parameters):
        """(execution, output) of a run to its end."""
        parameters = at_the_door(dict({"orchestration": orchestration}, **parameters))
        return self.world.run("orchestration.run", **parameters)

    def start(self, orchestration="flow", **parameters):
        parameters = at_the_door(dict({"orchestration": orchestration}, **parameters))
        return self.world.local.start("synthralos.orchestration.run", parameters)

    def status(self, run_id, **parameters):
        return self.action("orchestration.status", execution_id=run_id, **parameters)

    def resume(self, run_id):
        """(execution, output) of a run that goes on where that one ended."""
        started = self.action("orchestration.resume", execution_id=run_id)["execution_id"]
        execution = self.ended(started)
        return execution, (execution["result"] or {}).get("output")

    def ended(self, run_id, seconds=60):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            execution = self.world.local.execution(run_id)
            if execution["status"] in ("succeeded", "failed", "canceled", "timeout"):
                return execution
            time.sleep(0.05)
        raise AssertionError("%s is still %s" % (run_id, execution["status"]))

    def kill_steps(self):
        """Kills the processes of the steps that run."""
        for execution in list(self.world.local._live.values()):
            if execution.action.ref.endswith("orchestration.step") and execution.run is not None:
                execution.run.kill()


def at_the_door(value):
    """`value` with every text encoded that StackStorm would render."""
    if isinstance(value, str):
        marked = "{{" in value or "{%" in value
        return "base64:" + base64.b64encode(value.encode()).decode() if marked else value
    if isinstance(value, dict):
        return {key: at_the_door(item) for key, item in value.items()}
    return [at_the_door(item) for item in value] if isinstance(value, list) else value


def _roles(steps):
    for step in steps:
        for name in ("role", "role_name", "roleName"):
            if step.get(name):
                yield step[name]
        if step.get("critic"):
            yield step["critic"]["role"]
        for inner in (step.get("loop") or {}).get("steps") or []:
            yield from _roles([inner])
        branch = step.get("branch") or {}
        for case in branch.get("cases") or []:
            yield from _roles(case["steps"])
        yield from _roles(branch.get("otherwise") or [])


def logs(output):
    """{step id: its log} of a run's output."""
    return {entry["step_id"]: entry for entry in output["steps"]}


def statuses(output):
    return {name: entry["status"] for name, entry in logs(output).items()}
