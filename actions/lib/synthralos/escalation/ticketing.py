"""What is done with tickets: opened, taken, resolved and gone over; who must know is told."""

import time

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.core.timestamps import parse_iso
from synthralos.escalation import notifications, priority, ticket_analysis
from synthralos.escalation.config import CHANNELS, EscalationConfig
from synthralos.storage import tickets

TRIGGER = "synthralos.ticket_opened"
RECENT_WINDOW_SECONDS = 3600.0
NOTIFY_SECONDS = 5.0
# StackStorm ends an action after 600 s, and what it had done would not be told.
PROCESS_SECONDS = 240.0


def load_config(env, entry):
    """config.Escalation of the mapping `entry`; its secrets are masked from now on."""
    config = EscalationConfig.from_config(entry)
    for secret in config.secrets():
        env.redactor.add(secret)
    return config


def open_ticket(env, config, workflow, subject, failure, summary, level=None, sleep=time.sleep,
                **more):
    """Opens the ticket of a problem, or adds to it, and sends what is due.

    :param failure: {type, cause, severity}.
    :param summary: one redacted line.
    :param level: the lowest that its level may be.
    :param more: attempts, impact and details of tickets.report.
    :returns: what tickets.report returns, and `notifications`; None when the ticket could not be
        recorded.
    """
    told = tickets.record_occurrence(
        env.store, env.now(), workflow, subject, failure, env.run, summary,
        prioritize=priority.make_prioritizer(config, level), **more
    )
    if told is None:
        return None
    sent = _send_due(env, config, told["ticket"], NOTIFY_SECONDS, sleep)
    if told["new"]:
        _fire_opened(env, told, subject, failure)
    return dict(told, notifications=sent)


def open_failure_ticket(env, entry, workflow, subject, failure, summary, sleep=time.sleep, **more):
    """As `open_ticket`, for the record of a run that failed: nothing here raises.

    A configuration that is wrong does not keep the ticket from being opened: the defaults hold,
    nobody is told, and `notifications` says why.
    """
    try:
        config, wrong = load_config(env, entry), None
    except InvalidInput as error:
        config, wrong = EscalationConfig(on=()), error
    told = open_ticket(env, config, workflow, subject, failure, summary, sleep=sleep, **more)
    if told is not None and wrong is not None:
        told["notifications"] = [
            {
                "action": notifications.TRIGGER, "channel": name, "status": "failed", "tries": 0,
                "error": str(wrong),
            }
            for name in CHANNELS
        ]
    return told


def take(env, config, ticket_id, by, sleep=time.sleep):
    """The ticket, in progress, with `notifications`. None when it could not be recorded."""
    taken = tickets.take(env.store, env.now(), ticket_id, by, env.run)
    return _with_notifications(env, config, taken, sleep)


def resolve(env, config, ticket_id, resolution, by, sleep=time.sleep):
    """The ticket, resolved, with `notifications`. None when it could not be recorded."""
    resolved = tickets.resolve(env.store, env.now(), ticket_id, resolution, by, env.run)
    return _with_notifications(env, config, resolved, sleep)


def process_due(env, config, sleep=time.sleep):
    """Goes over the tickets, the most urgent first: raises those that nobody took in time, and
    sends what is due. Two that run at once do no harm. What is not sent within PROCESS_SECONDS, for
    channels hang, is due the next time.

    :returns: {open, raised, tickets [{ticket, level, priority, previous_level, notifications}],
        channels {name: state}}; `tickets` holds those with which something was done.
    """
    heads = tickets.list_tickets(env.store)
    recent = env.now() - RECENT_WINDOW_SECONDS
    live = [
        head
        for head in heads
        if head["status"] != tickets.RESOLVED or (parse_iso(head["at"]) or 0) > recent
    ]
    live.sort(key=lambda head: (tickets.rank(head["level"]), head["priority"]), reverse=True)
    done, ends = [], time.monotonic() + PROCESS_SECONDS
    for head in live:
        seconds = min(notifications.TIMEOUT_SECONDS, ends - time.monotonic())
        told = _process_one(env, config, head, seconds, sleep)
        if told["previous_level"] or told["notifications"]:
            done.append(told)
    return {
        "open": sum(head["status"] != tickets.RESOLVED for head in live),
        "raised": sum(told["previous_level"] is not None for told in done),
        "tickets": done,
        "channels": {channel: config.state(channel) for channel in CHANNELS},
    }


def _process_one(env, config, head, seconds, sleep):
    try:
        ticket = tickets.get(env.store, head["ticket"])
    except InvalidInput:
        # Its events have expired before its head, or the datastore has gone away.
        return {"previous_level": None, "notifications": []}
    tickets.repair_head(env.store, ticket, head)
    before = ticket["level"]
    if _is_overdue(config, ticket, env.now()):
        level = tickets.LEVELS[tickets.rank(before) + 1]
        why = "nobody took it within %d s" % config.escalation_timeout
        raised = tickets.escalate(env.store, env.now(), ticket["ticket"], level, why, env.run)
        ticket["level"] = before if raised is None else raised["level"]
    sent = _send_due(env, config, ticket["ticket"], seconds, sleep) if seconds >= 1 else []
    return {
        "ticket": ticket["ticket"],
        "level": ticket["level"],
        "priority": ticket["priority"],
        "previous_level": before if ticket["level"] != before else None,
        "notifications": [one for one in sent if one["status"] in ("sent", "failed")],
    }


def _is_overdue(config, ticket, now):
    since = parse_iso(ticket["level_since"])
    return (
        config.escalation_timeout > 0 and
        ticket["status"] == tickets.OPEN and
        ticket["level"] != tickets.LEVELS[-1] and
        since is not None and
        now - since >= config.escalation_timeout
    )


def _fire_opened(env, told, subject, failure):
    payload = {name: told[name] for name in ("ticket", "level", "status", "priority")}
    payload["priority"] = round(payload["priority"])
    payload.update(
        problem=failure.get("cause"), run=env.run or None,
        agent_id=subject if is_name(subject) else None,
    )
    env.fire(TRIGGER, payload)


def _with_notifications(env, config, ticket, sleep):
    if ticket is None:
        return None
    sent = _send_due(env, config, ticket["ticket"], NOTIFY_SECONDS, sleep)
    return dict(ticket, notifications=[one for one in sent if one["status"] in ("sent", "failed")])


def _send_due(env, config, ticket_id, seconds, sleep):
    try:
        ticket = tickets.get(env.store, ticket_id)
    except InvalidInput:
        return []
    return notifications.send_due(
        env, config, ticket, lambda: ticket_analysis.analyze_ticket(env, ticket), seconds, sleep
    )
