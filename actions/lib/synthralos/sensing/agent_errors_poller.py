"""Polls the error list of an agent platform and dispatches each error once.

The list has no cursor, no order and, on the platform this was written for, no ids. Seen errors are
therefore stored by id, {id: [time of the error, time it was last listed]}, for longer than the
longest range that is requested.
"""

from typing import TYPE_CHECKING, Any, Optional, TypedDict, cast

from synthralos.calls.http import CallError, Response
from synthralos.core import failures, timestamps
from synthralos.sensing import agent_payloads
from synthralos.sensing.poller import Poller
from synthralos.sensing.sensor_state import SensorState

if TYPE_CHECKING:
    from synthralos.sensing.config import AgentErrors
    from synthralos.sensing.sensor_environment import SensorEnvironment

TRIGGER = "agent_failure"
SOURCE = "platform"
# Ranges that the platform offers: (its name, seconds).
RANGES = (("1h", 3600.0), ("24h", 86400.0), ("7d", 7 * 86400.0), ("30d", 30 * 86400.0))
TTL_SECONDS = 31 * 86400.0
MAX_SEEN = 20_000
# A list of this length may have been truncated by the platform.
MAX_LIST_LENGTH = 100
SAVED_EVERY = 100
_MARGIN = 120.0


class _Content(TypedDict):
    """What is stored of the list.

    `seen` is {id: [time of the error, time it was last listed]}. `polled` is the time of the last
    complete poll, or None before the first. Errors up to the time `floor` count as seen, too.
    """

    seen: dict[str, list[float]]
    polled: Optional[float]
    floor: Optional[float]


# (time in seconds since the epoch, id, error).
_NewError = tuple[float, str, dict[str, Any]]


class AgentErrorsPoller(Poller["AgentErrors"]):
    """Dispatches synthralos.agent_failure for each new error of the platform."""

    entry = "agent_errors"

    def __init__(self, env: "SensorEnvironment") -> None:
        super().__init__(env)
        self._state = SensorState(
            env.datastore, env.sensor + ".seen", env.now, env.log
        )
        self._is_full = False

    def poll_once(self, config: "AgentErrors") -> None:
        content = self._load_content()
        now = self.env.now()
        entries, clock = self._fetch_errors(config, _range_since(content["polled"], now))
        oldest = None if content["polled"] is not None else clock - config.initial_lookback
        new = self._unseen(content, entries, clock, now)
        try:
            for occurred_at, error_id, error_body in new:
                if oldest is None or occurred_at >= oldest:
                    payload = agent_payloads.failure_payload(
                        error_body, SOURCE, occurred_at, error_id
                    )
                    self.env.dispatch(TRIGGER, payload)
                content["seen"][error_id] = [occurred_at, now]
                self._state.changed()
                if len(content["seen"]) % SAVED_EVERY == 0:
                    self._state.save()
            if content["polled"] is None:
                self._state.changed()
            # Stored with the next change, or within the hour: too early a time does no harm.
            content["polled"] = now
        finally:
            self._forget(content, now)
            self._state.save()

    def _load_content(self) -> _Content:
        self._state.load()
        content, seen = self._state.content, self._state.content.get("seen")
        if not isinstance(seen, dict) or not all(map(_is_entry, seen.values())):
            content["seen"] = {}
        for name in ("polled", "floor"):
            if not isinstance(content.get(name), (int, float)):
                content[name] = None
        return cast(_Content, content)

    def _fetch_errors(self, config: "AgentErrors", range_name: str) -> tuple[list[Any], float]:
        """Get the list from the first endpoint that answers.

        :returns: (entries, the server's clock in seconds since the epoch).
        """
        first_error: Optional[CallError] = None
        for endpoint in config.endpoints:
            path = endpoint.path
            if "?" not in endpoint.connection.base_url + path:
                path += "?range=" + range_name
            try:
                response = self.get(endpoint.connection, path)
                entries = response.json()
                entries = entries.get("errors") if isinstance(entries, dict) else entries
                if not isinstance(entries, list):
                    raise _not_a_list(response)
            except CallError as error:
                first_error = first_error or error
                continue
            self._warn_of_full(len(entries))
            return entries, timestamps.server_time(response.headers, self.env.now())
        assert first_error is not None, "an entry has at least one endpoint"
        raise first_error

    def _unseen(
        self, content: _Content, entries: list[Any], clock: float, now: float
    ) -> list[_NewError]:
        """Return (time, id, error) of each error that was not seen before, oldest first."""
        new: dict[str, _NewError] = {}
        skipped = sum(not isinstance(error_body, dict) for error_body in entries)
        self.report_skipped(skipped, "errors")
        for error_body in entries:
            if not isinstance(error_body, dict):
                continue
            error_id = agent_payloads.native_id(error_body) or agent_payloads.content_id(error_body)
            # A time in the future would, once dropped, make all other errors too old.
            occurred_at = min(agent_payloads.time_of(error_body, clock), clock)
            seen_entry = content["seen"].get(error_id)
            if seen_entry is not None:
                seen_entry[1] = now
            elif content["floor"] is None or occurred_at > content["floor"]:
                new.setdefault(error_id, (occurred_at, error_id, error_body))
        return sorted(new.values(), key=lambda item: item[:2])

    def _forget(self, content: _Content, now: float) -> None:
        """Drop errors that have not been listed for long, and the oldest beyond MAX_SEEN.

        Errors older than the dropped ones are taken for seen if they are listed again.
        """
        seen = content["seen"]
        if len(seen) > MAX_SEEN:
            ordered = sorted(seen, key=lambda error_id: seen[error_id][::-1])
            for error_id in ordered[: len(seen) - MAX_SEEN]:
                occurred_at = seen.pop(error_id)[0]
                content["floor"] = max(occurred_at, content["floor"] or occurred_at)
                self._state.changed()
        for error_id in [
            error_id for error_id, (_, listed_at) in seen.items() if now - listed_at > TTL_SECONDS
        ]:
            del seen[error_id]
            self._state.changed()

    def _warn_of_full(self, count: int) -> None:
        if count >= MAX_LIST_LENGTH and not self._is_full:
            self.env.log.warning(
                "%s: the platform lists %d errors; the list may be truncated",
                self.env.sensor, count,
            )
        self._is_full = count >= MAX_LIST_LENGTH


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, list) and
        len(entry) == 2 and
        all(isinstance(timestamp, (int, float)) for timestamp in entry)
    )


def _range_since(polled: Optional[float], now: float) -> str:
    """Return the name of the shortest range that covers the time since the last complete poll."""
    since = 0.0 if polled is None else now - polled + _MARGIN
    return next((name for name, seconds in RANGES if since <= seconds), RANGES[-1][0])


def _not_a_list(response: Response) -> CallError:
    message = "the platform's response is not a list of errors"
    return CallError(failures.make_failure("malformed_answer", message, response.status))
