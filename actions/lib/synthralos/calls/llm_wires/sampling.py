"""The plain parameters of a request: those whose value is sent as it is, if the model takes it."""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.calls.llm_wires import reasoning
from synthralos.calls.llm_wires.chat_parameters import TOKEN_LIMITS
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.model_traits import ModelTraits
from synthralos.calls.llm_wires.wire import WireRequest

# What each wire translates in its own way.
_STRUCTURAL = frozenset(TOKEN_LIMITS) | {
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort",
    "thinking", "stop",
}
_NO_FIELD = "the API has no such field"
_REFUSED = "the model does not take it"


def select(
    request: ChatRequest,
    traits: ModelTraits,
    names: Mapping[str, str],
    wire_request: WireRequest,
    elsewhere: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return {name at the API: value} of the parameters that API and model take.

    The others are added to `adapted`.

    :param names: {name: name at the API}.
    :param elsewhere: names that the caller translates itself.
    """
    requested = reasoning.requested(request)
    effort = requested.effort if requested else None
    values: dict[str, Any] = {}
    for name, value in request.parameters.items():
        if name in _STRUCTURAL or name in elsewhere:
            continue
        if name not in names:
            wire_request.leave_out(name, _NO_FIELD)
        elif traits.refused(name, effort):
            wire_request.leave_out(name, _REFUSED)
        else:
            values[name] = value
    if traits.exclusive_sampling and "temperature" in values and "top_p" in values:
        del values["top_p"]
        wire_request.leave_out("top_p", "the model takes it without temperature only")
    if "temperature" in values:
        values["temperature"] = _temperature(values["temperature"], traits, wire_request)
    return {names[name]: value for name, value in values.items()}


def _temperature(value: float, traits: ModelTraits, wire_request: WireRequest) -> float:
    maximum = traits.max_temperature
    if maximum is None or value <= maximum:
        return value
    wire_request.send_as("temperature", "%g" % maximum, "the model takes at most %g" % maximum)
    return maximum


def stops(
    request: ChatRequest,
    traits: ModelTraits,
    wire_request: WireRequest,
    maximum: Optional[int] = None,
    needs_words: bool = True,
) -> list[str]:
    """Return the texts at which the answer ends, as many as the API takes.

    :param needs_words: whether the API refuses texts of white space only.
    """
    if not request.stops:
        return []
    wire = traits.refused("stop", None)
    if wire:
        wire_request.leave_out("stop", _REFUSED)
        return []
    usable = [stop for stop in request.stops if (stop.strip() if needs_words else stop)]
    if len(usable) < len(request.stops):
        wire_request.leave_out("stop", "blank texts are not accepted")
    if maximum is not None and len(usable) > maximum:
        wire_request.leave_out("stop", "only the first %d of %d texts are accepted" % (
            maximum, len(usable)))
        usable = usable[:maximum]
    return usable
