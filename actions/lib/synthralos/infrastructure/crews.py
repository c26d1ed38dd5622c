"""Repair crews: their load, and assigning nodes to them.

A crew of people is notified on the escalation channels; a crew that is a StackStorm action is run
once for each node. A node is `Assigned` if its crew was notified or its action succeeded or is
still running, else `Failed`.
"""

import dataclasses
import hashlib
import json
import time

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

FORMAT_VERSION = 1
ASSIGNED, FAILED = "Assigned", "Failed"
MAX_PAGES = 10
CHANNEL_SECONDS = 10.0
MAX_ATTEMPTS = 2
RETRY_DELAY_SECONDS = 1.0
MIN_SECONDS = 1.0
MAX_NODES_SHOWN = 100
MAX_TITLE_CHARS, MAX_TEXT_CHARS, MAX_FACT_CHARS = 300, 10_000, 500


def crew_loads(env, config):
    """Return {crew: number of nodes}, from the assignments of the last `busy_seconds`."""
    return {crew.name: _count_assignments(env, crew, config.busy_seconds) for crew in config.crews}


def _count_assignments(env, crew, busy_seconds):
    if not busy_seconds:
        return 0
    count, since = 0, env.now() - busy_seconds
    for page in range(MAX_PAGES):
        rows = env.store.list(_prefix(crew), limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        count += sum((timestamp_of_key(name) or 0.0) > since for name, _ in rows)
        if len(rows) < PAGE_SIZE:
            break
    return count


def _prefix(crew):
    return "%sassignment.%s." % (PREFIX, encode_key_part(crew.name))


def free_capacity(crew, load):
    """Return how many more nodes the crew can take, or None for any number."""
    if not crew.available:
        return 0
    return None if crew.capacity is None else max(0, crew.capacity - load)


def is_free(crew, load):
    return free_capacity(crew, load) != 0


def unsuitable_reason(crew, node):
    """Return why `crew` cannot take `node` (a topology.Node), or None if it can."""
    missing = [skill for skill in node.skills if skill not in crew.skills]
    if missing:
        return "%s lacks %s" % (crew.name, ", ".join(missing))
    if crew.action is not None and not is_name(node.name):
        return (
            "%s runs an action, so node names may only contain A-Z a-z 0-9 . _ : / @ + -" %
            crew.name
        )
    return None


def ignore_start(execution_id):
    """Do nothing about an execution that has started."""


def assign(
    env, config, crew, names, report, seconds, sleep=time.sleep, on_start=ignore_start
):
    """Assign the nodes `names` to `crew`.

    :param report: the impact report, which is sent to people.
    :param seconds: the time limit for all nodes together.
    :param on_start: called with the id of each execution of an action as soon as it has started.
    :returns: [{node, crew, status, details}], one entry for each node; an action's entry has its
        execution_id, and `is_running` if its end has not been observed.
    """
    if crew.action is not None:
        entries = run_actions(
            env, [(name, crew) for name in names], seconds, sleep, on_start
        )
    else:
        delivery = _notify(env, crew, names, report, seconds, sleep)
        entries = [dict({"node": name, "crew": crew.name}, **delivery) for name in names]
    for entry in entries:
        if entry["status"] == ASSIGNED and config.busy_seconds:
            value = json.dumps({"v": FORMAT_VERSION, "node": entry["node"], "run": env.run})
            env.store.put(_prefix(crew) + timestamp_key(env.now()), value, config.busy_seconds)
    assigned_count = sum(entry["status"] == ASSIGNED for entry in entries)
    run_log.emit("assign", crew=crew.name, nodes=len(entries), assigned=assigned_count)
    return entries


def _notify(env, crew, names, report, seconds, sleep):
    """Return {status, details}: Assigned if at least one channel accepted the notification."""
    try:
        escalation = ticketing.load_config(env, env.settings.escalation)
    except InvalidInput as error:
        return {"status": FAILED, "details": env.redactor.redact_text(str(error))}
    if crew.mail_to and escalation.mail is not None:
        mail = dataclasses.replace(escalation.mail, to=list(crew.mail_to))
        escalation = dataclasses.replace(escalation, mail=mail)
    notice = _build_notice(env, crew, names, report)
    deadline, channel_results, sent = env.now() + seconds, [], False
    for channel in crew.channels:
        is_sent, details = _send(env, escalation, channel, notice, deadline, sleep)
        sent = sent or is_sent
        channel_results.append("%s: %s" % (channel, details))
    return {
        "status": ASSIGNED if sent else FAILED,
        "details": env.redactor.redact_text("; ".join(channel_results)),
    }


def _send(env, escalation, channel, notice, deadline, sleep):
    """Send the notification on `channel`; return (whether it was sent, details in words)."""
    if channel != "announcement" and getattr(escalation, channel) is None:
        return False, "escalation.%s is not configured" % channel
    for attempt_number in range(1, MAX_ATTEMPTS + 1):
        seconds_left = min(CHANNEL_SECONDS, deadline - env.now())
        if seconds_left < MIN_SECONDS:
            return False, "no time was left"
        try:
            problem = sender_for(channel)(env, escalation, notice, seconds_left)
            return True, "sent" if problem is None else "sent; %s" % problem
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


def _build_notice(env, crew, names, report):
    """Build the notification for the channels, in the form of notifications.build_notification."""
    impact_by_node = {node_impact["node"]: node_impact for node_impact in report["nodes"]}
    # The report lists the most severe node first.
    worst = next(
        (impact_by_node[name] for name in impact_by_node if name in names), {"criticality": "low"}
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
        "severity": worst["criticality"],
        "subject": crew.name,
        "workflow": "infrastructure_repair",
        "cause": "assignment",
        "at": to_iso(env.now()),
        "title": sanitize_line(title, env.redactor, MAX_TITLE_CHARS),
        "text": sanitize_text("\n".join(text), env.redactor, MAX_TEXT_CHARS),
        "recommendations": [],
        "facts": facts,
    }


def _node_line(name, node_impact):
    if node_impact is None:
        return "- %s" % name
    return "- %s: %s" % (name, describe(node_impact))


def run_actions(env, jobs, seconds, sleep=time.sleep, on_start=ignore_start):
    """Start an execution for each job, then wait for all.

    :param jobs: [(name of the node, Crew that is an action)].
    :param seconds: the time limit for all jobs together; that of each crew counts, too.
    :param on_start: as for `assign`.
    :returns: as `assign` returns it.
    """
    problems = {crew.action: _action_problem(env, crew) for _, crew in jobs}
    entries, started_at = [], env.now()
    for name, crew in jobs:
        entry = {"node": name, "crew": crew.name, "status": FAILED}
        entries.append(dict(entry, details=problems[crew.action]))
        if problems[crew.action] is None:
            entries[-1].update(_start(env, name, crew))
            if "execution_id" in entries[-1]:
                on_start(entries[-1]["execution_id"])
    for entry, (_, crew) in zip(entries, jobs):
        if "execution_id" in entry:
            seconds_left = started_at + min(seconds, crew.seconds) - env.now()
            entry.update(_wait_for_end(env, entry["execution_id"], max(0.0, seconds_left), sleep))
    return entries


def _start(env, name, crew):
    """Start the action of `crew` for a node; return {execution_id}, or {details} of the failure."""
    parameters = dict(crew.parameters)
    if crew.node_parameter is not None:
        if not is_name(name):
            return {"details": "the node's name cannot be passed to an action"}
        parameters[crew.node_parameter] = name
    try:
        return {"execution_id": env.api.start(crew.action, parameters)}
    except StackStormError as error:
        return {"details": str(error)}


def _action_problem(env, crew):
    if env.api is None:
        return "there is no StackStorm API to run %s" % crew.action
    try:
        action = env.api.action(crew.action)
    except StackStormError as error:
        return str(error)
    if action is None:
        return "there is no action %s" % crew.action
    return "the action %s is disabled" % crew.action if action.get("enabled") is False else None


def _wait_for_end(env, execution_id, seconds, sleep):
    try:
        status = env.api.wait(execution_id, seconds, sleep)["status"]
    except StackStormError:
        # It has started: a second crew on the node would do more harm than a late failure.
        details = "started; its end could not be observed"
        return {"status": ASSIGNED, "details": details, "is_running": True}
    succeeded = status == "succeeded"
    return {"status": ASSIGNED if succeeded else FAILED, "details": "it ended as %s" % status}
