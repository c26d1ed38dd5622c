"""What a run keeps in the datastore: its definition, its state before each wave, what its steps
gave, and how it ended. Everything is sealed, and kept for two weeks: an approval may take one.

    synthralos.wave.<run>.definition       {definition, id, input, ...}
    synthralos.wave.<run>.<wave>           the state before that wave, and what the wave is
    synthralos.wave.<run>.end              how the run ended
    synthralos.step.<run>.<wave>.<job>     what a step gave; a step that crashed left none
    synthralos.step.<run>.resumed          the run that resumes it
    synthralos.step.<run>.log<wave>        a page of the log, of the waves before that one
    synthralos.step.<...>.run              of a sub-orchestration: its run
    synthralos.step.<...>.set, .end<n>     what an approval, or a step around steps, set
    synthralos.orchestration_run.<time>-<run>   that there was such a run
"""

import json
import time
from typing import Optional

from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.storage import unreadable
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    DatastoreUnavailable,
    require_available,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("wave")
# Records of a run that has stood longer are written again when it is resumed, so that they last.
FRESH_SECONDS = 24 * 3600
# Of one value, sealed: MongoDB takes 16 MB, and the API may take two seconds.
MAX_RECORD_BYTES = 8 * 1024 * 1024
MAX_ATTEMPTS, RETRY_DELAY_SECONDS = 3, 1.0
# Entries of the log: what is older is put away, lest each checkpoint has all of a long run's.
LOG_PAGE = 50
# Behind the key of a sub-orchestration's record: which run it is.
RUN = ".run"
_WAVES, _STEPS, _RUNS = PREFIX + "wave.", PREFIX + "step.", PREFIX + "orchestration_run."
_DEFINITION, _END, _RESUMED = "definition", "end", "resumed"
# What the list of runs tells of one.
_HEAD = ("name", "id", "resume_of", "parent_run", "resumes")


class RunStore:
    """What is kept of the run `run`.

    Nothing works without the datastore: DatastoreUnavailable where it is unavailable. One that fails a
    call is asked TRIES times, for an answer that is lost was paid for.
    """

    def __init__(self, env, run, sleep=time.sleep):
        self._env, self.run, self._sleep, self._seen = env, run, sleep, {}
        self._waves = "%s%s." % (_WAVES, encode_key_part(run or "none"))
        self._steps = "%s%s." % (_STEPS, encode_key_part(run or "none"))

    def begin(self, told):
        self._put(self._waves + _DEFINITION, told)
        head = {name: told.get(name) for name in _HEAD}
        value = json.dumps(dict(head, v=FORMAT_VERSION, run=self.run), separators=(",", ":"))
        key = _RUNS + timestamp_key(self._env.now(), encode_key_part(self.run or "none"))
        self._ask("put", key, value, TTL_SECONDS)

    def definition(self):
        """What `begin` wrote, or None."""
        return self._get(self._waves + _DEFINITION)

    def checkpoint(self, state):
        """Keeps the state; a page of its log is put away once it is full."""
        if len(state["log"]) >= LOG_PAGE:
            key = "%slog%05d" % (self._steps, state["cursor"])
            self.put_record(key, {"log": state["log"]})
            page = {"at": key, "attempts": attempts_of(state["log"])}
            state = dict(state, log=[], pages=state["pages"] + [page])
        self._put("%s%05d" % (self._waves, state["cursor"]), dict(state, at=self._env.now()))

    def state(self, wave):
        """The state before wave number `wave`, or None."""
        return self._get("%s%05d" % (self._waves, wave))

    def newest(self):
        """The state before the newest wave, or None."""
        for name, value in self._ask("list", self._waves, 3):
            if name[len(self._waves):].isdigit():
                return self._opened(value)
        return None

    def waves(self, told, state):
        """The keys of the checkpoints, the first wave first.

        :param told: what `begin` wrote; state: the newest one. Either may be None.
        """
        if not told or not state:
            return []
        return ["%s%05d" % (self._waves, n) for n in range(told["first"], state["cursor"] + 1)]

    def log(self, state):
        """The whole log of a state, or of an end."""
        found = []
        for page in state["pages"]:
            record = self.record(page["at"])
            if record is None:
                way_out = "Records are kept for two weeks; start the orchestration anew"
                raise InvalidInput("run", page["at"], "is not in the datastore any more", way_out)
            found += record["log"]
        return found + state["log"]

    def end(self, told):
        self._put(self._waves + _END, told)

    def ended(self):
        """What `end` wrote, or None."""
        return self._get(self._waves + _END)

    def mark_resumed(self, run_id: str) -> None:
        """Stores that the run `run_id` resumes this one."""
        self._put(self._steps + _RESUMED, {"run": run_id})

    def resumed_by(self) -> Optional[str]:
        """The newest run that resumes this one, or None."""
        return (self._get(self._steps + _RESUMED) or {}).get("run")

    def step_key(self, wave, job):
        return "%s%05d.%04d" % (self._steps, wave, job)

    def put_record(self, key, record):
        """Keeps what a step gave. InvalidInput when it is too large."""
        if not key.startswith(_STEPS):
            raise InvalidInput("case", key, "is no place for a step", "Pass on the case as it was")
        self._put(key, record)

    def record(self, key):
        """What a step gave, or None."""
        if key not in self._seen:
            self._seen[key] = self._get(key) if key.startswith(_STEPS) else None
        return self._seen[key]

    def records(self, wave):
        """{key: record} of the steps of a wave that have ended."""
        found = self._listed("%s%05d." % (self._steps, wave))
        self._seen.update((name, self._opened(value)) for name, value in found)
        return {name: self._seen[name] for name, _ in found}

    def renew(self, keys):
        """Writes the records again that a resumed run goes on needing. Returns those not there."""
        missing = []
        for key in keys:
            value = self._ask("get", key)
            if value is None:
                missing.append(key)
            else:
                self._ask("put", key, value, TTL_SECONDS)
        return missing

    def _put(self, key, content):
        value = sealing.seal(self._env.redactor.remove_secrets(dict(content, v=FORMAT_VERSION)))
        if len(value) > MAX_RECORD_BYTES:
            why = "takes %d bytes, more than the %d that are kept" % (len(value), MAX_RECORD_BYTES)
            raise InvalidInput(
                "output", None, why, "Have the step answer less, or keep it elsewhere"
            )
        self._ask("put", key, value, TTL_SECONDS)

    def _get(self, key):
        value = self._ask("get", key)
        return None if value is None else self._opened(value)

    def _opened(self, value):
        content = sealing.unseal(value)
        if not isinstance(content, dict) or content.pop("v", None) != FORMAT_VERSION:
            raise InvalidInput(
                "run", None, "is kept in another format", "Start the orchestration anew"
            )
        return content

    def _listed(self, prefix):
        found = []
        while True:
            rows = self._ask("list", prefix, PAGE_SIZE, len(found))
            found += rows
            if len(rows) < PAGE_SIZE:
                return found

    def _ask(self, operation, *arguments):
        for tried in range(MAX_ATTEMPTS):
            if tried:
                self._sleep(RETRY_DELAY_SECONDS)
            store = self._env.store.fresh()
            found = getattr(store, operation)(*arguments)
            if not store.unavailable_reason:
                return found
        raise DatastoreUnavailable("the run cannot be kept or read: %s" % store.unavailable_reason)


def attempts_of(log):
    """How many attempts the steps of a log have taken."""
    return sum(entry.get("attempts") or 0 for entry in log)


def runs(env, limit):
    """The newest runs: [{run, name, id, resume_of, parent_run, resumes, at}], at in seconds since
    the epoch.
    """
    found = []
    for key, value in env.store.list(_RUNS, limit=min(limit, PAGE_SIZE)):
        try:
            head = json.loads(value)
        except ValueError:
            head = None
        if isinstance(head, dict) and head.pop("v", None) == FORMAT_VERSION:
            found.append(dict(head, at=timestamp_of_key(key) or 0.0))
        else:
            unreadable.skip(key)
    require_available(env.store, "the runs cannot be read: %s")
    return found
