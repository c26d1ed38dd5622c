"""When a redrive that a rule has started may start runs: after its targets have answered a probe.

A breaker is derived from outcomes and fires nothing, and a target of which nothing is heard may be
as broken as before. So the rule is a timer, and each target is asked first, by something that does
not use up a failed run: a model by a request of a few words, a platform and a route by the checks
of `pack.check`. The first run after that is one alone, as in each redrive.
"""

from collections.abc import Iterable
from typing import Any, Optional

from synthralos.automation import config as automation_config
from synthralos.automation import modes
from synthralos.calls import llm_calls, targets
from synthralos.calls.http import CallError, CallNotMade
from synthralos.calls.llm_calls import CallOptions
from synthralos.calls.llm_wires import chat_request
from synthralos.calls.relations import Target
from synthralos.config.modes import ACT
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import parse_iso
from synthralos.operations import (
    redrive_health,
    redrive_report,
    redrive_request,
    redrive_selection,
    self_check,
)
from synthralos.operations.redrive_selection import Candidate, Selection, SkippedRun
from synthralos.runtime import run_parameters
from synthralos.runtime.environment import Environment
from synthralos.storage import circuit_breaker, redrives
from synthralos.storage.outcome_ledger import Outcome

PROBE_SECONDS = 30.0
PROBE_TEXT = "Reply with the word OK."
# What a probe costs is bounded; further targets are asked by the next run of the rule.
MAX_PROBES = 10
# How long a target is left alone at which redriven runs have failed again.
PAUSE_SECONDS = 3600.0
# After the deadline of a redrive, until it counts as dead.
GRACE_SECONDS = 120
NOT_IN_MODE, FAILED_LATELY, NO_ANSWER = "not_in_mode_act", "failed_lately", "no_answer"


def admit(env: Environment, selection: Selection, is_dry_run: bool) -> bool:
    """Leave in the selection what a rule may start now, and return whether nothing is started.

    What is not in the mode `act` is left to a person; if that is all there is, the redrive becomes
    a dry run.

    :raises DatastoreUnavailable: the mode or the outcomes cannot be read.
    :raises StackStormError: StackStorm's API is unavailable.
    """
    if is_dry_run or not selection.candidates:
        return is_dry_run
    allowed = workflows_in_act(env, {entry.workflow for entry in selection.candidates})
    if not allowed:
        return True
    _keep(selection, lambda entry: None if entry.workflow in allowed else NOT_IN_MODE)
    failing = _failing_targets(env, selection)
    _keep(selection, lambda entry: FAILED_LATELY if _targets(entry) <= failing else None)
    answering: set[str] = set()
    names = dict.fromkeys(
        name for entry in selection.candidates for name in sorted(_targets(entry) - failing)
    )
    configured = {
        target.name: target for kind in targets.configured(env.settings).values() for target in kind
    }
    for name in list(names)[:MAX_PROBES]:
        if has_answered(env, name) or _probe(env, name, configured):
            answering.add(name)
    _keep(selection, lambda entry: None if _targets(entry) & answering else NO_ANSWER)
    return False


def _targets(candidate: Candidate) -> set[str]:
    return set(redrive_health.targets_of(candidate.workflow, candidate.targets))


def _keep(selection: Selection, reason_of: Any) -> None:
    """Move the candidates for which there is a reason to those that are skipped."""
    candidates = []
    for entry in selection.candidates:
        reason = reason_of(entry)
        if reason is None:
            candidates.append(entry)
        else:
            selection.skipped.append(SkippedRun(entry.run, entry.workflow, entry.cause, reason))
    selection.candidates = candidates


def workflows_in_act(env: Environment, workflows: Iterable[str]) -> set[str]:
    """Return those of the workflows of which a rule may start a run now.

    :raises DatastoreUnavailable: the mode cannot be read.
    """
    config, _ = automation_config.load(env.settings.automation)
    is_off = run_parameters.is_switched_off(env.store)
    allowed = {
        workflow
        for workflow in workflows
        if not is_off and modes.mode_of(env, config, workflow).mode == ACT
    }
    redrives.require_store(env.store)
    return allowed


def is_older_one_running(env: Environment) -> bool:
    """Whether another redrive is at work that began before this one.

    Of several that look at the same time, the oldest sees none: otherwise each would wait for the
    others. One that is past its time has died. Costs a call to StackStorm for each live status.

    :raises StackStormError: StackStorm's API is unavailable.
    """
    api: Any = env.api
    ref = redrive_selection.PACK + redrive_report.WORKFLOW
    return any(
        row["id"] < env.run and env.now() < _deadline(row) + GRACE_SECONDS
        for status in redrive_selection.LIVE
        for row in api.executions("id,start_timestamp,parameters", action=ref, status=status)
    )


def _deadline(execution: dict[str, Any]) -> float:
    timeout = (execution.get("parameters") or {}).get("timeout")
    seconds = timeout or redrive_request.DEFAULT_RUN_SECONDS
    return (parse_iso(execution.get("start_timestamp")) or 0.0) + float(seconds)


def _failing_targets(env: Environment, selection: Selection) -> set[str]:
    """Return the targets at which the last redriven runs have failed a short while ago."""
    since = env.now() - PAUSE_SECONDS
    runs = [
        run for run in redrives.runs_since(env.store, since - PAUSE_SECONDS)
        if run.ended_at is not None
    ]
    runs.sort(key=lambda run: run.ended_at or 0.0, reverse=True)
    failing = set()
    for name in set().union(*map(_targets, selection.candidates)):
        ended = [
            run for run in runs if name in redrive_health.targets_of(run.workflow, run.targets)
        ]
        failed = redrive_health.leading_failures(ended)
        is_recent = bool(failed) and (failed[0].ended_at or 0.0) >= since
        if is_recent and len(failed) >= redrive_health.FAILED_RUNS and not has_answered(env, name):
            failing.add(name)
    return failing


def has_answered(env: Environment, target: str) -> bool:
    """Whether the newest outcome of the target is an answer: another run has met it well."""
    ledger: Any = env.ledger
    window = ledger.window(target)
    return bool(window) and bool(window[0].ok)


def _probe(env: Environment, name: str, configured: dict[str, Target]) -> bool:
    """Ask a target whether it works again; write its answer down as an outcome of it."""
    ledger: Any = env.ledger
    breaker = ledger.breaker_state(name)
    if breaker.state == circuit_breaker.OPEN or (breaker.until or 0.0) > env.now():
        # A call now would prolong what holds it back.
        return False
    target = configured.get(name) or configured.get(name.rpartition("/")[0])
    if target is None:
        return False
    if name.startswith("llm:"):
        return _ask_model(env, name, target)
    if name.startswith("platform:"):
        platform = next(
            entry for entry in env.settings.platforms
            if "platform:" + entry.name == target.name
        )
        return bool(self_check.platform_works(env, platform))
    route: Any = target.endpoint
    return bool(self_check.route_works(env, route.route))


def _ask_model(env: Environment, name: str, target: Target) -> bool:
    request = chat_request.parse({"prompt": PROBE_TEXT})
    served_model: Any = target.endpoint
    started_at, failure, ledger = env.now(), None, env.ledger
    try:
        llm_calls.complete(
            env.client, served_model, request, PROBE_SECONDS, env.run,
            CallOptions(checks_format=False),
        )
    except (CallNotMade, InvalidInput):
        return False
    except CallError as error:
        failure = error.failure
    now = env.now()
    hint: Optional[float] = failure.retry_after if failure is not None else None
    outcome = Outcome(
        ok=failure is None,
        cause=None if failure is None else failure.cause,
        at=now,
        latency=max(0.0, now - started_at),
        until=None if hint is None else now + hint,
        run=env.run,
    )
    ledger.append(name, outcome)
    # A model that spent its tokens on reasoning has answered.
    return failure is None or failure.cause == "output_limit"
