"""`pack.check`: checks the configuration free of charge: no LLM generates, nothing is changed."""

import concurrent.futures
import contextvars
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.automation import config as automation_config
from synthralos.automation import modes
from synthralos.calls import agent_targets, http, llm_providers, llm_wires, trace_exporter
from synthralos.calls.agent_platforms import connect
from synthralos.calls.http import CallError
from synthralos.config.connection import Connection
from synthralos.config.platforms import Platform
from synthralos.config.settings import Account, Provider, Route
from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput
from synthralos.operations import repair_prerequisites
from synthralos.operations.check_entry import FAILED, MISSING, OK, CheckEntry
from synthralos.operations.check_entry import check_entry as _check_result
from synthralos.operations.repair_prerequisites import Check
from synthralos.runtime.environment import Environment
from synthralos.runtime.run_parameters import ENABLED_KEY
from synthralos.storage.datastore import PREFIX
from synthralos.storage.keyspace import lifetime_of
from synthralos.telemetry.run_log import LogConfig

if TYPE_CHECKING:
    from synthralos.calls.llm_wires.wire import Authorize

TIMEOUT_SECONDS = 5.0
AT_ONCE = 8
MAX_MODELS_SHOWN = 20
UNREACHABLE_HINT = "Check base_url, proxy and ca_bundle, and that the target is running"


class SelfCheck(TypedDict):
    """The result of pack.check."""

    summary: str
    checks: list[CheckEntry]


def check(env: Environment) -> tuple[bool, SelfCheck]:
    """Check everything that is configured.

    :returns: (succeeded, result). What is not configured is no failure, because a pack that only
        retries LLM calls needs no platform.
    """
    settings = env.settings
    remote_checks: list[Check] = [
        partial(_platform, env, platform) for platform in settings.platforms
    ]
    remote_checks += [
        partial(_provider, env, provider, account)
        for provider in settings.providers for account in provider.accounts
    ]
    remote_checks += [partial(_route, env, route) for route in settings.routes]
    checks = [_datastore(env), _stackstorm(env), _switch(env), _mode(env), _planner(env)]
    checks += [_tracing(env), _logs(env)]
    for subject, entries, hint in (
        ("platform", settings.platforms, "List platforms to run agent_recovery"),
        ("providers", settings.providers, "List LLM providers to run llm_retry"),
        ("routes", settings.routes, "List routes to run reroute_request"),
    ):
        if not entries:
            checks.append(_check_result(subject, MISSING, "nothing is configured", hint))
    repair_entries, repair_checks = repair_prerequisites.checks_of(env)
    checks += repair_entries
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        # Threads do not inherit the action's context variables, such as its tracer.
        running = [
            pool.submit(contextvars.copy_context().run, check)
            for check in remote_checks + repair_checks
        ]
        checks += [future.result() for future in running]
    failed = [check_entry["name"] for check_entry in checks if check_entry["status"] == FAILED]
    summary = "failed: " + ", ".join(failed) if failed else "everything that is configured works"
    return not failed, {"summary": summary, "checks": checks}


def _datastore(env: Environment) -> CheckEntry:
    name, value = PREFIX + "check." + secrets.token_hex(4), secrets.token_hex(4)
    env.store.put(name, value, ttl=lifetime_of("check"))
    stored_value = env.store.get(name)
    listing = [key for key, _ in env.store.list(name)]
    env.store.delete(name)
    if env.store.unavailable_reason:
        hint = "Allow the user of the run to read, list and write keys; the pack needs them"
        return _check_result("datastore", FAILED, env.store.unavailable_reason, hint)
    if stored_value != value or listing != [name]:
        details = "a key that was written could not be read back"
        return _check_result("datastore", FAILED, details, "See StackStorm's logs")
    return _check_result("datastore", OK, "a key was written, read, listed and deleted")


def _stackstorm(env: Environment) -> CheckEntry:
    if env.api is None:
        return _check_result(
            "StackStorm's API", FAILED, "its address is unknown", "Run this as an action"
        )
    return _check_result("StackStorm's API", OK, "its address and a token are known")


def _switch(env: Environment) -> CheckEntry:
    value = env.store.get(ENABLED_KEY)
    value = "not set: rules may start runs" if value is None else value
    return _check_result("switch", OK, "%s is %s" % (ENABLED_KEY, value))


def _mode(env: Environment) -> CheckEntry:
    """Check what may start by itself, and the whole entry `automation` with it."""
    config, invalid = automation_config.load(env.settings.automation)
    if invalid is not None:
        hint = "Correct it; until then the intake actions use the defaults"
        return _check_result("automation", FAILED, invalid, hint)
    in_force = modes.modes_in_force(env, config)
    invalid_keys = modes.invalid_overrides(in_force)
    if invalid_keys:
        details = "%s: not a mode, so it counts as observe" % ", ".join(invalid_keys)
        hint = "Set it with synthralos.automation.set_mode; mode=default removes it"
        return _check_result("automation", FAILED, details, hint)
    return _check_result("automation", OK, modes.describe(in_force))


def _planner(env: Environment) -> CheckEntry:
    model = env.settings.planner_model
    if model is None:
        return _check_result(
            "planner", MISSING, "playbooks plan", "Set planner.model to have an LLM plan"
        )
    try:
        served_model = llm_providers.resolve_model(
            env.settings.providers, model, field="config.planner.model"
        )
    except InvalidInput as error:
        return _check_result("planner", FAILED, str(error), error.hint)
    return _check_result("planner", OK, "%s plans" % served_model.target)


def _tracing(env: Environment) -> CheckEntry:
    try:
        tracing = trace_exporter.Tracing.from_config(env.settings.tracing)
        if tracing is None:
            hint = "Set tracing.endpoint to send traces to a collector"
            return _check_result("tracing", MISSING, "no traces are sent", hint)
        response = trace_exporter.check(env.client, tracing)
    except InvalidInput as error:
        return _check_result("tracing", FAILED, str(error), error.hint)
    except CallError as error:
        hint = "Check tracing.endpoint, and that the collector is running; runs do not wait for it"
        return _check_result("tracing", FAILED, error.failure.message, hint)
    if not 200 <= response.status < 300:
        hint = "Check that tracing.endpoint accepts OTLP over HTTP as JSON (port 4318)"
        return _check_result("tracing", FAILED, "answered %d" % response.status, hint)
    details = "answered %d in %d ms" % (response.status, int(response.latency * 1000))
    return _check_result("tracing", OK, details)


def _logs(env: Environment) -> CheckEntry:
    try:
        logs = LogConfig.from_config(env.settings.logs)
    except InvalidInput as error:
        return _check_result("logs", FAILED, str(error), error.hint)
    destination = "to %s too, as JSON" % logs.file if logs.file else "with each execution"
    return _check_result("logs", OK, "%s, %s" % (logs.format, destination))


def _platform(env: Environment, platform: Platform) -> CheckEntry:
    name = agent_targets.target_name(platform)
    agents = [
        endpoint.agent
        for agent_id in env.settings.agents
        for endpoint in env.settings.agent_endpoints(agent_id)
        if endpoint.platform.name == platform.name
    ]
    api = connect(http.Client(env.credentials, env.now), platform)
    try:
        result = api.check(
            agents[0] if agents else None, min(TIMEOUT_SECONDS, platform.connection.timeout)
        )
    except InvalidInput as error:
        return _check_result(name, FAILED, str(error), error.hint)
    except CallError as error:
        return _check_result(name, FAILED, error.failure.message, UNREACHABLE_HINT)
    return _check_result(name, OK if result.passed else FAILED, result.details, result.hint)


def platform_works(env: Environment, platform: Platform) -> bool:
    """Whether an agent platform passes the check of its API."""
    return _platform(env, platform)["status"] == OK


def route_works(env: Environment, route: Route) -> bool:
    """Whether a route responds, and accepts its credential."""
    return _route(env, route)["status"] == OK


def _provider(env: Environment, provider: Provider, account: Account) -> CheckEntry:
    """Check a provider with one of its accounts: its wire, its key, and the models it lists."""
    wire = llm_wires.wire_format(provider.api)
    name = "llm:%s" % provider.name
    if account.name is not None:
        name = "%s@%s" % (name, account.name)
    connection, path = wire.listing(account.connection)
    result, response = _reach(
        env, name, connection, path, _account_hint(account), wire.headers,
        wire.authorize(connection.base_url),
    )
    result["details"] = "%s, %s" % (provider.api, result["details"])
    if result["status"] != OK or response is None:
        return result
    return _with_models(result, provider, wire.model_names(_json(response)))


def _account_hint(account: Account) -> str:
    """Return what to do if the account's credentials are rejected."""
    if account.connection.signing is not None:
        return "Check the AWS credentials, and that their policy allows bedrock:InvokeModel and, " \
            "for this check, bedrock:ListFoundationModels"
    if account.name is not None:
        return "Set the datastore key %s to a valid key" % account.name
    return _secret_hint("api_key")


def _json(response: http.Response) -> Any:
    try:
        return bounded_json.loads(response.text)
    except ValueError:
        return None


def _with_models(
    result: CheckEntry, provider: Provider, listed_names: Optional[list[str]]
) -> CheckEntry:
    """Return the result of a provider's check with the configured models that it lists."""
    configured = [model.name for model in provider.models]
    if listed_names is None:
        details = "its list of models cannot be read"
        return {**result, "details": "%s; %s" % (result["details"], details), "models": None}
    models = {name: name in listed_names for name in configured}
    missing = [name for name in configured if name not in listed_names]
    details = "it lists %d of the %d configured models" % (
        len(configured) - len(missing), len(configured),
    )
    result = {**result, "details": "%s; %s" % (result["details"], details), "models": models}
    if missing:
        result["hint"] = "Not listed: %s. Some providers serve more than they list; try it with " \
            "synthralos.call_llm" % ", ".join(missing[:MAX_MODELS_SHOWN])
    return result


def _route(env: Environment, route: Route) -> CheckEntry:
    name = "route:%s/%s" % (route.provider, route.region)
    return _reach(env, name, route.connection, "/", _secret_hint("token"), any_status=True)[0]


def _reach(
    env: Environment,
    name: str,
    connection: Connection,
    path: str,
    key_hint: str,
    headers: Optional[dict[str, str]] = None,
    authorize: "Optional[Authorize]" = None,
    any_status: bool = False,
) -> tuple[CheckEntry, Optional[http.Response]]:
    """Request `path` and return (the check's entry, the response or None).

    :param key_hint: what to do if the credentials are rejected.
    :param any_status: accept any status below 500 except 401 and 403, because the paths that a
        route serves are unknown.
    """
    client = http.Client(env.credentials, env.now)
    try:
        response = client.request(
            connection,
            "GET",
            path,
            min(TIMEOUT_SECONDS, connection.timeout),
            None,
            headers,
            authorize,
        )
    except InvalidInput as error:
        return _check_result(name, FAILED, str(error), error.hint), None
    except CallError as error:
        return _check_result(name, FAILED, error.failure.message, UNREACHABLE_HINT), None
    details = "answered %d in %d ms" % (response.status, int(response.latency * 1000))
    if response.status in (401, 403):
        return _check_result(name, FAILED, details, key_hint), response
    if response.status >= 400 and not any_status:
        failure = client.failure_of(response, "request")
        if failure.cause == "authentication":
            details = "%s: %s" % (details, failure.message)
            return _check_result(name, FAILED, details, key_hint), response
    if response.status >= 500 or (response.status >= 400 and not any_status):
        hint = "Check base_url: %s%s" % (connection.base_url, path)
        return _check_result(name, FAILED, details, hint), response
    return _check_result(name, OK, details), response


def _secret_hint(secret: str) -> str:
    return "Set %s or %s_from" % (secret, secret)
