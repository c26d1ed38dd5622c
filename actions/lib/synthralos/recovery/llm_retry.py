"""The workflow llm_retry: the original model and its fallbacks, until one answers well."""

from synthralos import failures
from synthralos.calls import providers
from synthralos.calls.rounds import Target
from synthralos.names import checked
from synthralos.recovery import intake, run
from synthralos.refusals import Refused
from synthralos.times import timestamp

WORKFLOW = "llm_retry"
RUN_SECONDS = 180
# When the caller says that this is why the original model failed, it fails again.
HOPELESS = ("quota", "authentication", "permission", "model_not_found", "context_length")


def determine(env, parameters, started):
    """The result of determine_retry_strategy, with the new case in `next`."""
    request = intake.mapping("original_request", parameters.get("original_request"))
    reason = intake.text("failure_reason", parameters.get("failure_reason"))
    messages = providers.messages_of(request)
    sampling = providers.parameters_of(request)
    original = _original(env, request)
    fallbacks = _fallbacks(env, parameters.get("fallback_models"))
    failure = failures.from_text(reason)
    served, skipped = in_order(original, fallbacks, failure)
    rules = run.rules_of(
        env,
        run.retries_of(parameters, env.settings.max_retries),
        handed=parameters.get("rules"),
    )
    case = run.new_case(
        env,
        WORKFLOW,
        RUN_SECONDS,
        parameters,
        started,
        {"original_request": request, "failure_reason": reason},
        rules,
        failure=failure.as_dict(),
        messages=messages,
        sampling=sampling,
        models=[[one.provider.name, one.model.name] for one in served],
        original=original.target,
    )
    case["progress"]["trail"].extend(skipped)
    return {
        "summary": "%d targets, %s back-off, after %s"
        % (len(served), rules["strategy"], failure.cause),
        "failure": failure.as_dict(),
        "targets": [one.target for one in served],
        "skipped": skipped,
        "backoff": {"strategy": rules["strategy"], "waits": run.planned_waits(rules)},
        "deadline": timestamp(case["deadline"]),
        "next": run.following(env, case),
    }


def alone(env, parameters, started):
    """The case of a call_llm that no workflow started: one model, no retry."""
    request = {
        name: parameters.get(name)
        for name in ("prompt", "messages", "parameters")
        if parameters.get(name)
    }
    served = providers.find(
        env.settings.providers, parameters.get("model"), parameters.get("provider"), "model"
    )
    return run.new_case(
        env,
        WORKFLOW,
        RUN_SECONDS,
        parameters,
        started,
        {"original_request": request, "failure_reason": ""},
        run.rules_of(env, 0),
        failure=None,
        messages=providers.messages_of(request, "call_llm"),
        sampling=providers.parameters_of(request, "parameters"),
        models=[[served.provider.name, served.model.name]],
        original=served.target,
    )


def in_order(original, fallbacks, failure):
    """(served, skipped): the models to try, and those that this failure rules out."""
    served = list({one.target: one for one in [original] + fallbacks}.values())
    if failure.cause not in HOPELESS or len(served) == 1:
        return served, []
    out = [original.target]
    if failure.cause == "context_length":
        window = original.model.context_window
        out += [one.target for one in served[1:] if not _larger(one.model.context_window, window)]
    left = [one for one in served if one.target not in out]
    if not left:
        return served, []
    return left, [{"target": name, "skipped": "failed with %s" % failure.cause} for name in out]


def _larger(window, than):
    return window is None or than is None or window > than


def attempt(env, case):
    """(ok, result) of call_llm: one round over the models."""
    targets = _targets(env, case)
    if case["dry_run"]:
        return True, _planned(env, case, targets)

    def one(target, seconds, number):
        return providers.call(
            env.client, target.what, case["messages"], case["sampling"], seconds, case["run"]
        )

    played, progress = run.play(env, case, targets, one)
    if played.result is None:
        return run.unanswered(env, case, played, progress)
    answer = run.fitted(env, case, env.redactor.secrets_only(played.result), "response")
    run.summarise(env, case, "recovered", case["failure"])
    model = played.target.what.model.name
    return True, {
        "summary": "%s answered at attempt %d" % (played.target.name, progress.attempts),
        "success": True,
        "result": answer,
        "attempts": progress.attempts,
        "final_model": checked("final_model", model),
        "trail": progress.trail,
    }


def subject(case):
    return case["original"]


def _original(env, request):
    model = request.get("model")
    if model is None:
        raise Refused(
            "original_request.model", model, "is missing", "Name the model that was asked"
        )
    return providers.find(env.settings.providers, model, request.get("provider"))


def _fallbacks(env, given):
    if given is None:
        return []
    if not isinstance(given, list):
        raise Refused(
            "fallback_models", given, "is no list", 'Give a list of names, such as ["gpt-4o"]'
        )
    return [
        providers.find(env.settings.providers, model, field="fallback_models[%d]" % n)
        for n, model in enumerate(given)
    ]


def _targets(env, case):
    found = [
        providers.find(env.settings.providers, model, provider)
        for provider, model in case["models"]
    ]
    return [
        Target(
            one.target,
            one.provider.connection.timeout,
            one,
            window=one.model.context_window,
            account=one.provider.connection.account(one.provider.name),
        )
        for one in found
    ]


def _planned(env, case, targets):
    return {
        "summary": "dry run: nothing was called; %d targets" % len(targets),
        "success": False,
        "dry_run": True,
        "result": None,
        "attempts": 0,
        "final_model": None,
        "targets": run.health_of(env, targets),
        "waits": run.planned_waits(case["rules"]),
        "trail": case["progress"]["trail"],
    }
