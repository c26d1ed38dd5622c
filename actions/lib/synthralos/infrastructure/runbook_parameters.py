"""The parameters of a runbook's action: which labels of an alert may become one, and which not.

Labels come from elsewhere. One is passed on only if

- it is the value of a whole parameter, which the step declares, and matches that parameter's
  pattern, or is in the step's own list; without either it must be a name without a slash, because
  actions make paths and URLs of names;
- it begins no template, because StackStorm renders the parameters of an execution;
- it is a node of the topology or in the step's own list, where the parameter says which host or
  address the action works on;
- it does not become a command line: no parameter that holds one takes a label, and an action that
  runs in a shell takes only names, or what the step lists;
- the action's own templates do not make it a part of an address or a command line.

If one of the labels is not accepted, nothing of the runbook is started.
"""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.core.sanitize import has_template_marks
from synthralos.infrastructure.parameter_names import holds_command, holds_host
from synthralos.infrastructure.parameter_templates import receivers_of
from synthralos.infrastructure.runbooks import (
    MAX_VALUE_CHARS,
    LabelParameter,
    Runbook,
    RunbookStep,
)
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.run_parameters import ENCODED

# Runners that hand parameters on as values. Others, such as local-shell-cmd, build a command line
# of them, or may do so.
VALUE_RUNNERS = frozenset(("python-script", "http-request", "orquesta", "action-chain"))
_SHELL_HINT = "Leave the pattern out or add one_of: only names and what one_of lists may reach it"


def resolve_parameters(
    step: RunbookStep, labels: Mapping[str, Any], topology: Topology
) -> dict[str, Any]:
    """Return the parameters of a step's action for an alert with these labels.

    :raises InvalidInput: a label is missing, or not accepted; the error names the parameter.
    """
    return {
        name: _label_value(step, name, value, labels, topology)
        if isinstance(value, LabelParameter) else value
        for name, value in step.parameters.items()
    }


def resolve_all(
    runbook: Runbook, labels: Mapping[str, Any], topology: Topology
) -> list[dict[str, Any]]:
    """Return the parameters of each step of a runbook.

    :raises InvalidInput: those of any step cannot be resolved; then none may be started.
    """
    return [resolve_parameters(step, labels, topology) for step in runbook.steps]


def _label_value(
    step: RunbookStep,
    name: str,
    parameter: LabelParameter,
    labels: Mapping[str, Any],
    topology: Topology,
) -> str:
    path = "%s.parameters.%s" % (step.name, name)
    value = labels.get(parameter.label)
    if not isinstance(value, str) or not value:
        hint = "Add the label to the alert, or use another one"
        raise InvalidInput(path, None, "the alert has no label %s" % parameter.label, hint)
    subject = "the label %s" % parameter.label
    if has_template_marks(value) or not value.isprintable():
        reason = subject + " holds a template or control characters"
        raise InvalidInput(path, value, reason, "StackStorm would evaluate it; it is not passed on")
    if value.startswith(ENCODED):
        reason = "%s begins with %s" % (subject, ENCODED)
        raise InvalidInput(path, value, reason, "An action would decode it; it is not passed on")
    is_host = parameter.is_host or holds_host(name)
    if parameter.pattern is not None:
        if len(value) > MAX_VALUE_CHARS or parameter.pattern.fullmatch(value) is None:
            reason = "%s does not match %s" % (subject, parameter.pattern.pattern)
            raise InvalidInput(path, value, reason, "Widen the pattern if the value is harmless")
    elif not parameter.one_of and not (is_name(value) and (is_host or "/" not in value)):
        hint = "Add a pattern or one_of that accepts it, if it is harmless"
        raise InvalidInput(path, value, subject + " is not a name", hint)
    if is_host:
        return _known_host(path, subject, value, parameter, topology)
    if parameter.one_of and value not in parameter.one_of:
        hint = "one_of lists " + ", ".join(parameter.one_of)
        raise InvalidInput(path, value, subject + " is not in one_of", hint)
    return value


def _known_host(
    path: str, subject: str, value: str, parameter: LabelParameter, topology: Topology
) -> str:
    """Return a host by the topology's name for it, which has no port where that is not known."""
    if value in parameter.one_of:
        return value
    host = str(topology.canonical_name(value))
    if not parameter.one_of and host in topology:
        return host
    if host in parameter.one_of:
        return host
    hint = "Add it to infrastructure.topology, or to one_of of this parameter"
    raise InvalidInput(path, value, subject + " is not a host that the runbook may act on", hint)


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
        hint = "Install its pack: st2 pack install %s" % str(step.action).partition(".")[0]
        return "action", "does not exist", hint
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
    if not isinstance(value, LabelParameter):
        return None
    if str(action.get("runner_type") or "") not in VALUE_RUNNERS and _may_be_any_text(value):
        reason = "has a pattern, but %s runs in a shell" % step.action
        return reason, _SHELL_HINT
    types = spec.get("type")
    if types is not None and "string" not in ([types] if isinstance(types, str) else types):
        reason = "takes no text, and the label %s is text" % value.label
        return reason, "Write the value in the step, or use another action"
    return None


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
