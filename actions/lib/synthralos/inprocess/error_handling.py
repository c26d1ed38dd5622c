"""The error handling of handle_error for Python programs that wrap their own agents.

    system = ErrorHandlingSystem()
    snapshot = await system.rollback_system.create_snapshot("trainer_01", "training", state)
    try:
        result = await train()
    except Exception as error:
        context = {"agent_id": "trainer_01", "task_id": "training"}
        recovery_result = await system.handle_error(error, context, recovery_callback=train)
        if not recovery_result["success"]:
            raise

The same rules choose the strategy, and the same modules keep history, snapshots, loops and tickets:
in memory, or in any object with the methods of state.datastore.Datastore.
"""
import asyncio
import sys
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Callable, Optional, TypedDict

from synthralos.config.settings import Retry, Settings
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.escalation.config import EscalationConfig
from synthralos.inprocess.errors import ErrorType, context_of
from synthralos.inprocess.escalation_system import EscalationSystem
from synthralos.inprocess.history_manager import HistoryManager
from synthralos.inprocess.loop_detector import LoopDetector
from synthralos.inprocess.recovery_orchestrator import Callbacks, ErrorCase, RecoveryOrchestrator
from synthralos.inprocess.retry_system import RecoveryCallback, RetrySystem
from synthralos.inprocess.rollback_system import RollbackSystem, Validation
from synthralos.inprocess.runtime import LOGGER, Runtime
from synthralos.loop_detection.detector import LoopDetectionConfig
from synthralos.storage import tickets
from synthralos.storage.datastore import PREFIX, Datastore, MemoryDatastore
from synthralos.storage.snapshots import SnapshotConfig
from synthralos.storage.versions import HistoryConfig

SUBSYSTEMS = (
    "auto_retry",
    "rollback_system",
    "escalation_system",
    "loop_detector",
    "history_manager",
    "recovery_orchestrator",
)
STATISTICS = ("total_errors", "successful_recoveries", "failed_recoveries", "escalations")
# What each system reads of its section of the configuration.
KEYS = {
    "retry": {entry.name for entry in fields(Retry)},
    "rollback": {entry.name for entry in fields(SnapshotConfig)} - {"ttl_seconds"},
    "escalation": ({entry.name for entry in fields(EscalationConfig)} - {"on"}) |
    {"notification_channels"},
    "loop_detection": {entry.name for entry in fields(LoopDetectionConfig)},
    "history": {entry.name for entry in fields(HistoryConfig)} - {"ttl_seconds"},
}
# Escalated errors that nobody resolves are forgotten here from there on, the oldest first.
MOST_OPEN = 10_000


class HandledError(TypedDict):
    """What became of an error.

    success: the work that failed has run again, or, without a recovery_callback, the state was put
    back. result: what recovery_callback returned, else None. error: the error, where it stands;
    else None. phase: completion or failure. steps: [{strategy, ok, summary ...}]. restored: whether
    `state`, of `snapshot`, is the agent's again. validation: {is_valid, checks_performed} or None.
    """

    success: bool
    result: Any
    error: Optional[str]
    escalated: bool
    recovery_id: str
    error_type: str
    severity: str
    strategy: str
    strategies_tried: list[str]
    steps: list[dict[str, Any]]
    phase: str
    phases: list[str]
    validation: Optional[dict[str, Any]]
    ticket: Optional[str]
    snapshot: Optional[str]
    restored: bool
    state: Any
    duration_seconds: float


@dataclass
class _Active:
    """An error that is being handled, or that was escalated: then it has a ticket or `is_over`."""

    agent_id: str
    task_id: str
    ticket: Optional[str] = None
    is_over: bool = False


class ErrorHandlingSystem:
    """The error handling of a program: retries, rollbacks, escalation, loops and history.

    :param config: the entries retry, rollback, escalation, loop_detection and history of the pack's
        configuration, or all of it, each merged into its defaults. InvalidInput names what is wrong
        in it.
    :param datastore: anything with the methods of state.datastore.Datastore; default: memory.
    :param sleep: an async callable (seconds); default: asyncio.sleep.
    :param now: seconds since the epoch.
    """

    def __init__(
        self,
        config: Optional[Mapping[str, Any]] = None,
        datastore: Optional[Datastore] = None,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        settings = Settings.from_config(_normalised(config))
        store = MemoryDatastore(now) if datastore is None else datastore
        self._runtime = Runtime(settings, store, sleep, now)
        self.auto_retry = RetrySystem(self._runtime)
        self.rollback_system = RollbackSystem(self._runtime)
        self.escalation_system = EscalationSystem(self._runtime)
        self.loop_detector = LoopDetector(self._runtime)
        self.history_manager = HistoryManager(self._runtime)
        self.recovery_orchestrator = RecoveryOrchestrator(
            self._runtime, self.auto_retry, self.escalation_system
        )
        self._active: dict[str, _Active] = {}
        self._statistics = dict.fromkeys(STATISTICS, 0)

    async def handle_error(
        self,
        error: BaseException,
        context: Optional[Mapping[str, Any]] = None,
        recovery_callback: Optional[RecoveryCallback] = None,
        restore_callback: Optional[Callable[[Any], Any]] = None,
        validation_callback: Optional[Validation] = None,
    ) -> HandledError:
        """What became of an error. Any number of errors may be handled at the same time.

        :param error: the exception.
        :param context: agent_id and task_id (`unknown` when missing); perhaps error_type, severity,
            strategy, retry_count, recovery_attempts, state, stability_window (seconds that a
            recovery has to hold), backoff_strategy, and a `prompt`, here or in `task_data`.
        :param recovery_callback: called to try again, with the adjusted prompt where there is a
            prompt and it takes one; a function or a coroutine function.
        :param restore_callback: called with the state of a snapshot, to put it back. Without it a
            platform with a restore_path does, else nothing is restored.
        :param validation_callback: called with that state before: whether it may be put back.
        :raises InvalidInput: a name or a value in `context` that it cannot work with.
        """
        error_context = context_of(error, context or {}, self._runtime.now())
        error_id, active = error_context.error_id, _Active(
            error_context.agent_id, error_context.task_id
        )
        self._active[error_id] = active
        self._statistics["total_errors"] += 1
        LOGGER.debug("%s: %s (%s, %s) of %s, task %s: %s", error_id, error_context.error_type,
                     error_context.cause, error_context.severity, active.agent_id, active.task_id,
                     self._runtime.redactor.redact_text(error_context.error_message))
        callbacks = Callbacks(recovery_callback, restore_callback, validation_callback)
        try:
            case = await self.recovery_orchestrator.orchestrate_recovery(error_context, callbacks)
        except BaseException:
            # InvalidInput, or cancelled: nobody handles it any more.
            self._active.pop(error_id, None)
            raise
        self._count(error_id, active, case)
        return self._handled(case)

    async def get_system_health(self) -> dict[str, Any]:
        """What this process has seen: {active_errors, stats {total_errors, successful_recoveries,
        failed_recoveries, escalations}, subsystem_status {name: "active", or why it is not},
        resources {memory_bytes, stored_values, stored_bytes}, timestamp}.

        An error is active while it is being handled, and, when it was escalated, until its ticket
        is resolved or its task recovers.
        """
        env = self._runtime.environment()
        await self._runtime.read_write(env.store.list, PREFIX + "pause.", 1)
        status = (
            "active"
            if env.store.unavailable_reason is None
            else "datastore unavailable: " + env.store.unavailable_reason
        )
        await self._forget_resolved()
        stored = self._runtime.datastore
        values, size = stored.usage() if isinstance(stored, MemoryDatastore) else (None, None)
        subsystems = dict.fromkeys(SUBSYSTEMS, status)
        if all(self.escalation_system.config.state(name) != "ready"
               for name in self.escalation_system.config.on) and status == "active":
            subsystems["escalation_system"] = "active (no notification channel is configured)"
        return {
            "active_errors": len(self._active),
            "stats": dict(self._statistics),
            "subsystem_status": subsystems,
            "resources": {
                "memory_bytes": _memory_bytes(),
                "stored_values": values,
                "stored_bytes": size,
            },
            "timestamp": to_iso(self._runtime.now()),
        }

    async def shutdown(self) -> None:
        """Forgets the errors that are open; what is on record stays in the datastore."""
        LOGGER.debug("shut down with %d active errors", len(self._active))
        self._active.clear()

    def _count(self, error_id: str, active: _Active, case: ErrorCase) -> None:
        if case.recovered:
            self._statistics["successful_recoveries"] += 1
            where = (active.agent_id, active.task_id)
            cured = [
                other for other, entry in self._active.items()
                if other == error_id or (entry.is_over and (entry.agent_id, entry.task_id) == where)
            ]
            for other in cured:
                del self._active[other]
            LOGGER.info("%s recovered by %s", active.agent_id, case.steps[-1].strategy)
            return
        self._statistics["failed_recoveries"] += 1
        self._statistics["escalations"] += case.ticket is not None
        active.is_over, active.ticket = True, case.ticket
        LOGGER.warning("%s is not recovered; ticket %s", active.agent_id, case.ticket)
        escalated = [other for other, entry in self._active.items() if entry.is_over]
        for other in escalated[:max(0, len(escalated) - MOST_OPEN)]:
            del self._active[other]

    def _handled(self, case: ErrorCase) -> HandledError:
        error = case.error
        message = self._runtime.redactor.redact_text(error.error_message) or str(error.cause)
        return {
            "success": case.recovered,
            "result": case.result,
            "error": None if case.recovered else message,
            "escalated": not case.recovered,
            "recovery_id": "recovery_" + error.error_id,
            "error_type": str(error.error_type),
            "severity": str(error.severity),
            "strategy": case.choice.strategy,
            "strategies_tried": case.strategies_tried,
            "steps": [step.as_dict() for step in case.steps],
            "phase": case.phases[-1],
            "phases": case.phases,
            "validation": case.validation,
            "ticket": case.ticket,
            "snapshot": case.snapshot,
            "restored": case.restored,
            "state": case.state,
            "duration_seconds": round(self._runtime.now() - case.started, 3),
        }

    async def _forget_resolved(self) -> None:
        """An error whose ticket somebody has resolved is no longer active."""
        if not any(entry.ticket for entry in self._active.values()):
            return
        env = self._runtime.environment()
        rows = await self._runtime.read_write(tickets.list_tickets, env.store, tickets.RESOLVED)
        resolved = {row["ticket"] for row in rows}
        for error_id in [key for key, entry in self._active.items() if entry.ticket in resolved]:
            del self._active[error_id]


def _normalised(config: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """The config with the names of error types as the pack's configuration has them.

    :raises InvalidInput: for a key that none of the systems reads. Unlike in the pack, no schema of
        StackStorm rejects it.
    """
    merged = dict(config or {})
    for section, keys in KEYS.items():
        entry = merged.get(section)
        for key in entry if isinstance(entry, Mapping) else ():
            if key not in keys:
                way_out = "Use some of " + ", ".join(sorted(keys))
                raise InvalidInput("%s.%s" % (section, key), None, "is not a setting", way_out)
    entry = merged.get("escalation")
    types = entry.get("critical_error_types") if isinstance(entry, Mapping) else None
    if isinstance(types, (list, tuple)):
        names = {member.value for member in ErrorType}
        lower = [str(t).lower() if str(t).lower() in names else t for t in types]
        merged["escalation"] = dict(entry or {}, critical_error_types=lower)
    return merged


def _memory_bytes() -> Optional[int]:
    """The most memory that this process has had resident; None where that cannot be read."""
    try:
        import resource
    except ImportError:
        # Not on Windows.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB elsewhere.
    return peak if sys.platform == "darwin" else peak * 1024
