"""LLM steps: call the models of the step's role, in order, until one gives a valid answer.

An attempt of the step is a round of calls.rounds: circuit breaker, cooldown and ledger apply as in
llm_retry, and a round tries each model that may be called. An answer that does not match the step's
schema, or that its critic scores below the threshold, is a failed attempt; the next attempt tells
the model why.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict

from synthralos.calls import llm_providers, output_schema, rounds
from synthralos.calls.attempts import RunProgress
from synthralos.calls.deadline import Deadline
from synthralos.calls.llm_calls import CallOptions, ModelCall
from synthralos.calls.llm_providers import ServedModel
from synthralos.calls.llm_wires.chat_messages import Message
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.relations import Target
from synthralos.calls.retry_rules import RetryRules
from synthralos.core import bounded_json, json_extract
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.orchestration import (
    definition_store,
    definition_tools,
    model_selection,
    output_parsing,
    prompts,
    role_schema,
)
from synthralos.orchestration.role_schema import Role
from synthralos.orchestration.step_limits import StepError, StepOutcome, StepTimeLimit
from synthralos.runtime.workflow_run import Case, record_calls
from synthralos.storage.datastore import PREFIX
from synthralos.storage.keyspace import lifetime_of
from synthralos.telemetry import run_log

if TYPE_CHECKING:
    from synthralos.orchestration.step_schema import Critic, Step
    from synthralos.runtime.environment import Environment

# The step checks its answers itself, and tells the model what is wrong with them.
_OPTIONS = CallOptions(checks_format=False)
CACHE_SECONDS = lifetime_of("cached")
MAX_CACHED_BYTES = 1024 * 1024
MAX_ANSWER_SHOWN = 8000
_USAGE = ("input_tokens", "output_tokens", "total_tokens")


class CacheEntry(TypedDict):
    """An answer that is used again. `model`: the one that gave it."""

    output: Any
    model: str


def run(
    env: "Environment",
    case: Case,
    step: "Step",
    step_input: Any,
    sleep: Callable[[float], None] = time.sleep,
) -> StepOutcome:
    """Call the models of the step until an answer is valid or no attempt or time remains.

    :param step_input: text or another JSON value.
    :param sleep: waits between attempts, in seconds.
    :returns: a StepOutcome; a failed call is an outcome, not an exception.
    :raises InvalidInput: the step cannot be attempted: no role, no model, too long an input.
    """
    role = _role(env, step)
    targets = _targets(env, role, step.get("fallback_models") or ())
    schema = step.get("schema")
    if schema is not None:
        output_schema.require_valid_schema(schema, "schema")
    messages = prompts.messages(role, step_input, schema)
    text = messages[-1]["content"]
    assert isinstance(text, str)
    model_selection.check_length(role, text)
    # An answer whose calls change definitions must not be served from the cache.
    repeatable = step.get("cache") and not role_schema.may_change_definitions(role)
    key = _cache_key(role, targets, messages, step) if repeatable else None
    cached = _cached(env, key)
    if cached is not None:
        return StepOutcome(0, cached["output"], log_fields={
            "usage": dict.fromkeys(_USAGE, 0), "cached": True, "model": cached["model"],
        })
    progress = RunProgress()
    try:
        outcome = _attempt_until_valid(
            env, case, step, role, targets, messages, step_input, progress, sleep
        )
    finally:
        record_calls(env, case["workflow"], progress.trail)
    if outcome.error is None and key is not None:
        cache_entry: CacheEntry = {
            "output": outcome.output, "model": outcome.log_fields["model"]
        }
        value = json.dumps(env.redactor.remove_secrets(cache_entry))
        if len(value) <= MAX_CACHED_BYTES:
            env.store.put(key, value, CACHE_SECONDS)
    calls = _requested_calls(role, outcome.output) if outcome.error is None else []
    if calls:
        carried_out, problem = definition_tools.perform(env, case, calls)
        outcome.output = dict(outcome.output, calls=carried_out)
        if problem is not None:
            outcome.error = {"cause": "call_failed", "message": problem}
    return outcome


def _requested_calls(role: Role, output: Any) -> list[definition_tools.Call]:
    """Return the tool calls of an answer, if the role may make them; see definition_tools."""
    return definition_tools.parse_calls(output) if role_schema.may_change_definitions(role) else []


def _attempt_until_valid(
    env: "Environment",
    case: Case,
    step: "Step",
    role: Role,
    targets: list[Target],
    initial_messages: list[Message],
    step_input: Any,
    progress: RunProgress,
    sleep: Callable[[float], None],
) -> StepOutcome:
    limits = StepTimeLimit(step, env.deadline(case), env.now)
    retries, delay = step.get("max_retries") or 0, step.get("retry_delay") or 0
    rules = RetryRules(
        max_retries=retries * len(targets),
        strategy="fixed",
        base_delay=float(delay),
        max_delay=max(60.0, float(delay)),
        base_delay_given=True,
        fall_over=env.settings.fall_over,
        ask_next_after=env.settings.ask_next_after,
    )
    usage, attempts = dict.fromkeys(_USAGE, 0), 0
    messages = initial_messages
    sampling = prompts.sampling(role)

    def new_call(target: Target) -> ModelCall:
        request = ChatRequest(messages, sampling)
        return ModelCall(env.client, _served_model(target), request, case["run"], _OPTIONS)

    while True:
        before, deadline = progress.attempts, limits.attempt()
        round_result = _play(env, case, targets, progress, rules, new_call, deadline)
        attempts += progress.attempts > before
        wait: Optional[float] = delay
        if round_result.result is None or round_result.target is None:
            error = _failure_error(round_result, deadline)
            wait = round_result.delay
        else:
            answer = round_result.result["response"]
            _add_usage(usage, round_result.result["usage"])
            output, problem = _check_answer(
                env, case, step, role, step_input, answer, deadline, usage
            )
            model = _served_model(round_result.target).name.partition(":")[2]
            if problem is None:
                return StepOutcome(
                    attempts, output, log_fields={"usage": usage, "model": model}
                )
            error = problem
            progress.trail[-1].update(ok=False, cause=error["cause"])
            messages = prompts.retry_messages(
                initial_messages, answer[:MAX_ANSWER_SHOWN], error["message"]
            )
        run_log.emit("step_attempt", number=attempts, outcome=error["cause"])
        if attempts > retries or wait is None or not limits.allows(wait):
            return StepOutcome(max(1, attempts), error=error, log_fields={
                "usage": usage, "targets": [target.name for target in targets],
            })
        sleep(wait)


def _play(
    env: "Environment",
    case: Case,
    targets: list[Target],
    progress: RunProgress,
    rules: RetryRules,
    new_call: Callable[[Target], ModelCall],
    deadline: Deadline,
) -> rounds.RoundResult:
    return rounds.play_round(
        targets,
        progress,
        rules,
        lambda target, seconds, number: new_call(target).complete(seconds),
        env.ledger,
        deadline,
        env.now,
        case["run"],
        env.host_memory,
        lambda target: new_call(target).closable(),
        account_memory=env.account_memory,
    )


def _failure_error(round_result: rounds.RoundResult, deadline: Deadline) -> StepError:
    if round_result.failure is None and not deadline.allows_attempt():
        return {"cause": "timeout", "message": "no time remained to call a model"}
    if round_result.failure is None:
        return {
            "cause": "held_back",
            "message": round_result.reason or "no model may be called now",
        }
    failure = round_result.failure
    message = (
        "%s (%s)" % (failure.message, round_result.reason)
        if round_result.reason
        else failure.message
    )
    return {"cause": failure.cause, "message": message}


def _check_answer(
    env: "Environment",
    case: Case,
    step: "Step",
    role: Role,
    step_input: Any,
    answer: str,
    deadline: Deadline,
    usage: dict[str, int],
) -> tuple[Any, Optional[StepError]]:
    """Validate an answer by schema, calls and critic; return (output, None) or (None, why not)."""
    output, mismatch = output_parsing.parse_answer(
        answer, step.get("schema") or None, prompts.expects_json(role)
    )
    if mismatch is not None:
        return None, {"cause": "schema_mismatch", "message": mismatch}
    try:
        _requested_calls(role, output)
    except InvalidInput as error:
        return None, {"cause": "invalid_calls", "message": str(error)}
    critic = step.get("critic")
    if not critic:
        return output, None
    score, feedback = _ask_critic(env, case, step, critic, step_input, output, deadline, usage)
    if score is None:
        return None, {"cause": "critic_failed", "message": feedback or ""}
    if score >= critic["threshold"]:
        return output, None
    message = "the critic gave %s, and %s is required%s." % (
        score, critic["threshold"], ": %s" % feedback if feedback else "",
    )
    return None, {"cause": "below_threshold", "message": message}


def _ask_critic(
    env: "Environment",
    case: Case,
    step: "Step",
    critic: "Critic",
    step_input: Any,
    output: Any,
    deadline: Deadline,
    usage: dict[str, int],
) -> tuple[Optional[float], Optional[str]]:
    """Have the critic score an output.

    :returns: (score from 0 to 1, feedback or None), or (None, why there is no score).
    """
    role = role_of(env, critic["role"], step["name"])
    targets = _targets(env, role)
    messages = prompts.critic_messages(role, step_input, output)
    sampling = prompts.sampling(role)

    def new_call(target: Target) -> ModelCall:
        request = ChatRequest(messages, sampling)
        return ModelCall(env.client, _served_model(target), request, case["run"], _OPTIONS)

    rules = RetryRules(
        max_retries=0,
        fall_over=env.settings.fall_over,
        ask_next_after=env.settings.ask_next_after,
    )
    progress = RunProgress()
    round_result = _play(env, case, targets, progress, rules, new_call, deadline)
    record_calls(env, case["workflow"], progress.trail)
    if round_result.result is None:
        reason = _failure_error(round_result, deadline)["message"]
        return None, "the critic %s did not answer: %s." % (critic["role"], reason)
    _add_usage(usage, round_result.result["usage"])
    try:
        judgement = json_extract.extract(
            round_result.result["response"], lambda value: score_of(value)[0] is not None
        )
    except json_extract.NoJson:
        return None, "the critic %s gave no score between 0 and 1." % critic["role"]
    return score_of(judgement)


def score_of(judgement: Any) -> tuple[Optional[float], Optional[str]]:
    """Return (score, feedback) of a critic's parsed answer.

    The score is None unless it is between 0 and 1: on another scale it would pass every threshold.
    """
    if not isinstance(judgement, dict):
        return None, None
    score = judgement.get("score")
    if not isinstance(score, (int, float)) or isinstance(score, bool) or not 0 <= score <= 1:
        score = None
    feedback = judgement.get("feedback") or judgement.get("reason")
    return score, feedback if isinstance(feedback, str) else None


def _role(env: "Environment", step: "Step") -> Role:
    """Return the role of an LLM step; without one, its description (or name) is the prompt."""
    if step["role"] is not None:
        return role_of(env, step["role"], step["name"])
    task = step["description"] or "Your part of a larger piece of work is: %s" % step["name"]
    return role_schema.role({"name": step["name"], "base_prompt": task}, "step")


def role_of(env: "Environment", name: str, step: str) -> Role:
    """Return the role with that name or id.

    :param step: the name of the step that needs it, for the error message.
    :raises InvalidInput: it does not exist.
    """
    role = definition_store.role_by(env.store, name)
    if role is None:
        reason = "Role not found for step %s" % step
        raise InvalidInput("role", name, reason, "List them with `st2 run synthralos.role.list`")
    return role


def _targets(env: "Environment", role: Role, further_models: Sequence[str] = ()) -> list[Target]:
    """Return the models to call: those that fit the role, then further ones."""
    names = model_selection.fitting(env, role) + list(further_models)
    if not names:
        raise InvalidInput(
            "role", role["name"], "no configured model can serve it",
            "Give the role a model, or configure one with the capabilities it needs",
        )
    served = [
        llm_providers.resolve_model(env.settings.providers, name, field="model") for name in names
    ]
    unique = {
        served_model.target: served_model
        for first in served for served_model in first.at_all_accounts()
    }
    return [served_model.as_target() for served_model in unique.values()]


def _served_model(target: Target) -> ServedModel:
    assert isinstance(target.endpoint, ServedModel)
    return target.endpoint


def planned(env: "Environment", step: "Step") -> list[str]:
    """Return the names of the models that an LLM step would call, in order, for a dry run."""
    targets = _targets(env, _role(env, step), step.get("fallback_models") or ())
    return [target.name for target in targets]


def _add_usage(usage: dict[str, int], delta: Mapping[str, int]) -> None:
    for name in _USAGE:
        usage[name] += delta.get(name, 0)


def _cache_key(role: Role, targets: list[Target], messages: list[Message], step: "Step") -> str:
    key_parts = [
        [target.name for target in targets], messages, prompts.sampling(role), step.get("schema"),
        step.get("critic"),
    ]
    text = json.dumps(key_parts, sort_keys=True, separators=(",", ":"))
    return "%scached.%s" % (
        PREFIX,
        encode_key_part(hashlib.sha256(text.encode("ascii")).hexdigest()),
    )


def _cached(env: "Environment", key: Optional[str]) -> Optional[CacheEntry]:
    value = env.store.get(key) if key else None
    try:
        cache_entry = bounded_json.loads(value) if value else None
    except ValueError:
        return None
    if not isinstance(cache_entry, dict) or not {"output", "model"} <= set(cache_entry):
        return None
    return {"output": cache_entry["output"], "model": cache_entry["model"]}
