"""Recoveries of an agent at two platforms that play what a test says, with the clock injected."""
from dataclasses import replace

from synthralos.calls import agent_run
from synthralos.calls.agent_platforms.agent_failures import agent_failure, cancelled
from synthralos.calls.agent_platforms.langgraph import LangGraph
from synthralos.calls.agent_platforms.protocol import RunState
from synthralos.core.sealing import unseal
from synthralos.core.timestamps import to_iso as iso
from synthralos.recovery import agent_recovery
from synthralos.storage import agent_runs
from synthralos.storage.stackstorm_api import ExecutionNotFound

from .conftest import CONFIG

HOUR = 3600
PLATFORMS = [
    {"name": "first", "api": "langgraph", "base_url": "http://127.0.0.1:9/first"},
    {"name": "second", "api": "langgraph", "base_url": "http://127.0.0.1:9/second"},
]
AGENTS = {"bot": {"platform": "first", "fallbacks": [{"platform": "second"}]}}


class Server:
    """What the agents at both platforms do, by their handles' platform.

    :ivar starts, cancels: the platforms at which a run was started, or cancelled.
    :ivar ends: {platform: what its run ends with: a RunState, or None while it works}.
    :ivar resumes: the Checkpoint of each run that was continued.
    :ivar answers_given: [(question, answer)].
    :ivar asks_again: how often an answer is followed by the same question, from the next run.
    """

    def __init__(self):
        self.starts, self.cancels, self.joins, self.ends = [], [], 0, {}
        self.keys, self.on_start, self.on_cancel = [], None, cancelled()
        self.resumes, self.on_resume, self.answers_given = [], None, []
        self.asks_again = 0

    def install(self, monkeypatch):
        server = self

        def start(platform, request, seconds):
            server.starts.append(platform._platform.name)
            server.keys.append(request.idempotency_key)
            if server.on_start is not None:
                raise server.on_start
            return RunState("running", platform.handle_for(request).with_ids(run="r"))

        def join(platform, handle, seconds):
            server.joins += 1
            end = server.ends.get(handle.platform)
            return end(handle) if end else RunState("running", handle, progress="step 3 of 9")

        def cancel(platform, handle, seconds):
            server.cancels.append(handle.platform)
            if server.on_cancel is None:
                return RunState("running", handle)
            return RunState("failed", handle, failure=server.on_cancel)

        def resume(platform, request, checkpoint, seconds):
            server.resumes.append(checkpoint)
            if server.on_resume is not None:
                raise server.on_resume
            return RunState("running", checkpoint.handle.with_ids(run="resumed"))

        def answer(platform, handle, question, text, key, seconds):
            server.answers_given.append((question, text))
            if server.asks_again:
                server.asks_again -= 1
                run = "r%d" % len(server.answers_given)
                server.asks(handle.platform, replace(question, run=run))
            else:
                server.answers(handle.platform, "told: %s" % text)
            return RunState("running", handle)

        functions = {"start": start, "join": join, "cancel": cancel, "resume": resume,
                     "answer": answer}
        for name, function in functions.items():
            monkeypatch.setattr(LangGraph, name, function)

    def answers(self, platform, output="42"):
        self.ends[platform] = lambda handle: RunState("completed", handle, output=output)

    def asks(self, platform, question):
        self.ends[platform] = lambda handle: RunState("asking", handle, question=question)

    def fails(self, platform, message="the tool broke"):
        failure = agent_failure({"message": message})
        self.ends[platform] = lambda handle: RunState("failed", handle, failure=failure)


class Executions:
    """StackStorm's API: {id: its fields}."""

    def __init__(self):
        self.rows, self.inquiries, self.started = {}, [], []

    def execution(self, execution_id, attributes=None):
        if execution_id not in self.rows:
            raise ExecutionNotFound(execution_id)
        return self.rows[execution_id]

    def executions(self, attributes, parent, action, sort_asc):
        assert action == "core.ask"
        return [row for row in self.inquiries if row["parent"] == parent]

    def start(self, ref, parameters):
        self.started.append((ref, parameters))
        return {"id": "f" * 24}

    def ask(self, run, status="pending", **response):
        """Open the inquiry of a run, or close it with a response."""
        self.inquiries.append({
            "parent": run, "status": "succeeded" if response else status,
            "result": {"response": response},
            "start_timestamp": iso(1_700_000_000 + len(self.inquiries)),
        })


class World:
    def __init__(self, make_env, api, clock, server):
        self.api, self.clock, self.server = api, clock, server
        self.config = dict(CONFIG, platforms=PLATFORMS, agents=AGENTS)
        self.env = make_env(self.config, api=api)

    def begin(self, run="a" * 24, execution=None, **more):
        """The first case of a run of agent_recovery."""
        self.env.run, self.env.is_workflow = run, True
        self.api.rows.setdefault(run, {"status": "running"})
        parameters = dict({"agent_id": "bot", "failure_type": "error", "original_query": "do it",
                           "timeout": 600, "max_retries": 0}, **more)
        result = agent_recovery.analyse(
            self.env, parameters, self.env.now(), execution=execution
        )
        return self.planned(result)

    def planned(self, result):
        case = unseal(result["next"]["carry"], self.env.store)
        return unseal(agent_recovery.plan_repair(self.env, case)["next"]["carry"], self.env.store)

    def round(self, case):
        """(ok, result, the next case or None)."""
        self.env.run = case["run"]
        clock = agent_run.Clock(self.clock, self.clock.forward)
        ok, result = agent_recovery.run_round(self.env, case, clock)
        following = result.get("next")
        return ok, result, unseal(following["carry"], self.env.store) if following else None

    def rounds(self, case):
        """Rounds as the workflow plays them, until the last: [(ok, result)]."""
        played = []
        while case is not None:
            ok, result, case = self.round(case)
            played.append((ok, result))
            if case is not None:
                self.clock.forward(result["next"]["delay"])
        return played

    def ends(self, run, status):
        self.api.rows[run] = {"status": status, "end_timestamp": iso(self.clock() - HOUR)}

    def records(self):
        return list(agent_runs.undelivered(self.env.store))
