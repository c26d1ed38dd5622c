"""The kinds of keys that the pack writes: which group each belongs to, and how its names look.

A key is `synthralos.<kind>.<rest>`. What a person put there by hand (`synthralos.enabled`), a kind
that is not listed, and a name that no code of the pack makes are not ours.
"""

import re
from dataclasses import dataclass
from typing import Optional

from synthralos.state.datastore import PREFIX, time_of

DAY = 24 * 3600
# As names.key_part writes it; `~` alone is no task.
_PART = r"(?:(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+|~)"
# Facts end in their time; other names in what they are about.
_FACT = re.compile(r"(?:%s\.)*[0-9]{13}-%s\Z" % (_PART, _PART))
_NAME = re.compile(r"%s(?:\.%s)*\Z" % (_PART, _PART))
_ALONE = re.compile(r"\Z")
_TICKET = re.compile(r"T[0-9a-f]{12}\Z")
_DEFINITION = re.compile(r"[RO][0-9a-f]{12}(?:\.[0-9]{6})?\Z")


@dataclass(frozen=True)
class Kind:
    """:ivar group: the name by which people know it, in `retention` and in storage.clear.
    :ivar form: what the rest of a name matches.
    :ivar of_run: whether the rest begins with the run that goes on needing it.
    :ivar text: whether the pack writes down there what callers worded.
    :ivar lifetime: seconds that it is kept from its last writing on: modules read it here. None
        where each key has its own: by the configuration, a window, or a person's wish.
    """

    group: str
    form: re.Pattern = _FACT
    of_run: bool = False
    text: bool = False
    lifetime: Optional[int] = None


# Heads before what they are the heads of: without its head nobody finds a state that stayed behind.
KINDS = {
    "outcome": Kind("ledger", lifetime=15 * 60),
    "run": Kind("runs", lifetime=7 * DAY),
    "uncounted": Kind("metrics", _NAME, lifetime=7 * DAY),
    "totals": Kind("metrics", _ALONE, lifetime=400 * DAY),
    "history": Kind("history", text=True, lifetime=30 * DAY),
    "version_head": Kind("history"),
    "version": Kind("history"),
    "snapshot_head": Kind("snapshots"),
    "snapshot": Kind("snapshots"),
    "ticket": Kind("tickets", _TICKET, text=True, lifetime=90 * DAY),
    "ticket_event": Kind("tickets", text=True, lifetime=90 * DAY),
    "notification": Kind("tickets", _NAME, lifetime=90 * DAY),
    "incident": Kind("incidents", lifetime=7 * DAY),
    "start": Kind("incidents", lifetime=7 * DAY),
    "attempt": Kind("incidents", lifetime=7 * DAY),
    "scheduled_close": Kind("incidents", _NAME, of_run=True, lifetime=7 * DAY),
    "reaped_run": Kind("incidents", _NAME, lifetime=32 * DAY),
    "query": Kind("queries", _NAME, text=True, lifetime=7 * DAY),
    "answer": Kind("answers", _NAME, text=True, lifetime=DAY),
    "case": Kind("cases", _NAME, of_run=True, text=True, lifetime=DAY),
    "inquiry": Kind("cases", _NAME, of_run=True, text=True, lifetime=14 * DAY),
    "loop": Kind("loops", lifetime=7 * DAY),
    "loop_step": Kind("loops"),
    "pause": Kind("pauses"),
    "orchestration_run": Kind("orchestrations", lifetime=14 * DAY),
    "wave": Kind("orchestrations", _NAME, of_run=True, text=True, lifetime=14 * DAY),
    "step": Kind("orchestrations", _NAME, of_run=True, text=True, lifetime=14 * DAY),
    "cached": Kind("orchestrations", _NAME, text=True, lifetime=DAY),
    "role": Kind("definitions", _DEFINITION),
    "role_version": Kind("definitions", _DEFINITION),
    "orchestration": Kind("definitions", _DEFINITION),
    "orchestration_version": Kind("definitions", _DEFINITION),
    "assignment": Kind("assignments"),
    "llm_spending_run": Kind("budget", of_run=True, lifetime=3 * DAY),
    "llm_spending": Kind("budget", lifetime=2 * DAY),
    "llm_spending_total": Kind("budget", _NAME, lifetime=2 * DAY),
    "sensor": Kind("sensors", _NAME, lifetime=60 * DAY),
    "claim": Kind("claims"),
    "claim_notification": Kind("claims", lifetime=120),
    "check": Kind("claims", _NAME, lifetime=60),
}


def lifetime_of(kind: str) -> int:
    """Seconds that keys of this kind are kept where the configuration says nothing else."""
    seconds = KINDS[kind].lifetime
    if seconds is None:
        raise LookupError("keys of kind %s have no common lifetime" % kind)
    return seconds


GROUPS = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
# What goes by itself within minutes, or was put there to stay.
NEVER_CLEARED = ("claims", "definitions")
CLEARABLE = tuple(group for group in GROUPS if group not in NEVER_CLEARED)


def prefix_of(kind):
    """With what the names of the keys of a kind begin."""
    return PREFIX + kind + ("" if KINDS[kind].form is _ALONE else ".")


def kind_of(name):
    """The kind of the key called `name`, or None when it is not ours."""
    if not name.startswith(PREFIX):
        return None
    kind, _, rest = name[len(PREFIX):].partition(".")
    known = KINDS.get(kind)
    return kind if known is not None and known.form.match(rest) else None


def run_of(name):
    """The run that goes on needing the key, as its name has it, or None."""
    kind = kind_of(name)
    if kind is None or not KINDS[kind].of_run:
        return None
    return name[len(PREFIX):].split(".")[1]


def written_at(fact, lifetimes):
    """Seconds since the epoch at which a key of ours was last written, at the latest that can be;
    None where nothing says it.

    :param fact: a datastore.Fact; lifetimes: {group: seconds}, of the configuration.
    """
    kind = KINDS[kind_of(fact.name)]
    if kind.form is _FACT:
        return time_of(fact.name)
    found = [] if fact.created is None else [fact.created]
    lifetime = lifetimes.get(kind.group, kind.lifetime)
    if fact.until is not None and lifetime is not None:
        found.append(fact.until - lifetime)
    return max(found, default=None)
