"""Whether an incident starts a run: from what is recorded of it and of its subject.

Nothing is written here. The mode observe decides by the same rules as the others; the runs that it
would have started count as running until their incident is resolved, for an hour at most, and as
successful if it was.
"""

from typing import Any, NamedTuple, Optional

from synthralos.automation.config import AutomationConfig
from synthralos.automation.incident import Incident
from synthralos.automation.outcomes import (
    DUPLICATE,
    RECURRED,
    RUNNING,
    STARTED,
    STILL_FAILING,
    TOO_MANY,
)
from synthralos.core.timestamps import parse_iso
from synthralos.runtime.environment import Environment
from synthralos.storage import incidents
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound

HOUR = 3600
# Seconds after which a repeated report of an incident is evaluated again: a run that was held back
# may be allowed by now, and a ticket that was closed while the incident continues is reopened.
RECHECK_SECONDS = 600
# How far two representations of the same time may differ.
CLOCK_SKEW_SECONDS = 1.5
# Of a run in which a person has refused what it was to do; of runs that ended well and repaired
# nothing, because what they were started for was over.
REFUSED, OVER, HEALTHY = "refused", "over", "healthy"

Event = dict[str, Any]


class Decision(NamedTuple):
    """What becomes of an incident: one of outcomes, or None if nothing keeps it from a run.

    :ivar run: the id of the run that it concerns, or None.
    :ivar joins: whether that run was started when the incident occurred the last time.
    """

    outcome: Optional[str] = None
    run: Optional[str] = None
    joins: bool = False


class RunState(NamedTuple):
    """How a run stands; both are None if it does not exist any more.

    :ivar status: of its execution.
    :ivar ended_at: seconds since the epoch.
    """

    status: Optional[str] = None
    ended_at: Optional[float] = None

    @property
    def is_live(self) -> bool:
        return self.status is not None and self.status not in ENDED


class History:
    """What was really started, and what became of it.

    :ivar events: the events of the incident, newest first.
    """

    def __init__(self, env: Environment, incident: Incident, events: list[Event]) -> None:
        self._env, self._subject = env, incident.subject
        self.events = [event for event in events if event["kind"] != incidents.OBSERVED]

    def is_start(self, event: Event) -> bool:
        """Return whether the event is the start of a run."""
        return bool(event["kind"] == incidents.STARTED)

    def state_of(self, event: Event) -> RunState:
        """Return the state of the run that the event names.

        :raises StackStormError: StackStorm is unavailable: a run of unknown status has not ended.
        """
        if not event.get("run"):
            return RunState()
        try:
            execution = self._env.api.execution(event["run"], "status,end_timestamp")
        except ExecutionNotFound:
            return RunState()
        return RunState(execution.get("status"), parse_iso(execution.get("end_timestamp")))

    def outcome_of(self, event: Event) -> Optional[str]:
        """Return the `outcome` in the output of the run that the event names, or None."""
        if not event.get("run"):
            return None
        output = (self._env.api.execution(event["run"], "result").get("result") or {}).get("output")
        return output.get("outcome") if isinstance(output, dict) else None

    def subject_starts(self) -> list[Event]:
        """Return the starts for the subject within the last hour, newest first."""
        since = self._env.now() - HOUR
        starts: list[Event] = incidents.starts_since(self._env.store, self._subject, since)
        return starts

    def state_of_start(self, start: Event) -> RunState:
        """Return the state of a run that subject_starts returned."""
        return self.state_of(start)


class ObservedHistory(History):
    """The same, with the runs that would have been started."""

    def __init__(self, env: Environment, incident: Incident, events: list[Event]) -> None:
        super().__init__(env, incident, events)
        self.events = events

    def is_start(self, event: Event) -> bool:
        return super().is_start(event) or is_observed_start(event)

    def state_of(self, event: Event) -> RunState:
        if event["kind"] == incidents.OBSERVED:
            return _observed_state(self.events, event, self._env.now())
        return super().state_of(event)

    def subject_starts(self) -> list[Event]:
        since = self._env.now() - HOUR
        starts = super().subject_starts()
        starts += incidents.observed_starts_since(self._env.store, self._subject, since)
        return sorted(starts, key=lambda start: start["at"], reverse=True)

    def state_of_start(self, start: Event) -> RunState:
        if "incident" not in start:
            return super().state_of(start)
        if start["incident"] is None:
            return RunState()
        events = incidents.recent_events(self._env.store, start["incident"])
        event = next((event for event in events if is_observed_start(event)), None)
        return RunState() if event is None else _observed_state(events, event, self._env.now())


def is_observed_start(event: Event) -> bool:
    """Return whether the event is a start that the mode observe has recorded."""
    return event["kind"] == incidents.OBSERVED and event.get("outcome") == STARTED


def _observed_state(events: list[Event], event: Event, now: float) -> RunState:
    """Return the state of a run that would have been started.

    :param events: of its incident, newest first.
    """
    later = events[:events.index(event)]
    for other in reversed(later):
        if other["kind"] == incidents.RESOLVED and other["since"] == event["since"]:
            return RunState("succeeded", other["at"])
    return RunState("running") if not later and now - event["at"] < HOUR else RunState()


def decide(
    env: Environment, config: AutomationConfig, incident: Incident, history: History
) -> Decision:
    """Decide by what is recorded of the incident itself."""
    decision = _of_repeat(env, incident, history)
    return decision if decision.outcome is not None else _of_recurrence(
        env, config, incident, history
    )


def _of_repeat(env: Environment, incident: Incident, history: History) -> Decision:
    """Decide on a repeated report of an incident; no outcome if the report counts as new."""
    last_event = history.events[0] if history.events else None
    if (
        last_event is None or
        last_event["kind"] == incidents.RESOLVED or
        is_later(incident.since, last_event["since"])
    ):
        return Decision()
    run = last_event.get("run")
    if is_observed_start(last_event):
        return Decision(DUPLICATE)
    state = history.state_of(last_event) if run else RunState()
    if state.is_live:
        return Decision(RUNNING, run)
    if not incident.is_state or env.now() - last_event["at"] < RECHECK_SECONDS:
        return Decision(DUPLICATE, run)
    if state.status == "succeeded":
        outcome = history.outcome_of(last_event)
        if outcome in (OVER, HEALTHY):
            return Decision()
        # A repair crew needs time, and a person who refused has decided; an agent that answered
        # should not fail any more.
        is_agent = incident.workflow == "agent_recovery" and outcome != REFUSED
        return Decision(STILL_FAILING if is_agent else DUPLICATE, run)
    return Decision()


def _of_recurrence(
    env: Environment, config: AutomationConfig, incident: Incident, history: History
) -> Decision:
    """Decide by the incident's last run, and by what blocks it in any case."""
    if incident.blocked is not None:
        return Decision(incident.blocked)
    last_start = next((event for event in history.events if history.is_start(event)), None)
    if last_start is None:
        return Decision()
    state = history.state_of(last_start)
    if state.is_live:
        run = last_start.get("run")
        return Decision(RUNNING, run, joins=run is not None)
    since = last_start["at"] if state.ended_at is None else state.ended_at
    is_recent = env.now() - since <= config.recurrence_window
    if state.status != "succeeded" or not is_recent:
        return Decision()
    has_repaired = history.outcome_of(last_start) not in (REFUSED, OVER, HEALTHY)
    return Decision(RECURRED if has_repaired else None)


def decide_by_subject(config: AutomationConfig, incident: Incident, history: History) -> Decision:
    """Decide by the limits that hold for all incidents of one subject."""
    starts = history.subject_starts()
    for start in starts if incident.is_state else ():
        # A run that does something else does not help: this one waits for its turn.
        is_alike = incident.work in (None, start.get("work"))
        if is_alike and history.state_of_start(start).is_live:
            return Decision(RUNNING, start.get("run"))
    return Decision(TOO_MANY) if len(starts) >= config.recoveries_per_hour else Decision()


def is_later(since: str, earlier: str) -> bool:
    """Whether `since` is later than `earlier`, both in ISO 8601."""
    first, second = parse_iso(since), parse_iso(earlier)
    if first is None or second is None:
        return since != earlier
    return bool(first - second > CLOCK_SKEW_SECONDS)
