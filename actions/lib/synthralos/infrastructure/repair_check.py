"""The check of a repair: whether the alert or the query that showed a failure says that it is over.

A check belongs to one repair (see check_records). It is due `settle_seconds` after the repair has
ended. Each source that has shown the failure is asked, and a node is repaired only if every one of
them has positive evidence:

- Alertmanager: every member responds, has been running for long enough to know all alerts, and none
  lists the alert; silenced and inhibited alerts count as listed. It knows nothing of the past, so
  the alert must be gone twice, `settle_seconds` apart. It is a witness only if it has listed the
  alert in this run. The alert is not over while it fires on with other labels (see
  alert_lookup), or while Prometheus has it as pending (see alert_history).
- The check of a runbook's step, which alone decides where a step has one: see runbook_check.
- Prometheus: the node is in the result of the opposite query, or of the configured check. That it
  is missing from the query for failed nodes proves nothing, because the series of a dead exporter
  vanish, too. It knows the past, so one range query shows whether the node has been healthy for
  `settle_seconds`, and whether it has failed again after it was healthy.

A source that does not respond is no evidence either way: the node is neither repaired nor failed.
Neither is it while the action of the repair is still running.
"""

from collections.abc import Collection, Mapping
from typing import Any, Optional

from synthralos.infrastructure import check_records, detection, repair_evidence, runbook_check
from synthralos.infrastructure.alert_lookup import AlertLookup
from synthralos.infrastructure.check_records import (
    ASSIGNED,
    NOT_REPAIRED,
    PENDING,
    REPAIRED,
    Check,
)
from synthralos.infrastructure.config import InfrastructureConfig, Prometheus
from synthralos.infrastructure.prometheus_history import NodeHistory
from synthralos.infrastructure.repair_evidence import (
    ALERTMANAGER,
    FAILED,
    HEALTHY,
    NO_EVIDENCE,
    PROMETHEUS,
    UNKNOWN,
    Calls,
    Evidence,
)
from synthralos.infrastructure.runbook_check import STEP_CHECK
from synthralos.infrastructure.runbook_steps import NodeStep
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.storage.stackstorm_api import StackStormError, has_ended

# Between two questions to a source that did not respond: doubled each time, up to the maximum.
RETRY_SECONDS, MAX_RETRY_SECONDS = 10.0, 60.0
NO_WITNESS = "nothing that could be asked has shown this failure"


def new_check(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    entry: Mapping[str, Any],
    node_step: Optional[NodeStep] = None,
    began_at: Optional[float] = None,
) -> Check:
    """Return the check of the repair that has just been assigned by `entry`.

    :param case: of the run, with `alerts` by node, and in `seen_down` the nodes that Prometheus has
        shown as failed.
    :param entry: {node, crew, and is_running and execution_id of an action}.
    :param node_step: of a runbook that the repair is, or None.
    :param began_at: when the repair began; None for the start of the run.
    """
    node, crew = entry["node"], config.crew(entry["crew"])
    question = None
    if node_step is not None and node_step.step.check is not None and config.prometheus is not None:
        question = runbook_check.question_of(env, config, node_step)
    alerts = case["alerts"].get(node, [])
    if node_step is not None:
        alerts = [key for key in alerts if key["alert"] == node_step.alert]
    if question is not None:
        sources = [STEP_CHECK]
    else:
        sources = [ALERTMANAGER] if alerts else []
        sources += [PROMETHEUS] if _can_testify(config.prometheus, case, node) else []
    is_action = crew.action is not None if crew is not None else (
        node_step is not None and node_step.step.action is not None
    )
    settle: float = config.settle_seconds
    if node_step is not None and node_step.step.settle_seconds is not None:
        settle = node_step.step.settle_seconds
    now = env.now()
    check: Check = {
        "node": node,
        "alert": None if node_step is None else node_step.alert,
        "crew": entry["crew"],
        "by_people": not is_action,
        "began_at": case["started"] if began_at is None else began_at,
        "ended_at": now,
        "execution": entry.get("execution_id") if entry.get("is_running") else None,
        "sources": sources,
        "alerts": alerts,
        "uncovered": 0,
        "alerts_gone_at": None,
        "retries": 0,
        "status": PENDING if sources or entry.get("is_running") else ASSIGNED,
        "reason": "" if sources else NO_WITNESS,
        "due_at": now + settle,
        "settle_seconds": settle,
        "question": question,
    }
    if ALERTMANAGER in sources and node_step is None:
        covered = {key["alert"] for key in alerts}
        covered.update(other["alert"] for other in check_records.of_node(case, node) if
                       other["alert"] is not None)
        of_node = detection.labels_by_node(config, topology, case["request"]["alert"])
        check["uncovered"] = len(set(of_node.get(node, ())) - covered)
    return check


def _can_testify(prometheus: Optional[Prometheus], case: Mapping[str, Any], node: str) -> bool:
    """Whether a healthy result of Prometheus would prove that the failure of `node` is over.

    It does if Prometheus has shown that failure: a node that never was in the result of the query
    fails in a way that neither the query nor the check of healthy nodes measures.
    """
    return (
        prometheus is not None and
        node in case["seen_down"] and
        repair_evidence.health_query(prometheus, case["request"]["query"]) is not None
    )


def run_checks(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    down: Collection[str],
    deadline_seconds: float,
) -> None:
    """Ask the sources about the repairs that are pending, and update their checks in the case.

    :param down: the nodes that Prometheus has just returned as failed.
    :param deadline_seconds: how long the calls may take together.
    """
    checks = [
        check for check in check_records.with_status(case, PENDING)
        if not _is_running(env, check)
    ]
    if not checks:
        return
    evidence_by_node = _ask_all(env, config, topology, case, checks, deadline_seconds)
    for check in checks:
        evidence = evidence_by_node[check["node"]]
        if check["node"] in down and STEP_CHECK not in check["sources"]:
            # Also where its series cannot be read, or say nothing of this failure.
            evidence.append(Evidence(FAILED, reason="Prometheus shows it as failed"))
        _conclude(check, evidence, env.now())


def _is_running(env: Environment, check: Check) -> bool:
    """Return whether the action of a repair is still running, and update its check."""
    if check["execution"] is None or env.api is None:
        return False
    try:
        is_running = not has_ended(env.api, check["execution"])
    except StackStormError:
        is_running = True
    now = env.now()
    if is_running:
        check["reason"] = "its action has not ended"
        check["retries"] += 1
        check["due_at"] = now + _retry_delay(check)
    else:
        check["execution"], check["retries"] = None, 0
        check["ended_at"], check["due_at"] = now, now + check["settle_seconds"]
    return is_running


def _retry_delay(check: Check) -> float:
    return min(RETRY_SECONDS * 2.0 ** (check["retries"] - 1), MAX_RETRY_SECONDS)


def find_recovered(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    steps: Mapping[str, Optional[NodeStep]],
    deadline_seconds: float,
) -> list[Check]:
    """Return the checks of the repairs that are not needed now: what they are for is over.

    The evidence is as positive as that of a repair. One that has not lasted for `settle_seconds`
    yet leaves its check pending.

    :param steps: {node: the step of a runbook that is planned for it, or None for a crew}.
    """
    checks = [
        new_check(env, config, topology, case, {"node": node, "crew": ""}, node_step)
        for node, node_step in steps.items()
    ]
    checks = [check for check in checks if check["sources"]]
    for check in checks:
        check["ended_at"] = max(env.now() - check["settle_seconds"], case["started"])
        # Nobody has been sent yet.
        check["by_people"] = False
    evidence_by_node = _ask_all(env, config, topology, case, checks, deadline_seconds)
    over = [
        check
        for check in checks
        if all(item.state == HEALTHY for item in evidence_by_node[check["node"]])
    ]
    for check in over:
        _conclude(check, evidence_by_node[check["node"]], env.now())
        if check["status"] == REPAIRED:
            check["reason"] = "it was over before it was repaired"
    return over


def find_healthy(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    nodes: Collection[str],
    deadline_seconds: float,
) -> list[str]:
    """Return those of `nodes` that Prometheus shows as healthy at this moment."""
    if not nodes:
        return []
    history = NodeHistory(
        Calls(env, env.now() + deadline_seconds), config, topology, case["request"]["query"]
    )
    now = env.now()
    history.load(now, now)
    return [node for node in nodes if history.evidence(node, now).state == HEALTHY]


def _ask_all(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    checks: list[Check],
    deadline_seconds: float,
) -> dict[str, list[Evidence]]:
    """Ask the sources of the checks; return what they show by node."""
    calls = Calls(env, env.now() + deadline_seconds)
    evidence_by_node: dict[str, list[Evidence]] = {check["node"]: [] for check in checks}
    with_alerts = [check for check in checks if ALERTMANAGER in check["sources"]]
    if with_alerts:
        lookup = AlertLookup(env, calls, config, case, with_alerts)
        for check in with_alerts:
            evidence_by_node[check["node"]].append(lookup.evidence(check))
    in_prometheus = [check for check in checks if PROMETHEUS in check["sources"]]
    if in_prometheus:
        history = NodeHistory(calls, config, topology, case["request"]["query"])
        history.load(
            min(check["ended_at"] for check in in_prometheus), env.now(),
            [check["began_at"] for check in in_prometheus],
        )
        for check in in_prometheus:
            evidence = history.evidence(check["node"], check["ended_at"], check["began_at"])
            evidence_by_node[check["node"]].append(evidence)
    for check in checks:
        if check["question"] is not None:
            evidence_by_node[check["node"]].append(
                runbook_check.ask(
                    env, calls, config, check["question"], check["ended_at"], check["began_at"]
                )
            )
    return evidence_by_node


def _conclude(check: Check, evidence: list[Evidence], now: float) -> None:
    """Update the status of a check by what its sources show."""
    if any(item.state == NO_EVIDENCE for item in evidence):
        check["sources"] = [name for name in check["sources"] if name != ALERTMANAGER]
        check["uncovered"] = 0
        evidence = [item for item in evidence if item.state != NO_EVIDENCE]
    if not evidence:
        check["status"], check["reason"] = ASSIGNED, NO_WITNESS
        return
    failed = [item for item in evidence if item.state == FAILED]
    unknown = [item for item in evidence if item.state == UNKNOWN]
    check["retries"] = check["retries"] + 1 if unknown else 0
    if failed:
        check["reason"] = failed[0].reason
        check["due_at"] = check["ended_at"] + check["settle_seconds"]
        # A shorter wait, because little time was left, shows that the node is not repaired yet.
        check["status"] = NOT_REPAIRED if now >= check["due_at"] else PENDING
    elif unknown:
        check["reason"] = unknown[0].reason
        hints = [item.retry_after for item in unknown if item.retry_after is not None]
        delay = _retry_delay(check)
        check["due_at"] = now + max([delay] if len(hints) < len(unknown) else hints)
    else:
        check["due_at"] = max(item.since for item in evidence) + check["settle_seconds"]
        check["reason"] = "it has not been healthy for settle_seconds yet"
        if now >= check["due_at"]:
            check["status"], check["reason"] = REPAIRED, "healthy for settle_seconds"
            if check["uncovered"]:
                check["status"], check["reason"] = ASSIGNED, NO_WITNESS
    if check["by_people"] and (failed or unknown):
        # People take longer than a run: the node stays with them, and nobody else is sent.
        check["status"] = ASSIGNED
