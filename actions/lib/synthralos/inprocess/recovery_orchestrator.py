"""The recovery orchestrator of a program: assesses an error, chooses a strategy and carries it out.

Phases: assessment, strategy selection, execution, validation, completion or failure. The rules are
those of the workflow handle_error; what that hands to other workflows is done here by callbacks.
"""
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from synthralos.calls import snapshot_restore
from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.inprocess.errors import (
    ErrorContext,
    EscalationLevel,
    RecoveryStrategy,
    member,
)
from synthralos.inprocess.escalation_system import EscalationSystem
from synthralos.inprocess.retry_system import RecoveryCallback, RetrySystem
from synthralos.inprocess.rollback_system import Validation, rejection
from synthralos.inprocess.runtime import LOGGER, Runtime, result_of
from synthralos.recovery import error_case, strategies
from synthralos.recovery.error_case import Assessed
from synthralos.recovery.strategies import Choice
from synthralos.runtime.environment import Environment
from synthralos.storage import history, pauses

SUMMARY_CHARACTERS = 300
MOST_STABILITY_SECONDS = 300
NOT_PUT_BACK = "verified, but neither a restore_callback nor a platform could put it back"
NO_SNAPSHOT = "there is no good snapshot of this agent and task"


@dataclass(frozen=True)
class Callbacks:
    """What a program does itself; functions or coroutine functions.

    :ivar recovery: runs what failed again; takes the adjusted prompt, or nothing.
    :ivar restore: puts back the state of a snapshot, which it is given.
    :ivar validation: says whether that state may be put back: True or False, or {valid, reason}.
    """

    recovery: Optional[RecoveryCallback] = None
    restore: Optional[Callable[[Any], Any]] = None
    validation: Optional[Validation] = None


@dataclass
class Step:
    """One strategy that was tried.

    :ivar ok: whether it worked; a pause protects an agent, and cures nothing.
    :ivar summary: one line for people.
    :ivar details: what else its strategy has to say: attempts, snapshot, restored, paused ...
    """

    strategy: str
    ok: bool
    summary: str
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        public = {"strategy": self.strategy, "ok": self.ok, "summary": self.summary}
        return dict(public, **self.details)


@dataclass
class ErrorCase:
    """One error from its assessment to its end.

    :ivar env: of this error alone; its run is the error's id.
    :ivar phases: that it went through, in order.
    :ivar result: what the recovery callback returned.
    :ivar state: of the snapshot that the agent was rolled back to, and whether it was put back.
    :ivar validation: {is_valid, checks_performed} of the last strategy that worked.
    :ivar recovered_at: seconds since the epoch.
    """

    error: ErrorContext
    env: Environment
    callbacks: Callbacks
    assessed: Assessed
    choice: Choice
    started: float
    phases: list[str] = field(default_factory=lambda: ["assessment", "strategy_selection"])
    steps: list[Step] = field(default_factory=list)
    result: Any = None
    ticket: Optional[str] = None
    snapshot: Optional[str] = None
    restored: bool = False
    state: Any = None
    validation: Optional[dict[str, Any]] = None
    recovered: bool = False
    recovered_at: float = 0.0

    @property
    def strategies_tried(self) -> list[str]:
        return [step.strategy for step in self.steps]

    @property
    def attempts(self) -> int:
        return sum(int(step.details.get("attempts") or 0) for step in self.steps)

    def add(self, strategy: str, ok: bool, summary: str, **details: Any) -> bool:
        """Appends a step; returns `ok`."""
        summary = self.env.redactor.redact_text(summary)[:SUMMARY_CHARACTERS]
        self.steps.append(Step(strategy, ok, summary, details))
        LOGGER.debug("%s: %s %s: %s", self.error.error_id, strategy,
                     "worked" if ok else "did not cure it", summary)
        return ok

    def enter(self, phase: str) -> None:
        self.phases.append(phase)
        LOGGER.debug("%s: %s", self.error.error_id, phase)


class RecoveryOrchestrator:
    """Coordinates the retry, rollback, loop and escalation systems of one ErrorHandlingSystem."""

    def __init__(
        self, runtime: Runtime, retry_system: RetrySystem, escalation_system: EscalationSystem
    ) -> None:
        self._runtime = runtime
        self._retry_system, self._escalation_system = retry_system, escalation_system

    async def orchestrate_recovery(self, error: ErrorContext, callbacks: Callbacks) -> ErrorCase:
        """The ErrorCase at its end: recovered, or with a ticket.

        InvalidInput, before anything is recorded, when the error's context names no strategy that
        exists.
        """
        case = await self._assessed(error, callbacks)
        case.enter("execution")
        pending = [str(name) for name in case.choice.strategies]
        while pending and not case.recovered:
            strategy = pending.pop(0)
            if not await self._carry_out(strategy, case):
                continue
            if strategy == RecoveryStrategy.ROLLBACK and callbacks.recovery is not None:
                # The failed work must still run: a restored state is not a result.
                retry = RecoveryStrategy.AUTO_RETRY.value
                pending = [retry] + [name for name in pending if name != retry]
                continue
            case.recovered = await self._is_valid(case)
        if case.recovered:
            case.enter("completion")
            content = {"strategy": case.steps[-1].strategy, "cause": error.cause}
            await self._runtime.read_write(
                error_case.record, case.env, error.agent_id, error.task_id, error_case.RECOVERY,
                content,
            )
        else:
            case.enter("failure")
            await self._escalate(case)
        return case

    async def _assessed(self, error: ErrorContext, callbacks: Callbacks) -> ErrorCase:
        requested = error.context_data.get("strategy")
        if requested not in (None, "auto"):
            requested = member(RecoveryStrategy, "context.strategy", requested).value
        _stability_seconds(error)
        env = self._runtime.environment(error.error_id)
        began, reported, failure = self._runtime.now(), error.reported(), error.failure

        def assess() -> Assessed:
            assessed = error_case.assess(env, reported, failure)
            error_case.record_error(env, reported, failure)
            return assessed

        assessed = await self._runtime.read_write(assess)
        choice = strategies.choose_strategy(assessed.assessment, requested)
        LOGGER.debug("%s: %s", error.error_id, assessed.as_dict())
        LOGGER.debug("%s: %s, priority %d, expected to take %d s and to succeed with probability "
                     "%.2f", error.error_id, choice.strategy, choice.priority, choice.duration,
                     choice.probability)
        return ErrorCase(error, env, callbacks, assessed, choice, began)

    async def _carry_out(self, strategy: str, case: ErrorCase) -> bool:
        """Whether the strategy worked."""
        if strategy == RecoveryStrategy.ROLLBACK:
            return await self._roll_back(case)
        if strategy == RecoveryStrategy.CIRCUIT_BREAKER:
            return await self._pause(case)
        if strategy == RecoveryStrategy.AUTO_RETRY:
            return await self._retry(case)
        # escalation and manual: what is left to do is the end of every case that no strategy cured.
        return False

    async def _retry(self, case: ErrorCase) -> bool:
        name = RecoveryStrategy.AUTO_RETRY.value
        callback = case.callbacks.recovery
        if callback is None:
            return case.add(name, False, "there is no recovery_callback to run again")
        try:
            await self._runtime.read_write(
                pauses.refuse_if_paused, case.env, case.error.agent_id
            )
        except InvalidInput as refusal:
            return case.add(name, False, str(refusal))
        rate = case.assessed.assessment.success_rate
        outcome = await self._retry_system.retry(case.error, callback, rate)
        if outcome.success:
            case.result = outcome.result
            await self._runtime.read_write(
                pauses.resume_after_probe, case.env, case.error.agent_id
            )
        summary = "it recovered" if outcome.success else outcome.error or "retry.max_retries is 0"
        return case.add(name, outcome.success, summary, attempts=outcome.attempts)

    async def _roll_back(self, case: ErrorCase) -> bool:
        name, error = RecoveryStrategy.ROLLBACK.value, case.error
        snapshot = await self._runtime.read_write(
            error_case.newest_snapshot, case.env, error.agent_id, error.task_id
        )
        if snapshot is None:
            return case.add(name, False, NO_SNAPSHOT)
        case.snapshot, case.state = snapshot["snapshot_id"], snapshot["state"]
        reason = await rejection(case.state, case.callbacks.validation)
        if reason is not None:
            summary = "the validation did not accept the snapshot: %s" % reason
        else:
            case.restored, summary = await self._put_back(case, snapshot)
        return case.add(
            name, case.restored, summary, snapshot=case.snapshot, restored=case.restored
        )

    async def _put_back(self, case: ErrorCase, snapshot: Mapping[str, Any]) -> tuple[bool, str]:
        """(whether the state is the agent's again, by whom or why not)."""
        if case.callbacks.restore is not None:
            try:
                await result_of(case.callbacks.restore(snapshot["state"]))
            except Exception as error:
                return False, "%s: %s" % (type(error).__name__, error)
            return True, "restored by the restore_callback"
        platforms = self._runtime.settings.platforms
        try:
            platform = await self._runtime.in_thread(
                snapshot_restore.restore_at_platform,
                case.env.client,
                platforms,
                snapshot,
                case.env.run,
            )
        except CallError as error:
            return False, str(error.failure.message)
        return platform is not None, "restored by %s" % platform if platform else NOT_PUT_BACK

    async def _pause(self, case: ErrorCase) -> bool:
        reason = case.assessed.loop["reason"] or "%s was reported" % case.error.cause
        paused = await self._runtime.read_write(
            error_case.pause_agent, case.env, case.error.agent_id, reason
        )
        summary = "the agent is paused" if paused else "the agent could not be paused"
        # A paused agent is safe, but nothing is recovered yet.
        return case.add(RecoveryStrategy.CIRCUIT_BREAKER.value, False, summary, paused=paused)

    async def _is_valid(self, case: ErrorCase) -> bool:
        """Whether the recovery has held for the stability window."""
        case.enter("validation")
        case.recovered_at = self._runtime.now()
        window = _stability_seconds(case.error)
        if window:
            await self._runtime.sleep(window)
        checks = [
            {"check": "recovery_success", "passed": True, "details": case.steps[-1].summary}
        ]
        checks += await self._runtime.read_write(_checks, case)
        case.validation = {
            "is_valid": all(check["passed"] for check in checks),
            "checks_performed": checks,
        }
        for check in checks:
            LOGGER.debug("%s: %s %s: %s", case.error.error_id, check["check"],
                         "passed" if check["passed"] else "failed", check["details"])
        return bool(case.validation["is_valid"])

    async def _escalate(self, case: ErrorCase) -> None:
        """A person must know of what no strategy cured. Escalated is not recovered."""
        error = case.error
        is_manual = case.choice.strategy == RecoveryStrategy.MANUAL
        name = RecoveryStrategy.MANUAL if is_manual else RecoveryStrategy.ESCALATION
        least = EscalationLevel.HUMAN_INTERVENTION.value if is_manual else None
        opened = await self._runtime.in_thread(
            error_case.open_ticket,
            case.env,
            error.agent_id,
            dict(error.failure.as_dict(), severity=str(error.severity)),
            case.strategies_tried,
            case.attempts,
            least,
        )
        if opened is None:
            case.add(
                name.value,
                False,
                "the ticket was not recorded: %s" % case.env.store.unavailable_reason,
            )
            return
        case.ticket = opened["ticket"]
        case.add(name.value, True, "ticket %s, %s" % (opened["ticket"], opened["level"]),
                 notifications=opened["notifications"])
        await self._escalation_system.notify(opened)


def _stability_seconds(error: ErrorContext) -> float:
    """`stability_window` of the context. InvalidInput when it is not a number of seconds."""
    value = error.context_data.get("stability_window") or 0
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MOST_STABILITY_SECONDS:
        way_out = "Use 0 to %d seconds" % MOST_STABILITY_SECONDS
        raise InvalidInput("context.stability_window", value, "is out of bounds", way_out)
    return float(value)


def _checks(case: ErrorCase) -> list[dict[str, Any]]:
    env, error = case.env, case.error
    entries = history.recent_entries(env.store, error.agent_id, limit=20)
    later = [
        entry
        for entry in entries
        if entry.get("event") == "error" and entry.get("task_id") == error.task_id and
        error_case.time_of_entry(entry) > case.recovered_at
    ]
    paused = pauses.pause_of(env.store, error.agent_id, env.now())
    return [
        {
            "check": "no_new_error",
            "passed": not later,
            "details": "%d new errors of the task since it recovered" % len(later),
        },
        {
            "check": "agent_not_paused",
            "passed": paused is None,
            "details": paused["reason"] if paused else "it is not paused",
        },
    ]
