"""The runs of agents at their platforms that this pack has started, so that they are joined.

A run is recorded before anybody waits for it: under the agent and the request that it serves. A
request is what is never served twice: a run of a workflow and all its re-runs, or what the caller
names by an idempotency key. The record goes when the run has ended without an answer and left
nothing to continue from, and a day after its answer was delivered, or after it failed.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any, Optional

from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import PREFIX, BestEffortDatastore

FORMAT_VERSION = 1
DAY_SECONDS = 24 * 3600
# Of records: runs that still run are few among those whose answers were delivered in a day.
MAX_PAGES = 50
_TEXTS = ("agent_id", "request", "started_by", "start_key", "target")
_RUNS = PREFIX + "agent_run."
_WAITERS = PREFIX + "agent_run_waiter."


@dataclass(frozen=True)
class AskedQuestion:
    """A question of an agent that a person is asked.

    :ivar identity: of the question; see `recovery.agent_questions`.
    :ivar run: the execution id of the workflow that asks.
    :ivar number: how many inquiries that run had opened before: its answer is in the next one.
    :ivar asked_at: since when the agent waits for the answer, in seconds since the epoch.
    :ivar is_settled: whether the answer, or that there is none, has reached a run of the workflow.
    """

    identity: str
    run: str
    number: int
    asked_at: float
    is_settled: bool = False


@dataclass(frozen=True)
class AgentRun:
    """A run of an agent at its platform.

    :ivar agent_id: the agent, by our name for it.
    :ivar request: identifies the request that it serves.
    :ivar started_by: the execution id of the run of agent_recovery that has started it; others may
        wait for it, too: see `add_waiter`.
    :ivar start_key: the idempotency key of its start.
    :ivar target: the name of the target that it runs at.
    :ivar handle: what identifies it at the platform; None until the platform has named it, where it
        lets nobody choose.
    :ivar started_at: seconds since the epoch.
    :ivar ends_by: when its owner gives it up, in seconds since the epoch.
    :ivar progress: what the platform says of it, on one harmless line.
    :ivar delivered_by: the execution id of the workflow that has returned its answer, or None.
    :ivar failed_with: the cause with which it failed, if it left a checkpoint; else None.
    :ivar question: the last question of the agent that a person was asked, or None.
    :ivar asked_seconds: for how long it has waited for people, without the question that is open.
    :ivar key_scope: what its start_key was made from, beside the request: the same for all starts
        until one has ended in a known way; it begins with the execution id of the first of them.
    :ivar unknown_since: since when its platform does not know it, or None if it does.
    """

    agent_id: str
    request: str
    started_by: str
    start_key: str
    target: str
    handle: Optional[dict[str, Any]]
    started_at: float
    ends_by: float
    progress: str = ""
    delivered_by: Optional[str] = None
    failed_with: Optional[str] = None
    question: Optional[AskedQuestion] = None
    asked_seconds: float = 0.0
    key_scope: str = ""
    unknown_since: Optional[float] = None

    @property
    def is_open(self) -> bool:
        """Whether its outcome is still awaited."""
        return self.delivered_by is None and self.failed_with is None

    def worked_seconds(self, now: float) -> float:
        """Return for how long the agent has worked: while it waits for people, it does not."""
        question = self.question
        until = now if question is None or question.is_settled else min(now, question.asked_at)
        return max(0.0, until - self.started_at - self.asked_seconds)

    def with_answer(self, now: float) -> "AgentRun":
        """Return the record once the open question is settled; the same if it is already."""
        question = self.question
        if question is None or question.is_settled:
            return self
        seconds = max(0.0, now - question.asked_at)
        return replace(
            self,
            question=replace(question, is_settled=True),
            asked_seconds=self.asked_seconds + seconds,
        )

    @property
    def key(self) -> str:
        """The key of its record; a second run for the same request has the same one."""
        return "%s%s.%s" % (_RUNS, encode_key_part(self.agent_id), encode_key_part(self.request))


def save(store: BestEffortDatastore, agent_run: AgentRun, now: float) -> bool:
    """Record an AgentRun, in place of an older one for the same request. Return whether it was."""
    ttl = max(agent_run.ends_by - now, 0.0) + DAY_SECONDS
    row = records.encode(asdict(agent_run), FORMAT_VERSION)
    return bool(store.put(agent_run.key, row, int(ttl)))


def add_waiter(store: BestEffortDatastore, agent_run: AgentRun, run: str, now: float) -> bool:
    """Record that `run` waits for it. It is cancelled when nobody waits any more."""
    ttl = max(agent_run.ends_by - now, 0.0) + DAY_SECONDS
    return bool(store.put(_waiters_prefix(agent_run) + encode_key_part(run), "1", int(ttl)))


def waiters(store: BestEffortDatastore, agent_run: AgentRun) -> list[str]:
    """Return the execution ids of the runs that wait for it, at most a page."""
    prefix = _waiters_prefix(agent_run)
    return [decode_key_part(name[len(prefix):]) for name, _ in store.list(prefix)]


def _waiters_prefix(agent_run: AgentRun) -> str:
    return "%s%s.%s." % (
        _WAITERS, encode_key_part(agent_run.agent_id), encode_key_part(agent_run.request)
    )


def find(store: BestEffortDatastore, agent_id: str, request: str) -> Optional[AgentRun]:
    """Return the AgentRun for a request, or None."""
    key = "%s%s.%s" % (_RUNS, encode_key_part(agent_id), encode_key_part(request))
    fields = records.decode(store.get(key), FORMAT_VERSION, key)
    return None if fields is None else _from_fields(key, fields)


def undelivered(store: BestEffortDatastore, agent_id: Optional[str] = None) -> Iterator[AgentRun]:
    """Yield the AgentRuns whose outcomes are still awaited, of one agent or of all."""
    prefix = _RUNS if agent_id is None else "%s%s." % (_RUNS, encode_key_part(agent_id))
    for rows in records.iter_pages(store, prefix, MAX_PAGES):
        for key, fields in records.iter_rows(rows, FORMAT_VERSION):
            agent_run = _from_fields(key, fields)
            if agent_run is not None and agent_run.is_open:
                yield agent_run


def _from_fields(key: str, fields: Mapping[str, Any]) -> Optional[AgentRun]:
    """Return the AgentRun of a row, or None if somebody edited the row and it is none any more."""
    texts = [fields.get(name) for name in _TEXTS]
    times = [fields.get(name) for name in ("started_at", "ends_by")]
    names = {field.name for field in dataclass_fields(AgentRun)}
    is_valid = (
        set(fields) <= names and
        "handle" in fields and
        all(isinstance(text, str) for text in texts) and
        all(isinstance(at, (int, float)) and math.isfinite(at) for at in times) and
        all(isinstance(fields.get(name, ""), str) for name in ("progress", "key_scope")) and
        isinstance(fields.get("asked_seconds", 0.0), (int, float)) and
        isinstance(fields.get("unknown_since"), (int, float, type(None))) and
        _is_question(fields.get("question"))
    )
    if not is_valid:
        unreadable.skip(key)
        return None
    question = fields.get("question")
    return AgentRun(**dict(fields, question=AskedQuestion(**question) if question else None))


def _is_question(value: Any) -> bool:
    names = {field.name for field in dataclass_fields(AskedQuestion)}
    return value is None or (
        isinstance(value, dict) and
        set(value) == names and
        isinstance(value["number"], int) and
        isinstance(value["asked_at"], (int, float))
    )


def mark_failed(store: BestEffortDatastore, agent_run: AgentRun, cause: str, now: float) -> None:
    """Record that the run has failed, but can be continued from where it failed."""
    save(store, replace(agent_run, failed_with=cause, ends_by=now), now)
    _forget_waiters(store, agent_run)


def mark_delivered(store: BestEffortDatastore, agent_run: AgentRun, run: str, now: float) -> None:
    """Record that `run` returns the answer, for the case that it is lost on its way."""
    save(store, replace(agent_run, delivered_by=run, ends_by=now), now)


def forget(store: BestEffortDatastore, agent_run: AgentRun) -> None:
    """Remove the record of a run that has ended, and of those that wait for it."""
    store.delete(agent_run.key)
    _forget_waiters(store, agent_run)


def _forget_waiters(store: BestEffortDatastore, agent_run: AgentRun) -> None:
    for run in waiters(store, agent_run):
        store.delete(_waiters_prefix(agent_run) + encode_key_part(run))
