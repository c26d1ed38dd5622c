"""The entry `automation` of the pack's configuration, with defaults and refusals that name it."""

from dataclasses import dataclass, field
from typing import Optional

from synthralos.config.reader import read_int
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier

WORKFLOWS = ("agent_recovery", "llm_retry", "reroute_request")
MAX_RUNS = 20
DAY = 24 * 3600


@dataclass(frozen=True)
class FailedAction:
    """What is done about a failed action.

    :ivar workflow: one of WORKFLOWS.
    :ivar agent_id: whose failure it is, or None: the action's parameter agent_id says.
    :ivar query_from: the action's parameter that holds the query to run again, or None.
    """

    workflow: str
    agent_id: Optional[str] = None
    query_from: Optional[str] = None


@dataclass(frozen=True)
class AutomationConfig:
    """What rules may start.

    :ivar agent_labels: labels of an alert of which the first that it bears names an agent; an
        alert without one is of the infrastructure.
    :ivar query_labels: labels and annotations of an alert that may hold the query to run again.
    :ivar recoveries_per_hour: runs of one agent that rules may start within an hour.
    :ivar recurrence_window: seconds after a repair that succeeded within which its alert coming back
        is a person's; 0 is never.
    :ivar max_runs_per_webhook: runs that one notification may start; the rest is one ticket.
    :ivar approval_timeout: seconds after which an approval that nobody gave is ended; 0 is never.
    :ivar failed_actions: {action reference: FailedAction}.
    """

    agent_labels: tuple = ("agent_id",)
    query_labels: tuple = ("query", "original_query")
    recoveries_per_hour: int = 6
    recurrence_window: int = 3600
    max_runs_per_webhook: int = MAX_RUNS
    approval_timeout: int = 3600
    failed_actions: dict = field(default_factory=dict)

    @classmethod
    def from_config(cls, entry):
        """The Automation of the mapping `entry`. InvalidInput names what is wrong in it."""
        prefix = "automation."
        return cls(
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
            failed_actions=_failed_actions(entry.get("failed_actions") or {}),
        )


def _labels(entry, name, default):
    value = entry.get(name)
    if value is None:
        return default
    texts = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
    if not texts:
        way_out = 'Give a list of names of labels, such as ["agent_id"]'
        raise InvalidInput("automation." + name, value, "is no list of names", way_out)
    return tuple(value)


def _failed_actions(entry):
    found = {}
    for ref, told in entry.items():
        where = "automation.failed_actions.%s" % ref
        told = told if isinstance(told, dict) else {"workflow": told}
        workflow = told.get("workflow") or "agent_recovery"
        if workflow not in WORKFLOWS:
            way_out = "Use one of " + ", ".join(WORKFLOWS)
            raise InvalidInput(where + ".workflow", workflow, "is no workflow for it", way_out)
        agent = told.get("agent_id")
        found[ref] = FailedAction(
            workflow,
            None if agent is None else require_identifier(where + ".agent_id", agent),
            told.get("query_from"),
        )
    return found
