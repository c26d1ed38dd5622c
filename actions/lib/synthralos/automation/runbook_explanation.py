"""What the runbooks would do: the list of them, their problems, and what an alert would start."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from synthralos.automation import alert_reports, alert_triage, modes, outcomes
from synthralos.automation.alert_incidents import AGENT, INFRASTRUCTURE
from synthralos.automation.alert_reports import AlertContext, Report
from synthralos.automation.config import AutomationConfig
from synthralos.core.errors import InvalidInput, shorten_repr
from synthralos.core.sanitize import sanitize_line, sanitize_value
from synthralos.infrastructure import detection, runbook_actions, runbook_steps
from synthralos.infrastructure.config import Crew, InfrastructureConfig, load_config
from synthralos.infrastructure.runbook_steps import NodeStep
from synthralos.infrastructure.runbooks import (
    InvalidRunbook,
    LabelParameter,
    Runbook,
    RunbookStep,
    find_runbook,
    parse_runbooks,
    read_runbooks,
)
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_payloads
from synthralos.storage.stackstorm_api import StackStormError

CONFIG, EXAMPLES = SOURCES = ("config", "examples")
EXAMPLE_FOLDER = Path(__file__).parents[4] / "examples" / "runbooks"
MAX_TEXT_CHARS = 300
_NOTHING = "nothing is started"


def load_runbooks(env: Environment, source: str = CONFIG) -> InfrastructureConfig:
    """Return the configuration with the runbooks of `source`.

    The examples may run every action that they name, so that they can be looked at before any is
    allowed.

    :raises InvalidInput: the configuration, or an example, is invalid.
    """
    config: InfrastructureConfig = load_config(env)
    if source == CONFIG:
        return config
    if source != EXAMPLES:
        hint = "Use one of " + ", ".join(SOURCES)
        raise InvalidInput("source", source, "is not a source of runbooks", hint)
    return replace(config, runbooks=load_examples())


def load_examples() -> tuple[Runbook, ...]:
    """Return the runbooks in examples/runbooks, by the names of their files."""
    import yaml

    runbooks: list[Runbook] = []
    for path in sorted(EXAMPLE_FOLDER.glob("*.yaml")):
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
        steps = entry.get("steps") or []
        actions = [step["action"] for step in steps if "action" in step]
        crews = [step["crew"] for step in steps if "crew" in step]
        runbooks += parse_runbooks([entry], actions, crews, "examples.%s" % path.stem)
    return tuple(runbooks)


def list_runbooks(env: Environment, source: str) -> list[dict[str, Any]]:
    """Return [{name, description, match, mode, steps}] of all runbooks, in order."""
    return [describe_runbook(env, runbook) for runbook in load_runbooks(env, source).runbooks]


def describe_runbook(env: Environment, runbook: Runbook) -> dict[str, Any]:
    """Return a runbook as a JSON value without secrets and templates."""
    return {
        "name": runbook.name,
        "description": _line(env, runbook.description),
        "match": {
            condition.label: _line(env, condition) for condition in runbook.match
        },
        "mode": runbook.mode,
        "steps": [_describe_step(env, step) for step in runbook.steps],
    }


def _describe_step(env: Environment, step: RunbookStep) -> dict[str, Any]:
    described = {
        "name": step.name,
        "action": step.action,
        "crew": step.crew,
        "parameters": _values(
            env, {name: _describe_parameter(value) for name, value in step.parameters.items()}
        ),
        "approval": step.approval,
        "seconds": step.seconds,
        "retries": step.retries,
        "check": None if step.check is None else _line(env, step.check),
        "settle_seconds": step.settle_seconds,
    }
    if step.crew is not None:
        for name in ("action", "parameters", "approval", "seconds", "retries"):
            del described[name]
    return {name: value for name, value in described.items() if value is not None}


def _describe_parameter(value: Any) -> Any:
    if not isinstance(value, LabelParameter):
        return value
    text = "label %s" % value.label
    if value.pattern is not None:
        text += " that matches %s" % value.pattern.pattern
    if value.one_of:
        text += ", one of %s" % ", ".join(value.one_of)
    return text + (", a host of the topology" if value.is_host and not value.one_of else "")


def validate(
    env: Environment, source: str, name: Optional[str] = None
) -> list[dict[str, Any]]:
    """Return [{runbook, step, field, value, reason, hint}] of the problems of the runbooks.

    An action must exist and be enabled, accept the parameters of the step and get those that it
    requires, and a check needs a Prometheus. Where runbooks of the configuration are invalid, the
    problems are theirs alone: nothing runs before they are mended.

    :param name: of the only runbook to validate, or None for all.
    :raises InvalidInput: another entry of the configuration is invalid, or there is no runbook of
        this name.
    :raises StackStormError: StackStorm's API is unavailable.
    """
    try:
        config = load_runbooks(env, source)
    except InvalidRunbook:
        return [
            _problem(env, invalid.runbook, invalid.step, invalid.error)
            for invalid in _invalid_runbooks(env)
        ]
    return [
        _problem(env, runbook.name, step.name, error)
        for runbook in select(config, name)
        for step in runbook.steps
        for error in _step_errors(env, config, step)
    ]


def describe_problem(problem: Mapping[str, Any]) -> str:
    """Return an entry of `validate` as a text, without its hint."""
    names = "/".join(filter(None, (problem["runbook"], problem["step"])))
    value = "" if problem["value"] is None else " %s" % problem["value"]
    return "%s: %s%s %s" % (names, problem["field"], value, problem["reason"])


def _problem(env: Environment, runbook: str, step: str, error: InvalidInput) -> dict[str, Any]:
    return {
        "runbook": _line(env, runbook),
        "step": step,
        "field": _line(env, error.field),
        "value": None if error.value is None else _line(env, shorten_repr(error.value)),
        "reason": _line(env, error.reason),
        "hint": _line(env, error.hint),
    }


def _invalid_runbooks(env: Environment) -> list[InvalidRunbook]:
    """Return what is wrong with the runbooks of a configuration that is valid otherwise."""
    entry = env.settings.infrastructure
    config = InfrastructureConfig.from_config(dict(entry, runbooks=[]))
    crews = [crew.name for crew in config.crews]
    return read_runbooks(entry["runbooks"], config.allowed_actions, crews)[1]


def select(config: InfrastructureConfig, name: Optional[str]) -> tuple[Runbook, ...]:
    """Return the runbook of this name, or all runbooks if it is None.

    :raises InvalidInput: there is no runbook of this name.
    """
    if name is None:
        return config.runbooks
    chosen = tuple(runbook for runbook in config.runbooks if runbook.name == name)
    if not chosen:
        names = ", ".join(runbook.name for runbook in config.runbooks) or "none"
        raise InvalidInput("runbook", name, "does not exist", "There are: " + names)
    return chosen


def _step_errors(
    env: Environment, config: InfrastructureConfig, step: RunbookStep
) -> Iterator[InvalidInput]:
    if step.check is not None and config.prometheus is None:
        hint = "Set infrastructure.prometheus.base_url"
        yield InvalidInput("check", step.check, "needs a Prometheus", hint)
    if step.action is None:
        return
    api: Any = env.api
    if api is None:
        raise StackStormError("there is no StackStorm API to look up %s" % step.action)
    action = api.action(step.action)
    problem = runbook_actions.action_problem(
        step, action, runbook_actions.runner_parameters_of(api, action)
    )
    if problem is not None:
        field, reason, hint = problem
        value: Any = step.action
        if field != "action":
            name = field.partition(".")[2]
            described = {name: _describe_parameter(step.parameters.get(name))}
            value = env.redactor.redact_value(described)[name]
        yield InvalidInput(field, value, reason, hint)


def explain(
    env: Environment, automation: AutomationConfig, alert: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Return what an alert is about and what it would start, without starting anything.

    :param alert: as Alertmanager or Grafana sends it, {labels, ...}; a group has several.
    :returns: {alerts: [{alertname, subject, verdict, reason, mode, runbook, steps, problem,
        others}]}. `verdict` is "failure", or the outcome of an alert that is no failure, with its
        `reason`; `mode` is the mode of automation in force for it, null for no failure; `steps` are
        those of the runbook with the parameters that their actions would get; `problem` says why
        something is not started, or null; `others` says of each other runbook why it does not
        match.
    :raises InvalidInput: it is no alert, or the configuration is invalid.
    """
    context = AlertContext(env, automation, load_runbooks(env, source))
    topology = Topology.load(env, context.infrastructure)
    alerts = alert_reports.parse_alerts(dict(alert), env.now())
    if not alerts:
        raise InvalidInput("alert", None, "contains no alert", "Give {labels: {...}}")
    return {"alerts": [_explain_one(context, topology, item) for item in alerts]}


def _explain_one(
    context: AlertContext, topology: Topology, alert: alert_payloads.AlertPayload
) -> dict[str, Any]:
    env, automation, config = context.env, context.automation, context.infrastructure
    report = alert_reports.report_of(context, alert)
    verdict = alert_triage.judge(alert, automation.always_firing)
    explanation: dict[str, Any] = {
        "alertname": _line(env, alert["alertname"]),
        "subject": report.subject,
        "verdict": "failure" if verdict is None else verdict.outcome,
        "reason": None if verdict is None else _line(env, verdict.reason),
        "mode": None,
        "runbook": None,
        "steps": [],
        "problem": None,
        "others": [],
    }
    labels = alert["labels"]
    if verdict is not None:
        explanation["problem"] = "no run is started: %s" % explanation["reason"]
        return explanation
    runbook = find_runbook(config.runbooks, labels)
    explanation["mode"] = _mode_of(env, automation, report, runbook)
    explanation["others"] = [
        {"runbook": other.name, "reason": _line(env, other.mismatch(labels) or "a runbook before "
                                                "it matches")}
        for other in config.runbooks if other is not runbook
    ]
    nodes = list(detection.labels_by_node(config, topology, {"labels": labels}))
    explanation["problem"] = _obstacle(report, runbook, nodes, bool(config.crews))
    if runbook is not None:
        explanation["runbook"] = runbook.name
        node = nodes[0] if nodes else report.subject
        steps = [
            NodeStep(node, 0, runbook, step, labels, "%s/%s" % (runbook.name, step.name))
            for step in runbook.steps
        ]
        explanation["steps"] = [_explain_step(context, topology, step) for step in steps]
        explanation["problem"] = explanation["problem"] or _worst_problem(explanation["steps"])
    return explanation


def _obstacle(
    report: Report, runbook: Optional[Runbook], nodes: list[str], has_crews: bool
) -> Optional[str]:
    """Return why no runbook handles an alert, or None.

    :param nodes: that its labels name; one at most.
    """
    if report.alert["status"] == alert_payloads.RESOLVED:
        return _NOTHING + ": it is resolved"
    if report.is_ambiguous:
        return "%s: %s" % (_NOTHING, outcomes.REASONS[outcomes.AMBIGUOUS])
    if report.agent is not None:
        return "it names an agent: agent_recovery handles it, not a runbook"
    if not nodes:
        return "nothing can act: no label names what failed; add one, or set %s" % (
            "infrastructure.alert_labels")
    if runbook is None:
        return "no runbook matches%s" % (
            "; a crew is assigned" if has_crews else ", and no crew is configured")
    return None


def _explain_step(
    context: AlertContext, topology: Topology, node_step: NodeStep
) -> dict[str, Any]:
    """Return a step with what its action would get; with `problem` if it would not be run."""
    env, config, step = context.env, context.infrastructure, node_step.step
    described = _describe_step(env, step)
    try:
        crew = runbook_steps.crew_of(config, topology, node_step)
    except InvalidInput as error:
        # A label that is not accepted lets nothing of the runbook start, a crew only that step.
        prefix = "step %s is not started" % step.name if step.crew else _NOTHING
        return dict(described, problem="%s: %s" % (prefix, _line(env, error)))
    described.update(_describe_action(env, crew, node_step.node))
    try:
        invalid = next(_step_errors(env, config, step), None)
    except StackStormError:
        # The rest of the explanation needs no StackStorm.
        invalid = None
    if invalid is not None:
        described["problem"] = "step %s cannot be run: %s" % (step.name, _line(env, invalid))
    return described


def _worst_problem(steps: list[dict[str, Any]]) -> Optional[str]:
    """Return the first problem that lets nothing be started, else the first, or None."""
    problems = [step["problem"] for step in steps if "problem" in step]
    problems.sort(key=lambda problem: not problem.startswith(_NOTHING))
    return problems[0] if problems else None


def _describe_action(env: Environment, crew: Crew, node: str) -> dict[str, Any]:
    """Return {action, parameters, approval} of a crew that is an action, or {} for people."""
    if crew.action is None:
        return {}
    parameters = dict(crew.parameters)
    if crew.node_parameter is not None:
        parameters[crew.node_parameter] = node
    return {
        "action": crew.action,
        "parameters": _values(env, parameters),
        "approval": crew.approval,
    }


def _mode_of(
    env: Environment,
    automation: AutomationConfig,
    report: Report,
    runbook: Optional[Runbook],
) -> str:
    """Return the mode of automation that is in force for an alert."""
    if report.agent is not None:
        return modes.mode_of(env, automation, AGENT).mode
    if runbook is None:
        return modes.mode_of(env, automation, INFRASTRUCTURE).mode
    return modes.mode_of(env, automation, INFRASTRUCTURE, runbook.name, runbook.mode).mode


def _line(env: Environment, text: Any) -> str:
    return sanitize_line(text, env.redactor, MAX_TEXT_CHARS)


def _values(env: Environment, values: Any) -> Any:
    return sanitize_value(values, env.redactor, runbook_steps.MAX_SHOWN_CHARS)
