"""Which failed runs a redrive may start: each lineage once, and none that would fail again.

A lineage is a run with all its re-runs, and with the runs that resume it. Its newest run is the one
that is started again.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from synthralos.automation import recovery_with_approval, retry_run
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.operations import redrive_request
from synthralos.operations.redrive_request import ORCHESTRATION, RedriveRequest
from synthralos.orchestration import run_queries
from synthralos.orchestration.run_store import RunStore
from synthralos.recovery import agent_recovery, reroute_request
from synthralos.runtime import run_parameters
from synthralos.runtime.environment import Environment
from synthralos.storage import pauses, redrives, run_summaries
from synthralos.storage.datastore import PAGE_SIZE
from synthralos.storage.run_summaries import RunFacts
from synthralos.storage.stackstorm_api import ExecutionNotFound

PACK = "synthralos."
FAILED = ("failed", "timeout", "abandoned")
LIVE = (
    "requested", "scheduled", "delayed", "running", "pausing", "paused", "resuming", "canceling",
)
# A run that ended since may have begun a day before.
MAX_RUN_SECONDS = 24 * 3600
MAX_PAGES, MAX_SUMMARY_PAGES = 20, 200
MAX_RERUNS = 20
# A redriven run of which nothing is known may still be on its way to StackStorm.
SETTLE_SECONDS = 60.0

# Why a run is not started again.
ALREADY_REDRIVEN, START_UNKNOWN = "already_redriven", "unknown"
RUNS_AGAIN, ANSWERED_SINCE = "running_again", "answered_since"
PART_OF_RUN, UNSAFE, INCURABLE = "part_of_a_run", "unsafe_to_repeat", "incurable"
PAUSED, UNREADABLE, DRY_RUN = "paused", "request_unknown", "dry_run"
REASONS = {
    ALREADY_REDRIVEN: "it was redriven already",
    START_UNKNOWN: "a redrive died while it started it; whether it runs again is unknown",
    RUNS_AGAIN: "it is running again already",
    ANSWERED_SINCE: "it was run again since, and answered",
    PART_OF_RUN: "it is a part of another run",
    UNSAFE: "what it did is marked unsafe_to_repeat",
    INCURABLE: "its cause does not pass with an outage",
    PAUSED: "its agent is paused",
    UNREADABLE: "its request cannot be run again",
    DRY_RUN: "it was a dry run",
}
_ATTRIBUTES = "id,status,start_timestamp,end_timestamp,action.ref,context"


@dataclass(frozen=True)
class Candidate:
    """A failed run that may be started again.

    :ivar lineage: the first run of its lineage.
    :ivar run: its own execution id.
    :ivar cause: what it ended with.
    :ivar targets: what it attempted, or skipped if it attempted nothing; may be empty.
    :ivar ended_at: seconds since the epoch.
    """

    lineage: str
    run: str
    workflow: str
    cause: Optional[str]
    targets: tuple[str, ...]
    ended_at: float
    agent_id: Optional[str] = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def restore(cls, fields: Mapping[str, Any]) -> "Candidate":
        """Return the Candidate of what `as_dict` returned, after it was JSON."""
        return cls(**dict(fields, targets=tuple(fields["targets"])))


@dataclass(frozen=True)
class SkippedRun:
    """A failed run that stays as it is.

    :ivar reason: a key of REASONS.
    :ivar details: the parameter that is the reason, and what is wrong with it; or None.
    """

    run: str
    workflow: str
    cause: Optional[str]
    reason: str
    details: Optional[str] = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class Selection:
    """The runs that a redrive may start, the oldest first, and those that it leaves.

    :ivar over_limit: how many more runs there are than the limit.
    :ivar truncated: whether there are more failed runs than are looked at.
    """

    candidates: list[Candidate] = field(default_factory=list)
    skipped: list[SkippedRun] = field(default_factory=list)
    over_limit: int = 0
    truncated: bool = False


def select(env: Environment, request: RedriveRequest) -> Selection:
    """Return the Selection of a request. It costs a read of each candidate's execution.

    :raises StackStormError: StackStorm's API is unavailable.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    return _Selector(env, request).select()


@dataclass(frozen=True)
class _Facts:
    """What is known of why a run failed: its own cause, and that of each attempt."""

    cause: Optional[str]
    causes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    agent_id: Optional[str] = None

    @property
    def is_curable(self) -> bool:
        causes = self.causes or (self.cause,)
        return any(redrive_request.is_redrivable(cause) for cause in causes)


class _Selector:
    def __init__(self, env: Environment, request: RedriveRequest) -> None:
        self._env, self._request = env, request
        self._api: Any = env.api
        self._selection = Selection()
        self._origins: dict[str, Optional[str]] = {}
        self._parents: dict[str, str] = {}
        self._summaries: dict[str, RunFacts] = {}

    def select(self) -> Selection:
        env, request = self._env, self._request
        failed = [
            execution
            for workflow in request.workflows
            for execution in self._executions(workflow, FAILED)
        ]
        lineages: dict[str, dict[str, Any]] = {}
        since = request.since - MAX_RUN_SECONDS
        for summary in run_summaries.summaries_since(env.store, since, MAX_SUMMARY_PAGES):
            self._summaries.setdefault(str(summary.get("run")), summary)
            self._origins.setdefault(str(summary.get("run")), summary.get("rerun_of"))
        for execution in sorted(failed, key=lambda row: str(row["start_timestamp"])):
            lineages[self._lineage(execution)] = execution
        answered_lineages = {
            self._first_run(run)
            for run, summary in self._summaries.items()
            if summary.get("outcome") == "recovered" and summary.get("rerun_of")
        }
        redriven = {run.lineage: run for run in reversed(list(redrives.runs_since(env.store, 0.0)))}
        claimed = redrives.claimed_lineages(env.store) | {
            lineage for lineage, run in redriven.items() if run.outcome != redrives.NOT_STARTED
        }
        live: Optional[set[str]] = None
        ended = sorted(lineages.items(), key=lambda item: _ended_at(item[1]))
        for lineage, execution in ended:
            facts = self._matching_facts(execution)
            if facts is None:
                continue
            if live is None:
                live = self._live_lineages()
            reason = self._reason_to_skip(execution, facts)
            if lineage in claimed:
                reason = ALREADY_REDRIVEN
                if lineage in redriven and redriven[lineage].outcome == redrives.UNKNOWN:
                    reason = START_UNKNOWN
                if lineage not in redriven:
                    reason = START_UNKNOWN
            elif lineage in answered_lineages:
                reason = ANSWERED_SINCE
            elif lineage in live:
                reason = RUNS_AGAIN
            if reason is not None:
                self._skip(execution, facts, reason)
            elif len(self._selection.candidates) >= request.limit:
                self._selection.over_limit += 1
            else:
                self._add(lineage, execution, facts)
        return self._selection

    def _executions(self, workflow: str, statuses: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        filters = {
            "action": PACK + workflow,
            "timestamp_gt": to_iso(self._request.since - MAX_RUN_SECONDS),
        }
        if statuses is FAILED:
            # Whole seconds, up: a run of this very second is one of them.
            filters["timestamp_lt"] = to_iso(math.ceil(self._request.until))
        for status in statuses:
            for page in range(MAX_PAGES):
                rows = self._api.executions(
                    _ATTRIBUTES, status=status, offset=page * PAGE_SIZE, **filters
                )
                yield from rows
                if len(rows) < PAGE_SIZE:
                    break
            else:
                self._selection.truncated = True

    def _live_lineages(self) -> set[str]:
        return {
            self._lineage(execution)
            for workflow in self._request.workflows
            for execution in self._executions(workflow, LIVE)
        }

    def _lineage(self, execution: dict[str, Any]) -> str:
        run = execution["id"]
        origin = run_parameters.origin_of(execution)
        if origin is None and _workflow(execution) == ORCHESTRATION:
            origin = (RunStore(self._env, run).definition() or {}).get("resume_of")
        self._origins[run] = origin
        return self._first_run(run)

    def _first_run(self, run: str) -> str:
        for _ in range(MAX_RERUNS):
            if run not in self._origins:
                try:
                    self._origins[run] = run_parameters.origin_of(
                        self._api.execution(run, "context")
                    )
                except ExecutionNotFound:
                    self._origins[run] = None
            origin = self._origins[run]
            if origin is None:
                break
            run = origin
        return run

    def _matching_facts(self, execution: dict[str, Any]) -> Optional[_Facts]:
        """Return what is known of a failed run, or None if it is not asked for."""
        request = self._request
        if not request.since <= _ended_at(execution) <= math.ceil(request.until):
            return None
        facts = self._facts(execution)
        is_requested = (
            request.matches_causes(dict.fromkeys((*facts.causes, facts.cause or "unknown"))) and
            request.matches_targets(facts.targets) and
            (not request.agents or facts.agent_id in request.agents)
        )
        return facts if is_requested else None

    def _facts(self, execution: dict[str, Any]) -> _Facts:
        run, workflow = execution["id"], _workflow(execution)
        if workflow == ORCHESTRATION:
            return self._facts_of_orchestration(run)
        summary = self._summaries.get(run)
        if summary is not None:
            return _Facts(
                cause=summary.get("cause"),
                causes=_names(summary.get("causes")),
                targets=_names(summary.get("targets")) or _names(summary.get("skipped")),
                agent_id=summary.get("agent"),
            )
        # It ended before it had a case, or without its log task.
        details = self._api.execution(run, "result,parameters")
        output = (details.get("result") or {}).get("output") or {}
        error = output.get("error") if isinstance(output, dict) else None
        return _Facts(
            cause=error.get("cause") if isinstance(error, dict) else None,
            agent_id=(details.get("parameters") or {}).get("agent_id"),
        )

    def _facts_of_orchestration(self, run: str) -> _Facts:
        store = RunStore(self._env, run)
        ended = store.ended()
        if ended is None:
            return _Facts(cause=None if store.definition() else "refused")
        try:
            log = store.log(ended)
        except InvalidInput:
            return _Facts(cause="refused")
        failed = [entry for entry in log if entry.get("status") == "failed"]
        if not failed:
            return _Facts(cause=(ended.get("error") or {}).get("cause"))
        causes = tuple(str(entry["cause"]) for entry in failed if entry.get("cause"))
        targets = tuple(
            dict.fromkeys(target for entry in failed for target in _names(entry.get("targets")))
        )
        return _Facts(causes[-1] if causes else None, causes[-1:], targets)

    def _reason_to_skip(self, execution: dict[str, Any], facts: _Facts) -> Optional[str]:
        if self._is_part_of_run(execution):
            return PART_OF_RUN
        agent_id = facts.agent_id
        if _workflow(execution) == agent_recovery.WORKFLOW and agent_id is not None:
            if agent_recovery.is_unsafe_to_repeat(self._env, agent_id):
                return UNSAFE
            if pauses.pause_of(self._env.store, agent_id, self._env.now()) is not None:
                return PAUSED
        return None if facts.is_curable else INCURABLE

    def _is_part_of_run(self, execution: dict[str, Any]) -> bool:
        """Whether a workflow has started the run, other than one that asked for its approval."""
        parent = ((execution.get("context") or {}).get("parent") or {}).get("execution_id")
        if not parent:
            return False
        if parent not in self._parents:
            try:
                details = self._api.execution(parent, "action.ref")
            except ExecutionNotFound:
                details = {}
            self._parents[parent] = _workflow(details)
        return self._parents[parent] != recovery_with_approval.WORKFLOW

    def _add(self, lineage: str, execution: dict[str, Any], facts: _Facts) -> None:
        workflow = _workflow(execution)
        try:
            if workflow == ORCHESTRATION:
                run_queries.check_resumable(self._env, execution["id"], "execution_id")
            else:
                details = self._api.execution(execution["id"], retry_run.ATTRIBUTES)
                rerun = retry_run.prepare(self._env, details)
                reason = None
                if rerun.inputs.get("dry_run"):
                    reason = DRY_RUN
                elif workflow == reroute_request.WORKFLOW and reroute_request.is_unsafe_to_repeat(
                    self._env, rerun.inputs
                ):
                    reason = UNSAFE
                if reason is not None:
                    self._skip(execution, facts, reason)
                    return
        except InvalidInput as error:
            self._skip(execution, facts, UNREADABLE, "%s: %s" % (error.field, error.reason))
            return
        self._selection.candidates.append(
            Candidate(
                lineage=lineage,
                run=execution["id"],
                workflow=workflow,
                cause=facts.cause,
                targets=tuple(dict.fromkeys(facts.targets)),
                ended_at=_ended_at(execution),
                agent_id=facts.agent_id,
            )
        )

    def _skip(
        self,
        execution: dict[str, Any],
        facts: _Facts,
        reason: str,
        details: Optional[str] = None,
    ) -> None:
        self._selection.skipped.append(
            SkippedRun(execution["id"], _workflow(execution), facts.cause, reason, details)
        )


def _workflow(execution: Mapping[str, Any]) -> str:
    ref = str((execution.get("action") or {}).get("ref") or "")
    return ref.partition(".")[2]


def _ended_at(execution: Mapping[str, Any]) -> float:
    ended = execution.get("end_timestamp") or execution.get("start_timestamp")
    return parse_iso(ended) or 0.0


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in value if name) if isinstance(value, list) else ()
