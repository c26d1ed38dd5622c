"""One error while it is handled: what is known of it, and what its strategies do to the stores.

The workflow handle_error and the programs of `inprocess` both go through here, so that an error is
assessed, recorded, and escalated by the same rules wherever it is handled.
"""
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Optional, TypedDict

from synthralos.core.failures import Failure
from synthralos.escalation import ticketing
from synthralos.escalation.ticketing import OpenedTicket
from synthralos.loop_detection import detector, patterns
from synthralos.recovery import strategies
from synthralos.recovery.strategies import Assessment
from synthralos.runtime.environment import Environment
from synthralos.storage import history, pauses, run_summaries, snapshots, versions
from synthralos.storage.datastore import DatastoreUnavailable

WORKFLOW = "handle_error"
ACTOR = "handle_error"
RECENT_SECONDS = 3600
RECOVERY = "recovery"
SUMMARY_CHARACTERS = 300


@dataclass(frozen=True)
class ReportedError:
    """An error as it was reported.

    :ivar type: a failure type of the pack, or one of causes.ALIASES.
    :ivar severity: one of causes.SEVERITIES, or None where nobody rated it.
    :ivar recovery_attempts: recoveries of it that failed before, as far as its reporter knows.
    :ivar retry_count: errors like it before this one, as far as its reporter knows.
    :ivar state: of the agent when it failed, a JSON object.
    """

    agent_id: str
    task_id: str
    type: str
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    severity: Optional[str] = None
    recovery_attempts: int = 0
    retry_count: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)


class LoopState(TypedDict):
    """What the loop detector sees of an agent; see detector.CheckResult."""

    looping: bool
    level: str
    paused: bool
    reason: Optional[str]


@dataclass(frozen=True)
class Assessed:
    """:ivar loop: of the agent, this error included."""

    assessment: Assessment
    loop: LoopState

    def as_dict(self) -> dict[str, Any]:
        """The assessment for a result, with what follows from it."""
        assessment = self.assessment
        return dict(
            asdict(assessment),
            can_retry=assessment.can_retry,
            should_escalate=assessment.should_escalate,
        )


def assess(env: Environment, error: ReportedError, failure: Failure) -> Assessed:
    """What is known of the error. It counts as a step of the agent for the loop detector.

    Only what happened within RECENT_SECONDS counts.
    """
    agent, task, now = error.agent_id, error.task_id, env.now()
    loop = detector.record_step(
        env.store,
        now,
        detector.LoopDetectionConfig.from_config(env.settings.loop_detection),
        agent,
        "error",
        step_input={"type": failure.type, "cause": failure.cause, "message": failure.message},
        task=task,
        redactor=env.redactor,
        compare_ids=False,
    )
    recent = [
        entry
        for entry in history.recent_entries(env.store, agent, limit=100)
        if now - time_of_entry(entry) <= RECENT_SECONDS
    ]
    retry = env.settings.retry
    rate = 1.0
    if retry.adaptive_learning:
        summaries = run_summaries.recent_summaries(env.store)
        learned = [run for run in summaries if now - run["at"] <= RECENT_SECONDS]
        rate = run_summaries.success_rate(learned, now, failure.type)
    before, recovered = _errors(recent, task)
    config = ticketing.load_config(env, env.settings.escalation)
    assessment = Assessment(
        cause=failure.cause,
        severity=error.severity or strategies.severity_of(failure.cause),
        looping=loop["level"] == patterns.CRITICAL,
        attempts=error.recovery_attempts + sum(e.get("event") == "failed" for e in recent),
        retry_count=error.retry_count + before,
        recovered_count=recovered,
        has_snapshot=newest_snapshot(env, agent, task) is not None,
        critical=config.critical(error.type, failure.cause),
        success_rate=rate,
        threshold=retry.success_rate_threshold,
        max_retries=retry.max_retries,
    )
    return Assessed(
        assessment,
        {
            "looping": loop["looping"],
            "level": loop["level"],
            "paused": loop["paused"],
            "reason": loop["reason"],
        },
    )


def record_error(env: Environment, error: ReportedError, failure: Failure) -> None:
    """Appends the error to the agent's history."""
    content: dict[str, Any] = {"error": {"type": error.type}, "cause": failure.cause}
    if env.settings.store_user_text:
        content["error"].update(message=error.message, details=error.details)
        content["state"] = error.state
    record(env, error.agent_id, error.task_id, "error", content)


def record(
    env: Environment, agent_id: str, task_id: str, kind: str, content: Mapping[str, Any]
) -> None:
    """Appends a version to the agent's history; a datastore that is away ends no recovery.

    :param kind: one of versions.KINDS.
    """
    try:
        versions.record(
            env.store,
            versions.history_config(env.settings),
            env.now(),
            agent_id,
            task_id,
            env.redactor.remove_secrets(content),
            kind=kind,
            actor=ACTOR,
            metadata={"run": env.run},
        )
    except DatastoreUnavailable:
        # When the listing before it fails, nothing is written, so the store cannot know of it.
        env.store.miss("version")


def newest_snapshot(
    env: Environment, agent_id: str, task_id: str
) -> Optional[snapshots.Snapshot]:
    """The newest good snapshot of the agent and task; None without one or without a datastore."""
    try:
        return snapshots.latest_valid(
            env.store, snapshots.snapshot_config(env.settings), env.now(), agent_id, task_id
        )
    except DatastoreUnavailable:
        return None


def pause_agent(env: Environment, agent_id: str, reason: str) -> bool:
    """Whether the agent is paused now; a pause that runs already is left as it is."""
    limits = detector.LoopDetectionConfig.from_config(env.settings.loop_detection)
    paused = pauses.pause_of(env.store, agent_id, env.now()) or pauses.pause(
        env.store,
        agent_id,
        env.now(),
        reason,
        limits.pause_seconds,
        actor=pauses.DETECTOR,
        probe_seconds=limits.probe_seconds,
        redactor=env.redactor,
    )
    return paused is not None


def open_ticket(
    env: Environment,
    agent_id: str,
    failure: Mapping[str, Any],
    strategies_tried: list[str],
    attempts: int,
    level: Optional[str] = None,
) -> Optional[OpenedTicket]:
    """The ticket of an error that no strategy cured; None if it could not be recorded.

    :param failure: type, cause, severity and message.
    :param level: the lowest that the ticket's level may be.
    """
    summary = "%s: %s (tried: %s)" % (
        agent_id,
        failure["message"] or failure["cause"].replace("_", " "),
        ", ".join(strategies_tried) or "nothing",
    )
    return ticketing.open_failure_ticket(
        env,
        env.settings.escalation,
        WORKFLOW,
        agent_id,
        {name: failure[name] for name in ("type", "cause", "severity")},
        env.redactor.redact_text(" ".join(summary.split())[:SUMMARY_CHARACTERS]),
        level=level,
        attempts=attempts,
    )


def time_of_entry(entry: Mapping[str, Any]) -> float:
    """Seconds since the epoch at which an entry of the history was written."""
    return int(entry["record"].split("-", 1)[0]) / 1000.0


def _errors(recent: list[dict[str, Any]], task_id: str) -> tuple[int, int]:
    """(the errors of the task, how many of them came before its last recovery).

    :param recent: the agent's history, newest first.
    """
    errors = recovered = 0
    has_recovered = False
    for entry in recent:
        if entry.get("event") == RECOVERY and entry.get("task_id") == task_id:
            has_recovered = True
        elif entry.get("event") == "error" and entry.get("task_id") in (None, task_id):
            errors += 1
            recovered += has_recovered
    return errors, recovered
