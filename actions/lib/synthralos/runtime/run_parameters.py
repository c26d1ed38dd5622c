"""From a StackStorm execution to the parameters of a run.

Text never comes through a workflow: the first action of a workflow reads its parent's execution
here.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Optional, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.core.sealing import unseal
from synthralos.core.timestamps import parse_iso
from synthralos.storage import last_queries
from synthralos.storage.datastore import PREFIX, BestEffortDatastore
from synthralos.telemetry import trace_context

FROM_CASE, FROM_TRIGGER, FROM_LAST = "@case", "@trigger", "@last"
ENCODED = "base64:"
FORMAT_VERSION = 1
ENABLED_KEY = PREFIX + "enabled"
_OFF = ("false", "off", "no", "0")


class RedriveMark(TypedDict):
    """What a run that recovery.redrive has started knows of that.

    `run` is the execution id of the redrive.
    """

    run: str


def read_parameters(
    execution: Mapping[str, Any], store: Optional[BestEffortDatastore] = None
) -> dict[str, Any]:
    """The parameters of `execution`: what the caller gave, over the defaults, text resolved.

    `@case` is replaced by what the parameter `case` holds, `@trigger` by what the trigger instance
    that started the run carries, `@last` by the agent's last query; an empty object or the failure
    type `unknown` likewise, when case or trigger has something to put there. `base64:...` is
    decoded, at every depth. A trace that the run is to join stands under `trace`, the execution
    that it runs again under `rerun_of`, and the RedriveMark of one that is redriven under
    `redrive`.
    """
    declared = ((execution.get("action") or {}).get("parameters")) or {}
    parameters = {name: spec["default"] for name, spec in declared.items() if "default" in spec}
    # An execution holds only what was given: the key is missing when that was nothing.
    parameters.update(execution.get("parameters") or {})
    payload = (execution.get("trigger_instance") or {}).get("payload")
    resolved = resolve_placeholders(parameters, payload, store)
    origin = origin_of(execution)
    return dict(resolved, rerun_of=origin) if origin else resolved


def origin_of(execution: Optional[Mapping[str, Any]]) -> Optional[str]:
    """Return the execution that `execution`, or its `context` alone, runs again, or None."""
    context = (execution or {}).get("context")
    rerun = context.get("re-run") if isinstance(context, dict) else None
    origin = rerun.get("ref") if isinstance(rerun, dict) else None
    return origin if isinstance(origin, str) and origin else None


def is_disabled_for(execution: Mapping[str, Any], store: BestEffortDatastore) -> bool:
    """Whether a rule started `execution` and the switch is off; people always may."""
    by_rule = execution.get("rule") or execution.get("trigger_instance")
    return bool(by_rule) and is_switched_off(store)


def is_switched_off(store: BestEffortDatastore) -> bool:
    """Whether rules may start nothing at all."""
    return str(store.get(ENABLED_KEY)).strip().lower() in _OFF


def require_enabled(execution: Mapping[str, Any], store: BestEffortDatastore) -> None:
    """InvalidInput when the switch is off for `execution`."""
    if is_disabled_for(execution, store):
        raise InvalidInput(
            ENABLED_KEY,
            "false",
            "runs that rules start are switched off",
            "Switch them on with `st2 key set %s true`" % ENABLED_KEY,
        )


def resolve_placeholders(
    parameters: Mapping[str, Any],
    payload: object = None,
    store: Optional[BestEffortDatastore] = None,
) -> dict[str, Any]:
    """`parameters` with the placeholders and the encoded texts replaced.

    :raises InvalidInput: a placeholder has no value, or a text is not base64 of UTF-8.
    """
    content = _open_case(parameters.get("case"), store)
    case_request = _case_request(content)
    payload_fields = _payload_body(payload)
    resolved: dict[str, Any] = {}
    if isinstance(case_request.get("rules"), dict):
        resolved["rules"] = case_request["rules"]
    for name, value in parameters.items():
        if name == "case":
            continue
        is_blank = value == {} or (name == "failure_type" and value == "unknown")
        if value == FROM_CASE:
            resolved[name] = _require_source(
                name, value, case_request, "Give `case`, or the text itself"
            )
        elif value == FROM_TRIGGER:
            resolved[name] = _require_source(
                name, value, payload_fields, "Start the run from a rule whose trigger has it"
            )
        elif value == FROM_LAST:
            agent = parameters.get("agent_id")
            last_query = (
                {name: last_queries.last_query(store, str(agent))}
                if store and is_name(agent)
                else {}
            )
            resolved[name] = _require_source(
                name, value, last_query, "Give the query: no earlier query is known for this agent"
            )
        elif is_blank and (name in case_request or name in payload_fields):
            resolved[name] = case_request[name] if name in case_request else payload_fields[name]
        else:
            # What a case or a trigger carries was never rendered, so nobody had to encode it.
            resolved[name] = decode_base64(name, value)
    trace = content.get("trace") or trace_context.extract_from_parameters(resolved)
    if trace:
        resolved["trace"] = trace
    if _is_redrive_mark(content.get("redrive")):
        resolved["redrive"] = content["redrive"]
    return resolved


def _is_redrive_mark(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("run"), str)


def _require_source(name: str, value: Any, source: Mapping[str, Any], hint: str) -> Any:
    if source.get(name) is None:
        raise InvalidInput(name, value, "cannot be resolved", hint)
    return source[name]


def _open_case(case: Any, store: Optional[BestEffortDatastore]) -> dict[str, Any]:
    """What the case of another workflow holds: {} without one."""
    if not case:
        return {}
    content = unseal(case, store)
    if not isinstance(content, dict):
        raise InvalidInput(
            "case", case, "does not hold an object", "Pass on a case that another action returned"
        )
    return content


def _case_request(content: dict[str, Any]) -> dict[str, Any]:
    request = content.get("request", content)
    return request if isinstance(request, dict) else {}


def _payload_body(payload: object) -> dict[str, Any]:
    if not isinstance(payload, dict):
        return {}
    body = payload.get("body")
    return body if isinstance(body, dict) else payload


def decode_base64(field: str, value: Any) -> Any:
    """`value` with every text `base64:<...>` in it replaced by what it encodes, as UTF-8."""
    if isinstance(value, str) and value.startswith(ENCODED):
        encoded = re.sub(r"\s", "", value[len(ENCODED):])
        try:
            return base64.b64decode(
                encoded.replace("-", "+").replace("_", "/"), validate=True
            ).decode("utf-8")
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(
                field, value, "is not base64 of UTF-8", "Encode the text, or give it plainly"
            ) from error
    if isinstance(value, dict):
        return {key: decode_base64("%s.%s" % (field, key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode_base64("%s[%d]" % (field, index), item) for index, item in enumerate(value)]
    return value


def start_time(execution: Mapping[str, Any], default: float) -> float:
    """When the execution started, in seconds since the epoch."""
    started = parse_iso(execution.get("start_timestamp"))
    return default if started is None else started


def require_text(name: str, value: object, min_chars: int = 1) -> str:
    """Return `value`.

    :raises InvalidInput: it is not text, or has fewer than `min_chars` characters without the
        white space around it.
    """
    if not isinstance(value, str) or len(value.strip()) < min_chars:
        raise InvalidInput(name, value, "is blank or not text", "Give it as text")
    return value


def require_object(name: str, value: object) -> dict[str, Any]:
    """`value` when it is an object, {} for None, else InvalidInput."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(name, value, "is not an object", "Give a JSON object")
    return value
