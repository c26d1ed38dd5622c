"""What the workflows share: the case, the result of a round, the size of a result."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict

from synthralos.calls import backoff
from synthralos.calls.attempts import RunProgress
from synthralos.calls.deadline import Deadline
from synthralos.calls.retry_rules import RetryRules, RuleFields
from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.runtime import run_parameters
from synthralos.storage import run_summaries
from synthralos.storage.datastore import PREFIX
from synthralos.storage.keyspace import lifetime_of
from synthralos.storage.retention_store import case_seconds
from synthralos.telemetry import llm_pricing

if TYPE_CHECKING:
    from synthralos.calls.open_attempts import Call
    from synthralos.calls.relations import Target
    from synthralos.calls.rounds import RoundResult
    from synthralos.runtime.environment import Environment

ANSWER_SECONDS = lifetime_of("answer")
# What else an agent or a model may answer as large as it likes.
OTHER_LARGE_FIELDS = ("metadata", "tool_calls")
MAX_RETRIES, MAX_DELAY_SECONDS = 10, 300
MIN_RUN_SECONDS, MAX_RUN_SECONDS = 5, 3600
WEEK = 7 * 24 * 3600

# The content of a case: {v, workflow, run, started, deadline, dry_run, request (what the caller
# worded), rules, progress; trace, rerun_of and redrive, as run_parameters has them, where there are
# any; llm, what its calls to LLMs have cost} and what the workflow adds. Times are seconds since
# the epoch.
Case = dict[str, Any]


class NextStep(TypedDict):
    """Where the workflow continues: `delay` is in whole seconds, `carry` the sealed case."""

    cursor: int
    delay: int
    carry: str


def new_case(
    env: "Environment",
    workflow: str,
    seconds: float,
    parameters: Mapping[str, Any],
    started: float,
    request: Mapping[str, Any],
    rules: Mapping[str, Any],
    max_seconds: int = MAX_RUN_SECONDS,
    **more: Any,
) -> Case:
    """The case of a run that begins, with what the workflow adds.

    :param seconds: what the run has when its parameters name no `timeout`; max_seconds: what it may
        have.
    """
    timeout = whole_number(
        dict({"timeout": seconds}, **parameters), "timeout", MIN_RUN_SECONDS, max_seconds
    )
    case: Case = {
        "v": run_parameters.FORMAT_VERSION,
        "workflow": workflow,
        "run": env.run,
        "started": started,
        "deadline": Deadline.of_run(started, timeout, env.now).at,
        "dry_run": bool(parameters.get("dry_run")),
        "request": request,
        "rules": rules,
        "progress": RunProgress().as_dict(),
    }
    for name in ("trace", "rerun_of", "redrive"):
        if parameters.get(name):
            case[name] = parameters[name]
    case.update(more)
    if not env.is_workflow:
        case["alone"] = True
    elif not case["dry_run"] and not case.get("parent"):
        # What has a parent is a step of its run.
        run_summaries.record_metrics_event(
            env.store, run_summaries.START, env.run, env.now(), workflow=workflow
        )
    return case


def key_run(case: Mapping[str, Any]) -> str:
    """The run by which servers recognise the requests of a case as repeated.

    For a redriven run it is the one that failed: an answer of it that was lost may have taken
    effect.
    """
    is_redriven = case.get("redrive") and case.get("rerun_of")
    return str(case["rerun_of"] if is_redriven else case["run"])


def failed_at(started: float, *timestamps: object) -> float:
    """The earliest of `timestamps`, in seconds since the epoch; `started` if none is usable.

    :param timestamps: in ISO 8601, in UTC with a Z. Anything else, a time later than `started`, and
        a time more than a week before it are ignored.
    """
    times = [parse_iso(text) for text in timestamps if isinstance(text, str) and text.endswith("Z")]
    return min(
        [time for time in times if time and started - WEEK <= time <= started], default=started
    )


def whole_number(parameters: Mapping[str, Any], name: str, minimum: int, maximum: int) -> int:
    """The whole number `name` of the parameters. InvalidInput when it is none or out of bounds."""
    value: Any = parameters.get(name)
    is_integer = isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0
    if not is_integer or not minimum <= value <= maximum:
        raise InvalidInput(
            name,
            value,
            "is out of bounds",
            "Give a whole number from %d to %d" % (minimum, maximum),
        )
    return int(value)


def max_retries_param(parameters: Mapping[str, Any], default: int) -> int:
    """The parameter max_retries; `default`, of the configuration, where it is not given."""
    max_retries = parameters.get("max_retries")
    max_retries = default if max_retries is None else max_retries
    return whole_number({"max_retries": max_retries}, "max_retries", 0, MAX_RETRIES)


def build_rules(
    env: "Environment",
    max_retries: int,
    retry_delay: Optional[float] = None,
    inherited: Optional[RuleFields] = None,
) -> RuleFields:
    """The rules of the rounds, as JSON: the settings, and what the caller gave over them.

    :param inherited: rules that another workflow of the pack decided on, from its case.
    """
    backoff_config = env.settings.backoff
    rules: RuleFields = {
        "max_retries": max_retries,
        "strategy": backoff_config.strategy,
        "base_delay": float(backoff_config.base_delay if retry_delay is None else retry_delay),
        "max_delay": max(backoff_config.max_delay, float(retry_delay or 0)),
        "base_delay_given": retry_delay is not None,
        "fall_over": env.settings.fall_over,
    }
    return rules if inherited is None else {**rules, **inherited}


def seal_case(env: "Environment", case: Case, max_bytes: int = sealing.MAX_INLINE_BYTES) -> str:
    """`case` sealed; no configured secret goes into it, and a large body goes to the datastore.

    :param max_bytes: above this size it is stored; 0 for any.
    """
    key = "%scase.%s.%s" % (PREFIX, encode_key_part(env.run or "none"), case["progress"]["cursor"])
    collect_llm_costs(env, case)
    seconds = case_seconds(env.settings, case["deadline"] - env.now())
    return sealing.seal(env.redactor.remove_secrets(case), env.store, key, max_bytes, seconds)


def next_step(
    env: "Environment", case: Case, delay: int = 0, max_bytes: int = sealing.MAX_INLINE_BYTES
) -> NextStep:
    """The `next` of a result: where the workflow goes on, and after how many whole seconds.

    :param max_bytes: see `seal_case`.
    """
    carry = seal_case(env, case, max_bytes)
    return {"cursor": case["progress"]["cursor"], "delay": delay, "carry": carry}


def play_round(
    env: "Environment",
    case: Case,
    targets: "list[Target]",
    attempt: "Callable[[Target, float, int], Mapping[str, Any]]",
    open_call: "Optional[Callable[[Target], Call]]" = None,
) -> "tuple[RoundResult, RunProgress]":
    """Plays the case's next round, with the case updated.

    :param attempt, open_call: see rounds.play_round.
    """
    # Half of the actions play no round.
    from synthralos.calls import rounds

    progress = RunProgress.from_dict(case["progress"])
    round_result = rounds.play_round(
        targets,
        progress,
        RetryRules(**case["rules"]),
        attempt,
        env.ledger,
        env.deadline(case),
        env.now,
        case["run"],
        env.host_memory,
        open_call,
        account_memory=env.account_memory,
    )
    case["progress"] = progress.as_dict()
    return round_result, progress


def failed_round_result(
    env: "Environment", case: Case, round_result: "RoundResult", progress: RunProgress
) -> tuple[bool, dict[str, Any]]:
    """(False, result) of a round that nobody answered: with `next`, or with why there is none."""
    failure = round_result.failure.as_dict() if round_result.failure else None
    error = failure or {"cause": "held_back", "message": "no target may be called now"}
    if failure is None and not env.deadline(case).allows_attempt():
        error = {"cause": "timeout", "message": "the time was up before an attempt could begin"}
    entries = [
        entry for entry in progress.trail if entry.get("round", progress.cursor) == progress.cursor
    ]
    result: dict[str, Any] = {
        "success": False,
        "error": dict(error),
        "attempts": progress.attempts,
        "round": entries,
    }
    error_text = "%s: %s" % (error["cause"], error["message"])
    if round_result.delay is not None:
        result["next"] = next_step(env, case, round_result.delay)
        summary = _progress_text(entries, error)
        return False, dict(
            summary="%s; the next round begins in %d s" % (summary, round_result.delay), **result
        )
    if case.get("alone"):
        # No task follows that would tell of it.
        collect_llm_costs(env, case)
        run_summaries.record_metrics_event(
            env.store, run_summaries.END, case["run"], env.now(), workflow=case["workflow"],
            currency=env.settings.currency, **_attempt_facts(case)
        )
    case["gave_up"] = {
        "reason": round_result.reason,
        "error": dict(error),
        "again_at": round_result.again_at,
    }
    result.update(next=None, carry=seal_case(env, case), reason=round_result.reason)
    if round_result.again_at is not None:
        result["again_at"] = to_iso(round_result.again_at)
    return False, dict(
        summary="gave up after %d attempts: %s (%s)" %
        (progress.attempts, round_result.reason, error_text),
        **result,
    )


def _progress_text(entries: Iterable[Mapping[str, Any]], error: Mapping[str, Any]) -> str:
    attempt_numbers = [entry["attempt"] for entry in entries if "attempt" in entry]
    if not attempt_numbers:
        return "no target may be called yet"
    return "attempt %d failed (%s)" % (attempt_numbers[-1], error["cause"])


def record_summary(
    env: "Environment",
    case: Case,
    outcome: str,
    failure: Optional[Mapping[str, Any]],
    **more: Any,
) -> None:
    """Writes the run's summary for learning and metrics.

    :param more: end, what the workflow calls its outcome; recovery, null where nothing has
        recovered.
    """
    summary = _run_summary(env, case, outcome, failure, more)
    run_summaries.record_summary(env.store, case["run"], env.now(), **summary)


def record_end(
    env: "Environment",
    case: Case,
    outcome: str,
    failure: Optional[Mapping[str, Any]],
    **more: Any,
) -> None:
    """Like `record_summary`, but adaptive retries do not learn from the run.

    Its child runs already record their own outcomes.
    """
    if not case["dry_run"]:
        summary = _run_summary(env, case, outcome, failure, more)
        run_summaries.record_metrics_event(
            env.store, run_summaries.END, case["run"], env.now(), **summary
        )


def _run_summary(
    env: "Environment",
    case: Case,
    outcome: str,
    failure: Optional[Mapping[str, Any]],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    collect_llm_costs(env, case)
    summary = dict(
        _attempt_facts(case),
        workflow=case["workflow"],
        outcome=outcome,
        failure_type=(failure or {}).get("type"),
        cause=(failure or {}).get("cause"),
        duration=round(env.now() - case["started"], 3),
        currency=env.settings.currency,
    )
    if outcome == "recovered":
        failed_since: float = case["failed_at"] if "failed_at" in case else case["started"]
        summary["recovery"] = round(env.now() - failed_since, 3)
    return dict(summary, **more)


def _attempt_facts(case: Case) -> dict[str, Any]:
    """What a case tells of its attempts."""
    progress = case["progress"]
    facts: dict[str, Any] = {
        "attempts": progress["attempts"],
        "repeats": progress["repeats"],
        "answered": next((entry["target"] for entry in progress["trail"] if entry.get("ok")), None),
    }
    facts.update(_attempt_columns(progress["trail"]))
    optional = {
        "agent": case["request"].get("agent_id") if case.get("agent") else None,
        "llm": case.get("llm"),
        "transitions": case.get("transitions"),
        "alone": case.get("alone"),
        "rerun_of": case.get("rerun_of"),
        "redrive": (case.get("redrive") or {}).get("run"),
    }
    return dict(facts, **{name: value for name, value in optional.items() if value})


def _attempt_columns(trail: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    attempts = [entry for entry in trail if "attempt" in entry]
    columns = {
        "targets": [entry["target"] for entry in attempts],
        "causes": [entry.get("cause") for entry in attempts],
        "latency_ms": [entry.get("latency_ms") for entry in attempts],
    }
    skipped = [entry["target"] for entry in trail if "skipped" in entry]
    return dict(columns, skipped=skipped) if skipped else columns


def collect_llm_costs(env: "Environment", case: Case) -> None:
    """Writes into the case what the calls to LLMs since then have cost."""
    calls = llm_pricing.price_calls(env.client.llm_calls, env.settings)
    if calls:
        case["llm"] = (case.get("llm") or []) + calls
        env.client.llm_calls.clear()


def record_calls(
    env: "Environment", workflow: str, trail: Sequence[Mapping[str, Any]]
) -> None:
    """Tells metrics of a step's attempts, as `trail` of a Progress has them: its case has none."""
    if trail:
        _record_calls(env, workflow=workflow, **_attempt_columns(trail))


def record_remaining_calls(env: "Environment") -> None:
    """Tells metrics of the calls to LLMs that no case tells of, of an action that ends now."""
    if env.client.llm_calls:
        _record_calls(env)


def _record_calls(env: "Environment", **facts: Any) -> None:
    calls = llm_pricing.price_calls(env.client.llm_calls, env.settings)
    env.client.llm_calls.clear()
    run_summaries.record_metrics_event(
        env.store,
        run_summaries.CALLS,
        env.run,
        env.now(),
        llm=calls,
        currency=env.settings.currency,
        **facts,
    )


def record_early_end(env: "Environment", workflow: str, cause: str) -> None:
    """Tells metrics of a run that has no case: it was refused, or crashed, at its beginning."""
    if cause != "cancelled":
        run_summaries.record_metrics_event(
            env.store, run_summaries.START, env.run, env.now(), workflow=workflow
        )
    run_summaries.record_metrics_event(
        env.store,
        run_summaries.END,
        env.run,
        env.now(),
        workflow=workflow,
        outcome="failed",
        cause=cause,
    )


def fit_to_result_size(
    env: "Environment", case: Case, answer: Mapping[str, Any], field: str
) -> dict[str, Any]:
    """`answer` as it is when `field` and what else may be large in it fit `max_result_bytes`.

    Else the largest of them is stored, then the next: the key is then in `<name>_key`, the size in
    `<name>_bytes`, and null in its place.
    """
    names = [field] + [name for name in OTHER_LARGE_FIELDS if name in answer]
    sizes = {name: len(json.dumps(answer[name])) for name in names}
    cut = dict(answer)
    for name in sorted(names, key=lambda name: sizes[name], reverse=True):
        if sum(sizes.values()) <= env.settings.max_result_bytes:
            break
        cut[name], cut[name + "_bytes"] = None, sizes.pop(name)
        cut[name + "_key"] = _store_part(env, case, name if name != field else None, answer[name])
    return cut


def _store_part(
    env: "Environment", case: Case, name: Optional[str], value: Any
) -> Optional[str]:
    """The key under which a part of an answer is kept, or None when it could not be."""
    key = "%sanswer.%s" % (PREFIX, encode_key_part(case["run"] or "none")) + (
        ".%s" % name if name else ""
    )
    text = value if isinstance(value, str) else json.dumps(value)
    was_stored = env.store.put(
        key, sealing.seal(env.redactor.remove_secrets(text)), ttl=ANSWER_SECONDS
    )
    return key if was_stored else None


def preview_waits(rules: RuleFields) -> list[float]:
    """The wait before each repeat, in seconds, before jitter: what a dry run shows."""
    return [
        backoff.full_delay(
            rules["strategy"],
            n,
            rules["base_delay"],
            rules["max_delay"],
            rules.get("success_rate", 1.0),
            rules.get("multiplier", 2.0),
        )
        for n in range(1, rules["max_retries"] + 1)
    ]


def breaker_states(env: "Environment", targets: "Iterable[Target]") -> dict[str, str]:
    """{target: breaker state} for a plan that calls nothing."""
    return {target.name: env.ledger.breaker_state(target.name).state for target in targets}
