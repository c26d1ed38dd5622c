"""The agent platform's API: run an agent, replay an execution, report a failure."""

import re
import sys
from typing import Any, Optional
from urllib.parse import quote, unquote

from synthralos.calls import idempotency, limit_messages, span_attributes
from synthralos.calls.http import CallError
from synthralos.calls.relations import Target
from synthralos.core import bounded_json, evidence, failures, json_extract
from synthralos.core.errors import InvalidInput

# Keywords of a JSON schema: those with schemas under names chosen by callers, and those with data.
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "definitions", "dependencies")
_DATA = ("enum", "default")


def target(platform):
    return "platform:" + platform.name


def as_target(platform, unsafe_to_repeat=False):
    """Return the platform as a Target that a round may call."""
    return Target.over(
        platform.connection, target(platform), "platform", platform,
        unsafe_to_repeat=unsafe_to_repeat,
    )


def execute_path(platform, agent, agent_id):
    """Return the path that runs the agent: its own, else the platform's, with its `{agent_id}`."""
    path = (agent.execute_path if agent else None) or platform.execute_path
    return path.replace("{agent_id}", quote(agent_id, safe=""))


def run_agent(client, platform, request, seconds, run, schema=None):
    """Run an agent once.

    :param request: {path, query, agent_type, config, replay_of, agent_id}; `replay_of` is the
        platform's execution id to replay instead, or None.
    :param schema: a JSON schema that the output must match, or None.
    :returns: {output, execution_id, metadata, latency_ms}; `output` as `accept_output` returns it.
    :raises CallError: the platform or the agent failed, or its output is blank or does not match.
    """
    with span_attributes.invoke_agent(platform, request.get("agent_id")):
        return _run_agent(client, platform, request, seconds, run, schema)


def _run_agent(client, platform, request, seconds, run, schema):
    response, body = (_replay if request.get("replay_of") else _execute)(
        client, platform, request, seconds, run
    )
    if body.get("status") not in (None, "completed"):
        message = "the agent ended as %s" % body.get("status")
        raise CallError(failures.make_failure("agent_failed", message, response.status))
    output, problem = accept_output(body.get("output", body.get("results")), schema)
    if problem is not None:
        raise CallError(problem)
    return {
        "output": output,
        "execution_id": body.get("executionId"),
        "metadata": body.get("metadata") if isinstance(body.get("metadata"), dict) else {},
        "latency_ms": int(response.latency * 1000),
    }


def _execute(client, platform, request, seconds, run):
    body = {
        "query": request["query"],
        "agentType": request["agent_type"],
        "config": request["config"],
    }
    return _post(client, platform, request["path"], seconds, run, body)


def _replay(client, platform, request, seconds, run):
    """Replay an execution and read its result, which the reply to the replay does not contain."""
    path = platform.replay_path.replace("{execution_id}", quote(request["replay_of"], safe=""))
    response, body = _post(client, platform, path, seconds, run, {})
    execution_id = body.get("executionId")
    if not isinstance(execution_id, str):
        raise CallError(_malformed(response))
    path = platform.execution_path.replace("{execution_id}", quote(execution_id, safe=""))
    response = client.request(
        platform.connection, "GET", path, max(0.1, seconds - response.latency)
    )
    return response, dict(_parse_response(client, response), executionId=execution_id)


def _post(client, platform, path, seconds, run, body):
    model = body.get("config", {}).get("model")
    headers = {idempotency.HEADER: idempotency.key(run, "POST", path, body, model)}
    response = client.request(
        platform.connection, "POST", path, seconds, body=body, headers=headers
    )
    return response, _parse_response(client, response)


def _parse_response(client, response):
    """Return the JSON object of the platform's response.

    :raises CallError: the platform or the agent failed.
    """
    try:
        body = bounded_json.loads(response.text)
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else None
    has_failed = body is not None and (
        body.get("status") == "failed" or
        (response.status < 300 and "status" not in body and evidence.is_error_body(body))
    )
    if has_failed:
        # The platform responded; the agent failed, which does not count for the platform's breaker.
        raise CallError(_agent_failure(response.status, body))
    if not 200 <= response.status < 300:
        raise CallError(client.failure_of(response, "agent"))
    if body is None:
        raise CallError(_malformed(response))
    return body


def _malformed(response):
    message = "the platform's response is not a JSON object"
    return failures.make_failure("malformed_answer", message, response.status)


def accept_output(
    output: Any, schema: Optional[dict[str, Any]] = None
) -> tuple[Any, Optional[failures.Failure]]:
    """Return (the output to hand on, None), or (None, the Failure of an output that is not good).

    An output is handed on as it came, except for JSON in reasoning tags, a fence or words, which
    is handed on parsed. An output is only searched for JSON if there is a schema, and never for
    the words of a failure: only one that is a framework's message and nothing else is a failure.
    """
    if output is None or (isinstance(output, str) and not output.strip()):
        return None, failures.make_failure("blank_output", "the agent's output is blank", 200)
    if limit_messages.is_limit_message(output):
        message = "the agent ran into a limit: %s" % " ".join(output.split())
        return None, failures.make_failure("infinite_loop", message, 200)
    if schema is None:
        return output, None
    value, mismatch = match_schema(output, schema)
    if mismatch is not None:
        return None, failures.make_failure("schema_mismatch", mismatch, 200)
    is_as_it_came = not isinstance(output, str) or json_extract.is_json(output)
    return (output if is_as_it_came else value), None


def match_schema(
    output: Any, schema: dict[str, Any], prefer_json: bool = False
) -> tuple[Any, Optional[str]]:
    """Return (the value of an output that matches the schema, None), or (None, the mismatch).

    That is the output itself, or the last value of the JSON in a text that matches.

    :param prefer_json: whether JSON in a text takes precedence over the text itself.
    """
    values = json_extract.find_values(output) if isinstance(output, str) else []
    candidates = values[::-1] + [output] if prefer_json else [output] + values[::-1]
    for value in candidates:
        if _schema_error(value, schema) is None:
            return value, None
    return None, _schema_error(values[-1] if values else output, schema)


def require_valid_schema(schema, field="context.expected_schema"):
    """Raise InvalidInput if `schema` is not a JSON schema, or refers to anything outside itself."""
    import jsonschema

    if not isinstance(schema, dict):
        raise InvalidInput(field, schema, "is not an object", "Give a JSON schema of draft 4")
    for ref in _values_of("$ref", schema):
        # jsonschema would fetch it from any address that the caller chose.
        if not _resolves(ref, schema):
            raise InvalidInput(
                field, ref, "does not refer to a part of the schema", "Use #/definitions/..."
            )
    try:
        jsonschema.Draft4Validator.check_schema(schema)
        for pattern in _values_of("pattern", schema):
            re.compile(pattern)
    except (jsonschema.SchemaError, re.error, TypeError) as error:
        error_message = getattr(error, "message", str(error))
        reason = "is not a JSON schema (%s)" % error_message
        raise InvalidInput(field, schema, reason, "Give one of draft 4") from error


def _values_of(name, schema):
    """Return every text under the key `name` in a schema, at any depth."""
    values, level = [], [schema]
    while level:
        item = level.pop()
        if isinstance(item, dict):
            if isinstance(item.get(name), str):
                values.append(item[name])
            level.extend(item.values())
        elif isinstance(item, list):
            level.extend(item)
    return values


def _resolves(ref, schema):
    if ref == "#":
        return True
    if not ref.startswith("#/"):
        return False
    node = schema
    for part in ref[2:].split("/"):
        part = unquote(part).replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return isinstance(node, dict)


def _without_ids(schema):
    """Return `schema` without the `id` of any part of it.

    An `id` changes the base of `#/definitions/...`: jsonschema would fetch them from there.
    """
    if isinstance(schema, list):
        return [_without_ids(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned = {}
    for key, value in schema.items():
        if key in _SCHEMAS_BY_NAME and isinstance(value, dict):
            cleaned[key] = {name: _without_ids(subschema) for name, subschema in value.items()}
        elif key in _DATA:
            cleaned[key] = value
        elif key != "id" or not isinstance(value, str):
            cleaned[key] = _without_ids(value)
    return cleaned


def _schema_error(value, schema):
    """Return how `value` violates the schema, or None."""
    import jsonschema

    try:
        checker = jsonschema.Draft4Validator(_without_ids(schema))
        errors = list(checker.iter_errors(value))
    except (RecursionError, *_reference_errors()):
        return "the schema refers to itself endlessly"
    if not errors:
        return None
    first = min(errors, key=lambda error: list(map(str, error.path)))
    path = "/".join(str(part) for part in first.path) or "the output"
    return "%s: %s" % (path, first.message)


def _reference_errors() -> list[type[Exception]]:
    """The exceptions by which jsonschema says that it cannot follow a reference.

    Up to 4.17 it is one of its own. Since 4.18 that is deprecated and to be removed, and what it
    raises is one of the package `referencing` as well.
    """
    import jsonschema

    errors = []
    # Not by its name: since 4.18 that only warns, or fails.
    if "RefResolutionError" in vars(jsonschema):
        errors.append(vars(jsonschema)["RefResolutionError"])
    # Where jsonschema uses it, it has imported it.
    referencing = sys.modules.get("referencing.exceptions")
    if referencing is not None:
        errors.append(referencing.Unresolvable)
    return errors


def notify(client, platform, payload, seconds):
    """Post a failure record to the platform's webhook.

    :raises CallError: it was not accepted.
    """
    response = client.request(
        platform.connection, "POST", platform.failure_webhook, seconds, body=payload
    )
    if not 200 <= response.status < 300:
        raise CallError(client.failure_of(response, "agent"))


def _agent_failure(status, body):
    clues = evidence.read(body.get("error"))
    message = clues.message or "the agent failed"
    failure = failures.make_failure("agent_failed", message, status)
    reported_cause = failures.cause_of(clues)
    if reported_cause is None:
        return failure
    return failures.with_evidence(failure, spoken_cause=reported_cause)
