"""The kinds of keys that the pack writes: which group each belongs to, and how its names look.

A key is `synthralos.<kind>.<rest>`. What a person put there by hand (`synthralos.enabled`), a kind
that is not listed, and a name that no code of the pack makes are not ours.
"""

import re
from dataclasses import dataclass
from typing import Optional

from synthralos.storage.datastore import PREFIX, timestamp_of_key

DAY = 24 * 3600
# As names.key_part writes it; `~` alone is no task.
_PART = r"(?:(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+|~)"
# Facts end in their time; other names in what they are about.
_FACT = re.compile(r"(?:%s\.)*[0-9]{13}-%s\Z" % (_PART, _PART))
_NAME = re.compile(r"%s(?:\.%s)*\Z" % (_PART, _PART))
_EMPTY = re.compile(r"\Z")
_TICKET = re.compile(r"T[0-9a-f]{12}\Z")
_DEFINITION = re.compile(r"[RO][0-9a-f]{12}(?:\.[0-9]{6})?\Z")


@dataclass(frozen=True)
class KeyKind:
    """:ivar group: the name by which people know it, in `retention` and in storage.clear.
    :ivar form: what the rest of a name matches.
    :ivar of_run: whether the rest begins with the run that goes on needing it.
    :ivar text: whether the pack writes down there what callers worded.
    :ivar lifetime: seconds that it is kept from its last writing on: modules read it here. None
        where each key has its own: by the configuration, a window, or a person's wish.
    """

    group: str
    pattern: re.Pattern = _FACT
    belongs_to_run: bool = False
    holds_user_text: bool = False
    ttl_seconds: Optional[int] = None


# Heads before what they are the heads of: without its head nobody finds a state that stayed behind.
KINDS = {
    "outcome": KeyKind("ledger", ttl_seconds=15 * 60),
    "run": KeyKind("runs", ttl_seconds=7 * DAY),
    "uncounted": KeyKind("metrics", _NAME, ttl_seconds=7 * DAY),
    "totals": KeyKind("metrics", _EMPTY, ttl_seconds=400 * DAY),
    "history": KeyKind("history", holds_user_text=True, ttl_seconds=30 * DAY),
    "version_head": KeyKind("history"),
    "version": KeyKind("history"),
    "snapshot_head": KeyKind("snapshots"),
    "snapshot": KeyKind("snapshots"),
    "ticket": KeyKind("tickets", _TICKET, holds_user_text=True, ttl_seconds=90 * DAY),
    "ticket_event": KeyKind("tickets", holds_user_text=True, ttl_seconds=90 * DAY),
    "notification": KeyKind("tickets", _NAME, ttl_seconds=90 * DAY),
    "incident": KeyKind("incidents", ttl_seconds=7 * DAY),
    "start": KeyKind("incidents", ttl_seconds=7 * DAY),
    "attempt": KeyKind("incidents", ttl_seconds=7 * DAY),
    "scheduled_close": KeyKind("incidents", _NAME, belongs_to_run=True, ttl_seconds=7 * DAY),
    "reaped_run": KeyKind("incidents", _NAME, ttl_seconds=32 * DAY),
    "query": KeyKind("queries", _NAME, holds_user_text=True, ttl_seconds=7 * DAY),
    "answer": KeyKind("answers", _NAME, holds_user_text=True, ttl_seconds=DAY),
    "case": KeyKind("cases", _NAME, belongs_to_run=True, holds_user_text=True, ttl_seconds=DAY),
    "inquiry": KeyKind("cases", _NAME, belongs_to_run=True, holds_user_text=True, ttl_seconds=14 * DAY),
    "loop": KeyKind("loops", ttl_seconds=7 * DAY),
    "loop_step": KeyKind("loops"),
    "pause": KeyKind("pauses"),
    "orchestration_run": KeyKind("orchestrations", ttl_seconds=14 * DAY),
    "wave": KeyKind("orchestrations", _NAME, belongs_to_run=True, holds_user_text=True, ttl_seconds=14 * DAY),
    "step": KeyKind("orchestrations", _NAME, belongs_to_run=True, holds_user_text=True, ttl_seconds=14 * DAY),
    "cached": KeyKind("orchestrations", _NAME, holds_user_text=True, ttl_seconds=DAY),
    "role": KeyKind("definitions", _DEFINITION),
    "role_version": KeyKind("definitions", _DEFINITION),
    "orchestration": KeyKind("definitions", _DEFINITION),
    "orchestration_version": KeyKind("definitions", _DEFINITION),
    "assignment": KeyKind("assignments"),
    "llm_spending_run": KeyKind("budget", belongs_to_run=True, ttl_seconds=3 * DAY),
    "llm_spending": KeyKind("budget", ttl_seconds=2 * DAY),
    "llm_spending_total": KeyKind("budget", _NAME, ttl_seconds=2 * DAY),
    "sensor": KeyKind("sensors", _NAME, ttl_seconds=60 * DAY),
    "claim": KeyKind("claims"),
    "claim_notification": KeyKind("claims", ttl_seconds=120),
    "check": KeyKind("claims", _NAME, ttl_seconds=60),
}


def lifetime_of(kind: str) -> int:
    """Seconds that keys of this kind are kept where the configuration says nothing else."""
    seconds = KINDS[kind].ttl_seconds
    if seconds is None:
        raise LookupError("keys of kind %s have no common lifetime" % kind)
    return seconds


GROUPS = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
# What goes by itself within minutes, or was put there to stay.
NEVER_CLEARED = ("claims", "definitions")
CLEARABLE = tuple(group for group in GROUPS if group not in NEVER_CLEARED)


def key_prefix(kind):
    """With what the names of the keys of a kind begin."""
    return PREFIX + kind + ("" if KINDS[kind].pattern is _EMPTY else ".")


def kind_of_key(name):
    """The kind of the key called `name`, or None when it is not ours."""
    if not name.startswith(PREFIX):
        return None
    kind, _, rest = name[len(PREFIX):].partition(".")
    known = KINDS.get(kind)
    return kind if known is not None and known.pattern.match(rest) else None


def run_id_of_key(name):
    """The run that goes on needing the key, as its name has it, or None."""
    kind = kind_of_key(name)
    if kind is None or not KINDS[kind].belongs_to_run:
        return None
    return name[len(PREFIX):].split(".")[1]


def written_at(key, lifetimes):
    """Seconds since the epoch at which a key of ours was last written, at the latest that can be;
    None where nothing says it.

    :param key: a datastore.Fact; lifetimes: {group: seconds}, of the configuration.
    """
    kind = KINDS[kind_of_key(key.name)]
    if kind.pattern is _FACT:
        return timestamp_of_key(key.name)
    found = [] if key.created is None else [key.created]
    lifetime = lifetimes.get(kind.group, kind.ttl_seconds)
    if key.expires_at is not None and lifetime is not None:
        found.append(key.expires_at - lifetime)
    return max(found, default=None)
