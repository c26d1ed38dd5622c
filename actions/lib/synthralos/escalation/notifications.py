"""Which notifications of a ticket are due, and sending each of them once.

Due is: of an open ticket, a `trigger` on every channel for each level that it reaches, from
`notify_from` upwards; of one that was taken or resolved, an `acknowledge` or `resolve` on the
webhook, where that has had the trigger. What was sent is written down per channel; who sends holds
a claim meanwhile. When one dies between sending and writing, the notification goes out again, and
so does one that a channel took only after its time was up.

The channels are told at once, each in a thread of its own: one that hangs takes none of the others'
time, and all together take no more than one may.
"""

import json
import threading
import time

from synthralos.core.errors import InvalidInput
from synthralos.core.sanitize import sanitize_line, sanitize_text, sanitize_value
from synthralos.escalation import channels
from synthralos.escalation.config import CHANNELS
from synthralos.storage import tickets
from synthralos.storage.datastore import PREFIX
from synthralos.storage.keyspace import lifetime_of
from synthralos.storage.locks import try_lock
from synthralos.telemetry import run_log

MAX_ATTEMPTS = 3
FIRST_WAIT, MAX_WAIT_SECONDS = 1.0, 8.0
TIMEOUT_SECONDS = 20.0
# What a channel that keeps to its time may be late; it says better than we do why it failed.
LATE_SECONDS = 0.5
TTL_SECONDS = lifetime_of("notification")
MAX_TITLE_CHARS, MAX_TEXT_CHARS, MAX_FACT_CHARS = 300, 10_000, 500
TRIGGER, ACKNOWLEDGE, RESOLVE = "trigger", "acknowledge", "resolve"


def due_notifications(config, store, ticket):
    """[(action, channel)] of what is due on the channels that are switched on and configured."""
    ready = [channel for channel in CHANNELS if config.state(channel) == "ready"]
    sent = _already_sent(store, ticket)
    found = []
    if ticket["status"] != tickets.RESOLVED and _should_notify(config, ticket):
        found = [(TRIGGER, channel) for channel in ready]
    after = {tickets.IN_PROGRESS: ACKNOWLEDGE, tickets.RESOLVED: RESOLVE}.get(ticket["status"])
    told = any(name.startswith(TRIGGER) and name.endswith("-webhook") for name in sent)
    if after and told and "webhook" in ready:
        found.append((after, "webhook"))
    return [one for one in found if _record_name(ticket, *one) not in sent]


def send_due(env, config, ticket, report, seconds=TIMEOUT_SECONDS, sleep=time.sleep):
    """Sends what is due; returns [{action, channel, status, tries, error}].

    status is sent, failed, not_configured or off; the last two are told with what is sent, and
    where no channel can be used at all. Empty when nothing is due, or another process sends it.

    :param ticket: as tickets.get gives it.
    :param report: a callable () -> the ticket's report; called only when something is sent.
    :param seconds: what all channels have together, their repeats included.
    """
    states = {channel: config.state(channel) for channel in CHANNELS}
    others = [
        _result(TRIGGER, channel, state, 0) for channel, state in states.items() if state != "ready"
    ]
    wanted = due_notifications(config, env.store, ticket)
    if not wanted:
        nobody = "ready" not in states.values() and ticket["status"] != tickets.RESOLVED
        return others if nobody and _should_notify(config, ticket) else []
    what = "%s-%s-%s-%s" % (
        ticket["ticket"], ticket["period"], ticket["level"], ticket["status"]
    )
    results = []
    with try_lock(env.store, what, env.now, sleep) as mine:
        # Before the claim was ours somebody may have sent it, and gone.
        wanted = due_notifications(config, env.store, ticket) if mine else []
        made = report() if wanted else None
        told = [(one, build_notification(env, ticket, one[0], made)) for one in wanted]
        results = _send_in_parallel(env, config, told, seconds, sleep)
        for result in results:
            if result["status"] == "sent":
                _record_sent(env.store, env.now(), ticket, result)
    return results + others if any(one["action"] == TRIGGER for one in results) else results


def build_notification(env, ticket, action, report):
    """What the channels are given: ids, enums, numbers and harmless text."""
    redactor = env.redactor
    facts = {
        name: ticket[name]
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
    what = {TRIGGER: ticket["level"], ACKNOWLEDGE: "taken", RESOLVE: "resolved"}[action]
    title = "[synthralos] %s %s: %s" % (what, ticket["ticket"], ticket["summary"])
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


def _send_in_parallel(env, config, told, seconds, sleep):
    """The results of [((action, channel), notice)], in that order."""
    ends = time.monotonic() + seconds + LATE_SECONDS
    made = [
        _result(action, channel, "failed", 1, "no answer within %g s" % seconds)
        for (action, channel), _ in told
    ]

    def send(n, action, channel, notice):
        made[n] = _send(env, config, action, channel, notice, seconds, sleep)

    # Daemons: one that hangs in a look-up of a name must not keep the process from ending.
    threads = [
        threading.Thread(target=send, args=(n, action, channel, notice), daemon=True)
        for n, ((action, channel), notice) in enumerate(told)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    return list(made)


def _send(env, config, action, channel, told, seconds, sleep):
    import tenacity

    began = time.monotonic()
    tries = []

    def once():
        tries.append(1)
        left = max(0.1, seconds - (time.monotonic() - began))
        channels.sender_for(channel)(env, config, told, left)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(MAX_ATTEMPTS) |
        tenacity.stop_after_delay(seconds - FIRST_WAIT),
        wait=tenacity.wait_exponential_jitter(initial=FIRST_WAIT, max=MAX_WAIT_SECONDS, jitter=1),
        retry=tenacity.retry_if_exception_type(channels.RetryableDeliveryError),
        sleep=sleep,
        reraise=True,
    )
    try:
        retrying(once)
    except (channels.DeliveryError, InvalidInput) as error:
        return _result(action, channel, "failed", len(tries), env.redactor.redact_text(str(error)))
    except Exception as error:
        # One channel that cannot be used must keep neither the others nor the record.
        run_log.write_traceback(env.redactor.redact_text)
        return _result(action, channel, "failed", len(tries), type(error).__name__)
    return _result(action, channel, "sent", len(tries))


def _result(action, channel, status, tries, error=None):
    told = {"action": action, "channel": channel, "status": status}
    return dict(told, tries=tries, error=error)


def _should_notify(config, ticket):
    return tickets.rank(ticket["level"]) >= tickets.rank(config.notify_from)


def _record_name(ticket, action, channel):
    level = ticket["level"] if action == TRIGGER else "any"
    return "%s-%s-%s" % (action, level, channel)


def _prefix(ticket):
    return "%snotice.%s.%s." % (PREFIX, ticket["ticket"], ticket["period"])


def _already_sent(store, ticket):
    """The names of what was sent since the ticket was opened."""
    prefix = _prefix(ticket)
    return {name[len(prefix):] for name, _ in store.list(prefix)}


def _record_sent(store, now, ticket, result):
    name = _prefix(ticket) + _record_name(ticket, result["action"], result["channel"])
    value = json.dumps({"at": int(now), "tries": result["tries"]}, separators=(",", ":"))
    store.put(name, value, TTL_SECONDS)
