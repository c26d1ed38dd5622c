"""The records of a run in the datastore.

They are sealed, except for the list of runs, and stored for two weeks: an approval may take one.

    synthralos.wave.<run>.definition       the RunRecord: definition, input, ...
    synthralos.wave.<run>.<wave>           the state before that wave, and the wave itself
    synthralos.wave.<run>.end              the EndRecord
    synthralos.step.<run>.<wave>.<job>     the record of a step; a step that crashed left none
    synthralos.step.<run>.resumed          the run that resumes it
    synthralos.step.<run>.log<wave>        a page of the log, of the waves before that one
    synthralos.step.<...>.run              the run of a sub-orchestration
    synthralos.step.<...>.set, .end<n>     values set by an approval, or by a loop or branch
    synthralos.orchestration_run.<time>-<run>   an entry of the list of runs
"""

import json
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict, TypeVar

from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.storage import unreadable
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    BestEffortDatastore,
    DatastoreUnavailable,
    require_available,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

if TYPE_CHECKING:
    from synthralos.orchestration.orchestration_schema import Orchestration
    from synthralos.orchestration.scheduler import Checkpoint, LogEntry, LogPage, Slot, State
    from synthralos.runtime.environment import Environment

T = TypeVar("T")
FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("wave")
# Records older than this are written again when their run is resumed, so that they do not expire.
FRESH_SECONDS = 24 * 3600
# The size of a sealed value: MongoDB's limit is 16 MB, and the API may take two seconds.
MAX_RECORD_BYTES = 8 * 1024 * 1024
MAX_ATTEMPTS, RETRY_DELAY_SECONDS = 3, 1.0
# Entries of the log in a checkpoint; full pages are stored once, not in every later checkpoint.
LOG_PAGE = 50
# Suffix of the key with the run of a sub-orchestration.
RUN = ".run"
_WAVES, _STEPS, _RUNS = PREFIX + "wave.", PREFIX + "step.", PREFIX + "orchestration_run."
_DEFINITION, _END, _RESUMED = "definition", "end", "resumed"
# The fields of a run in the list of runs.
_HEAD_FIELDS = ("name", "id", "resume_of", "parent_run", "resumes")


class RunHead(TypedDict):
    """A run in the list of runs; `at` is when it began, in seconds since the epoch."""

    run: str
    name: str
    id: Optional[str]
    resume_of: Optional[str]
    parent_run: Optional[str]
    resumes: int
    at: float


class StepRecord(TypedDict, total=False):
    """What a step has left: its log, and its output unless it failed.

    `context`: {context key: value} that it sets, or None where that is not known or follows from
    its output; `run`: of a sub-orchestration, in a record of its own, see RUN.
    """

    log: "LogEntry"
    input: Any
    output: Any
    context: Optional[dict[str, Any]]
    run: str


class PlannedResume(TypedDict):
    """That a failed run resumes itself. `number`: of the resume, from 1; `delay`: whole seconds;
    `at`: when it is due, in seconds since the epoch.
    """

    number: int
    max_resumes: int
    delay: int
    at: float


class Logged(TypedDict):
    """What has the log of a run, see scheduler.State: the state of a run, or its end."""

    log: "list[LogEntry]"
    pages: "list[LogPage]"


class RunRecord(TypedDict, total=False):
    """A run as it began.

    `definition` is the orchestration in normal form as of then, `first` the number of the first
    wave, `timeout` the run's own in seconds or None. `started` is in seconds since the epoch.
    `origin` is the first run of which this one is a resume, or of which that is one.
    """

    definition: "Orchestration"
    id: Optional[str]
    name: str
    input: Any
    started: float
    resume_of: Optional[str]
    origin: Optional[str]
    parent_run: Optional[str]
    resumes: int
    timeout: Optional[float]
    first: int


class EndRecord(Logged):
    """A run as it ended.

    `error`: at least its cause and message, or None; `context`: only what its status shows; `at` is
    in seconds since the epoch.
    """

    status: str
    output: Any
    error: Optional[Mapping[str, Any]]
    context: "dict[str, Slot]"
    at: float
    resume: Optional[PlannedResume]


class RunStore:
    """The records of the run `run`.

    A run cannot continue without the datastore, so every method raises DatastoreUnavailable if it
    is unavailable. A failed call is retried up to MAX_ATTEMPTS times: the output of a step has been
    paid for and must not be lost.

    :param sleep: waits between attempts, in seconds.
    """

    def __init__(
        self, env: "Environment", run: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._env, self.run, self._sleep = env, run, sleep
        # {key: record or None}, as far as they have been read.
        self._records: dict[str, Any] = {}
        self._waves = "%s%s." % (_WAVES, encode_key_part(run or "none"))
        self._steps = "%s%s." % (_STEPS, encode_key_part(run or "none"))

    def begin(self, run_record: RunRecord) -> None:
        """Store the run record, and add the run to the list of runs."""
        self._put(self._waves + _DEFINITION, run_record)
        head = {name: run_record.get(name) for name in _HEAD_FIELDS}
        value = json.dumps(dict(head, v=FORMAT_VERSION, run=self.run), separators=(",", ":"))
        key = _RUNS + timestamp_key(self._env.now(), encode_key_part(self.run or "none"))
        self._call_store(lambda store: store.put(key, value, TTL_SECONDS))

    def definition(self) -> Optional[RunRecord]:
        """Return the run record, or None if it does not exist."""
        run_record: Optional[RunRecord] = self._get(self._waves + _DEFINITION)
        return run_record

    def checkpoint(self, state: "State", deadline: float) -> None:
        """Store the state before its wave; its log becomes a page of its own once it is full.

        :param deadline: when the run has to end, in seconds since the epoch.
        """
        if len(state["log"]) >= LOG_PAGE:
            key = "%slog%05d" % (self._steps, state["cursor"])
            self.put_record(key, {"log": state["log"]})
            page: LogPage = {"at": key, "attempts": attempts_of(state["log"])}
            state = {**state, "log": [], "pages": state["pages"] + [page]}
        key = "%s%05d" % (self._waves, state["cursor"])
        self._put(key, dict(state, at=self._env.now(), deadline=deadline))

    def state(self, wave: int) -> "Optional[Checkpoint]":
        """Return the state before wave number `wave`, or None if it does not exist."""
        state: Optional[Checkpoint] = self._get("%s%05d" % (self._waves, wave))
        return state

    def newest(self) -> "Optional[Checkpoint]":
        """Return the state before the newest wave, or None if there is none."""
        for name, value in self._call_store(lambda store: store.list(self._waves, 3)):
            if name[len(self._waves):].isdigit():
                state: Checkpoint = self._decode(value)
                return state
        return None

    def waves(self, run_record: Optional[RunRecord], state: "Optional[State]") -> list[str]:
        """Return the keys of the checkpoints, the first wave first.

        :param state: the newest one.
        """
        if not run_record or not state:
            return []
        return [
            "%s%05d" % (self._waves, n) for n in range(run_record["first"], state["cursor"] + 1)
        ]

    def log(self, state: Logged) -> "list[LogEntry]":
        """Return the complete log of a state, or of an end record.

        :raises InvalidInput: a page of it has expired.
        """
        entries: list[LogEntry] = []
        for page in state["pages"]:
            record = self._read(page["at"])
            if record is None:
                hint = "Records are stored for two weeks; start the orchestration again"
                raise InvalidInput("run", page["at"], "is no longer in the datastore", hint)
            entries += record["log"]
        return entries + state["log"]

    def end(self, end_record: EndRecord) -> None:
        """Store how the run ended."""
        self._put(self._waves + _END, end_record)

    def ended(self) -> Optional[EndRecord]:
        """Return the end record, or None if the run has not ended."""
        end_record: Optional[EndRecord] = self._get(self._waves + _END)
        return end_record

    def mark_resumed(self, run_id: str) -> None:
        """Store that the run `run_id` resumes this one."""
        self._put(self._steps + _RESUMED, {"run": run_id})

    def resumed_by(self) -> Optional[str]:
        """Return the newest run that resumes this one, or None if it has not been resumed."""
        run_id: Optional[str] = (self._get(self._steps + _RESUMED) or {}).get("run")
        return run_id

    def step_key(self, wave: int, job: int) -> str:
        """Return the key of the record of step number `job` of a wave."""
        return "%s%05d.%04d" % (self._steps, wave, job)

    def put_record(self, key: str, record: Mapping[str, Any]) -> None:
        """Store the record of a step.

        :raises InvalidInput: it is too large, or `key` is not the key of a step.
        """
        if not key.startswith(_STEPS):
            raise InvalidInput(
                "case", key, "is not the key of a step", "Pass on the case unchanged"
            )
        self._put(key, record)

    def record(self, key: str) -> Optional[StepRecord]:
        """Return the record of a step, or None if it does not exist."""
        record: Optional[StepRecord] = self._read(key)
        return record

    def records(self, wave: int) -> dict[str, StepRecord]:
        """Return {key: record} of the steps of a wave that have ended."""
        rows = self._list_all("%s%05d." % (self._steps, wave))
        self._records.update((name, self._decode(value)) for name, value in rows)
        return {name: self._records[name] for name, _ in rows}

    def renew(self, keys: Iterable[str]) -> list[str]:
        """Write records again, so that they do not expire; return the keys that do not exist."""
        missing = []
        for key in keys:
            value = self._value(key)
            if value is None:
                missing.append(key)
            else:
                self._store(key, value)
        return missing

    def _read(self, key: str) -> Any:
        """Return the record at `key`, or None; each is read once."""
        if key not in self._records:
            self._records[key] = self._get(key) if key.startswith(_STEPS) else None
        return self._records[key]

    def _put(self, key: str, content: Mapping[str, Any]) -> None:
        value = sealing.seal(self._env.redactor.remove_secrets(dict(content, v=FORMAT_VERSION)))
        if len(value) > MAX_RECORD_BYTES:
            reason = "takes %d bytes, more than the limit of %d" % (
                len(value),
                MAX_RECORD_BYTES,
            )
            raise InvalidInput(
                "output", None, reason, "Have the step return less, or store it elsewhere"
            )
        self._store(key, value)

    def _get(self, key: str) -> Any:
        value = self._value(key)
        return None if value is None else self._decode(value)

    def _value(self, key: str) -> Optional[str]:
        return self._call_store(lambda store: store.get(key))

    def _store(self, key: str, value: str) -> None:
        self._call_store(lambda store: store.put(key, value, TTL_SECONDS))

    def _decode(self, value: str) -> Any:
        content = sealing.unseal(value)
        if not isinstance(content, dict) or content.pop("v", None) != FORMAT_VERSION:
            raise InvalidInput(
                "run", None, "is stored in another format", "Start the orchestration again"
            )
        return content

    def _list_all(self, prefix: str) -> list[tuple[str, str]]:
        collected: list[tuple[str, str]] = []
        while True:
            rows = self._page(prefix, len(collected))
            collected += rows
            if len(rows) < PAGE_SIZE:
                return collected

    def _page(self, prefix: str, offset: int) -> list[tuple[str, str]]:
        return self._call_store(lambda store: store.list(prefix, PAGE_SIZE, offset))

    def _call_store(self, call: Callable[[BestEffortDatastore], T]) -> T:
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                self._sleep(RETRY_DELAY_SECONDS)
            store = self._env.store.fresh()
            response = call(store)
            if not store.unavailable_reason:
                return response
        raise DatastoreUnavailable(
            "the run cannot be stored or read: %s" % store.unavailable_reason
        )


def attempts_of(log: "Iterable[LogEntry]") -> int:
    """Return the number of attempts of all steps in a log."""
    return sum(entry.get("attempts") or 0 for entry in log)


def recent_runs(env: "Environment", limit: int) -> list[RunHead]:
    """Return the newest runs, newest first."""
    run_heads: list[RunHead] = []
    for key, value in env.store.list(_RUNS, limit=min(limit, PAGE_SIZE)):
        try:
            head = json.loads(value)
        except ValueError:
            head = None
        if isinstance(head, dict) and head.pop("v", None) == FORMAT_VERSION:
            run_heads.append({
                "run": head["run"],
                "name": head["name"],
                "id": head.get("id"),
                "resume_of": head.get("resume_of"),
                "parent_run": head.get("parent_run"),
                "resumes": head.get("resumes") or 0,
                "at": timestamp_of_key(key) or 0.0,
            })
        else:
            unreadable.skip(key)
    require_available(env.store, "the runs cannot be read: %s")
    return run_heads
