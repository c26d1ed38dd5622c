"""Silences the alerts that a run works on, if the configuration says so.

A silence is a lease: it ends LEASE_SECONDS after the run is to give its next sign of life, and
never after the deadline of the run. The run extends it while it works, and ends it when it ends, or
when it asks a person and nobody works. Whatever is killed, no alert stays silenced for long.

That an alert could not be silenced stops no repair: the result of the run says so. Where an alert
has ended while it was silenced, Alertmanager reports no end of it: automation/silence_reaper.py
does.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional, TypedDict

from synthralos.calls.http import CallError
from synthralos.config.connection import Connection
from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import alertmanager_silences, repair_evidence
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.repair_evidence import AlertKey, Calls
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_payloads, alertmanager_api
from synthralos.sensing.config import Alertmanager
from synthralos.storage import silence_records
from synthralos.storage.silence_records import SilenceRecord
from synthralos.telemetry import run_log

# A task begins and gives a sign of life within this time, also where it has to queue for a while.
LEASE_SECONDS = 90.0
# A silence is extended when less than this is left of what it should last.
SLACK_SECONDS = 30.0
# For all silences that are created, extended or ended at once.
CALLS_SECONDS = 15.0
# How much earlier than it should a silence may have ended by itself.
CLOCK_SKEW_SECONDS = 3.0
ACTIVE, NOT_SILENCED, ENDED, ENDED_BY_OTHERS = "active", "not_silenced", "ended", "ended_by_others"


class Silence(TypedDict):
    """The silence of an alert, in the case of a run.

    `id`: Alertmanager's; `status`: one of the constants above, `reason`: why it is not what it
    should be, in words without any text from elsewhere, or ""; `starts_at`: of the alert;
    `ends_at`: of the silence, in seconds since the epoch.
    """

    fingerprint: str
    id: Optional[str]
    status: str
    reason: str
    starts_at: str
    ends_at: float


def begin(
    env: Environment, config: InfrastructureConfig, case: dict[str, Any], keys: Iterable[AlertKey]
) -> None:
    """Silence the alerts that the run starts to work on; extend the silences that it has."""
    if not config.silence_alerts or not env.run:
        return
    # One that it is too late to extend is created again.
    extend(env, case)
    silences: dict[str, Silence] = {
        silence["fingerprint"]: silence for silence in case.get("silences", ())
    }
    alertmanager = _alertmanager_or_none(env)
    calls = Calls(env, env.now() + CALLS_SECONDS)
    for key in keys:
        existing = silences.get(key["fingerprint"])
        if existing is not None and existing["status"] in (ACTIVE, ENDED_BY_OTHERS):
            continue
        silence = _create(env, case, alertmanager, calls, key)
        silences[key["fingerprint"]] = silence
        run_log.emit("silence", status=silence["status"])
    case["silences"] = list(silences.values())


def _create(
    env: Environment, case: Mapping[str, Any], alertmanager: Optional[Alertmanager], calls: Calls,
    key: AlertKey,
) -> Silence:
    """Silence one alert at the first member that lists it."""
    silence: Silence = {
        "fingerprint": key["fingerprint"], "id": None, "status": NOT_SILENCED,
        "reason": "Alertmanager is not configured", "starts_at": "", "ends_at": 0.0,
    }
    seconds = _lease_end(env, case, 0.0) - env.now()
    for connection in alertmanager.connections if alertmanager is not None else ():
        silence["reason"] = "Alertmanager does not list it"
        try:
            alike, clock = _list_alike(env, calls, connection, key)
            own = next((p for p in alike if p["fingerprint"] == key["fingerprint"]), None)
            if own is None:
                continue
            silence["starts_at"], silence["ends_at"] = own["starts_at"], env.now() + seconds
            record = _record_of(case["run"], silence)
            if not silence_records.save(env.store, record):
                silence["reason"] = "the datastore is unavailable: nobody would end it"
                return silence
            matchers = alertmanager_silences.matchers_of(
                own["labels"], [other["labels"] for other in alike]
            )
            silence["id"] = alertmanager_silences.create(
                calls, connection, case["run"], matchers, clock, clock + seconds
            )
        except CallError as error:
            silence["reason"] = "Alertmanager could not silence it (%s)" % error.failure.cause
            continue
        silence["status"], silence["reason"] = ACTIVE, ""
        silence_records.save(env.store, _record_of(case["run"], silence))
        return silence
    return silence


def _list_alike(
    env: Environment, calls: Calls, connection: Connection, key: AlertKey
) -> tuple[list[dict[str, Any]], float]:
    """Return (payloads of the firing alerts of the same name, clock of the server).

    Labels are those of the server, whole: a notification may have come with shortened ones.
    """
    path = alertmanager_api.alerts_path(repair_evidence.name_matchers(key["alertname"]))
    entries, clock = alertmanager_api.list_alerts(calls.get, connection, path, env.now())
    payloads = []
    for entry in entries:
        try:
            payload = alert_payloads.from_api(entry, clock)
        except InvalidInput:
            continue
        if payload["status"] == alert_payloads.FIRING:
            payloads.append(dict(payload, labels=_labels(entry)))
    return payloads, clock


def _labels(entry: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in entry["labels"].items()}


def extend(env: Environment, case: Mapping[str, Any], delay: float = 0.0) -> None:
    """Extend the silences of a run that continues after `delay` seconds, as far as necessary.

    One that somebody has ended stays ended.
    """
    ends_at = _lease_end(env, case, delay)
    due = [
        silence for silence in case.get("silences", ())
        if silence["status"] == ACTIVE and silence["ends_at"] < ends_at - SLACK_SECONDS
    ]
    if not due:
        return
    alertmanager = _alertmanager_or_none(env)
    calls = Calls(env, env.now() + CALLS_SECONDS)
    for silence in due:
        for connection in alertmanager.connections if alertmanager is not None else ():
            try:
                if _extend_at(env, calls, connection, silence, ends_at):
                    silence_records.save(env.store, _record_of(case["run"], silence))
                    break
            except CallError as error:
                silence["reason"] = "it could not be extended (%s)" % error.failure.cause


def _extend_at(
    env: Environment, calls: Calls, connection: Connection, silence: Silence, ends_at: float
) -> bool:
    """Extend a silence at one member; return whether the member knows it.

    :raises CallError: the member did not respond as expected.
    """
    state = alertmanager_silences.find(calls, connection, str(silence["id"]), env.now())
    if state is None:
        return False
    skew = state.clock - env.now()
    if state.is_expired:
        by_itself = state.ends_at - skew >= silence["ends_at"] - CLOCK_SKEW_SECONDS
        silence["status"] = ENDED if by_itself else ENDED_BY_OTHERS
        silence["reason"] = "" if by_itself else "somebody has ended it"
        return True
    silence["id"] = alertmanager_silences.extend(calls, connection, state, ends_at + skew)
    silence["ends_at"], silence["reason"] = ends_at, ""
    return True


def extending_sleep(
    env: Environment, case: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep
) -> Callable[[float], None]:
    """Return a function that sleeps, and extends the silences of a run that waits for an action."""
    def sleep_and_extend(seconds: float) -> None:
        sleep(seconds)
        extend(env, case)

    return sleep_and_extend


def end(env: Environment, run: str, case: Optional[Mapping[str, Any]] = None) -> bool:
    """End the silences of a run; return whether none of them is active any more.

    :param case: of the run, in which they are marked; also those that only the datastore knows are
        ended: the process that created them may have been killed.
    """
    own: list[Silence] = list((case or {}).get("silences", ()))
    ids: dict[str, Optional[str]] = {
        record.fingerprint: record.silence_id for record in silence_records.of_run(env.store, run)
    }
    ids.update(
        (silence["fingerprint"], silence["id"]) for silence in own if silence["status"] == ACTIVE
    )
    if not ids:
        return True
    reason = _end_all(env, run, ids)
    for silence in own:
        if silence["status"] == ACTIVE and reason is None:
            silence["status"], silence["reason"] = ENDED, ""
        elif silence["status"] == ACTIVE:
            silence["reason"] = reason or ""
    run_log.emit("silences_ended", count=len(ids), confirmed=reason is None)
    return reason is None


def _end_all(env: Environment, run: str, ids: Mapping[str, Optional[str]]) -> Optional[str]:
    """End silences at every member; return why some may still be active, or None.

    :param ids: {fingerprint: id, or None where Alertmanager's response was lost}.
    """
    alertmanager = _alertmanager_or_none(env)
    if alertmanager is None:
        return "it could not be ended: Alertmanager is not configured"
    calls, cause = Calls(env, env.now() + CALLS_SECONDS), None
    for connection in alertmanager.connections:
        try:
            known_ids = {silence_id for silence_id in ids.values() if silence_id is not None}
            if None in ids.values():
                states = alertmanager_silences.list_of_run(calls, connection, run, env.now())
                known_ids.update(state.silence_id for state in states if not state.is_expired)
            for silence_id in sorted(known_ids):
                alertmanager_silences.end(calls, connection, silence_id)
        except CallError as error:
            cause = error.failure.cause
    return None if cause is None else "it could not be ended (%s): it ends by itself" % cause


def report(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return [{fingerprint, id, status, reason}] of the alerts that the run was to silence."""
    names = ("fingerprint", "id", "status", "reason")
    return [{name: silence[name] for name in names} for silence in case.get("silences", ())]


def _alertmanager_or_none(env: Environment) -> Optional[Alertmanager]:
    try:
        return repair_evidence.load_alertmanager(env)
    except InvalidInput:
        return None


def _lease_end(env: Environment, case: Mapping[str, Any], delay: float) -> float:
    deadline: float = case["deadline"]
    return min(env.now() + delay + LEASE_SECONDS, deadline)


def _record_of(run: str, silence: Silence) -> SilenceRecord:
    return SilenceRecord(
        run=run, fingerprint=silence["fingerprint"], starts_at=silence["starts_at"],
        silence_id=silence["id"], ends_at=silence["ends_at"],
    )
