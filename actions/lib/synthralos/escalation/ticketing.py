"""Opens, takes, resolves and escalates tickets, and sends their notifications."""

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
# StackStorm ends an action after 600 s, and its result would be lost.
PROCESS_SECONDS = 240.0


def load_config(env, entry):
    """Return the EscalationConfig of the mapping `entry`, and mask its secrets from now on."""
    config = EscalationConfig.from_config(entry)
    for secret in config.secrets():
        env.redactor.add(secret)
    return config


def open_ticket(env, config, workflow, subject, failure, summary, level=None, sleep=time.sleep,
                **fields):
    """Open the ticket of a problem, or add an occurrence to it, and send due notifications.

    :param failure: {type, cause, severity}.
    :param summary: one redacted line.
    :param level: the minimum level of the ticket, or None.
    :param fields: attempts, impact and details of tickets.record_occurrence.
    :returns: the result of tickets.record_occurrence with `notifications`, or None if the ticket
        could not be recorded.
    """
    ticket = tickets.record_occurrence(
        env.store, env.now(), workflow, subject, failure, env.run, summary,
        prioritize=priority.make_prioritizer(config, level), **fields
    )
    if ticket is None:
        return None
    sent = _send_due(env, config, ticket["ticket"], NOTIFY_SECONDS, sleep)
    if ticket["new"]:
        _fire_opened(env, ticket, subject, failure)
    return dict(ticket, notifications=sent)


def open_failure_ticket(
    env, entry, workflow, subject, failure, summary, sleep=time.sleep, **fields
):
    """Like `open_ticket`, for the record of a failed run; it does not raise.

    With an invalid configuration the ticket is still opened, by the defaults: no notification is
    sent, and `notifications` contains the error.
    """
    try:
        config, config_error = load_config(env, entry), None
    except InvalidInput as error:
        config, config_error = EscalationConfig(on=()), error
    ticket = open_ticket(env, config, workflow, subject, failure, summary, sleep=sleep, **fields)
    if ticket is not None and config_error is not None:
        ticket["notifications"] = [
            {
                "action": notifications.TRIGGER, "channel": name, "status": "failed", "tries": 0,
                "error": str(config_error),
            }
            for name in CHANNELS
        ]
    return ticket


def take(env, config, ticket_id, actor, sleep=time.sleep):
    """Mark the ticket as in progress.

    :returns: the ticket with `notifications`, or None if the change could not be recorded.
    """
    ticket = tickets.take(env.store, env.now(), ticket_id, actor, env.run)
    return _with_notifications(env, config, ticket, sleep)


def resolve(env, config, ticket_id, resolution, actor, sleep=time.sleep):
    """Mark the ticket as resolved.

    :returns: the ticket with `notifications`, or None if the change could not be recorded.
    """
    ticket = tickets.resolve(env.store, env.now(), ticket_id, resolution, actor, env.run)
    return _with_notifications(env, config, ticket, sleep)


def process_due(env, config, sleep=time.sleep):
    """Escalate the tickets that nobody took in time, and send due notifications.

    The most urgent tickets come first. Concurrent calls are safe. Notifications that are not sent
    within PROCESS_SECONDS, because channels hang, are due again in the next call.

    :returns: {open, raised, tickets [{ticket, level, priority, previous_level, notifications}],
        channels {name: state}}; `tickets` lists the tickets that were escalated or notified.
    """
    heads = tickets.list_tickets(env.store)
    recent = env.now() - RECENT_WINDOW_SECONDS
    live = [
        head
        for head in heads
        if head["status"] != tickets.RESOLVED or (parse_iso(head["at"]) or 0) > recent
    ]
    live.sort(key=lambda head: (tickets.rank(head["level"]), head["priority"]), reverse=True)
    changed, deadline = [], time.monotonic() + PROCESS_SECONDS
    for head in live:
        seconds = min(notifications.TIMEOUT_SECONDS, deadline - time.monotonic())
        result = _process_one(env, config, head, seconds, sleep)
        if result["previous_level"] or result["notifications"]:
            changed.append(result)
    return {
        "open": sum(head["status"] != tickets.RESOLVED for head in live),
        "raised": sum(result["previous_level"] is not None for result in changed),
        "tickets": changed,
        "channels": {channel: config.state(channel) for channel in CHANNELS},
    }


def _process_one(env, config, head, seconds, sleep):
    try:
        ticket = tickets.get(env.store, head["ticket"])
    except InvalidInput:
        # Its events have expired before its head, or the datastore is unavailable.
        return {"previous_level": None, "notifications": []}
    tickets.repair_head(env.store, ticket, head)
    previous_level = ticket["level"]
    if _is_overdue(config, ticket, env.now()):
        level = tickets.LEVELS[tickets.rank(previous_level) + 1]
        reason = "nobody took it within %d s" % config.escalation_timeout
        raised = tickets.escalate(env.store, env.now(), ticket["ticket"], level, reason, env.run)
        ticket["level"] = previous_level if raised is None else raised["level"]
    sent = _send_due(env, config, ticket["ticket"], seconds, sleep) if seconds >= 1 else []
    return {
        "ticket": ticket["ticket"],
        "level": ticket["level"],
        "priority": ticket["priority"],
        "previous_level": previous_level if ticket["level"] != previous_level else None,
        "notifications": [
            notification for notification in sent if notification["status"] in ("sent", "failed")
        ],
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


def _fire_opened(env, ticket, subject, failure):
    payload = {name: ticket[name] for name in ("ticket", "level", "status", "priority")}
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
    return dict(
        ticket,
        notifications=[
            notification for notification in sent if notification["status"] in ("sent", "failed")
        ],
    )


def _send_due(env, config, ticket_id, seconds, sleep):
    try:
        ticket = tickets.get(env.store, ticket_id)
    except InvalidInput:
        return []
    return notifications.send_due(
        env, config, ticket, lambda: ticket_analysis.analyze_ticket(env, ticket), seconds, sleep
    )
