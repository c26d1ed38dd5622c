"""Repair crews: their load, and assigning nodes to them.

A crew of people is notified on the escalation channels; a crew that is a StackStorm action is run
once for each node. A node is `Assigned` if its crew was notified or its action succeeded or is
still running, else `Failed`.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, Optional, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part, is_name
from synthralos.core.sanitize import sanitize_line, sanitize_text, sanitize_value
from synthralos.core.timestamps import to_iso
from synthralos.escalation import ticketing
from synthralos.escalation.channels import DeliveryError, RetryableDeliveryError, sender_for
from synthralos.infrastructure.impact import describe
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, timestamp_key, timestamp_of_key
from synthralos.storage.stackstorm_api import StackStormError
from synthralos.telemetry import run_log

if TYPE_CHECKING:
    from synthralos.escalation.config import EscalationConfig
    from synthralos.escalation.notifications import Notice
    from synthralos.infrastructure.config import Crew, InfrastructureConfig
    from synthralos.infrastructure.impact import ImpactReport, NodeImpact
    from synthralos.infrastructure.topology import Node
    from synthralos.runtime.environment import Environment

FORMAT_VERSION = 1
ASSIGNED, FAILED = "Assigned", "Failed"
MAX_PAGES = 10
CHANNEL_SECONDS = 10.0
MAX_ATTEMPTS = 2
RETRY_DELAY_SECONDS = 1.0
MIN_SECONDS = 1.0
MAX_NODES_SHOWN = 100
MAX_TITLE_CHARS, MAX_TEXT_CHARS, MAX_FACT_CHARS = 300, 10_000, 500


class _Outcome(TypedDict):
    """The outcome of an attempt to assign a node. `status`: ASSIGNED or FAILED."""

    status: str
    details: str


class _Execution(TypedDict, total=False):
    execution_id: str
    is_running: bool


class AssignmentEntry(_Outcome, _Execution):
    """The assignment of one node to a crew.

    An action's entry has its `execution_id`, and `is_running` if its end has not been observed.
    """

    node: str
    crew: str


def crew_loads(env: "Environment", config: "InfrastructureConfig") -> dict[str, int]:
    """Return {crew: number of nodes}, from the assignments of the last `busy_seconds`."""
    return {crew.name: _count_assignments(env, crew, config.busy_seconds) for crew in config.crews}


def _count_assignments(env: "Environment", crew: "Crew", busy_seconds: int) -> int:
    if not busy_seconds:
        return 0
    count, since = 0, env.now() - busy_seconds
    for page in range(MAX_PAGES):
        rows = env.store.list(_prefix(crew), limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        count += sum((timestamp_of_key(name) or 0.0) > since for name, _ in rows)
        if len(rows) < PAGE_SIZE:
            break
    return count


def _prefix(crew: "Crew") -> str:
    return "%sassignment.%s." % (PREFIX, encode_key_part(crew.name))


def free_capacity(crew: "Crew", load: int) -> Optional[int]:
    """Return how many more nodes the crew can take, or None for any number."""
    if not crew.available:
        return 0
    return None if crew.capacity is None else max(0, crew.capacity - load)


def is_free(crew: "Crew", load: int) -> bool:
    return free_capacity(crew, load) != 0


def unsuitable_reason(crew: "Crew", node: "Node") -> Optional[str]:
    """Return why `crew` cannot take `node`, or None if it can."""
    missing = [skill for skill in node.skills if skill not in crew.skills]
    if missing:
        return "%s lacks %s" % (crew.name, ", ".join(missing))
    if crew.action is not None and not is_name(node.name):
        return (
            "%s runs an action, so node names may only contain A-Z a-z 0-9 . _ : / @ + -" %
            crew.name
        )
    return None


def ignore_start(execution_id: str) -> None:
    """Do nothing about an execution that has started."""


def assign(
    env: "Environment",
    config: "InfrastructureConfig",
    crew: "Crew",
    names: Sequence[str],
    report: "ImpactReport",
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    on_start: Callable[[str], None] = ignore_start,
) -> list[AssignmentEntry]:
    """Assign the nodes `names` to `crew`.

    :param report: the impact report, which is sent to people.
    :param seconds: the time limit for all nodes together.
    :param on_start: called with the id of each execution of an action as soon as it has started.
    :returns: one entry for each node.
    """
    if crew.action is not None:
        entries = run_actions(
            env, [(name, crew) for name in names], seconds, sleep, on_start
        )
    else:
        delivery = _notify(env, crew, names, report, seconds, sleep)
        entries = [
            {
                "node": name,
                "crew": crew.name,
                "status": delivery["status"],
                "details": delivery["details"],
            }
            for name in names
        ]
    for entry in entries:
        if entry["status"] == ASSIGNED and config.busy_seconds:
            value = json.dumps({"v": FORMAT_VERSION, "node": entry["node"], "run": env.run})
            env.store.put(_prefix(crew) + timestamp_key(env.now()), value, config.busy_seconds)
    assigned_count = sum(entry["status"] == ASSIGNED for entry in entries)
    run_log.emit("assign", crew=crew.name, nodes=len(entries), assigned=assigned_count)
    return entries


def _notify(
    env: "Environment",
    crew: "Crew",
    names: Sequence[str],
    report: "ImpactReport",
    seconds: float,
    sleep: Callable[[float], None],
) -> _Outcome:
    """Notify the people of a crew: ASSIGNED if at least one channel accepted the notification."""
    try:
        escalation = ticketing.load_config(env, env.settings.escalation)
    except InvalidInput as error:
        return {"status": FAILED, "details": env.redactor.redact_text(str(error))}
    if crew.mail_to and escalation.mail is not None:
        mail = dataclasses.replace(escalation.mail, to=list(crew.mail_to))
        escalation = dataclasses.replace(escalation, mail=mail)
    notice = _build_notice(env, crew, names, report)
    deadline, sent = env.now() + seconds, False
    channel_results: list[str] = []
    for channel in crew.channels:
        is_sent, details = _send(env, escalation, channel, notice, deadline, sleep)
        sent = sent or is_sent
        channel_results.append("%s: %s" % (channel, details))
    return {
        "status": ASSIGNED if sent else FAILED,
        "details": env.redactor.redact_text("; ".join(channel_results)),
    }


def _send(
    env: "Environment",
    escalation: "EscalationConfig",
    channel: str,
    notice: "Notice",
    deadline: float,
    sleep: Callable[[float], None],
) -> tuple[bool, str]:
    """Send the notification on `channel`; return (whether it was sent, details in words)."""
    if channel != "announcement" and getattr(escalation, channel) is None:
        return False, "escalation.%s is not configured" % channel
    problem = ""
    for attempt_number in range(1, MAX_ATTEMPTS + 1):
        seconds_left = min(CHANNEL_SECONDS, deadline - env.now())
        if seconds_left < MIN_SECONDS:
            return False, "no time was left"
        try:
            note = sender_for(channel)(env, escalation, notice, seconds_left)
            return True, "sent" if note is None else "sent; %s" % note
        except RetryableDeliveryError as error:
            problem = str(error)
            if attempt_number < MAX_ATTEMPTS:
                sleep(RETRY_DELAY_SECONDS)
        except (DeliveryError, InvalidInput) as error:
            return False, str(error)
        except Exception as error:
            # One failing channel must stop neither the other channels nor the run.
            run_log.write_traceback(env.redactor.redact_text)
            return False, type(error).__name__
    return False, problem


def _build_notice(
    env: "Environment", crew: "Crew", names: Sequence[str], report: "ImpactReport"
) -> "Notice":
    """Build the notification for the channels, in the form of notifications.build_notification."""
    impact_by_node = {node_impact["node"]: node_impact for node_impact in report["nodes"]}
    # The report lists the most severe node first.
    severity = next(
        (impact["criticality"] for name, impact in impact_by_node.items() if name in names), "low"
    )
    rows = [_node_line(name, impact_by_node.get(name)) for name in names[:MAX_NODES_SHOWN]]
    if len(names) > MAX_NODES_SHOWN:
        rows.append("- and %d more: see the run" % (len(names) - MAX_NODES_SHOWN))
    title = "[synthralos] repair %s" % ", ".join(names)
    text = ["Assigned to %s, run %s:" % (crew.name, env.run or "none"), ""] + rows
    facts = {
        "crew": crew.name,
        "nodes": sanitize_value(names[:MAX_NODES_SHOWN], env.redactor, MAX_FACT_CHARS),
        "run": env.run,
        "summary": sanitize_line(title, env.redactor, MAX_FACT_CHARS),
    }
    # The same nodes for the same crew in the same run are one assignment, so they share an id.
    identity = json.dumps([env.run, crew.name, sorted(names)]).encode()
    return {
        "action": "trigger",
        "ticket": "A" + hashlib.sha256(identity).hexdigest()[:12],
        "severity": severity,
        "subject": crew.name,
        "workflow": "infrastructure_repair",
        "cause": "assignment",
        "at": to_iso(env.now()),
        "title": sanitize_line(title, env.redactor, MAX_TITLE_CHARS),
        "text": sanitize_text("\n".join(text), env.redactor, MAX_TEXT_CHARS),
        "recommendations": [],
        "facts": facts,
    }


def _node_line(name: str, node_impact: "Optional[NodeImpact]") -> str:
    if node_impact is None:
        return "- %s" % name
    return "- %s: %s" % (name, describe(node_impact))


def run_actions(
    env: "Environment",
    jobs: "Sequence[tuple[str, Crew]]",
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    on_start: Callable[[str], None] = ignore_start,
) -> list[AssignmentEntry]:
    """Start an execution for each job, then wait for all.

    :param jobs: [(name of the node, crew that is an action)].
    :param seconds: the time limit for all jobs together; that of each crew counts, too.
    :param on_start: as for `assign`.
    :returns: as `assign` returns it.
    """
    problems = {crew.action: _action_problem(env, crew) for _, crew in jobs}
    entries: list[AssignmentEntry] = []
    started_at = env.now()
    for name, crew in jobs:
        execution_id, problem = None, problems[crew.action]
        if problem is None:
            execution_id, problem = _start(env, name, crew)
        entry: AssignmentEntry = {
            "node": name, "crew": crew.name, "status": FAILED, "details": problem or ""
        }
        entries.append(entry)
        if execution_id is not None:
            entry["execution_id"] = execution_id
            on_start(execution_id)
    for entry, (_, crew) in zip(entries, jobs):
        if "execution_id" in entry:
            seconds_left = started_at + min(seconds, crew.seconds) - env.now()
            _wait_for_end(env, entry, max(0.0, seconds_left), sleep)
    return entries


def _start(
    env: "Environment", name: str, crew: "Crew"
) -> tuple[Optional[str], Optional[str]]:
    """Start the action of `crew` for a node; return (execution id, None), or (None, the reason why
    it was not started).
    """
    parameters = dict(crew.parameters)
    if crew.node_parameter is not None:
        if not is_name(name):
            return None, "the node's name cannot be passed to an action"
        parameters[crew.node_parameter] = name
    try:
        return env.api.start(crew.action, parameters), None
    except StackStormError as error:
        return None, str(error)


def _action_problem(env: "Environment", crew: "Crew") -> Optional[str]:
    if env.api is None:
        return "there is no StackStorm API to run %s" % crew.action
    try:
        action = env.api.action(crew.action)
    except StackStormError as error:
        return str(error)
    if action is None:
        return "there is no action %s" % crew.action
    return "the action %s is disabled" % crew.action if action.get("enabled") is False else None


def _wait_for_end(
    env: "Environment", entry: AssignmentEntry, seconds: float, sleep: Callable[[float], None]
) -> None:
    """Wait for the end of an entry's execution, and update the entry."""
    try:
        status = env.api.wait(entry["execution_id"], seconds, sleep)["status"]
    except StackStormError:
        # It has started: a second crew on the node would do more harm than a late failure.
        entry["status"], entry["is_running"] = ASSIGNED, True
        entry["details"] = "started; its end could not be observed"
        return
    entry["status"] = ASSIGNED if status == "succeeded" else FAILED
    entry["details"] = "it ended as %s" % status
