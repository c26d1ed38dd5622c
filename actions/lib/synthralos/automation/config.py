"""The entry `automation` of the pack's configuration: defaults and validation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from synthralos.config.modes import OBSERVE, read_mode
from synthralos.config.reader import read_int, read_object
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier

WORKFLOWS = ("agent_recovery", "llm_retry", "reroute_request")
# All workflows that rules may start through an intake action.
STARTABLE_WORKFLOWS = WORKFLOWS + ("infrastructure_repair",)
MAX_RUNS = 20
DAY = 24 * 3600


@dataclass(frozen=True)
class FailedAction:
    """How a failed action is recovered.

    :ivar workflow: one of WORKFLOWS.
    :ivar agent_id: the agent that failed; None takes it from the action's parameter agent_id.
    :ivar query_from: name of the action's parameter with the query to run again, or None.
    """

    workflow: str
    agent_id: Optional[str] = None
    query_from: Optional[str] = None


@dataclass(frozen=True)
class AutomationConfig:
    """What rules may start.

    :ivar mode: the mode of automation, one of config.modes.MODES.
    :ivar modes: {workflow: mode} of workflows with a mode of their own.
    :ivar agent_labels: labels of an alert that may name an agent; the first one present counts. An
        alert without any of them concerns the infrastructure.
    :ivar query_labels: labels and annotations of an alert that may hold the query to run again.
    :ivar recoveries_per_hour: maximum number of runs per agent that rules start within an hour.
    :ivar recurrence_window: seconds after a successful repair within which a recurring alert is
        left to a person; 0 for never.
    :ivar max_runs_per_webhook: maximum number of runs that one notification starts; one ticket
        covers the remaining alerts.
    :ivar approval_timeout: seconds after which an unanswered approval is ended; 0 for never.
    :ivar always_firing: names of alerts that are meant to fire, besides those that the pack knows.
    :ivar failed_actions: by the reference of the action.
    """

    mode: str = OBSERVE
    modes: dict[str, str] = field(default_factory=dict)
    agent_labels: tuple[str, ...] = ("agent_id",)
    query_labels: tuple[str, ...] = ("query", "original_query")
    recoveries_per_hour: int = 6
    recurrence_window: int = 3600
    max_runs_per_webhook: int = MAX_RUNS
    approval_timeout: int = 3600
    always_firing: tuple[str, ...] = ()
    failed_actions: dict[str, FailedAction] = field(default_factory=dict)

    @classmethod
    def from_config(cls, entry: Mapping[str, Any]) -> "AutomationConfig":
        """Read the mapping `entry`.

        :raises InvalidInput: a value is not valid; the error names its path.
        """
        prefix = "automation."
        return cls(
            mode=read_mode("automation.mode", entry.get("mode")) or OBSERVE,
            modes=_modes(entry),
            agent_labels=_labels(entry, "agent_labels", cls.agent_labels),
            query_labels=_labels(entry, "query_labels", cls.query_labels),
            recoveries_per_hour=read_int(
                entry, "recoveries_per_hour", cls.recoveries_per_hour, 1, 100, prefix
            ),
            recurrence_window=read_int(
                entry, "recurrence_window", cls.recurrence_window, 0, 7 * DAY, prefix
            ),
            max_runs_per_webhook=read_int(
                entry, "max_runs_per_webhook", cls.max_runs_per_webhook, 1, MAX_RUNS, prefix
            ),
            approval_timeout=read_int(
                entry, "approval_timeout", cls.approval_timeout, 0, 30 * DAY, prefix
            ),
            always_firing=_labels(entry, "always_firing", cls.always_firing),
            failed_actions=_failed_actions(read_object(entry, "failed_actions", prefix)),
        )


def load(entry: Mapping[str, Any]) -> tuple[AutomationConfig, Optional[str]]:
    """Read the mapping `entry` for an action that must not lose what it receives.

    :returns: (the configuration, the error's text or None). If an entry is invalid, the defaults
        are used; the modes hold nevertheless if they are valid themselves, and are `observe` if
        they are not.
    """
    try:
        return AutomationConfig.from_config(entry), None
    except InvalidInput as error:
        message = str(error)
    try:
        modes = {name: entry.get(name) for name in ("mode", "modes")}
        return AutomationConfig.from_config(modes), message
    except InvalidInput:
        return AutomationConfig(), message


def _modes(entry: Mapping[str, Any]) -> dict[str, str]:
    modes: dict[str, str] = {}
    for workflow, value in read_object(entry, "modes", "automation.").items():
        path = "automation.modes.%s" % workflow
        if workflow not in STARTABLE_WORKFLOWS:
            hint = "Use one of " + ", ".join(STARTABLE_WORKFLOWS)
            raise InvalidInput(path, value, "does not name a workflow that rules start", hint)
        mode = read_mode(path, value)
        if mode is not None:
            modes[workflow] = mode
    return modes


def _labels(entry: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = entry.get(name)
    if value is None:
        return default
    is_list_of_texts = isinstance(value, list) and all(
        isinstance(text, str) and text for text in value
    )
    if not is_list_of_texts:
        hint = 'Use a list of texts, such as ["agent_id"]'
        raise InvalidInput("automation." + name, value, "must be a list of names", hint)
    return tuple(value)


def _failed_actions(entry: Mapping[str, Any]) -> dict[str, FailedAction]:
    failed_actions: dict[str, FailedAction] = {}
    for ref, spec in entry.items():
        path = "automation.failed_actions.%s" % ref
        spec = spec if isinstance(spec, dict) else {"workflow": spec}
        workflow = spec.get("workflow") or "agent_recovery"
        if workflow not in WORKFLOWS:
            hint = "Use one of " + ", ".join(WORKFLOWS)
            raise InvalidInput(
                path + ".workflow", workflow, "is not a workflow that can recover an action", hint
            )
        agent, query_from = spec.get("agent_id"), spec.get("query_from")
        if query_from is not None and not isinstance(query_from, str):
            hint = "Name the parameter of the action that holds the query"
            raise InvalidInput(path + ".query_from", query_from, "must be a text", hint)
        failed_actions[ref] = FailedAction(
            workflow,
            None if agent is None else require_identifier(path + ".agent_id", agent),
            query_from,
        )
    return failed_actions
