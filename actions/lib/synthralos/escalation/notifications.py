"""Determines which notifications of a ticket are due, and sends each of them once.

For an open ticket, a `trigger` is due on every channel for each level that it reaches, starting at
`notify_from`; for a ticket that was taken or resolved, an `acknowledge` or `resolve` on the webhook
if it was sent the trigger. Sent notifications are recorded per channel, and the sender holds a lock
in the meantime. If the process dies between sending and recording, the notification is sent again,
and so is one that a channel accepted only after the time limit.

The channels are notified in parallel, each in its own thread: a channel that hangs does not take
time from the others, and together they take no longer than the limit of one.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.core.sanitize import sanitize_line, sanitize_text, sanitize_value
from synthralos.escalation.config import CHANNELS, EscalationConfig
from synthralos.storage import tickets
from synthralos.storage.datastore import PREFIX, BestEffortDatastore
from synthralos.storage.keyspace import lifetime_of
from synthralos.storage.locks import try_lock
from synthralos.storage.tickets import Ticket
from synthralos.telemetry import run_log

if TYPE_CHECKING:
    from synthralos.escalation.ticket_analysis import TicketReport
    from synthralos.runtime.environment import Environment

MAX_ATTEMPTS = 3
FIRST_WAIT, MAX_WAIT_SECONDS = 1.0, 8.0
TIMEOUT_SECONDS = 20.0
# How late a channel may report its own timeout: its error is more precise than ours.
LATE_SECONDS = 0.5
TTL_SECONDS = lifetime_of("notification")
MAX_TITLE_CHARS, MAX_TEXT_CHARS, MAX_FACT_CHARS = 300, 10_000, 500
TRIGGER, ACKNOWLEDGE, RESOLVE = "trigger", "acknowledge", "resolve"


class Notice(TypedDict):
    """What is sent on a channel: ids, enums, numbers and sanitized text.

    `action`: TRIGGER, ACKNOWLEDGE or RESOLVE; `ticket`: an id that is the same in all notices of
    one matter; `at`: in ISO 8601; `facts`: for whoever processes it.
    """

    action: str
    ticket: str
    severity: Optional[str]
    subject: str
    workflow: str
    cause: Optional[str]
    at: str
    title: str
    text: str
    recommendations: list[str]
    facts: dict[str, Any]


class Delivery(TypedDict):
    """What became of a notice on a channel.

    `status`: sent, failed, not_configured or off; `tries`: how often it was sent; `error`: why it
    failed, or which recipients did not receive it, or None.
    """

    action: str
    channel: str
    status: str
    tries: int
    error: Optional[str]


def due_notifications(
    config: EscalationConfig, store: BestEffortDatastore, ticket: Ticket
) -> list[tuple[str, str]]:
    """Return [(action, channel)] of the due notifications on enabled and configured channels."""
    ready = [channel for channel in CHANNELS if config.state(channel) == "ready"]
    sent = _already_sent(store, ticket)
    due: list[tuple[str, str]] = []
    if ticket["status"] != tickets.RESOLVED and _should_notify(config, ticket):
        due = [(TRIGGER, channel) for channel in ready]
    follow_up = {tickets.IN_PROGRESS: ACKNOWLEDGE, tickets.RESOLVED: RESOLVE}.get(ticket["status"])
    webhook_triggered = any(name.startswith(TRIGGER) and name.endswith("-webhook") for name in sent)
    if follow_up and webhook_triggered and "webhook" in ready:
        due.append((follow_up, "webhook"))
    return [item for item in due if _record_name(ticket, *item) not in sent]


def send_due(
    env: "Environment",
    config: EscalationConfig,
    ticket: Ticket,
    report: "Callable[[], TicketReport]",
    seconds: float = TIMEOUT_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Delivery]:
    """Send the due notifications of a ticket.

    :param ticket: as tickets.get returns it.
    :param report: returns the ticket's report; called only if something is sent.
    :param seconds: the time limit for all channels together, including retries.
    :returns: those that are not_configured or off are included if a trigger was sent, or if no
        channel is usable. Empty if nothing is due, or another process is sending it.
    """
    states = {channel: config.state(channel) for channel in CHANNELS}
    not_ready = [
        _result(TRIGGER, channel, state, 0) for channel, state in states.items() if state != "ready"
    ]
    due = due_notifications(config, env.store, ticket)
    if not due:
        none_ready = "ready" not in states.values() and ticket["status"] != tickets.RESOLVED
        return not_ready if none_ready and _should_notify(config, ticket) else []
    lock_name = "%s-%s-%s-%s" % (
        ticket["ticket"], ticket["period"], ticket["level"], ticket["status"]
    )
    with try_lock(env.store, lock_name, env.now, sleep) as acquired:
        # Another process may have sent it before we acquired the lock.
        due = due_notifications(config, env.store, ticket) if acquired else []
        pending: list[tuple[tuple[str, str], Notice]] = []
        if due:
            content = report()
            pending = [
                ((action, channel), build_notification(env, ticket, action, content))
                for action, channel in due
            ]
        results = send_in_parallel(env, config, pending, seconds, sleep)
        for result in results:
            if result["status"] == "sent":
                _record_sent(env.store, env.now(), ticket, result)
    has_trigger = any(result["action"] == TRIGGER for result in results)
    return results + not_ready if has_trigger else results


def build_notification(
    env: "Environment", ticket: Ticket, action: str, report: "TicketReport"
) -> Notice:
    """Build the notification for the channels: ids, enums, numbers and sanitized text."""
    redactor = env.redactor
    fields: Mapping[str, Any] = ticket
    facts = {
        name: fields[name]
        for name in (
            "ticket", "level", "status", "priority", "severity", "workflow", "subject", "type",
            "cause", "occurrences", "attempts", "taken_by",
        )
    }
    facts["since"], facts["run"] = ticket["opened_at"], ticket["run"]
    facts["summary"] = sanitize_line(ticket["summary"], redactor, MAX_FACT_CHARS)
    if action == RESOLVE:
        facts["resolved_by"] = ticket["resolved_by"]
        facts["resolution"] = sanitize_line(ticket["resolution"], redactor, MAX_FACT_CHARS)
    facts = sanitize_value(facts, redactor, MAX_FACT_CHARS)
    label = {TRIGGER: ticket["level"], ACKNOWLEDGE: "taken", RESOLVE: "resolved"}[action]
    title = "[synthralos] %s %s: %s" % (label, ticket["ticket"], ticket["summary"])
    return {
        "action": action,
        "ticket": ticket["ticket"],
        "severity": ticket["severity"],
        "subject": facts["subject"],
        "workflow": facts["workflow"],
        "cause": facts["cause"],
        "at": ticket["at"],
        "title": sanitize_line(title, redactor, MAX_TITLE_CHARS),
        "text": sanitize_text(report["markdown"], redactor, MAX_TEXT_CHARS),
        "recommendations": sanitize_value(report["recommendations"], redactor, MAX_FACT_CHARS),
        "facts": facts,
    }


def send_in_parallel(
    env: "Environment",
    config: EscalationConfig,
    pending: Sequence[tuple[tuple[str, str], Notice]],
    seconds: float,
    sleep: Callable[[float], None],
) -> list[Delivery]:
    """Send [((action, channel), notification)]; return the results in the same order."""
    deadline = time.monotonic() + seconds + LATE_SECONDS
    results = [
        _result(action, channel, "failed", 1, "no response within %g s" % seconds)
        for (action, channel), _ in pending
    ]

    def send(n: int, action: str, channel: str, notice: Notice) -> None:
        results[n] = _send(env, config, action, channel, notice, seconds, sleep)

    # Daemon threads: one that hangs in a DNS lookup must not keep the process alive.
    threads = [
        threading.Thread(target=send, args=(n, action, channel, notice), daemon=True)
        for n, ((action, channel), notice) in enumerate(pending)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return list(results)


def _send(
    env: "Environment",
    config: EscalationConfig,
    action: str,
    channel: str,
    notification: Notice,
    seconds: float,
    sleep: Callable[[float], None],
) -> Delivery:
    import tenacity

    from synthralos.escalation import channels

    started_at = time.monotonic()
    attempts: list[int] = []

    def attempt() -> Optional[str]:
        attempts.append(1)
        seconds_left = max(0.1, seconds - (time.monotonic() - started_at))
        return channels.sender_for(channel)(env, config, notification, seconds_left)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(MAX_ATTEMPTS) |
        tenacity.stop_after_delay(seconds - FIRST_WAIT),
        wait=tenacity.wait_exponential_jitter(initial=FIRST_WAIT, max=MAX_WAIT_SECONDS, jitter=1),
        retry=tenacity.retry_if_exception_type(channels.RetryableDeliveryError),
        sleep=sleep,
        reraise=True,
    )
    try:
        problem = retrying(attempt)
    except (channels.DeliveryError, InvalidInput) as error:
        return _result(
            action, channel, "failed", len(attempts), env.redactor.redact_text(str(error))
        )
    except Exception as error:
        # One failing channel must stop neither the other channels nor the record.
        run_log.write_traceback(env.redactor.redact_text)
        return _result(action, channel, "failed", len(attempts), type(error).__name__)
    return _result(action, channel, "sent", len(attempts), problem)


def _result(
    action: str, channel: str, status: str, attempts: int, error: Optional[str] = None
) -> Delivery:
    return {
        "action": action, "channel": channel, "status": status, "tries": attempts, "error": error
    }


def _should_notify(config: EscalationConfig, ticket: Ticket) -> bool:
    return tickets.rank(ticket["level"]) >= tickets.rank(config.notify_from)


def _record_name(ticket: Ticket, action: str, channel: str) -> str:
    level = ticket["level"] if action == TRIGGER else "any"
    return "%s-%s-%s" % (action, level, channel)


def _prefix(ticket: Ticket) -> str:
    return "%snotification.%s.%s." % (PREFIX, ticket["ticket"], ticket["period"])


def _already_sent(store: BestEffortDatastore, ticket: Ticket) -> set[str]:
    """Return the record names of the notifications sent since the ticket was opened."""
    prefix = _prefix(ticket)
    return {name[len(prefix):] for name, _ in store.list(prefix)}


def _record_sent(store: BestEffortDatastore, now: float, ticket: Ticket, result: Delivery) -> None:
    name = _prefix(ticket) + _record_name(ticket, result["action"], result["channel"])
    value = json.dumps({"at": int(now), "tries": result["tries"]}, separators=(",", ":"))
    store.put(name, value, TTL_SECONDS)
