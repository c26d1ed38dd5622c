"""Alertmanager's API of silences: create, extend, end and find those of a run.

A silence has the labels of one alert as its matchers, literally, and names its run in `createdBy`.
The members of a cluster tell each other of it; one that does not know it is no error.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional, TypedDict
from urllib.parse import quote

from synthralos.calls.http import CallError
from synthralos.config.connection import Connection
from synthralos.core.failures import make_failure
from synthralos.core.timestamps import parse_timestamp, server_time, to_iso
from synthralos.infrastructure.repair_evidence import Calls

SILENCES_PATH, SILENCE_PATH = "/api/v2/silences", "/api/v2/silence/"
EXPIRED = "expired"
COMMENT = "synthralos repairs what this alert reports; the silence ends with its run %s."
# Fields of a silence that an update passes on as they are.
_UPDATED_FIELDS = ("id", "matchers", "startsAt", "createdBy", "comment")


class Matcher(TypedDict):
    """A matcher of a silence. One with an empty value matches alerts without the label."""

    name: str
    value: str
    isRegex: bool
    isEqual: bool


class SilenceState(NamedTuple):
    """A silence as Alertmanager has it. Times are in seconds since the epoch.

    :ivar ends_at: by the clock of the server; clock: what that said when it responded.
    :ivar labels: of the alert that it is for.
    :ivar body: all of it.
    """

    silence_id: str
    is_expired: bool
    ends_at: float
    clock: float
    labels: dict[str, str]
    body: Mapping[str, Any]


def owner_of(run: str) -> str:
    """Return what the silences of a run have as their creator."""
    return "synthralos.infrastructure_repair %s" % run


def matchers_of(
    labels: Mapping[str, str], other_labels: Iterable[Mapping[str, str]]
) -> list[Matcher]:
    """Return matchers of the alert with these labels.

    An alert that has all its labels and more would be silenced, too. What it has more is therefore
    named, with an empty value: the label must be missing.

    :param other_labels: the labels of other alerts.
    """
    matchers = [_matcher(name, value) for name, value in sorted(labels.items())]
    absent: set[str] = set()
    for other in other_labels:
        more = set(other) - set(labels)
        if more and labels.items() <= other.items() and not more & absent:
            absent.add(min(more))
    return matchers + [_matcher(name, "") for name in sorted(absent)]


def _labels_of(body: Mapping[str, Any]) -> dict[str, str]:
    matchers = body.get("matchers")
    return {
        str(matcher.get("name")): str(matcher.get("value"))
        for matcher in (matchers if isinstance(matchers, list) else [])
        if isinstance(matcher, dict) and matcher.get("value")
    }


def _matcher(name: str, value: str) -> Matcher:
    return {"name": name, "value": value, "isRegex": False, "isEqual": True}


def create(
    calls: Calls, connection: Connection, run: str, matchers: list[Matcher], clock: float,
    ends_at: float,
) -> str:
    """Create a silence of a run and return its id.

    :param clock: of the server; ends_at: by that clock, both in seconds since the epoch.
    :raises CallError: it was not created, or nobody knows whether it was.
    """
    return _set(calls, connection, {
        "matchers": matchers,
        "startsAt": to_iso(clock, milliseconds=True),
        "endsAt": to_iso(ends_at, milliseconds=True),
        "createdBy": owner_of(run),
        "comment": COMMENT % run,
    })


def extend(
    calls: Calls, connection: Connection, state: SilenceState, ends_at: float
) -> str:
    """Let a silence end at another time and return its id, which may be another one.

    :raises CallError: it was not changed, or nobody knows whether it was.
    """
    body = {name: state.body.get(name) for name in _UPDATED_FIELDS}
    return _set(calls, connection, dict(body, endsAt=to_iso(ends_at, milliseconds=True)))


def _set(calls: Calls, connection: Connection, body: Mapping[str, Any]) -> str:
    response = calls.send(connection, "POST", SILENCES_PATH, dict(body)).json()
    silence_id = response.get("silenceID") if isinstance(response, dict) else None
    if not isinstance(silence_id, str) or not silence_id:
        raise _malformed("Alertmanager's response does not name the silence")
    return silence_id


def find(
    calls: Calls, connection: Connection, silence_id: str, now: float
) -> Optional[SilenceState]:
    """Return a silence, or None if this member does not know it.

    :param now: the clock of a server that does not report its own.
    :raises CallError: the member did not respond as expected.
    """
    try:
        response = calls.get(connection, SILENCE_PATH + quote(silence_id, safe=""))
    except CallError as error:
        if error.failure.status == 404:
            return None
        raise
    return _state(response.json(), server_time(response.headers, now))


def end(calls: Calls, connection: Connection, silence_id: str) -> bool:
    """End a silence; return whether this member knew it.

    :raises CallError: the member did not respond as expected, so the silence may still be active.
    """
    try:
        calls.send(connection, "DELETE", SILENCE_PATH + quote(silence_id, safe=""))
        return True
    except CallError:
        # Alertmanager answers 404 or 500 for one that it does not know, depending on its version.
        state = find(calls, connection, silence_id, 0.0)
        if state is None or state.is_expired:
            return state is not None
        raise


def list_of_run(
    calls: Calls, connection: Connection, run: str, now: float
) -> list[SilenceState]:
    """Return the silences of a run, also those that have ended some days ago or less.

    :param now: as for `find`.
    :raises CallError: the member did not respond as expected.
    """
    response = calls.get(connection, SILENCES_PATH)
    bodies, clock = response.json(), server_time(response.headers, now)
    if not isinstance(bodies, list):
        raise _malformed("Alertmanager's response is not a list of silences")
    return [
        _state(body, clock)
        for body in bodies
        if isinstance(body, dict) and body.get("createdBy") == owner_of(run)
    ]


def _state(body: Any, clock: float) -> SilenceState:
    body = body if isinstance(body, dict) else {}
    status, ends_at = body.get("status"), parse_timestamp(body.get("endsAt"))
    silence_id = body.get("id")
    if not isinstance(status, dict) or ends_at is None or not isinstance(silence_id, str):
        raise _malformed("Alertmanager's response is not a silence")
    is_expired = status.get("state") == EXPIRED
    return SilenceState(silence_id, is_expired, ends_at, clock, _labels_of(body), body)


def _malformed(message: str) -> CallError:
    return CallError(make_failure("malformed_answer", message))
