"""What infrastructure_repair depends on, for `pack.check`: Prometheus, Alertmanager, runbooks.

Prometheus is asked each query and check once, at this moment, because one that it cannot parse
shows only when a node has failed.
"""

from collections.abc import Iterator
from typing import Any, Callable, Optional
from urllib.parse import urlencode

from synthralos.automation import runbook_explanation
from synthralos.calls import http
from synthralos.calls.http import CallError
from synthralos.config.connection import Connection
from synthralos.core.errors import InvalidInput
from synthralos.core.plurals import count_noun
from synthralos.core.sanitize import sanitize_line
from synthralos.infrastructure import repair_evidence
from synthralos.infrastructure.config import InfrastructureConfig, Prometheus, load_config
from synthralos.operations.check_entry import FAILED, MISSING, OK, CheckEntry, check_entry
from synthralos.runtime.environment import Environment
from synthralos.sensing import alertmanager_api
from synthralos.sensing.config import Alertmanager
from synthralos.storage.stackstorm_api import StackStormError

PATH = "/api/v1/query"
TIMEOUT_SECONDS = 5.0
MAX_DETAILS_CHARS = 300

#: A check that is still to be made; it may take several calls of TIMEOUT_SECONDS.
Check = Callable[[], CheckEntry]


def checks_of(env: Environment) -> tuple[list[CheckEntry], list[Check]]:
    """Return (entries without any call, checks that are to be made)."""
    try:
        config: InfrastructureConfig = load_config(env)
        alertmanager = repair_evidence.load_alertmanager(env)
    except InvalidInput as error:
        return [check_entry("infrastructure", FAILED, str(error), error.hint)], []
    entries: list[CheckEntry] = []
    checks: list[Check] = []
    if config.prometheus is None:
        hint = "Set infrastructure.prometheus.base_url to find failed nodes and to check repairs"
        entries.append(check_entry("prometheus", MISSING, "nothing is configured", hint))
    else:
        prometheus = config.prometheus
        checks.append(lambda: _prometheus(env, config, prometheus))
    if alertmanager is None:
        hint = "Set sensors.alertmanager.url to check whether the alert of a repair is gone"
        entries.append(check_entry("alertmanager", MISSING, "nothing is configured", hint))
    else:
        source: Alertmanager = alertmanager
        checks.append(lambda: _alertmanager(env, source))
    if not config.runbooks:
        hint = "List infrastructure.runbooks; examples/runbooks has some"
        entries.append(check_entry("runbooks", MISSING, "crews repair what alerts report", hint))
    else:
        checks.append(lambda: _runbooks(env, config))
    return entries, checks


def _prometheus(env: Environment, config: InfrastructureConfig, source: Prometheus) -> CheckEntry:
    latency, count, hint = 0.0, 0, None
    for path, query in _queries(config, source):
        try:
            response = _get(env, source.connection, "%s?%s" % (PATH, urlencode({
                "query": query.encode("utf-8", "replace"),
            })))
            reason = _not_a_vector(response)
        except InvalidInput as error:
            return check_entry("prometheus", FAILED, str(error), error.hint)
        except CallError as error:
            if error.failure.status != 400:
                hint = "Check infrastructure.prometheus.base_url and token, and that it is running"
                return check_entry("prometheus", FAILED, error.failure.message, hint)
            reason = error.failure.message
        if reason is not None:
            details = sanitize_line("%s: %s" % (path, reason), env.redactor, MAX_DETAILS_CHARS)
            hint = "Correct it, and try it in Prometheus's own page"
            return check_entry("prometheus", FAILED, details, hint)
        latency, count = max(latency, response.latency), count + 1
    details = "answered %s, in at most %d ms" % (
        count_noun(count, "query", "queries"), int(latency * 1000)
    )
    if repair_evidence.health_query(source, None) is None:
        details += "; the query has no opposite, so that repairs of its nodes cannot be checked"
        hint = "Set infrastructure.prometheus.check"
    return check_entry("prometheus", OK, details, hint)


def _queries(config: InfrastructureConfig, source: Prometheus) -> Iterator[tuple[str, str]]:
    """Yield (where it is configured, query) of each distinct query."""
    seen = set()
    entries: list[tuple[str, Optional[str]]] = [
        ("infrastructure.prometheus.query", source.query),
        ("infrastructure.prometheus.check", source.check),
    ]
    entries += [
        ("the check of %s/%s" % (runbook.name, step.name), step.check)
        for runbook in config.runbooks for step in runbook.steps
    ]
    for path, query in entries:
        if query is not None and query not in seen:
            seen.add(query)
            yield path, query


def _not_a_vector(response: http.Response) -> Optional[str]:
    """Return why a response cannot say something of single things, or None.

    :raises CallError: it is not a response of Prometheus.
    """
    body: Any = response.json()
    data = body.get("data") if isinstance(body, dict) else None
    kind = data.get("resultType") if isinstance(data, dict) else None
    if kind == "vector":
        return None
    if kind is None:
        return "the response is not one of Prometheus"
    return "it returns a %s, not a sample for each thing" % kind


def _alertmanager(env: Environment, source: Alertmanager) -> CheckEntry:
    path = alertmanager_api.alerts_path(source.filter, source.receiver)

    def get(connection: Connection, path: str) -> http.Response:
        return _get(env, connection, path)

    count, unsettled = 0, 0.0
    for connection in source.connections:
        try:
            entries, clock = alertmanager_api.list_alerts(get, connection, path, env.now())
            seconds = alertmanager_api.seconds_until_settled(
                get, connection, clock, source.settle_seconds
            )
        except InvalidInput as error:
            return check_entry("alertmanager", FAILED, str(error), error.hint)
        except CallError as error:
            details = sanitize_line(
                "%s: %s" % (connection.base_url, error.failure.message), env.redactor,
                MAX_DETAILS_CHARS,
            )
            hint = "Check url, token, filter and receiver of sensors.alertmanager"
            return check_entry("alertmanager", FAILED, details, hint)
        if seconds is None:
            details = "%s does not report when it was started" % connection.base_url
            hint = "Without that, no repair can be checked: is its /api/v2/status reachable?"
            return check_entry("alertmanager", FAILED, details, hint)
        count, unsettled = max(count, len(entries)), max(unsettled, seconds)
    details = "%s, %s" % (
        count_noun(len(source.connections), "member"), count_noun(count, "alert")
    )
    if unsettled > 0:
        details += "; just started, it may not know all alerts for another %d s" % unsettled
    return check_entry("alertmanager", OK, details)


def _runbooks(env: Environment, config: InfrastructureConfig) -> CheckEntry:
    try:
        problems = runbook_explanation.validate(env, runbook_explanation.CONFIG)
    except (InvalidInput, StackStormError) as error:
        hint = error.hint if isinstance(error, InvalidInput) else "See StackStorm's logs"
        return check_entry("runbooks", FAILED, str(error), hint)
    if not problems:
        count = count_noun(len(config.runbooks), "runbook")
        return check_entry("runbooks", OK, "%s, whose actions exist" % count)
    first = problems[0]
    details = "%s; %s" % (
        count_noun(len(problems), "problem"), runbook_explanation.describe_problem(first)
    )
    hint = first["hint"]
    if len(problems) > 1:
        hint += ". st2 run synthralos.runbook.validate lists the others"
    return check_entry("runbooks", FAILED, details, hint)


def _get(env: Environment, connection: Connection, path: str) -> http.Response:
    """Return the response of status 200.

    :raises CallError: there is none.
    """
    # A client of its own for each thread, as in self_check.
    client: Any = http.Client(env.credentials, env.now)
    seconds = min(TIMEOUT_SECONDS, connection.timeout)
    response: http.Response = client.request(connection, "GET", path, seconds)
    if response.status != 200:
        raise CallError(client.failure_of(response, "request"))
    return response
