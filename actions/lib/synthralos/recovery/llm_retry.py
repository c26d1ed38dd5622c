"""The workflow llm_retry: the original model and its fallbacks, until one answers well."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.calls import answer_format, llm_providers, relations
from synthralos.calls.answer_format import Corrections
from synthralos.calls.llm_providers import ServedModel
from synthralos.calls.llm_wires import chat_request
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.relations import Target
from synthralos.core import failures
from synthralos.core.causes import NEVER
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.core.identifiers import require_identifier
from synthralos.core.timestamps import to_iso
from synthralos.runtime import failure_record, run_parameters, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.workflow_run import Case

if TYPE_CHECKING:
    from synthralos.calls.open_attempts import Call

WORKFLOW = "llm_retry"
DEFAULT_RUN_SECONDS = 180
# Of failures that the next call meets again.
LASTING_SCOPES = ("model", "account", "setup")


class ExcludedTarget(TypedDict):
    """A target that is not tried, as an entry of the trail. `skipped`: why."""

    target: str
    skipped: str


def determine(env: Environment, parameters: dict[str, Any], started: float) -> dict[str, Any]:
    """The result of determine_retry_strategy, with the new case in `next`."""
    request = run_parameters.require_object("original_request", parameters.get("original_request"))
    reason = run_parameters.require_text("failure_reason", parameters.get("failure_reason"))
    chat = _parse(env, request, "original_request")
    original = _original(env, request)
    fallbacks = _fallbacks(env, parameters.get("fallback_models"))
    failure = failures.from_text(reason)
    models, skipped = order_models(
        original, fallbacks, failure, env.settings.fall_over
    )
    rules = workflow_run.build_rules(
        env,
        workflow_run.max_retries_param(parameters, env.settings.max_retries),
        inherited=parameters.get("rules"),
    )
    rules["ask_next_after"] = env.settings.ask_next_after
    case = workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        parameters,
        started,
        {"original_request": request, "failure_reason": reason},
        rules,
        failure=failure.as_dict(),
        chat=chat.as_dict(),
        models=[[served_model.provider.name, served_model.model.name] for served_model in models],
        original=original.name,
    )
    case["progress"]["trail"].extend(skipped)
    return {
        "summary": "%d targets, %s back-off, after %s"
        % (len(models), rules["strategy"], failure.cause),
        "failure": failure.as_dict(),
        "targets": [
            account.target for served_model in models for account in served_model.at_all_accounts()
        ],
        "skipped": skipped,
        "backoff": {"strategy": rules["strategy"], "waits": workflow_run.preview_waits(rules)},
        "deadline": to_iso(case["deadline"]),
        "next": workflow_run.next_step(env, case),
    }


def standalone_case(env: Environment, parameters: dict[str, Any], started: float) -> Case:
    """The case of a call_llm that no workflow started: one model, no retry."""
    request = {
        name: parameters.get(name)
        for name in ("prompt", "messages", "parameters")
        if parameters.get(name)
    }
    served_model = llm_providers.resolve_model(
        env.settings.providers, parameters.get("model"), parameters.get("provider"), "model"
    )
    return workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        parameters,
        started,
        {"original_request": request, "failure_reason": ""},
        workflow_run.build_rules(env, 0),
        failure=None,
        chat=_parse(env, request, "call_llm", "parameters").as_dict(),
        models=[[served_model.provider.name, served_model.model.name]],
        original=served_model.name,
    )


def order_models(
    original: ServedModel,
    fallbacks: list[ServedModel],
    failure: Failure,
    fall_over: Optional[Mapping[str, bool]] = None,
) -> tuple[list[ServedModel], list[ExcludedTarget]]:
    """Return (served, skipped): the models to try, and those that this failure rules out.

    The caller says why the original failed. If that speaks of the model, its account or its
    address, the original would fail again, and so would those that share what is broken.

    :param fall_over: the entry of the configuration, {cause: boolean}.
    """
    models = list(
        {served_model.target: served_model for served_model in [original] + fallbacks}.values()
    )
    if failure.policy.scope not in LASTING_SCOPES:
        return models, []
    if failure.policy.scope == "account" and len(original.provider.accounts) > 1:
        # The caller did not say which of them.
        return models, []
    original_target = original.as_target()
    excluded = [original.target] + [
        served_model.target
        for served_model in models[1:]
        if relations.timing_after(
            failure, original_target, served_model.as_target(), fall_over or {}
        ) == NEVER
    ]
    remaining = [served_model for served_model in models if served_model.target not in excluded]
    if not remaining:
        return models, []
    return remaining, [
        {"target": name, "skipped": "failed with %s" % failure.cause} for name in excluded
    ]


def run_round(env: Environment, case: Case) -> tuple[bool, dict[str, Any]]:
    """(ok, result) of call_llm: one round over the models."""
    targets = _targets(env, case)
    if case["dry_run"]:
        return True, _dry_run_result(env, case, targets)

    # The other actions of the workflow call no model.
    from synthralos.calls import llm_calls

    request = ChatRequest.from_dict(case["chat"])
    corrections = Corrections(case.get("rejected"))
    options = llm_calls.CallOptions(corrections=corrections)

    def call_target(target: Target, seconds: float, attempt_number: int) -> dict[str, Any]:
        return llm_calls.complete(
            env.client, _served_model(target), request, seconds, case["run"], options
        )

    def open_call(target: Target) -> "Call":
        return llm_calls.ModelCall(
            env.client, _served_model(target), request, case["run"], options
        ).closable()

    round_result, progress = workflow_run.play_round(env, case, targets, call_target, open_call)
    target = round_result.target
    if round_result.result is None or target is None:
        case["rejected"] = corrections.as_dict()
        return workflow_run.failed_round_result(env, case, round_result, progress)
    answer = workflow_run.fit_to_result_size(
        env, case, env.redactor.remove_secrets(round_result.result), "response"
    )
    workflow_run.record_summary(env, case, "recovered", case["failure"])
    model = _served_model(target).model.name
    return True, {
        "summary": "%s answered at attempt %d" % (target.name, progress.attempts),
        "success": True,
        "result": answer,
        "attempts": progress.attempts,
        "final_model": require_identifier("final_model", model),
        "trail": progress.trail,
    }


def subject(case: Optional[Case], parameters: dict[str, Any]) -> str:
    """The model of a failed run: of its case, or of its unchecked parameters without one."""
    if case is not None:
        original: str = case["original"]
        return original
    request = parameters.get("original_request")
    return failure_record.name_or_unknown(
        request.get("model") if isinstance(request, dict) else None
    )


def _parse(
    env: Environment, request: dict[str, Any], path: str, parameters_path: Optional[str] = None
) -> ChatRequest:
    """Return the ChatRequest of a caller; raises InvalidInput, also for its JSON schema."""
    providers = tuple(provider.name for provider in env.settings.providers)
    parsed = chat_request.parse(request, providers, path, parameters_path)
    parameters_path = parameters_path or path + ".parameters"
    answer_format.require_valid_schema(
        parsed, parameters_path + ".response_format.json_schema.schema"
    )
    return parsed


def _original(env: Environment, request: Mapping[str, Any]) -> ServedModel:
    model = request.get("model")
    if model is None:
        raise InvalidInput(
            "original_request.model", model, "is missing", "Name the model that was asked"
        )
    return llm_providers.resolve_model(env.settings.providers, model, request.get("provider"))


def _fallbacks(env: Environment, names: object) -> list[ServedModel]:
    if names is None:
        return []
    if not isinstance(names, list):
        raise InvalidInput(
            "fallback_models", names, "is not a list", 'Give a list of names, such as ["gpt-4o"]'
        )
    return [
        llm_providers.resolve_model(
            env.settings.providers, name, field="fallback_models[%d]" % index
        )
        for index, name in enumerate(names)
    ]


def _targets(env: Environment, case: Mapping[str, Any]) -> list[Target]:
    models = [
        llm_providers.resolve_model(env.settings.providers, model, provider)
        for provider, model in case["models"]
    ]
    return [
        account.as_target() for served_model in models for account in served_model.at_all_accounts()
    ]


def _served_model(target: Target) -> ServedModel:
    assert isinstance(target.endpoint, ServedModel)
    return target.endpoint


def _dry_run_result(env: Environment, case: Case, targets: list[Target]) -> dict[str, Any]:
    return {
        "summary": "dry run: nothing was called; %d targets" % len(targets),
        "success": False,
        "dry_run": True,
        "result": None,
        "attempts": 0,
        "final_model": None,
        "targets": workflow_run.breaker_states(env, targets),
        "waits": workflow_run.preview_waits(case["rules"]),
        "trail": case["progress"]["trail"],
    }
