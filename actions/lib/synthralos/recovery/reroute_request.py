"""The workflow reroute_request: the same request at other regions and providers."""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.calls import relations, routes
from synthralos.calls.relations import Target
from synthralos.calls.retry_rules import RuleFields
from synthralos.calls.routes import RouteAnswer, RouteCandidate, RouteRequest
from synthralos.config.settings import Route
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.core.identifiers import require_identifier
from synthralos.core.timestamps import to_iso
from synthralos.runtime import failure_record, run_parameters, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.workflow_run import Case

WORKFLOW = "reroute_request"
DEFAULT_RUN_SECONDS = 120
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def analyse(env: Environment, parameters: dict[str, Any], started: float) -> dict[str, Any]:
    """The result of analyze_routing_failure, with the new case in `next`."""
    raw_request = run_parameters.require_object(
        "original_request", parameters.get("original_request")
    )
    reason = run_parameters.require_text("failure_reason", parameters.get("failure_reason"))
    request = routes.parse_request(raw_request, env.settings)
    legs, skipped = routes.candidate_routes(
        request,
        _names(parameters, "fallback_regions"),
        _names(parameters, "fallback_providers"),
        env.settings,
    )
    if not legs:
        route_names = sorted(
            {"%s/%s" % (route.provider, route.region) for route in env.settings.routes}
        )
        raise InvalidInput(
            "original_request",
            "%s/%s" % (request["provider"], request["region"]),
            "no route to it or to a fallback is configured",
            "Known routes: " + ", ".join(route_names),
        )
    failure = failures.from_text(reason)
    if any(_unsafe(leg.route, request) for leg in legs):
        relations.reject_unknown_effect("failure_reason", failure, "say so in failure_reason")
    rules = workflow_run.build_rules(env, env.settings.max_retries)
    case = _new_case(env, parameters, started, request, legs, rules, reason, failure)
    case["progress"]["trail"].extend(
        {"target": leg["target"], "skipped": leg["reason"]} for leg in skipped
    )
    return {
        "summary": "%d routes after %s" % (len(legs), failure.cause),
        "failure": failure.as_dict(),
        "routes": [leg.target for leg in legs],
        "skipped": skipped,
        "deadline": to_iso(case["deadline"]),
        "next": workflow_run.next_step(env, case),
    }


def is_unsafe_to_repeat(env: Environment, parameters: Mapping[str, Any]) -> bool:
    """Whether a repeat of the request may do harm, at any route that it may take.

    :param parameters: of the workflow, resolved.
    :raises InvalidInput: they are not valid.
    """
    raw_request = run_parameters.require_object(
        "original_request", parameters.get("original_request")
    )
    request = routes.parse_request(raw_request, env.settings)
    legs, _ = routes.candidate_routes(
        request,
        _names(parameters, "fallback_regions"),
        _names(parameters, "fallback_providers"),
        env.settings,
    )
    return any(_unsafe(leg.route, request) for leg in legs)


def standalone_case(env: Environment, parameters: dict[str, Any], started: float) -> Case:
    """The case of an execute_request that no workflow started: one route, no retry."""
    raw_request = dict(run_parameters.require_object("request", parameters.get("request")))
    for name in ("region", "provider"):
        if parameters.get(name) is not None:
            raw_request[name] = parameters[name]
    request = routes.parse_request(raw_request, env.settings, "request")
    legs, skipped = routes.candidate_routes(request, [], [], env.settings)
    if not legs:
        raise InvalidInput(
            "request", skipped[0]["target"], skipped[0]["reason"], "Configure this route"
        )
    return _new_case(
        env, parameters, started, request, legs, workflow_run.build_rules(env, 0), "", None
    )


def run_round(env: Environment, case: Case) -> tuple[bool, dict[str, Any]]:
    """(ok, result) of execute_request: one round over the routes."""
    targets = _targets(env, case)
    if case["dry_run"]:
        return True, _dry_run_result(env, case, targets)

    def call_target(target: Target, seconds: float, attempt_number: int) -> RouteAnswer:
        return routes.call(
            env.client, _candidate(target), case["http"], seconds, workflow_run.key_run(case)
        )

    round_result, progress = workflow_run.play_round(env, case, targets, call_target)
    target = round_result.target
    if round_result.result is None or target is None:
        return workflow_run.failed_round_result(env, case, round_result, progress)
    answer = workflow_run.fit_to_result_size(
        env, case, env.redactor.remove_secrets(round_result.result), "body"
    )
    if answer["body"] is None and "body_key" in answer:
        answer["response"] = None
    workflow_run.record_summary(env, case, "recovered", case["failure"])
    route = _candidate(target).route
    return True, {
        "summary": "%s answered %d at attempt %d"
        % (target.name, answer["status_code"], progress.attempts),
        "success": True,
        "result": answer,
        "final_region": require_identifier("final_region", route.region),
        "final_provider": require_identifier("final_provider", route.provider),
        "attempts": progress.attempts,
        "trail": progress.trail,
    }


def subject(case: Optional[Case], parameters: dict[str, Any]) -> str:
    """The route of a failed run; without a case the provider of its unchecked parameters."""
    if case is not None:
        return "route:%s/%s" % (case["http"]["provider"], case["http"]["region"])
    request = parameters.get("original_request")
    return failure_record.name_or_unknown(
        request.get("provider") if isinstance(request, dict) else None
    )


def _new_case(
    env: Environment,
    parameters: dict[str, Any],
    started: float,
    request: RouteRequest,
    legs: list[RouteCandidate],
    rules: RuleFields,
    reason: str,
    failure: Optional[Failure],
) -> Case:
    return workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        parameters,
        started,
        {"original_request": parameters.get("original_request"), "failure_reason": reason},
        rules,
        failure=failure.as_dict() if failure else None,
        http=request,
        legs=[[leg.route.provider, leg.route.region, leg.model] for leg in legs],
    )


def _names(parameters: Mapping[str, Any], name: str) -> list[str]:
    names = parameters.get(name)
    if names is None:
        return []
    if not isinstance(names, list):
        raise InvalidInput(
            name, names, "is not a list", 'Give a list of names, such as ["eu-west-1"]'
        )
    return [
        require_identifier("%s[%d]" % (name, index), value) for index, value in enumerate(names)
    ]


def _unsafe(route: Route, request: RouteRequest) -> bool:
    return route.unsafe_to_repeat and request["method"] not in SAFE_METHODS


def _targets(env: Environment, case: Case) -> list[Target]:
    configured = {(route.provider, route.region): route for route in env.settings.routes}
    targets = []
    for provider, region, model in case["legs"]:
        route = configured.get((provider, region))
        if route is None:
            raise InvalidInput(
                "config.routes",
                "%s/%s" % (provider, region),
                "is gone",
                "Put it back, or start a new run",
            )
        leg = routes.RouteCandidate(route, model)
        targets.append(leg.as_target(_unsafe(route, case["http"])))
    return targets


def _candidate(target: Target) -> RouteCandidate:
    assert isinstance(target.endpoint, RouteCandidate)
    return target.endpoint


def _dry_run_result(env: Environment, case: Case, targets: list[Target]) -> dict[str, Any]:
    return {
        "summary": "dry run: nothing was called; %d routes" % len(targets),
        "success": False,
        "dry_run": True,
        "result": None,
        "final_region": None,
        "final_provider": None,
        "attempts": 0,
        "targets": workflow_run.breaker_states(env, targets),
        "waits": workflow_run.preview_waits(case["rules"]),
        "trail": case["progress"]["trail"],
    }
