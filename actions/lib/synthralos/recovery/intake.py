"""From a StackStorm execution to the parameters of a run.

Text never comes through a workflow: the first action of a workflow reads its parent's execution
here.
"""

import base64
import binascii
import re

from synthralos.names import is_name
from synthralos.refusals import Refused
from synthralos.seal import unseal
from synthralos.state import queries
from synthralos.state.datastore import PREFIX
from synthralos.telemetry import trace_context
from synthralos.times import seconds_of

FROM_CASE, FROM_TRIGGER, FROM_LAST = "@case", "@trigger", "@last"
ENCODED = "base64:"
FORMAT = 1
SWITCH = PREFIX + "enabled"
_OFF = ("false", "off", "no", "0")


def parameters_of(execution, store=None):
    """The parameters of `execution`: what the caller gave, over the defaults, text resolved.

    `@case` is replaced by what the parameter `case` holds, `@trigger` by what the trigger instance
    that started the run carries, `@last` by the agent's last query; an empty object or the failure
    type `unknown` likewise, when case or trigger has something to put there. `base64:...` is
    decoded, at every depth. A trace that the run is to join stands under `trace`.
    """
    declared = ((execution.get("action") or {}).get("parameters")) or {}
    parameters = {name: spec["default"] for name, spec in declared.items() if "default" in spec}
    # An execution holds only what was given: the key is missing when that was nothing.
    parameters.update(execution.get("parameters") or {})
    payload = (execution.get("trigger_instance") or {}).get("payload")
    return resolved(parameters, payload, store)


def is_off(execution, store):
    """Whether a rule started `execution` and the switch is off; people always may."""
    by_rule = execution.get("rule") or execution.get("trigger_instance")
    return bool(by_rule) and str(store.get(SWITCH)).strip().lower() in _OFF


def check_switch(execution, store):
    """Refused when the switch is off for `execution`."""
    if is_off(execution, store):
        raise Refused(
            SWITCH,
            "false",
            "runs that rules start are switched off",
            "Switch them on with `st2 key set %s true`" % SWITCH,
        )


def resolved(parameters, payload=None, store=None):
    """`parameters` with the constants and the encoded texts replaced. Refused where that fails."""
    content = _content(parameters.get("case"), store)
    handed = _handed(content)
    told = _told(payload)
    done = {}
    if isinstance(handed.get("rules"), dict):
        done["rules"] = handed["rules"]
    for name, value in parameters.items():
        if name == "case":
            continue
        blank = value == {} or (name == "failure_type" and value == "unknown")
        if value == FROM_CASE:
            done[name] = _from(name, value, handed, "Give `case`, or the text itself")
        elif value == FROM_TRIGGER:
            done[name] = _from(name, value, told, "Start the run from a rule whose trigger has it")
        elif value == FROM_LAST:
            agent = parameters.get("agent_id")
            known = {name: queries.last(store, agent)} if store and is_name(agent) else {}
            done[name] = _from(name, value, known, "Give the query: no earlier one is known")
        elif blank and (name in handed or name in told):
            done[name] = handed[name] if name in handed else told[name]
        else:
            # What a case or a trigger carries was never rendered, so nobody had to encode it.
            done[name] = decoded(name, value)
    trace = content.get("trace") or trace_context.given(done)
    return dict(done, trace=trace) if trace else done


def _from(name, value, source, way_out):
    if source.get(name) is None:
        raise Refused(name, value, "there is nothing to put there", way_out)
    return source[name]


def _content(case, store):
    """What the case of another workflow holds: {} without one."""
    if not case:
        return {}
    content = unseal(case, store)
    if not isinstance(content, dict):
        raise Refused(
            "case", case, "does not hold an object", "Pass on a case that another action returned"
        )
    return content


def _handed(content):
    request = content.get("request", content)
    return request if isinstance(request, dict) else {}


def _told(payload):
    if not isinstance(payload, dict):
        return {}
    body = payload.get("body")
    return body if isinstance(body, dict) else payload


def decoded(field, value):
    """`value` with every text `base64:<...>` in it replaced by what it encodes, as UTF-8."""
    if isinstance(value, str) and value.startswith(ENCODED):
        encoded = re.sub(r"\s", "", value[len(ENCODED):])
        try:
            return base64.b64decode(
                encoded.replace("-", "+").replace("_", "/"), validate=True
            ).decode("utf-8")
        except (binascii.Error, ValueError) as error:
            raise Refused(
                field, value, "is no base64 of UTF-8", "Encode the text, or give it plainly"
            ) from error
    if isinstance(value, dict):
        return {key: decoded("%s.%s" % (field, key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [decoded("%s[%d]" % (field, n), item) for n, item in enumerate(value)]
    return value


def started_at(execution, otherwise):
    """When the execution started, in seconds since the epoch."""
    started = seconds_of(execution.get("start_timestamp"))
    return otherwise if started is None else started


def text(name, value, least=1):
    """`value` when it is text of at least `least` characters that are not blank, else Refused."""
    if not isinstance(value, str) or len(value.strip()) < least:
        raise Refused(name, value, "is no text or blank", "Give it as text")
    return value


def mapping(name, value):
    """`value` when it is an object, {} for None, else Refused."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(name, value, "is not an object", "Give a JSON object")
    return value
