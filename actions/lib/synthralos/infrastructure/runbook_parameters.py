"""The parameters of a runbook's action: which labels of an alert may become one, and which not.

Labels come from elsewhere. One is passed on only if

- it is the value of a whole parameter, which the step declares, and matches that parameter's
  pattern, or is in the step's own list; without either it must be a name without a slash, because
  actions make paths and URLs of names;
- it begins no template, because StackStorm renders the parameters of an execution;
- it is a node of the topology or in the step's own list, where the parameter says which host or
  address the action works on;
- it does not become a command line: no parameter that holds one takes a label, and an action that
  runs in a shell takes only names, or what the step lists; see runbook_actions.

If one of the labels is not accepted, nothing of the runbook is started.
"""

from collections.abc import Mapping
from typing import Any

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.core.sanitize import has_template_marks
from synthralos.infrastructure.parameter_names import holds_host
from synthralos.infrastructure.runbooks import (
    MAX_VALUE_CHARS,
    LabelParameter,
    Runbook,
    RunbookStep,
)
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.run_parameters import ENCODED


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


def hosts_of(step: RunbookStep, parameters: Mapping[str, Any], topology: Topology) -> list[str]:
    """Return the hosts that a step works on, by its parameters: those that a label names, and the
    nodes of the topology that the step itself names.

    The alert may be about something else, such as a web site whose certificate a host renews.

    :param parameters: as `resolve_parameters` returns them.
    """
    hosts: list[str] = []
    for name, value in step.parameters.items():
        is_label = isinstance(value, LabelParameter)
        if not isinstance(parameters[name], str) or not (
            holds_host(name) or (is_label and value.is_host)
        ):
            continue
        for part in parameters[name].split(","):
            host = str(topology.canonical_name(part.strip()))
            if is_label or host in topology:
                hosts.append(host)
    return sorted(set(hosts))


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
