"""The error handling of handle_error for Python programs that wrap their own agents.

    system = ErrorHandlingSystem()
    snapshot = system.create_snapshot("trainer_01", "training", state)
    try:
        result = await train()
    except Exception as error:
        context = {"agent_id": "trainer_01", "task_id": "training"}
        handled = await system.handle_error(error, context, recovery_callback=train)
        if not handled["success"]:
            raise

The same rules choose the strategy, and the same modules keep history, snapshots, loops and tickets:
in memory, or in any object with the methods of state.datastore.Datastore.
"""
import asyncio
import inspect
import time

from synthralos import failures
from synthralos.calls import backoff
from synthralos.recovery import catalogue, handle_error, strategies
from synthralos.recovery.environment import Environment
from synthralos.redact import Redactor
from synthralos.settings import Settings
from synthralos.state import snapshots
from synthralos.state.datastore import MemoryDatastore, Tolerant
from synthralos.state.keeping import keeping

# By class, the first that fits; the text of any other is read.
CAUSES = (
    ((asyncio.TimeoutError, TimeoutError), "timeout"),
    (ConnectionError, "network"),
    ((MemoryError, PermissionError), "resource"),
    (KeyError, "configuration"),
    (ValueError, "schema_mismatch"),
)
SUBSYSTEMS = (
    "auto_retry",
    "rollback_system",
    "escalation_system",
    "loop_detector",
    "history_manager",
)
LONGEST_MESSAGE = 2000


class ErrorHandlingSystem:
    """:param config: the entries retry, rollback, escalation, loop_detection and history of the
        pack's configuration, each merged into its defaults. Refused names what is wrong in it.
    :param sleep: an async callable (seconds); default: asyncio.sleep.
    :param now: seconds since the epoch.
    """

    def __init__(self, config=None, datastore=None, sleep=asyncio.sleep, now=time.time):
        self._sleep = sleep
        settings = Settings.from_config(config)
        datastore = datastore if datastore is not None else MemoryDatastore(now)
        store = Tolerant(keeping(datastore, settings))
        redactor = Redactor(redaction=settings.redaction)
        self.env = Environment(settings, store, now, "", redactor)
        self._active = {}
        self._stats = dict.fromkeys(
            ("total_errors", "successful_recoveries", "failed_recoveries", "escalations"), 0
        )

    def create_snapshot(self, agent_id, task_id, state, metadata=None):
        """The id of a snapshot of `state`, a JSON value, to roll back to."""
        kept = snapshots.rules(self.env.settings)
        state = self.env.redactor.secrets_only(state)
        head = snapshots.create(
            self.env.store, kept, self.env.now(), agent_id, task_id, state, metadata
        )
        return head["snapshot_id"]

    async def handle_error(self, error, context, recovery_callback=None, restore_callback=None):
        """What became of an error. It is a success only when the work that failed has run again,
        or, without a recovery_callback, when the state was put back.

        :param error: the exception.
        :param context: agent_id and task_id (`unknown` when missing); perhaps prompt, strategy,
            retry_count, recovery_attempts and state.
        :param recovery_callback: called to try again, with the adjusted prompt where the context
            has a `prompt`; a function or a coroutine function.
        :param restore_callback: called with the state of a snapshot, to put it back; a function.
            Without it a platform with a restore_path does, else nothing is restored.
        :returns: {success, result or error, escalated, strategy, strategies_tried, steps, ticket,
            snapshot, restored (true or false), state (of the snapshot, else None)}; result: what
            recovery_callback gave.
        """
        request = _request(context, error)
        failure = _failure(error)
        self._stats["total_errors"] += 1
        known = handle_error.assessment_of(self.env, request, failure)
        handle_error.record_error(self.env, request, failure)
        key = (request["agent_id"], request["task_id"])
        self._active[key] = failure.cause
        assessment = known["assessment"]
        choice = strategies.choose(assessment, context.get("strategy"))
        case = {
            "request": request,
            "failure": dict(failure.as_dict(), severity=assessment.severity),
            "choice": choice.as_dict(),
            "looping": known["loop"],
            "success_rate": assessment.success_rate,
            "started": self.env.now(),
            "steps": [],
            "ticket": None,
            "snapshot": None,
            "child": None,
            "result": None,
        }
        todo = list(choice.todo)
        while todo:
            name = todo.pop(0)
            done = await self._carry_out(name, case, context, recovery_callback, restore_callback)
            if done and name == "rollback" and recovery_callback is not None:
                # What failed has still to run: a state put back is no result.
                todo = ["auto_retry"] + [other for other in todo if other != "auto_retry"]
            elif done:
                self._stats["successful_recoveries"] += 1
                del self._active[key]
                return dict(_told(case), success=True, escalated=False, result=case["result"])
        handle_error.escalated_end(self.env, case)
        self._stats["failed_recoveries"] += 1
        self._stats["escalations"] += 1
        told = case["failure"]["message"] or case["failure"]["cause"]
        return dict(_told(case), success=False, escalated=True, error=told)

    def get_system_health(self):
        """{active_errors, stats, subsystem_status}: what this process has seen."""
        status = "active" if self.env.store.away is None else self.env.store.away
        return {
            "active_errors": len(self._active),
            "stats": dict(self._stats),
            "subsystem_status": dict.fromkeys(SUBSYSTEMS, status),
        }

    async def shutdown(self):
        """Forgets the errors that are open; what is on record stays in the datastore."""
        self._active.clear()

    async def _carry_out(self, name, case, context, recovery_callback, restore_callback):
        """Whether the strategy worked; what the work gave is then in the case's `result`."""
        if name == "rollback":
            return handle_error.roll_back(self.env, case, restore_callback)
        if name == "circuit_breaker":
            handle_error.pause_agent(self.env, case)
            return False
        if name != "auto_retry" or recovery_callback is None:
            return False
        return await self._retry(case, context, recovery_callback)

    async def _retry(self, case, context, recovery_callback):
        retry, cause = self.env.settings.retry, case["failure"]["cause"]
        attempts, last = max(1, retry.max_retries), None
        for attempt in range(1, attempts + 1):
            seconds = backoff.wait(
                strategies.backoff_of(cause),
                attempt,
                retry.base_delay,
                retry.max_delay,
                True,
                case["success_rate"],
                retry.backoff_multiplier,
            )
            await self._sleep(seconds)
            try:
                prompt = adjusted_prompt(context.get("prompt"), attempt, cause)
                answer = recovery_callback() if prompt is None else recovery_callback(prompt)
                case["result"] = await answer if inspect.isawaitable(answer) else answer
            except Exception as error:
                last = error
                continue
            _add(case, True, "it recovered", attempt)
            return True
        _add(case, False, "%s: %s" % (type(last).__name__, last), attempts)
        return False


def adjusted_prompt(prompt, attempt, cause):
    """The prompt of attempt 1, 2, ...: each adds a further adjustment; None for None."""
    if prompt is None:
        return None
    request = {"query": prompt, "config": {}}
    for name in strategies.ADJUSTMENTS[:attempt]:
        request = catalogue.apply(name, request, {}, {"failure": {"cause": cause}})
    return request["query"]


def _request(context, error):
    return {
        "agent_id": context.get("agent_id") or "unknown",
        "task_id": context.get("task_id") or "unknown",
        "error": {
            "type": "unknown",
            "message": str(error)[:LONGEST_MESSAGE],
            "details": {"exception": type(error).__name__},
            "severity": context.get("severity"),
        },
        "context": context,
        "state": context.get("state") or {},
    }


def _failure(error):
    for classes, cause in CAUSES:
        if isinstance(error, classes):
            return failures.failure(cause, error)
    return failures.from_text("%s %s" % (type(error).__name__, error))


def _told(case):
    return {
        "strategy": case["choice"]["strategy"],
        "strategies_tried": [step["strategy"] for step in case["steps"]],
        "steps": case["steps"],
        "ticket": case["ticket"],
        "snapshot": case["snapshot"],
        "restored": False,
        "state": None,
        **(case["child"] or {}),
    }


def _add(case, ok, summary, attempts):
    case["steps"].append(
        {"strategy": "auto_retry", "ok": ok, "summary": summary[:300], "attempts": attempts}
    )
