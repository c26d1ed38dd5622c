"""What the tests of orchestrations share: models that answer by the step that asks, and runs."""
import base64
import json
import threading

from fixtures.waiting import ENDLESS_SECONDS, until

from sandbox import delay, ok

MODEL = "gpt-4o"
TARGET = "llm:openai/" + MODEL
# Example 3 of the guide.
SEARCHES = [("Search Academic Papers", "arxiv.org"), ("Search Technical Docs",
            "developer.mozilla.org"), ("Search GitHub", "github.com")]
RESEARCH = {
    "name": "Multi-Source Research",
    "tags": ["research"],
    "steps": [
        {"name": name, "order": n, "roleName": "Research Assistant", "parallelGroup": "search",
         "inputMapping": {"query": "{{context.input.topic}} site:" + site}}
        for n, (name, site) in enumerate(SEARCHES)
    ] + [
        {"name": "Synthesize Findings", "order": 3, "roleName": "Synthesizer",
         "inputMapping": {"sources": {
             "academic": "{{context['Search Academic Papers']}}",
             "docs": "{{context['Search Technical Docs']}}",
             "github": "{{context['Search GitHub']}}"}},
         "outputMapping": {"report": "{{output}}"}},
    ],
}
# Example 4.
CORRECTING = {
    "name": "Self-Correcting Coder",
    "tags": ["coding", "reliability"],
    "steps": [
        {"name": "Generate Code", "order": 0, "roleName": "Coder", "maxRetries": 2,
         "retryDelay": 1000, "timeout": 60000},
        {"name": "Run Tests", "order": 1, "roleName": "Tester",
         "inputMapping": {"code": "{{context['Generate Code']}}"},
         "outputMapping": {"testResults": "{{output}}"}},
        {"name": "Fix Failures", "order": 2, "roleName": "Debugger",
         "condition": {"field": "testResults.passed", "operator": "<", "value": 1.0},
         "inputMapping": {"code": "{{context['Generate Code']}}",
                          "failures": "{{context.testResults.failures}}"}},
    ],
}
PING_PONG = {
    "name": "Ping-Pong",
    "steps": [
        {"name": "Creator", "order": 0, "role": "Writer"},
        {"name": "Critic", "order": 1, "role": "Critic"},
        {"name": "Refine until good", "order": 2,
         "condition": {"field": "Critic.score", "operator": "<", "value": 0.8},
         "loop": {
             "steps": [{"name": "Refine", "role": "Editor"},
                       {"name": "Judge", "role": "Critic", "input": {"text": "{{context.Refine}}"},
                        "output": {"Critic": "{{output}}"}}],
             "until": {"field": "Critic.score", "operator": ">=", "value": 0.8},
             "max_rounds": 5}},
    ],
}


class Orchestrated:
    """Orchestrations on a World.

    :ivar answers: {role: text, JSON value, sandbox step, or a function (prompt, number) -> any of
        these}; a role that is not there answers `<role>: <prompt>`.
    :ivar requests: [(role, prompt)], in the order of arrival.
    """

    def __init__(self, world):
        self.world, self.answers, self.requests = world, {}, []
        self._lock, self._numbers = threading.Lock(), {}
        world.box.script(TARGET, [self._answer], forever=True)

    def _answer(self, call):
        role = self.role_of(call.body["messages"][0]["content"])
        prompt = call.body["messages"][-1]["content"]
        with self._lock:
            self.requests.append((role, prompt))
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
        return [prompt for name, prompt in self.requests if name == role]

    def role(self, name, **more):
        fields = dict({"name": name, "base_prompt": "%s: do your part." % name, "model": MODEL},
                     **more)
        return self.action("role.create", fields=at_the_door(fields))

    def define(self, steps, name="flow", roles=True, **more):
        """Creates the orchestration, and the roles that its steps name."""
        if roles:
            for role in sorted(set(_roles(steps)) - set(getattr(self, "_created_roles", ()))):
                self.role(role)
                self._created_roles = getattr(self, "_created_roles", ()) + (role,)
        fields = dict({"name": name, "steps": steps}, **more)
        return self.action("orchestration.create", fields=at_the_door(fields))

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

    def ended(self, run_id):
        ends = ("succeeded", "failed", "canceled", "timeout")
        until(lambda: self.world.local.execution(run_id)["status"] in ends, run_id + " has ended")
        return self.world.local.execution(run_id)

    def running_steps(self):
        """The steps that run in a process, as st2local holds them."""
        return [
            execution for execution in list(self.world.local._live.values())
            if execution.action.ref.endswith((".step", ".wave")) and execution.run is not None]

    def kill_steps(self):
        """Kills the processes of the steps that run."""
        for execution in self.running_steps():
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
    return {entry["step_id"]: entry for entry in output["stepLogs"]}


def statuses(output):
    return {name: entry["status"] for name, entry in logs(output).items()}


class KilledThrice:
    """An orchestration of ten waves of three steps; in three waves a step's process is killed while
    it asks its model.

    :param kill: kills the processes of the steps that run.
    :param running: a callable () -> those steps; the others of a wave are let end first.
    """

    _KILLED = ("w2s1", "w5s0", "w8s2")

    def __init__(self, flow, kill, running, name="thirty"):
        self._flow, self._kill, self._running, self._deadly = flow, kill, running, set(self._KILLED)
        flow.answers["A"] = self._answer
        flow.define([
            {"name": "w%ds%d" % (w, n), "role": "A", "order": w, "group": "g%d" % w,
             "input": "w%ds%d goes {{context.w%ds%d}}" % (w, n, max(0, w - 1), n)}
            for w in range(10) for n in range(3)
        ], name=name)

    def _answer(self, prompt, number):
        name = prompt.split()[0]
        if name not in self._deadly:
            return "answer of " + name
        self._deadly.discard(name)
        until(lambda: self._is_last(name[:-1]), "the others of its wave have ended")
        self._kill()
        return delay(ENDLESS_SECONDS)

    def _is_last(self, wave):
        names = [prompt.split()[0] for prompt in self._flow.prompts("A")]
        return all(wave + n in names for n in "012") and len(self._running()) == 1

    def check(self, output):
        """That each finished step ran once, and each that was killed twice."""
        assert output["status"] == "completed", output["error"]
        assert len(output["stepLogs"]) == 30 and set(statuses(output).values()) == {"completed"}
        names = [prompt.split()[0] for prompt in self._flow.prompts("A")]
        assert {name: names.count(name) for name in set(names)} == {
            "w%ds%d" % (w, n): 1 + ("w%ds%d" % (w, n) in self._KILLED)
            for w in range(10) for n in range(3)}
        assert "w9s2 goes answer of w8s2" in self._flow.prompts("A")
