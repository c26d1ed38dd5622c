"""Whether an action can be run as a step of a runbook, by the metadata that StackStorm has of it.

The action must exist, be enabled, accept the parameters of the step and get those that it requires.
Labels must not reach a shell, unless they are names or what the step lists, and the templates in
the defaults of the action must not make them a part of an address or a command line.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from synthralos.infrastructure.parameter_names import holds_command, holds_host
from synthralos.infrastructure.parameter_templates import has_templates, receivers_of
from synthralos.infrastructure.runbooks import LabelParameter, RunbookStep

# Runners that hand parameters on as values. Others, such as local-shell-cmd, build a command line
# of them, or may do so.
VALUE_RUNNERS = frozenset(("python-script", "http-request", "orquesta", "action-chain"))
# The Python types of a JSON value, but for boolean; and the texts that StackStorm makes one of.
_TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": (int, float), "object": dict, "array": list,
}
_TEXT_FORMS = {
    "integer": re.compile(r"\s*[+-]?[0-9]+\s*\Z"),
    "number": re.compile(r"\s*[+-]?[0-9.]+([eE][+-]?[0-9]+)?\s*\Z"),
    "boolean": re.compile(r"(?i)(true|false)\Z"),
    "object": re.compile(r"\s*\{"),
    "array": re.compile(r"\s*\["),
}
_SHELL_HINT = "Leave the pattern out or add one_of: only names and what one_of lists may reach it"


def action_problem(
    step: RunbookStep,
    action: Optional[Mapping[str, Any]],
    runner_parameters: Optional[Mapping[str, Any]] = None,
) -> Optional[tuple[str, str, str]]:
    """Return why an action cannot be run as this step, or None.

    :param action: its metadata as StackStorm's API returns it, or None if it does not exist.
    :param runner_parameters: those that its runner declares, by name; None if they are not known:
        then parameters that the action does not declare are accepted.
    :returns: (field, reason, hint).
    """
    if action is None:
        pack = str(step.action).partition(".")[0]
        hint = "Compare st2 action list --pack %s, or install it: st2 pack install %s"
        return "action", "does not exist", hint % (pack, pack)
    if action.get("enabled") is False:
        return "action", "is disabled", "st2 action enable %s" % step.action
    specs = _specs(action, runner_parameters)
    for name, value in step.parameters.items():
        problem = _parameter_problem(step, name, value, action, specs.get(name))
        if problem is None and name not in specs and runner_parameters is not None:
            names = ", ".join(sorted(specs)) or "none"
            problem = "is not a parameter of the action", "It has: " + names
        if problem is not None:
            return ("parameters." + name,) + problem
    problem_of_template = _template_problem(step, specs)
    if problem_of_template is not None:
        return problem_of_template
    for name, spec in specs.items():
        if spec.get("required") and name not in step.parameters and spec.get("default") is None:
            return "parameters." + name, "is required by the action", "Add it to the step"
    return None


def runner_parameters_of(
    api: Any, action: Optional[Mapping[str, Any]]
) -> Optional[Mapping[str, Any]]:
    """Return the parameters that the runner of an action declares, or None if nobody knows."""
    runner = None if action is None else action.get("runner_type")
    declared: Optional[Mapping[str, Any]] = None
    if runner is not None:
        declared = api.runner_parameters(runner)
    return declared


def _specs(
    action: Mapping[str, Any], runner_parameters: Optional[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the schemas of all parameters by name: the runner's, overridden by the action's."""
    specs: dict[str, dict[str, Any]] = {}
    for declared in (runner_parameters, action.get("parameters")):
        for name, spec in (declared.items() if isinstance(declared, Mapping) else ()):
            specs[name] = dict(specs.get(name, {}), **(spec if isinstance(spec, Mapping) else {}))
    return specs


def _parameter_problem(
    step: RunbookStep,
    name: str,
    value: Any,
    action: Mapping[str, Any],
    spec: Optional[Mapping[str, Any]],
) -> Optional[tuple[str, str]]:
    spec = spec or {}
    if spec.get("immutable"):
        return "is immutable", "Leave it out"
    types = spec.get("type")
    types = [types] if isinstance(types, str) else types or []
    if not isinstance(value, LabelParameter):
        return _value_problem(value, types, spec.get("enum"))
    if str(action.get("runner_type") or "") not in VALUE_RUNNERS and _may_be_any_text(value):
        reason = "has a pattern, but %s runs in a shell" % step.action
        return reason, _SHELL_HINT
    if types and "string" not in types:
        reason = "takes no text, and the label %s is text" % value.label
        return reason, "Write the value in the step, or use another action"
    return None


def _value_problem(value: Any, types: Sequence[str], enum: Any) -> Optional[tuple[str, str]]:
    """Return why a parameter cannot have a value, or None; what StackStorm converts is accepted."""
    if value is None or has_templates(value):
        return None
    if types and not any(_is_of_type(value, kind) for kind in types):
        hint = "Write it in quotes" if types == ["string"] else "See st2 action get"
        return "must be of the type %s" % " or ".join(types), hint
    if isinstance(enum, list) and value not in enum:
        return "is not a value that the action accepts", "Use one of " + ", ".join(map(str, enum))
    return None


def _is_of_type(value: Any, kind: str) -> bool:
    if isinstance(value, str):
        return kind == "string" or (kind in _TEXT_FORMS and bool(_TEXT_FORMS[kind].match(value)))
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, object)) and kind != "boolean"


def _may_be_any_text(value: LabelParameter) -> bool:
    return value.pattern is not None and not value.one_of


def _template_problem(
    step: RunbookStep, specs: Mapping[str, Mapping[str, Any]]
) -> Optional[tuple[str, str, str]]:
    """Return why the templates of an action must not be rendered with the labels, or None."""
    values = {
        name: value for name, value in step.parameters.items()
        if not isinstance(value, LabelParameter)
    }
    for name, spec in specs.items():
        if name not in step.parameters:
            values[name] = spec.get("default")
    for name, parameter in step.parameters.items():
        if not isinstance(parameter, LabelParameter):
            continue
        is_host = parameter.is_host or holds_host(name) or parameter.one_of
        for receiver in sorted(receivers_of(name, values)):
            field = "parameters." + name
            reason = "becomes a part of %s, by a template of %s" % (receiver, step.action)
            if holds_host(receiver) and not is_host:
                return field, reason, "Add host: true or one_of, as it decides on the address"
            if holds_command(receiver) and _may_be_any_text(parameter):
                return field, reason, _SHELL_HINT
            if receiver in step.parameters:
                return "parameters." + receiver, "is a template with a label", (
                    "Write the value in the step: a label is never a part of a text")
    return None
