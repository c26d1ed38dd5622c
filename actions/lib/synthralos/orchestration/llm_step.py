"""An LLM step: the models of its role are asked, in order, until one gives what the step asks for.

It is a round of calls.rounds: breaker, cooldown and ledger hold as in llm_retry, and an attempt of
the step visits each model that may be called. An answer that does not match the step's schema, or
that its critic scores below the threshold, is a failed attempt: the next one is told why.
"""

import hashlib
import json
import time

from synthralos.calls import agent_platform, llm_providers, rounds
from synthralos.core import bounded_json
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
from synthralos.orchestration.step_limits import StepOutcome, StepTimeLimit
from synthralos.runtime.workflow_run import record_calls
from synthralos.storage.datastore import PREFIX
from synthralos.storage.keyspace import lifetime_of
from synthralos.telemetry import run_log

CACHE_SECONDS = lifetime_of("cached")
MAX_CACHED_BYTES = 1024 * 1024
MAX_ANSWER_SHOWN = 8000
_USAGE = ("input_tokens", "output_tokens", "total_tokens")


def run(env, case, step, given, sleep=time.sleep):
    """The Done of the step; `given` is its input. InvalidInput when it cannot be tried at all."""
    role = _role(env, step)
    targets = _targets(env, role, step)
    schema = step.get("schema")
    if schema is not None:
        agent_platform.require_valid_schema(schema, "schema")
    asked = prompts.messages(role, given, schema)
    model_selection.check_length(role, asked[-1]["content"])
    # An answer that has something done is not the same thing twice.
    repeatable = step.get("cache") and not role_schema.may_change_definitions(role)
    key = _cache_key(role, targets, asked, step) if repeatable else None
    cached = _cached(env, key)
    if cached is not None:
        return StepOutcome(0, cached["output"], usage=dict.fromkeys(_USAGE, 0), cached=True,
                    model=cached["model"])
    progress = rounds.RunProgress()
    try:
        done = _attempt_until_valid(env, case, step, role, targets, asked, given, progress, sleep)
    finally:
        record_calls(env, case["workflow"], progress.trail)
    if done.error is None and key is not None:
        kept = {"output": done.output, "model": done.log_fields["model"]}
        value = json.dumps(env.redactor.remove_secrets(kept))
        if len(value) <= MAX_CACHED_BYTES:
            env.store.put(key, value, CACHE_SECONDS)
    calls = _calls_wanted(role, done.output) if done.error is None else []
    if calls:
        carried_out, problem = definition_tools.perform(env, case, calls)
        done.output = dict(done.output, calls=carried_out)
        if problem is not None:
            done.error = {"cause": "call_failed", "message": problem}
    return done


def _calls_wanted(role, output):
    """The calls of an answer whose role may make them; see meta."""
    return definition_tools.calls_of(output) if role_schema.may_change_definitions(role) else []


def _attempt_until_valid(env, case, step, role, targets, asked, given, progress, sleep):
    limits = StepTimeLimit(step, env.deadline(case), env.now)
    retries, delay = step.get("max_retries") or 0, step.get("retry_delay") or 0
    rules = rounds.RetryRules(
        max_retries=retries * len(targets),
        strategy="fixed",
        base_delay=float(delay),
        max_delay=max(60.0, float(delay)),
        base_delay_given=True,
        content_policy_fallbacks=env.settings.content_policy_fallbacks,
    )
    usage, attempts = dict.fromkeys(_USAGE, 0), 0
    messages = asked
    sampling = prompts.sampling(role)

    def one(target, seconds, number):
        parameters = prompts.supported_parameters(sampling, target.endpoint.provider.api)
        return llm_providers.complete(
            env.client, target.endpoint, messages, parameters, seconds, case["run"]
        )

    while True:
        before, deadline = progress.attempts, limits.attempt()
        played = _play(env, case, targets, progress, rules, one, deadline)
        attempts += progress.attempts > before
        wait = delay
        if played.result is None:
            error = _failure_error(played, deadline)
            wait = played.delay
        else:
            answer = played.result["response"]
            _add_usage(usage, played.result["usage"])
            output, error = _check_answer(env, case, step, role, given, answer, deadline, usage)
            model = played.target.name.partition(":")[2]
            if error is None:
                return StepOutcome(attempts, output, usage=usage, model=model)
            progress.trail[-1].update(ok=False, cause=error["cause"])
            messages = prompts.retry_messages(asked, answer[:MAX_ANSWER_SHOWN], error["message"])
        run_log.emit("step_attempt", number=attempts, outcome=error["cause"])
        if attempts > retries or wait is None or not limits.allows(wait):
            return StepOutcome(max(1, attempts), error=error, usage=usage)
        sleep(wait)


def _play(env, case, targets, progress, rules, attempt, deadline):
    return rounds.play_round(
        targets, progress, rules, attempt, env.ledger, deadline, env.now, case["run"]
    )


def _failure_error(played, deadline):
    if played.failure is None and not deadline.allows_attempt():
        return {"cause": "timeout", "message": "the time was up before a model could be asked"}
    if played.failure is None:
        return {"cause": "held_back", "message": played.reason or "no model may be called now"}
    told = played.failure
    message = "%s (%s)" % (told.message, played.reason) if played.reason else told.message
    return {"cause": told.cause, "message": message}


def _check_answer(env, case, step, role, given, answer, deadline, usage):
    """(output, None), or (None, error) of an answer that does not pass."""
    output = output_parsing.parsed(answer)
    problem = agent_platform.validate_output(output, step["schema"]) if step.get("schema") else None
    if problem is not None:
        return None, {"cause": problem.cause, "message": problem.message}
    try:
        _calls_wanted(role, output)
    except InvalidInput as error:
        return None, {"cause": "invalid_calls", "message": str(error)}
    critic = step.get("critic")
    if not critic:
        return output, None
    score, told = _ask_critic(env, case, step, critic, given, output, deadline, usage)
    if score is None:
        return None, {"cause": "critic_failed", "message": told}
    if score >= critic["threshold"]:
        return output, None
    message = "the critic gave %s, and %s is asked for%s." % (
        score, critic["threshold"], ": %s" % told if told else "",
    )
    return None, {"cause": "below_threshold", "message": message}


def _ask_critic(env, case, step, critic, given, output, deadline, usage):
    """(score, feedback), or (None, why there is none)."""
    role = role_of(env, critic["role"], step["name"])
    targets = _targets(env, role, {})
    messages = prompts.critic_messages(role, given, output)
    sampling = prompts.sampling(role)

    def one(target, seconds, number):
        parameters = prompts.supported_parameters(sampling, target.endpoint.provider.api)
        return llm_providers.complete(
            env.client, target.endpoint, messages, parameters, seconds, case["run"]
        )

    rules, progress = rounds.RetryRules(max_retries=0), rounds.RunProgress()
    played = _play(env, case, targets, progress, rules, one, deadline)
    record_calls(env, case["workflow"], progress.trail)
    if played.result is None:
        why = _failure_error(played, deadline)["message"]
        return None, "the critic %s gave no answer: %s." % (critic["role"], why)
    _add_usage(usage, played.result["usage"])
    score, feedback = score_of(output_parsing.parsed(played.result["response"]))
    if score is None:
        return None, "the critic %s gave no score from 0 to 1." % critic["role"]
    return score, feedback


def score_of(judgement):
    """(score, feedback) of a critic's parsed answer; the score is None when it has none from 0 to
    1, for one of another scale would pass every threshold.
    """
    if not isinstance(judgement, dict):
        return None, None
    score = judgement.get("score")
    number = isinstance(score, (int, float)) and not isinstance(score, bool)
    good = number and 0 <= score <= 1
    feedback = judgement.get("feedback") or judgement.get("reason")
    return (score if good else None), feedback if isinstance(feedback, str) else None


def _role(env, step):
    """The role of an LLM step; one that names none has its name and description for a prompt."""
    if step["role"] is not None:
        return role_of(env, step["role"], step["name"])
    task = step["description"] or "Your part of a larger piece of work is: %s" % step["name"]
    return role_schema.role({"name": step["name"], "base_prompt": task}, "step")


def role_of(env, name, step):
    """The role of that name, or of that id. InvalidInput when there is none.

    :param step: the name of the step that needs it.
    """
    role = definition_store.role_by(env.store, name)
    if role is None:
        why = "Role not found for step %s" % step
        raise InvalidInput("role", name, why, "List them with `st2 run synthralos.role.list`")
    return role


def _targets(env, role, step):
    """The models to ask, as rounds takes them: those that fit the role, then the step's own."""
    names = model_selection.fitting(env, role) + list(step.get("fallback_models") or [])
    if not names:
        raise InvalidInput(
            "role", role["name"], "no configured model fits it",
            "Give the role a model, or configure one that has what it needs",
        )
    served = [
        llm_providers.resolve_model(env.settings.providers, name, field="model") for name in names
    ]
    return [
        rounds.Target(
            one.target,
            one.provider.connection.timeout,
            one,
            window=one.model.context_window,
            account=one.provider.connection.account(one.provider.name),
        )
        for one in {one.target: one for one in served}.values()
    ]


def planned(env, step):
    """The models that an LLM step would ask, in order: what a dry run shows."""
    return [one.name for one in _targets(env, _role(env, step), step)]


def _add_usage(usage, told):
    for name in _USAGE:
        usage[name] += told.get(name, 0)


def _cache_key(role, targets, asked, step):
    told = [
        [target.name for target in targets], asked, prompts.sampling(role), step.get("schema"),
        step.get("critic"),
    ]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return "%scached.%s" % (
        PREFIX,
        encode_key_part(hashlib.sha256(text.encode("ascii")).hexdigest()),
    )


def _cached(env, key):
    value = env.store.get(key) if key else None
    try:
        found = bounded_json.loads(value) if value else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"output", "model"} <= set(found) else None
