"""The errors that an agent platform lists, each told once.

The list has no cursor, no order and, at the platform this was made for, no ids: what was seen is
remembered by id, {id: [when it happened, when it was listed last]}, for longer than the platform is
asked to look back.
"""

from synthralos.calls.http import CallError
from synthralos.core import failures, timestamps
from synthralos.sensing import agent_payloads
from synthralos.sensing.poller import Poller
from synthralos.sensing.sensor_state import SensorState

TRIGGER = "agent_failure"
SOURCE = "platform"
# What the platform may be asked to look back: (its name for it, seconds).
RANGES = (("1h", 3600.0), ("24h", 86400.0), ("7d", 7 * 86400.0), ("30d", 30 * 86400.0))
TTL_SECONDS = 31 * 86400.0
MAX_SEEN = 20_000
# A list of this length may have been cut by the platform.
MAX_LIST_LENGTH = 100
SAVED_EVERY = 100
_MARGIN = 120.0


class AgentErrorsPoller(Poller):
    entry = "agent_errors"

    def __init__(self, around):
        super().__init__(around)
        self._memory = SensorState(
            around.datastore, around.sensor + ".seen", around.now, around.log
        )
        self._is_full = False

    def poll_once(self):
        content = self._content()
        now = self.around.now()
        listed, clock = self._listed(_range(content["polled"], now))
        oldest = None if content["polled"] is not None else clock - self.config.initial_lookback
        new = self._new(content, listed, clock, now)
        try:
            for when, error_id, told in new:
                if oldest is None or when >= oldest:
                    payload = agent_payloads.failure_payload(told, SOURCE, when, error_id)
                    self.around.dispatch(TRIGGER, payload)
                content["seen"][error_id] = [when, now]
                self._memory.changed()
                if len(content["seen"]) % SAVED_EVERY == 0:
                    self._memory.save()
            if content["polled"] is None:
                self._memory.changed()
            # Written with the next change, or within the hour: being early costs nothing.
            content["polled"] = now
        finally:
            self._forget(content, now)
            self._memory.save()

    def _content(self):
        self._memory.load()
        content, seen = self._memory.content, self._memory.content.get("seen")
        if not isinstance(seen, dict) or not all(map(_is_entry, seen.values())):
            content["seen"] = {}
        for name in ("polled", "floor"):
            if not isinstance(content.get(name), (int, float)):
                content[name] = None
        return content

    def _listed(self, asked):
        """(objects, the server's clock) of the first place that answers."""
        failed = None
        for place in self.config.places:
            path = place.path
            if "?" not in place.connection.base_url + path:
                path += "?range=" + asked
            try:
                answer = self.get(place.connection, path)
                found = answer.json()
                found = found.get("errors") if isinstance(found, dict) else found
                if not isinstance(found, list):
                    raise _no_list(answer)
            except CallError as error:
                failed = failed or error
                continue
            self._warn_of_full(len(found))
            return found, timestamps.server_time(answer.headers, self.around.now())
        raise failed

    def _new(self, content, listed, clock, now):
        """(when, id, object) of what was not seen before, the oldest first."""
        new = {}
        for told in listed:
            if not isinstance(told, dict):
                continue
            error_id = agent_payloads.native_id(told) or agent_payloads.content_id(told)
            # Once forgotten, a time to come would make all others too old.
            when = min(agent_payloads.time_of(told, clock), clock)
            known = content["seen"].get(error_id)
            if known is not None:
                known[1] = now
            elif content["floor"] is None or when > content["floor"]:
                new.setdefault(error_id, (when, error_id, told))
        return sorted(new.values(), key=lambda one: one[:2])

    def _forget(self, content, now):
        """Drops what has not been listed for long, or is too much; what is older than that, and
        comes up once more, is taken for known.
        """
        seen = content["seen"]
        if len(seen) > MAX_SEEN:
            ordered = sorted(seen, key=lambda error_id: seen[error_id][::-1])
            for error_id in ordered[: len(seen) - MAX_SEEN]:
                when = seen.pop(error_id)[0]
                content["floor"] = max(when, content["floor"] or when)
                self._memory.changed()
        for error_id in [one for one, (_, at) in seen.items() if now - at > TTL_SECONDS]:
            del seen[error_id]
            self._memory.changed()

    def _warn_of_full(self, count):
        if count >= MAX_LIST_LENGTH and not self._is_full:
            self.around.log.warning(
                "%s: the platform lists %d errors; it may leave out further ones",
                self.around.sensor, count,
            )
        self._is_full = count >= MAX_LIST_LENGTH


def _is_entry(entry):
    return (
        isinstance(entry, list) and
        len(entry) == 2 and
        all(isinstance(one, (int, float)) for one in entry)
    )


def _range(polled, now):
    """The platform's name for the time since the last poll that saw everything."""
    since = 0.0 if polled is None else now - polled + _MARGIN
    return next((name for name, seconds in RANGES if since <= seconds), RANGES[-1][0])


def _no_list(answer):
    told = "the platform answered no list of errors"
    return CallError(failures.make_failure("malformed_answer", told, answer.status))
