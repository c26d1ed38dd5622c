"""Opens, takes, resolves and escalates tickets, and sends their notifications."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.core.timestamps import parse_iso
from synthralos.escalation import notifications, priority, ticket_analysis
from synthralos.escalation.config import CHANNELS, EscalationConfig
from synthralos.escalation.notifications import Delivery
from synthralos.escalation.ticket_evidence import Evidence
from synthralos.storage import tickets
from synthralos.storage.tickets import Occurrence, Ticket

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

TRIGGER = "synthralos.ticket_opened"
RECENT_WINDOW_SECONDS = 3600.0
NOTIFY_SECONDS = 5.0
# StackStorm ends an action after 600 s, and its result would be lost.
PROCESS_SECONDS = 240.0


class OpenedTicket(Occurrence):
    """A ticket after an occurrence of its problem, and what was sent of it."""

    notifications: list[Delivery]


class ChangedTicket(Ticket):
    """A ticket that somebody has taken or resolved, and what was sent of that."""

    notifications: list[Delivery]


class ProcessedTicket(TypedDict):
    """A ticket after `process_due`. `previous_level`: the level before, or None if it is the same.
    """

    ticket: str
    level: str
    priority: float
    previous_level: Optional[str]
    notifications: list[Delivery]


class Processed(TypedDict):
    """What `process_due` has done. `open`: how many tickets are open; `raised`: how many were
    escalated; `tickets`: those that were escalated or notified; `channels`: {name: state}.
    """

    open: int
    raised: int
    tickets: list[ProcessedTicket]
    channels: dict[str, str]


def load_config(env: "Environment", entry: object) -> EscalationConfig:
    """Return the EscalationConfig of the object `entry`, and mask its secrets from now on."""
    config = EscalationConfig.from_config(entry)
    for secret in config.secrets():
        env.redactor.add(secret)
    return config


def open_ticket(
    env: "Environment",
    config: EscalationConfig,
    workflow: str,
    subject: str,
    failure: Mapping[str, Any],
    summary: str,
    level: Optional[str] = None,
    sleep: Callable[[float], None] = time.sleep,
    attempts: int = 0,
    impact: Optional[float] = None,
    details: Optional[dict[str, Any]] = None,
    evidence: Optional[Sequence[Evidence]] = None,
) -> Optional[OpenedTicket]:
    """Open the ticket of a problem, or add an occurrence to it, and send due notifications.

    :param failure: {type, cause, severity}.
    :param summary: one redacted line.
    :param level: the minimum level of the ticket, or None.
    :param attempts, impact, details, evidence: see tickets.record_occurrence.
    :returns: None if the ticket could not be recorded.
    """
    ticket = tickets.record_occurrence(
        env.store, env.now(), workflow, subject, failure, env.run, summary,
        prioritize=priority.make_prioritizer(config, level), attempts=attempts, impact=impact,
        details=details, evidence=evidence,
    )
    if ticket is None:
        return None
    sent = _send_due(env, config, ticket["ticket"], NOTIFY_SECONDS, sleep)
    if ticket["new"]:
        _fire_opened(env, ticket, subject, failure)
    return {**ticket, "notifications": sent}


def open_failure_ticket(
    env: "Environment",
    entry: object,
    workflow: str,
    subject: str,
    failure: Mapping[str, Any],
    summary: str,
    sleep: Callable[[float], None] = time.sleep,
    level: Optional[str] = None,
    attempts: int = 0,
    impact: Optional[float] = None,
    details: Optional[dict[str, Any]] = None,
    evidence: Optional[Sequence[Evidence]] = None,
) -> Optional[OpenedTicket]:
    """Like `open_ticket`, for the record of a failed run; it does not raise.

    With an invalid configuration the ticket is still opened, by the defaults: no notification is
    sent, and `notifications` contains the error.
    """
    config_error: Optional[InvalidInput] = None
    try:
        config = load_config(env, entry)
    except InvalidInput as error:
        config, config_error = EscalationConfig(on=()), error
    ticket = open_ticket(
        env, config, workflow, subject, failure, summary, level, sleep, attempts, impact, details,
        evidence,
    )
    if ticket is not None and config_error is not None:
        ticket["notifications"] = [
            {
                "action": notifications.TRIGGER, "channel": name, "status": "failed", "tries": 0,
                "error": str(config_error),
            }
            for name in CHANNELS
        ]
    return ticket


def take(
    env: "Environment",
    config: EscalationConfig,
    ticket_id: str,
    actor: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Optional[ChangedTicket]:
    """Mark the ticket as in progress.

    :returns: None if the change could not be recorded.
    """
    ticket = tickets.take(env.store, env.now(), ticket_id, actor, env.run)
    return _with_notifications(env, config, ticket, sleep)


def resolve(
    env: "Environment",
    config: EscalationConfig,
    ticket_id: str,
    resolution: str,
    actor: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Optional[ChangedTicket]:
    """Mark the ticket as resolved.

    :returns: None if the change could not be recorded.
    """
    ticket = tickets.resolve(env.store, env.now(), ticket_id, resolution, actor, env.run)
    return _with_notifications(env, config, ticket, sleep)


def process_due(
    env: "Environment", config: EscalationConfig, sleep: Callable[[float], None] = time.sleep
) -> Processed:
    """Escalate the tickets that nobody took in time, and send due notifications.

    The most urgent tickets come first. Concurrent calls are safe. Notifications that are not sent
    within PROCESS_SECONDS, because channels hang, are due again in the next call.
    """
    heads = tickets.list_tickets(env.store)
    recent = env.now() - RECENT_WINDOW_SECONDS
    live = [
        head
        for head in heads
        if head["status"] != tickets.RESOLVED or (parse_iso(head["at"]) or 0) > recent
    ]
    live.sort(key=lambda head: (tickets.rank(head["level"]), head["priority"]), reverse=True)
    deadline = time.monotonic() + PROCESS_SECONDS
    changed: list[ProcessedTicket] = []
    for head in live:
        seconds = min(notifications.TIMEOUT_SECONDS, deadline - time.monotonic())
        result = _process_one(env, config, head, seconds, sleep)
        if result is not None and (result["previous_level"] or result["notifications"]):
            changed.append(result)
    return {
        "open": sum(head["status"] != tickets.RESOLVED for head in live),
        "raised": sum(result["previous_level"] is not None for result in changed),
        "tickets": changed,
        "channels": {channel: config.state(channel) for channel in CHANNELS},
    }


def _process_one(
    env: "Environment",
    config: EscalationConfig,
    head: Ticket,
    seconds: float,
    sleep: Callable[[float], None],
) -> Optional[ProcessedTicket]:
    try:
        ticket = tickets.get(env.store, head["ticket"])
    except InvalidInput:
        # Its events have expired before its head, or the datastore is unavailable.
        return None
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


def _is_overdue(config: EscalationConfig, ticket: Ticket, now: float) -> bool:
    since = parse_iso(ticket["level_since"])
    return (
        config.escalation_timeout > 0 and
        ticket["status"] == tickets.OPEN and
        ticket["level"] != tickets.LEVELS[-1] and
        since is not None and
        now - since >= config.escalation_timeout
    )


def _fire_opened(
    env: "Environment", ticket: Occurrence, subject: str, failure: Mapping[str, Any]
) -> None:
    env.fire(TRIGGER, {
        "ticket": ticket["ticket"],
        "level": ticket["level"],
        "status": ticket["status"],
        "priority": round(ticket["priority"]),
        "problem": failure.get("cause"),
        "run": env.run or None,
        "agent_id": subject if is_name(subject) else None,
    })


def _with_notifications(
    env: "Environment",
    config: EscalationConfig,
    ticket: Optional[Ticket],
    sleep: Callable[[float], None],
) -> Optional[ChangedTicket]:
    if ticket is None:
        return None
    sent = _send_due(env, config, ticket["ticket"], NOTIFY_SECONDS, sleep)
    return {
        **ticket,
        "notifications": [
            notification for notification in sent if notification["status"] in ("sent", "failed")
        ],
    }


def _send_due(
    env: "Environment",
    config: EscalationConfig,
    ticket_id: str,
    seconds: float,
    sleep: Callable[[float], None],
) -> list[Delivery]:
    try:
        ticket = tickets.get(env.store, ticket_id)
    except InvalidInput:
        return []
    return notifications.send_due(
        env, config, ticket, lambda: ticket_analysis.analyze_ticket(env, ticket), seconds, sleep
    )
