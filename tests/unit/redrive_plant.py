"""A StackStorm and a provider for tests of recovery.redrive, on a clock that nobody waits for.

Runs of llm_retry and agent_recovery are the real ones: they call a server on loopback. When they
begin and how long they take is up to the test.
"""
import heapq
import itertools
import json
import random

from synthralos.core.sealing import unseal
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.operations import redrive
from synthralos.recovery import llm_retry
from synthralos.runtime import failure_record, run_parameters
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound, StackStormError

from .conftest import http_answer
from .interleaving import Killed

TARGET = "llm:openai/gpt-4"
# What StackStorm needs between two tasks.
HOP_SECONDS = 0.5


class Provider:
    """A server that counts its calls by the plant's clock.

    :ivar faults: a callable (number of the call) -> (status, body), or None for a good answer.
    :ivar calls: the times of its calls; prompts: what they asked.
    """

    def __init__(self, serve, clock):
        self.calls, self.prompts, self.faults, self._clock = [], [], None, clock
        self._server = serve(self._answer)
        self.url = self._server.url + "/v1"

    def fail(self, status=429, message="Rate limit reached", **error):
        body = json.dumps({"error": dict({"message": message}, **error)})
        self.faults = lambda number: (status, body)

    def heal(self, for_calls=None):
        faults, first = self.faults, len(self.calls)
        self.faults = None
        if for_calls is not None:
            self.faults = lambda number: None if number < first + for_calls else faults(number)

    def _answer(self, connection, request):
        number = len(self.calls)
        self.calls.append(self._clock())
        body = json.loads(request.partition("\r\n\r\n")[2])
        self.prompts.append(body["messages"][-1]["content"])
        fault = self.faults(number) if self.faults else None
        status, body = fault or (200, json.dumps({"choices": [
            {"finish_reason": "stop", "message": {"role": "assistant", "content": "OK"}}]}))
        connection.sendall(http_answer(status, body))

    def most_within(self, seconds):
        """The highest number of calls within so many seconds."""
        return max(
            sum(start <= call < start + seconds for call in self.calls) for start in self.calls
        )


class Plant:
    """:ivar rows: {execution id: execution}; kills: what raises Killed, "before" or "after" the
    start of a run; queue, duration: callables, the seconds until a run begins, and that it takes.
    """

    def __init__(self, make_env, serve, clock, store):
        self.provider = Provider(serve, clock)
        self.clock, self._make_env, self.store = clock, make_env, store
        self.rows, self._ids, self._events = {}, itertools.count(1), []
        self.kills, self.broken, self.fired = [], None, []
        self.random = random.Random(7)
        self.queue, self.duration = (lambda: 0.0), (lambda: 1.0)
        self.config = {"providers": [{
            "name": "openai", "base_url": self.provider.url, "models": ["gpt-4", "gpt-4o"],
        }]}

    # StackStorm's API.

    def executions(self, attributes, action, status=None, offset=0, timestamp_gt=None,
                   timestamp_lt=None, **_):
        rows = [
            dict(row) for row in self.rows.values()
            if row["action"]["ref"] == action and status in (None, row["status"]) and
            _started(row) > (parse_iso(timestamp_gt) or 0.0) and
            _started(row) < (parse_iso(timestamp_lt) or float("inf"))
        ]
        rows.sort(key=lambda row: row["id"], reverse=True)
        return rows[offset:offset + 100]

    def execution(self, execution_id, attributes=None):
        if execution_id not in self.rows:
            raise ExecutionNotFound("execution %s does not exist" % execution_id)
        return dict(self.rows[execution_id])

    def children(self, execution_id, attributes):
        return []

    def inquiries(self, offset=0):
        return []

    def cancel(self, execution_id):
        self.rows[execution_id]["status"] = "canceled"
        return True

    def fire(self, trigger, payload):
        self.fired.append((trigger, payload))

    def re_run(self, execution_id, parameters):
        self._kill("before")
        if self.broken:
            raise self.broken
        row = self.rows[execution_id]
        run = self.request(
            row["action"]["ref"], dict(row.get("parameters") or {}, **parameters),
            context={"re-run": {"ref": execution_id}},
        )
        self._kill("after")
        return run

    def _kill(self, moment):
        if moment in self.kills:
            self.kills.remove(moment)
            raise Killed

    # Executions.

    def env(self, run):
        env = self._make_env(config=self.config, api=self, run=run, store=self.store.fresh())
        env.is_workflow = True
        return env

    def request(self, ref, parameters, context=None, status="requested", **more):
        run = "%024x" % next(self._ids)
        self.rows[run] = dict({
            "id": run, "action": {"ref": ref, "parameters": {}}, "status": status,
            "parameters": parameters, "context": context or {},
            "start_timestamp": to_iso(self.clock(), milliseconds=True),
        }, **more)
        if ref == "synthralos.llm_retry":
            self._at(self.clock() + self.queue(), self._call, run)
        return run

    def llm_retry(self, prompt="Hello", model="gpt-4", context=None, **parameters):
        """Request a run of llm_retry, let it end, and return its id."""
        run = self.request("synthralos.llm_retry", dict({
            "original_request": {"prompt": prompt, "model": model}, "failure_reason": "failed",
            "max_retries": 0,
        }, **parameters), context)
        self.settle()
        return run

    def end(self, run, status, **output):
        self.rows[run].update(
            status=status, result={"output": output},
            end_timestamp=to_iso(self.clock(), milliseconds=True),
        )

    def _call(self, run):
        row, env = self.rows[run], self.env(run)
        row["status"] = "running"
        inputs = run_parameters.read_parameters(row, env.store)
        determined = llm_retry.determine(env, inputs, self.clock())
        self._round(run, inputs, determined["next"]["carry"])

    def _round(self, run, inputs, sealed):
        env = self.env(run)
        succeeded, result = llm_retry.run_round(env, unseal(sealed, env.store))
        following = result.get("next")
        if following is not None:
            when = self.clock() + following["delay"] + HOP_SECONDS
            self._at(when, self._round, run, inputs, following["carry"])
            return
        if not succeeded:
            case = unseal(result["carry"], env.store)
            result = failure_record.log_failed_run(
                env, llm_retry.WORKFLOW, llm_retry.subject(case, inputs), case)
        status = "succeeded" if succeeded else "failed"
        output = {name: result.get(name) for name in ("error", "ticket", "result")}
        self._at(self.clock() + self.duration(), lambda: self.end(run, status, **output))

    def _at(self, when, function, *arguments):
        heapq.heappush(self._events, (when, next(self._ids), function, arguments))

    def advance(self, seconds):
        """Let that time pass, with all that happens in it."""
        end = self.clock() + seconds
        while self._events and self._events[0][0] <= end:
            when, _, function, arguments = heapq.heappop(self._events)
            self.clock.at = max(self.clock.at, when)
            function(*arguments)
        self.clock.at = max(self.clock.at, end)

    def settle(self):
        """Let time pass until every run has ended."""
        while self._events:
            self.advance(max(0.0, self._events[0][0] - self.clock()))

    # Redrives.

    def redrive(self, **parameters):
        """Run a redrive as its workflow does, and return its report."""
        return Redrive(self, **parameters).to_end()


class Redrive:
    """A redrive, round by round.

    :ivar report: once it has ended.
    """

    def __init__(self, plant, rule=None, **parameters):
        self.plant, self.report = plant, None
        parameters = dict({"dry_run": False, "per_minute": 600}, **parameters)
        self.run = plant.request(
            "synthralos.recovery.redrive", parameters, status="running",
            **({"rule": rule} if rule else {}))
        self.started = plant.clock()
        env = plant.env(self.run)
        result = redrive.begin(env, parameters, self.started, plant.rows[self.run])
        self._follow(result)

    def _follow(self, result):
        self.next = result.get("next")
        if self.next is None:
            self._end(result)

    def _end(self, report):
        self.report = report
        self.plant.rows[self.run]["status"] = "succeeded" if report["success"] else "failed"

    def step(self):
        """Let the delay pass, and play the next round; one that dies goes on to the report."""
        self.plant.advance(self.next["delay"] + HOP_SECONDS)
        env = self.plant.env(self.run)
        plan = redrive.Plan.open(env, self.next["carry"])
        try:
            result = redrive.run_round(env, plan, self.next["carry"], self.next["cursor"])
        except Killed:
            result = {"next_task": redrive.FINISH}
        if result["next_task"] == redrive.ROUND:
            self._follow(result)
            return
        self.plant.advance(HOP_SECONDS)
        self._end(redrive.finish(self.plant.env(self.run), plan))

    def to_end(self):
        while self.report is None:
            self.step()
        return self.report


def _started(row):
    return parse_iso(row["start_timestamp"])


def reruns_of(plant, run):
    """The executions that ran `run` again."""
    return [
        row["id"] for row in plant.rows.values()
        if run_parameters.origin_of(row) == run
    ]


__all__ = ["ENDED", "Plant", "Redrive", "StackStormError", "TARGET", "reruns_of"]
