"""`recovery.redrive`: after an outage, failed runs once more.

    begin -> round -> round ... -> finish

`begin` selects the runs and stores the plan. Each round looks at what became of the runs that were
started, and starts as many as the rate and the targets allow; the workflow waits in between. What
has been started is written down before and after each start, and nothing else is remembered: a
round that dies loses nothing but the knowledge whether one run was started.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from synthralos.automation import retry_run
from synthralos.calls.deadline import RECORD_SECONDS
from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.operations import (
    redrive_automatic,
    redrive_health,
    redrive_report,
    redrive_request,
    redrive_selection,
)
from synthralos.operations.redrive_health import RedriveHealth
from synthralos.operations.redrive_report import WORKFLOW, RedriveReport
from synthralos.operations.redrive_request import ORCHESTRATION, RedriveRequest
from synthralos.operations.redrive_selection import Candidate, SkippedRun
from synthralos.orchestration import run_queries
from synthralos.runtime import child_runs, run_parameters, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.run_parameters import RedriveMark
from synthralos.storage import redrives
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, DatastoreUnavailable
from synthralos.storage.redrives import RedrivenRun
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound, StackStormError

MAX_RUN_SECONDS = 24 * 3600
# How far apart rounds are that start runs.
ROUND_SECONDS = 10
# A round that has to wait is followed by the next one after these seconds, or after a tenth of the
# time since the last start.
MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 3, 30
# Between the clocks of StackStorm's hosts.
CLOCK_SECONDS = 60
# Runs of other redrives that may still be at work are not older than that.
LOOK_BACK_SECONDS = 3600
MAX_FIND_PAGES = 5
# The next task of the workflow.
ROUND, FINISH, SUCCEED, FAIL = "round", "finish", "done", "failed"
ROUND_ACTION = "synthralos.redrive.round"

Result = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a redrive does; stored under a key that its tasks pass on.

    :ivar run: the execution id of the redrive.
    :ivar started: when it began, and `deadline` by when it ends; seconds since the epoch.
    :ivar is_automatic: whether a rule has started it: it goes on as long as the mode is `act`.
    """

    run: str
    started: float
    deadline: float
    request: RedriveRequest
    candidates: list[Candidate]
    skipped: list[SkippedRun]
    over_limit: int
    truncated: bool
    is_automatic: bool = False

    def seal(self, env: Environment) -> str:
        """Return the case that names the stored plan."""
        content = {
            "workflow": WORKFLOW, "run": self.run, "started": self.started,
            "deadline": self.deadline, "request": self.request.as_dict(),
            "candidates": [candidate.as_dict() for candidate in self.candidates],
            "skipped": [run.as_dict() for run in self.skipped],
            "over_limit": self.over_limit, "truncated": self.truncated,
            "is_automatic": self.is_automatic,
        }
        seconds = int(max(self.deadline - env.now(), 0)) + sealing.BODY_TTL_SECONDS
        return sealing.seal(content, env.store, _plan_key(self.run), 0, seconds)

    @classmethod
    def open(cls, env: Environment, case: Any) -> "Plan":
        """Return the Plan of a case.

        :raises InvalidInput: it is not one, or its plan is no longer stored.
        """
        content = sealing.unseal(case or "", env.store)
        if not isinstance(content, dict) or content.get("workflow") != WORKFLOW:
            raise InvalidInput(
                "case", None, "is not a case of %s" % WORKFLOW, "Pass on the case of that run"
            )
        return cls(
            run=content["run"],
            started=content["started"],
            deadline=content["deadline"],
            request=redrive_request.restore(content["request"]),
            candidates=[Candidate.restore(fields) for fields in content["candidates"]],
            skipped=[SkippedRun(**fields) for fields in content["skipped"]],
            over_limit=content["over_limit"],
            truncated=content["truncated"],
            is_automatic=content["is_automatic"],
        )


def begin(
    env: Environment,
    parameters: Mapping[str, Any],
    started: float,
    execution: Mapping[str, Any],
) -> Result:
    """Return the result of redrive.begin: the first round, or the end of a dry run.

    :param parameters: of the workflow.
    :param started: when the run began, in seconds since the epoch.
    :param execution: of the run, as StackStorm's API returns it.
    :raises InvalidInput: a parameter is not valid.
    :raises StackStormError: StackStorm's API is unavailable.
    :raises DatastoreUnavailable: the datastore is unavailable: without it runs could be started
        twice.
    """
    request = redrive_request.read(parameters, env.now())
    timeout = workflow_run.whole_number(
        dict({"timeout": redrive_request.DEFAULT_RUN_SECONDS}, **parameters), "timeout",
        workflow_run.MIN_RUN_SECONDS, MAX_RUN_SECONDS,
    )
    is_dry_run = parameters.get("dry_run") is not False
    is_automatic = bool(execution.get("rule") or execution.get("trigger_instance"))
    # Before anything is listed: a timer does not wait for the run before.
    if is_automatic and not is_dry_run and redrive_automatic.is_older_one_running(env):
        report = RedriveReport(redrive_report.ANOTHER_REDRIVE)
        return dict(report.as_dict(), next_task=SUCCEED)
    _settle_unknown(env)
    selection = redrive_selection.select(env, request)
    if is_automatic:
        is_dry_run = redrive_automatic.admit(env, selection, is_dry_run)
    if is_dry_run or not selection.candidates:
        outcome = redrive_report.DRY_RUN if selection.candidates else redrive_report.NOTHING
        report = RedriveReport(
            outcome,
            remaining=selection.candidates,
            skipped=selection.skipped,
            over_limit=selection.over_limit,
            truncated=selection.truncated,
            command=request.command() if selection.candidates else None,
        )
        return dict(report.as_dict(), next_task=SUCCEED)
    plan = Plan(
        run=env.run,
        started=env.now(),
        deadline=started + timeout - RECORD_SECONDS,
        request=request,
        candidates=selection.candidates,
        skipped=selection.skipped,
        over_limit=selection.over_limit,
        truncated=selection.truncated,
        is_automatic=is_automatic,
    )
    summary = "%d runs are started again, at most %d a minute" % (
        len(plan.candidates), request.per_minute
    )
    following = {"cursor": 0, "delay": 0, "carry": plan.seal(env)}
    return {"summary": summary, "next_task": ROUND, "next": following}


def run_round(env: Environment, plan: Plan, case: str, cursor: int) -> Result:
    """Return the result of redrive.round: the next round and its delay, or `finish`.

    :param case: the case of the plan, which is passed on.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    return _Round(env, plan).play(case, cursor)


def finish(env: Environment, plan: Plan, ended_as: Optional[str] = None) -> Result:
    """Return the result of redrive.finish: the report, with its ticket if anything did not work.

    Whatever ended the rounds, a crash included, this says what became of each run.

    :param ended_as: StackStorm's status of the redrive, if that was ended from outside.
    """
    runs = _own_runs(_refresh(env, _recent_runs(env, plan)), plan)
    runs = [_unknown_if_unfound(env, run) for run in runs]
    remaining, held_back = _by_mode(env, plan, _remaining(plan, runs))
    skipped = plan.skipped + [
        SkippedRun(entry.run, entry.workflow, entry.cause, redrive_automatic.NOT_IN_MODE)
        for entry in held_back
    ]
    health = RedriveHealth(env, plan.started, runs)
    reasons = list(dict.fromkeys(filter(None, map(health.is_down, remaining))))
    if remaining and not reasons and _was_ended_by_a_round(env, plan):
        # They failed again then; a breaker that has half-opened since says nothing about it.
        reasons = ["%s fails again" % _first_target(remaining)]
    stopped = "; ".join(reasons) or None
    if remaining and stopped is None:
        stopped = "its time was up" if env.now() >= plan.deadline else "a round crashed"
    if ended_as is not None:
        stopped = "the redrive was ended as %s" % ended_as
    report = RedriveReport(
        redrive_report.STOPPED if stopped else redrive_report.COMPLETED,
        stopped=stopped,
        runs=runs,
        remaining=remaining,
        skipped=skipped,
        over_limit=plan.over_limit,
        truncated=plan.truncated,
    )
    if remaining or plan.over_limit:
        report.command = plan.request.command()
    if not report.is_complete and not stopped:
        report.outcome = redrive_report.INCOMPLETE
    try:
        redrive_report.resolve_tickets(env, report)
    except (InvalidInput, DatastoreUnavailable):
        # They stay open, which a person sees; the report must not be lost for them.
        report.resolved_tickets = []
    if not report.is_complete:
        subject = _first_target(remaining) if reasons else WORKFLOW
        redrive_report.open_ticket(env, report, subject)
    result = report.as_dict()
    return dict(result, next_task=SUCCEED if result["success"] else FAIL)


def finish_ended(env: Environment, run: str, status: str) -> Optional[Result]:
    """Return the report of a redrive that did not come to its own end, or None if it had no plan.

    :param run: its execution id; status: StackStorm's status of it.
    """
    try:
        plan = Plan.open(env, sealing.seal({"stored": _plan_key(run)}))
    except InvalidInput:
        return None
    return finish(env, plan, status)


class _Round:
    def __init__(self, env: Environment, plan: Plan) -> None:
        self._env, self._plan = env, plan
        self._runs = _refresh(env, _recent_runs(env, plan))
        self._health = RedriveHealth(env, plan.started, self._runs)

    def play(self, case: str, cursor: int) -> Result:
        env, plan = self._env, self._plan
        if env.now() >= plan.deadline:
            return _finish(case, cursor, "its time is up")
        started = self._start_runs()
        own = _own_runs(self._runs, plan)
        remaining, held_back = _by_mode(env, plan, _remaining(plan, own))
        at_work = [run for run in own if redrive_health.is_at_work(run)]
        open_candidates = [entry for entry in remaining if self._health.is_down(entry) is None]
        if not at_work and not open_candidates:
            reason = "the targets fail again" if remaining else "every run has ended"
            if held_back and not remaining:
                reason = "the mode is no longer act"
            return _finish(case, cursor, reason)
        counts = (started, len(at_work), len(remaining))
        summary = "%d started, %d at work, %d remaining" % counts
        return _next(case, cursor, self._delay(started, own, open_candidates), summary)

    def _start_runs(self) -> int:
        """Start the runs that may be started now, and return how many there were."""
        env, plan, started = self._env, self._plan, 0
        remaining, _ = _by_mode(env, plan, _remaining(plan, _own_runs(self._runs, plan)))
        for candidate in remaining:
            if started >= batch_size(plan.request.per_minute) or env.now() >= plan.deadline:
                break
            if not self._has_rate():
                break
            if not self._health.may_start(candidate) or self._is_being_started(candidate):
                continue
            redriven = self._start(candidate)
            if redriven is None:
                continue
            self._runs.append(redriven)
            if redriven.outcome != redrives.NOT_STARTED:
                self._health.started(candidate)
                started += 1
        return started

    def _has_rate(self) -> bool:
        starts = redrive_health.recent_starts(self._runs, self._env.now())
        return starts < self._plan.request.per_minute

    def _is_being_started(self, candidate: Candidate) -> bool:
        """Whether another redrive is just about to start the run."""
        other = self._other_run(candidate)
        return other is not None and other.run is None and other.outcome is None

    def _other_run(self, candidate: Candidate) -> Optional[RedrivenRun]:
        return next(
            (
                run for run in self._runs
                if run.lineage == candidate.lineage and run.redrive != self._plan.run and
                run.outcome != redrives.NOT_STARTED
            ),
            None,
        )

    def _start(self, candidate: Candidate) -> Optional[RedrivenRun]:
        """Claim a failed run and start it; return its record, or None to try it in a later round.

        Other redrives claim runs at the same time. So what they have claimed is looked at after
        the own claim is written: of two that start at the same moment, at least one sees the other.
        """
        env, plan = self._env, self._plan
        redriven = RedrivenRun(
            redrive=plan.run,
            lineage=candidate.lineage,
            failed_run=candidate.run,
            workflow=candidate.workflow,
            targets=candidate.targets,
            failed_cause=candidate.cause,
            claimed_at=env.now(),
        )
        if self._other_run(candidate) is not None:
            return redrives.release(env.store, redriven, "another redrive has started it")
        is_claimed = redrives.claim(env.store, redriven)
        since = env.now() - redrive_health.MAX_QUEUE_SECONDS
        fresh = {run.key: run for run in self._runs}
        fresh.update((run.key, run) for run in redrives.runs_since(env.store, since))
        starts = redrive_health.recent_starts(fresh.values(), env.now())
        if not is_claimed or starts > plan.request.per_minute:
            redrives.withdraw(env.store, redriven)
            return None
        return start(env, plan, candidate, redriven)

    def _delay(
        self, started: int, own: list[RedrivenRun], open_candidates: list[Candidate]
    ) -> int:
        now, per_minute = self._env.now(), self._plan.request.per_minute
        if started and open_candidates:
            return math.ceil(60 * batch_size(per_minute) / per_minute)
        last_start = max([run.claimed_at for run in own], default=self._plan.started)
        seconds = min(max(MIN_WAIT_SECONDS, (now - last_start) / 10), MAX_WAIT_SECONDS)
        calls = [self._health.next_call(candidate) for candidate in open_candidates]
        if calls and min(calls) > now:
            seconds = max(seconds, min(min(calls) - now, MAX_WAIT_SECONDS))
        return int(min(math.ceil(seconds), max(1, self._plan.deadline - now)))


def _plan_key(run: str) -> str:
    return "%scase.%s.plan" % (PREFIX, encode_key_part(run))


def batch_size(per_minute: int) -> int:
    """Return how many runs one round starts at most."""
    return max(1, per_minute * ROUND_SECONDS // 60)


def start(
    env: Environment, plan: Plan, candidate: Candidate, redriven: RedrivenRun
) -> RedrivenRun:
    """Start a run that is claimed, and return its record.

    Its `run` is None if StackStorm did not say whether it was started.
    """
    mark: RedriveMark = {"run": plan.run}
    try:
        run = _start(env, candidate, mark)
    except (InvalidInput, ExecutionNotFound) as error:
        return redrives.release(env.store, redriven, _reason(error))
    except StackStormError as error:
        if error.refused:
            return redrives.release(env.store, redriven, str(error))
        # It may have been started nevertheless. The next round looks for it.
        return redriven
    redriven = replace(redriven, run=run)
    redrives.save(env.store, redriven)
    return redriven


def _start(env: Environment, candidate: Candidate, mark: RedriveMark) -> str:
    api: Any = env.api
    if candidate.workflow == ORCHESTRATION:
        run_record = run_queries.check_resumable(env, candidate.run, "execution_id")
        case = sealing.seal({"request": {}, "redrive": mark})
        parameters: dict[str, Any] = {"resume_of": candidate.run, "case": case}
        if run_record.get("timeout"):
            parameters["timeout"] = run_record["timeout"]
        run: str = api.start(redrive_selection.PACK + ORCHESTRATION, parameters)
        return run
    execution = api.execution(candidate.run, retry_run.ATTRIBUTES)
    return retry_run.prepare(env, execution).start(env, mark=mark)


def _reason(error: Exception) -> str:
    """Return why a run cannot be started, without a caller's text."""
    if isinstance(error, InvalidInput):
        return "%s: %s" % (error.field, error.reason)
    return str(error)


def _recent_runs(env: Environment, plan: Plan) -> list[RedrivenRun]:
    """Return the redriven runs that share a minute with this redrive, of whatever redrive."""
    since = min(plan.started - CLOCK_SECONDS, env.now() - LOOK_BACK_SECONDS)
    return list(redrives.runs_since(env.store, since))


def _own_runs(runs: list[RedrivenRun], plan: Plan) -> list[RedrivenRun]:
    return [run for run in runs if run.redrive == plan.run]


def _remaining(plan: Plan, own: list[RedrivenRun]) -> list[Candidate]:
    handled = {run.lineage for run in own}
    return [candidate for candidate in plan.candidates if candidate.lineage not in handled]


def _by_mode(
    env: Environment, plan: Plan, remaining: list[Candidate]
) -> tuple[list[Candidate], list[Candidate]]:
    """Return those that may be started now, and those that the mode holds back: whoever goes down
    stops what a rule has begun. A redrive that a person has started goes on.
    """
    if not plan.is_automatic or not remaining:
        return remaining, []
    workflows = redrive_automatic.workflows_in_act(env, {entry.workflow for entry in remaining})
    allowed = [entry for entry in remaining if entry.workflow in workflows]
    return allowed, [entry for entry in remaining if entry.workflow not in workflows]


def _settle_unknown(env: Environment) -> None:
    """Look for runs that earlier redrives claimed and of which they did not record a start."""
    runs = [run for run in redrives.runs_since(env.store, 0.0) if run.outcome is None]
    _refresh(env, runs)


def _refresh(env: Environment, runs: list[RedrivenRun]) -> list[RedrivenRun]:
    """Return the runs with what became of them; what is new is recorded."""
    refreshed = []
    for run in runs:
        if run.outcome is None and run.run is None:
            run = _find_start(env, run)
            is_settled = env.now() > run.claimed_at + redrive_selection.SETTLE_SECONDS
            if run.run is None and is_settled:
                run = _unknown_if_unfound(env, run)
        if run.outcome is None and run.run is not None:
            run = _with_outcome(env, run)
        refreshed.append(run)
    return refreshed


def _find_start(env: Environment, redriven: RedrivenRun) -> RedrivenRun:
    """Return the record with the run that was started for it, if StackStorm has one."""
    api: Any = env.api
    since = to_iso(redriven.claimed_at - CLOCK_SECONDS)
    for page in range(MAX_FIND_PAGES):
        rows = api.executions(
            "id,context,parameters",
            action=redrive_selection.PACK + redriven.workflow,
            timestamp_gt=since,
            offset=page * PAGE_SIZE,
        )
        for row in rows:
            origin = run_parameters.origin_of(row)
            resumed = (row.get("parameters") or {}).get("resume_of")
            if redriven.failed_run in (origin, resumed):
                adopted = replace(redriven, run=row["id"])
                redrives.save(env.store, adopted)
                return adopted
        if len(rows) < PAGE_SIZE:
            break
    return redriven


def _unknown_if_unfound(env: Environment, redriven: RedrivenRun) -> RedrivenRun:
    if redriven.outcome is not None or redriven.run is not None:
        return redriven
    reason = redrive_selection.REASONS[redrive_selection.START_UNKNOWN]
    unknown = replace(redriven, outcome=redrives.UNKNOWN, reason=reason)
    redrives.save(env.store, unknown)
    return unknown


def _with_outcome(env: Environment, redriven: RedrivenRun) -> RedrivenRun:
    api: Any = env.api
    try:
        execution = api.execution(redriven.run, "status,end_timestamp")
        if execution.get("status") not in ENDED:
            return redriven
        ended_at = parse_iso(execution.get("end_timestamp")) or env.now()
        outcome, cause = redrives.RECOVERED, None
        if execution["status"] != "succeeded":
            outcome, cause = redrives.FAILED, _cause_of(api, redriven)
    except ExecutionNotFound:
        # Somebody has deleted it.
        outcome, cause, ended_at = redrives.UNKNOWN, None, env.now()
    ended = replace(redriven, outcome=outcome, cause=cause, ended_at=ended_at)
    redrives.save(env.store, ended)
    return ended


def _cause_of(api: Any, redriven: RedrivenRun) -> str:
    result = api.execution(redriven.run, "result").get("result")
    output = result.get("output") if isinstance(result, dict) else None
    error = output.get("error") if isinstance(output, dict) else None
    cause = error.get("cause") if isinstance(error, dict) else None
    if redriven.workflow == ORCHESTRATION and cause == "step_failed":
        return "unknown"
    return str(cause or "unknown")


def _was_ended_by_a_round(env: Environment, plan: Plan) -> bool:
    """Return whether the last round itself went on to the report, before the time was up."""
    if env.now() >= plan.deadline:
        return False
    try:
        last = child_runs.latest_child(env, plan.run, (ROUND_ACTION,))
    except StackStormError:
        return False
    return last.get("status") == "succeeded"


def _first_target(remaining: list[Candidate]) -> str:
    """Return the target that a stopped redrive is about, as the subject of its ticket."""
    first = remaining[0]
    return redrive_health.targets_of(first.workflow, first.targets)[0]


def _next(case: str, cursor: int, delay: int, summary: str) -> Result:
    following = {"cursor": cursor + 1, "delay": delay, "carry": case}
    return {"summary": summary, "next_task": ROUND, "next": following}


def _finish(case: str, cursor: int, reason: str) -> Result:
    following = {"cursor": cursor + 1, "delay": 0, "carry": case}
    return {"summary": "to the report: %s" % reason, "next_task": FINISH, "next": following}
