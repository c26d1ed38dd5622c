"""`pack.check`: what of the configuration works, without cost: nothing is generated or changed."""
import concurrent.futures
import contextvars
import secrets

from synthralos.calls import http, llm_providers, trace_exporter
from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.runtime.run_parameters import ENABLED_KEY
from synthralos.storage.datastore import PREFIX
from synthralos.storage.keyspace import lifetime_of
from synthralos.telemetry.run_log import LogConfig

TIMEOUT_SECONDS = 5.0
AT_ONCE = 8
OK, FAILED, MISSING = "ok", "failed", "not_configured"


def check(env):
    """(whether nothing failed, result): result has `checks`, each {what, status, told, way_out}.

    `status` is ok, failed or not_configured. What is not configured fails nothing: a pack that only
    retries LLM calls needs no platform.
    """
    settings = env.settings
    asked = [(_platform, known) for known in settings.platforms]
    asked += [(_provider, known) for known in settings.providers]
    asked += [(_route, known) for known in settings.routes]
    checks = [_datastore(env), _stackstorm(env), _switch(env), _planner(env)]
    checks += [_tracing(env), _logs(env)]
    for what, entries, way_out in (
        ("platform", settings.platforms, "Set platform.base_url to run agent_recovery"),
        ("providers", settings.providers, "List LLM providers to run llm_retry"),
        ("routes", settings.routes, "List routes to run reroute_request"),
    ):
        if not entries:
            checks.append(_told(what, MISSING, "nothing is configured", way_out))
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        # A thread has none of the action's context variables, such as its tracer, by itself.
        running = [
            pool.submit(contextvars.copy_context().run, check, env, entry) for check, entry in asked
        ]
        checks += [one.result() for one in running]
    failed = [one["name"] for one in checks if one["status"] == FAILED]
    summary = "failed: " + ", ".join(failed) if failed else "all that is configured works"
    return not failed, {"summary": summary, "checks": checks}


def _told(what, status, told, way_out=None):
    found = {"name": what, "status": status, "details": told}
    return dict(found, hint=way_out) if way_out else found


def _datastore(env):
    name, value = PREFIX + "check." + secrets.token_hex(4), secrets.token_hex(4)
    env.store.put(name, value, ttl=lifetime_of("check"))
    back = env.store.get(name)
    listed = [key for key, _ in env.store.list(name)]
    env.store.delete(name)
    if env.store.unavailable_reason:
        way_out = "Let the user of the run read, list and write keys; else nothing is remembered"
        return _told("datastore", FAILED, env.store.unavailable_reason, way_out)
    if back != value or listed != [name]:
        told = "a key that was written did not come back"
        return _told("datastore", FAILED, told, "See StackStorm's logs")
    return _told("datastore", OK, "a key was written, read, listed and deleted")


def _stackstorm(env):
    if env.api is None:
        return _told("StackStorm's API", FAILED, "it is not known here", "Run this as an action")
    return _told("StackStorm's API", OK, "its address and a token are known")


def _switch(env):
    value = env.store.get(ENABLED_KEY)
    value = "not set: rules may start runs" if value is None else value
    return _told("switch", OK, "%s is %s" % (ENABLED_KEY, value))


def _planner(env):
    model = env.settings.planner_model
    if model is None:
        return _told("planner", MISSING, "playbooks plan", "Set planner.model to have an LLM plan")
    try:
        served = llm_providers.resolve_model(
            env.settings.providers, model, field="config.planner.model"
        )
    except InvalidInput as error:
        return _told("planner", FAILED, str(error), error.hint)
    return _told("planner", OK, "%s plans" % served.target)


def _tracing(env):
    try:
        tracing = trace_exporter.Tracing.from_config(env.settings.tracing)
        if tracing is None:
            way_out = "Set tracing.endpoint to send traces to a collector"
            return _told("tracing", MISSING, "no traces are sent", way_out)
        answer = trace_exporter.check(env.client, tracing)
    except InvalidInput as error:
        return _told("tracing", FAILED, str(error), error.hint)
    except CallError as error:
        way_out = "Check tracing.endpoint, and whether the collector runs; no run waits for it"
        return _told("tracing", FAILED, error.failure.message, way_out)
    if not 200 <= answer.status < 300:
        way_out = "Check that tracing.endpoint takes OTLP over HTTP as JSON (port 4318)"
        return _told("tracing", FAILED, "answered %d" % answer.status, way_out)
    told = "answered %d in %d ms" % (answer.status, int(answer.latency * 1000))
    return _told("tracing", OK, told)


def _logs(env):
    try:
        logs = LogConfig.from_config(env.settings.logs)
    except InvalidInput as error:
        return _told("logs", FAILED, str(error), error.hint)
    where = "to %s too, as JSON" % logs.file if logs.file else "with each execution"
    return _told("logs", OK, "%s, %s" % (logs.format, where))


def _platform(env, known):
    return _reach(env, "platform:" + known.name, known.connection, known.health_path, "token")


def _provider(env, known):
    wire, what = llm_providers.WIRE_FORMATS[known.api], "llm:" + known.name
    return _reach(
        env, what, known.connection, wire.listing, "api_key", wire.headers, wire.authorize
    )


def _route(env, known):
    what = "route:%s/%s" % (known.provider, known.region)
    return _reach(env, what, known.connection, "/", "token", any_status=True)


def _reach(env, what, connection, path, secret, headers=None, authorize=None, any_status=False):
    """Asks for `path`; with `any_status` any answer below 500 but 401 and 403 is good enough, for
    nobody knows what a route serves.
    """
    client = http.Client(env.credentials, env.now)
    try:
        answer = client.request(
            connection,
            "GET",
            path,
            min(TIMEOUT_SECONDS, connection.timeout),
            None,
            headers,
            authorize,
        )
    except InvalidInput as error:
        return _told(what, FAILED, str(error), error.hint)
    except CallError as error:
        way_out = "Check base_url, proxy and ca_bundle, and whether it runs"
        return _told(what, FAILED, error.failure.message, way_out)
    told = "answered %d in %d ms" % (answer.status, int(answer.latency * 1000))
    if answer.status in (401, 403):
        return _told(what, FAILED, told, "Set %s or %s_from" % (secret, secret))
    if answer.status >= 500 or (answer.status >= 400 and not any_status):
        return _told(what, FAILED, told, "Check base_url: %s%s" % (connection.base_url, path))
    return _told(what, OK, told)
