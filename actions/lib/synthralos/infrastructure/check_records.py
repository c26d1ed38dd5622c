"""The checks of a run's repairs, as its case stores them: a list in the order of the repairs.

A check belongs to one repair of a node: by a crew, or by the runbook of one of the node's alerts.
There is one for each, that of the last repair.
"""

from collections.abc import Mapping
from typing import Any, Optional, TypedDict

from synthralos.infrastructure.repair_evidence import AlertKey

# The states of a check. A pending one is asked about again; an assigned one is with people, or
# cannot be checked; an unchecked one could not be judged before the run ended.
PENDING, REPAIRED, NOT_REPAIRED = "pending", "repaired", "not_repaired"
ASSIGNED, UNCHECKED = "assigned", "unchecked"


class CheckQuestion(TypedDict):
    """What Prometheus is asked about one alert.

    `labels`: those that identify what the alert is about; `job`: by which its exporter is scraped,
    or None; `cluster`: the one that it names, or None; `is_shared_name`: whether another cluster
    has a thing of the same name.
    """

    query: str
    labels: dict[str, str]
    job: Optional[str]
    cluster: Optional[str]
    is_shared_name: bool


class Check(TypedDict):
    """The check of one repair. Times are seconds since the epoch.

    `alert`: the position of the alert whose runbook the repair belongs to, or None for a crew's;
    `began_at`, `ended_at`: of the repair; `execution`: that of its action, while its end has not
    been observed; `alerts`: those that Alertmanager is asked for, and `uncovered` how many alerts
    of the repair it cannot be asked for; `alerts_gone_at`: when Alertmanager first did not list the
    alerts any more; `retries`: how often in a row a source did not respond; `status`, `reason`: of
    the last check; `due_at`: when a pending one is checked again; `question`: the check of a
    runbook's step, or None.
    """

    node: str
    alert: Optional[int]
    crew: str
    by_people: bool
    began_at: float
    ended_at: float
    execution: Optional[str]
    sources: list[str]
    alerts: list[AlertKey]
    uncovered: int
    alerts_gone_at: Optional[float]
    retries: int
    status: str
    reason: str
    due_at: float
    settle_seconds: float
    question: Optional[CheckQuestion]


def put(case: Mapping[str, Any], check: Check) -> None:
    """Add the check to those of the case, in place of an older one of the same repair."""
    checks: list[Check] = case["checks"]
    for index, other in enumerate(checks):
        if (other["node"], other["alert"]) == (check["node"], check["alert"]):
            checks[index] = check
            return
    checks.append(check)


def of_node(case: Mapping[str, Any], node: str) -> list[Check]:
    """Return the checks of a node."""
    return [check for check in case["checks"] if check["node"] == node]


def with_status(case: Mapping[str, Any], status: str) -> list[Check]:
    """Return the checks that have this status."""
    return [check for check in case["checks"] if check["status"] == status]


def nodes_with(case: Mapping[str, Any], status: str) -> list[str]:
    """Return the nodes that have a check with this status, in the order of the repairs."""
    return list(dict.fromkeys(check["node"] for check in with_status(case, status)))


def repaired_nodes(case: Mapping[str, Any]) -> list[str]:
    """Return the nodes all of whose repairs have helped, as far as nothing of them is open."""
    return [
        node
        for node in nodes_with(case, REPAIRED)
        if node not in case["failures"] and
        all(check["status"] == REPAIRED for check in of_node(case, node))
    ]


def next_check_at(case: Mapping[str, Any]) -> Optional[float]:
    """Return when the next pending check is due, in seconds since the epoch, or None."""
    return min((check["due_at"] for check in with_status(case, PENDING)), default=None)


def close_checks(case: Mapping[str, Any]) -> None:
    """End the checks that are still pending: the run has no time left for them."""
    for check in with_status(case, PENDING):
        is_assigned = check["by_people"] or not check["sources"]
        check["status"] = ASSIGNED if is_assigned else UNCHECKED
        check["reason"] = check["reason"] or "the run ended before it could be checked"


def report(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return [{node, crew, status, reason, sources}] of the last repair by each crew or runbook."""
    names = ("node", "crew", "status", "reason", "sources")
    return [{name: check[name] for name in names} for check in case["checks"]]
