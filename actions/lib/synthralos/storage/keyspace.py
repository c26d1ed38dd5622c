"""The one table of the datastore's keys: kinds, groups, patterns of their names, TTLs.

A key is `synthralos.<kind>.<rest>`. A new kind of key is entered in KINDS; modules read its
lifetime with `lifetime_of` and define none of their own.

Keys that the pack does not write are foreign: those set manually (`synthralos.enabled`), those of a
kind that is not listed, and those whose name does not match the kind's pattern.

Operators set `synthralos.enabled`, `synthralos.mode` and `synthralos.runbook_mode.<runbook>`. These
have no expiry, and storage.clear spares them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from synthralos.storage.datastore import PREFIX, KeyInfo, timestamp_of_key

DAY = 24 * 3600
# As identifiers.encode_key_part writes it; `~` alone stands for "no task".
_PART = r"(?:(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+|~)"
# The names of facts end in their time; other names end in what they are about.
_FACT = re.compile(r"(?:%s\.)*[0-9]{13}-%s\Z" % (_PART, _PART))
_NAME = re.compile(r"%s(?:\.%s)*\Z" % (_PART, _PART))
_EMPTY = re.compile(r"\Z")
_TICKET = re.compile(r"T[0-9a-f]{12}\Z")
_DEFINITION = re.compile(r"[RO][0-9a-f]{12}(?:\.[0-9]{6})?\Z")


@dataclass(frozen=True)
class KeyKind:
    """A kind of key.

    :ivar group: its public name, in the entry `retention` and in storage.clear.
    :ivar pattern: what the rest of a name matches.
    :ivar belongs_to_run: whether the rest begins with a run that needs the key until it ends.
    :ivar holds_user_text: whether its values contain text that callers wrote.
    :ivar ttl_seconds: seconds for which it is stored after it was last written. None if each key
        has its own: from the configuration, a window, or an operator's request.
    """

    group: str
    pattern: re.Pattern[str] = _FACT
    belongs_to_run: bool = False
    holds_user_text: bool = False
    ttl_seconds: Optional[int] = None


# Delete heads before their bodies: a body without a head can no longer be listed.
KINDS = {
    "outcome": KeyKind("ledger", ttl_seconds=15 * 60),
    # Lasts for breaker.open_seconds.
    "host_failure": KeyKind("ledger"),
    # Lasts until the account is renewed.
    "account_failure": KeyKind("ledger"),
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
    "firing_alert": KeyKind("incidents", _NAME, ttl_seconds=7 * DAY),
    "seen_cluster": KeyKind("incidents", _NAME, ttl_seconds=7 * DAY),
    "observed_start": KeyKind("incidents", ttl_seconds=7 * DAY),
    # Longer than the other kinds of incidents, for a report on a month.
    "observation": KeyKind("observations", ttl_seconds=31 * DAY),
    "scheduled_close": KeyKind("incidents", _NAME, belongs_to_run=True, ttl_seconds=7 * DAY),
    "repair_turn": KeyKind("incidents", ttl_seconds=2 * 3600),
    # Until the alert of a run that has ended is known to be over, or to fire without a silence.
    "silence": KeyKind("incidents", _NAME, belongs_to_run=True, ttl_seconds=2 * DAY),
    # Lasts for a day longer than its run may take.
    "agent_run": KeyKind("agent_runs", _NAME),
    "agent_run_waiter": KeyKind("agent_runs", _NAME),
    "reaped_run": KeyKind("incidents", _NAME, ttl_seconds=32 * DAY),
    # Longer than a failed run can be a candidate.
    "redrive_claim": KeyKind("redrives", _NAME, ttl_seconds=14 * DAY),
    "redriven_run": KeyKind("redrives", ttl_seconds=14 * DAY),
    "query": KeyKind("queries", _NAME, holds_user_text=True, ttl_seconds=7 * DAY),
    "answer": KeyKind("answers", _NAME, holds_user_text=True, ttl_seconds=DAY),
    "case": KeyKind(
        "cases", _NAME, belongs_to_run=True, holds_user_text=True, ttl_seconds=2 * DAY
    ),
    "inquiry": KeyKind(
        "cases", _NAME, belongs_to_run=True, holds_user_text=True, ttl_seconds=14 * DAY
    ),
    "loop": KeyKind("loops", ttl_seconds=7 * DAY),
    "loop_step": KeyKind("loops"),
    "pause": KeyKind("pauses"),
    "orchestration_run": KeyKind("orchestrations", ttl_seconds=14 * DAY),
    "wave": KeyKind(
        "orchestrations", _NAME, belongs_to_run=True, holds_user_text=True, ttl_seconds=14 * DAY
    ),
    "step": KeyKind(
        "orchestrations", _NAME, belongs_to_run=True, holds_user_text=True, ttl_seconds=14 * DAY
    ),
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
    "mode": KeyKind("modes", _EMPTY),
    "runbook_mode": KeyKind("modes", _NAME),
    "claim": KeyKind("claims"),
    "claim_notification": KeyKind("claims", ttl_seconds=120),
    "check": KeyKind("claims", _NAME, ttl_seconds=60),
}


def lifetime_of(kind: str) -> int:
    """Return the TTL of this kind in seconds, unless the configuration sets another.

    :raises LookupError: its keys have no common TTL.
    """
    seconds = KINDS[kind].ttl_seconds
    if seconds is None:
        raise LookupError("keys of kind %s have no common lifetime" % kind)
    return seconds


GROUPS = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
# These expire within minutes, are meant to stay, or keep a run from being started twice.
NEVER_CLEARED = ("claims", "definitions", "modes", "agent_runs", "redrives")
CLEARABLE = tuple(group for group in GROUPS if group not in NEVER_CLEARED)


def key_prefix(kind: str) -> str:
    """Return the prefix of the names of this kind's keys."""
    return PREFIX + kind + ("" if KINDS[kind].pattern is _EMPTY else ".")


def kind_of_key(name: str) -> Optional[str]:
    """Return the kind of the key called `name`, or None if it is foreign."""
    if not name.startswith(PREFIX):
        return None
    kind, _, rest = name[len(PREFIX):].partition(".")
    key_kind = KINDS.get(kind)
    return kind if key_kind is not None and key_kind.pattern.match(rest) else None


def run_id_of_key(name: str) -> Optional[str]:
    """Return the run that the key belongs to, encoded as in its name, or None."""
    kind = kind_of_key(name)
    if kind is None or not KINDS[kind].belongs_to_run:
        return None
    return name[len(PREFIX):].split(".")[1]


def written_at(key: KeyInfo, lifetimes: Mapping[str, int]) -> Optional[float]:
    """Return the latest time at which a key of the pack can have been written last, or None.

    Seconds since the epoch; None if it cannot be derived.

    :param lifetimes: {group: seconds} of the configuration.
    """
    kind = KINDS[kind_of_key(key.name) or ""]
    if kind.pattern is _FACT:
        return timestamp_of_key(key.name)
    times = [] if key.created is None else [key.created]
    ttl_seconds = lifetimes.get(kind.group, kind.ttl_seconds)
    if key.expires_at is not None and ttl_seconds is not None:
        times.append(key.expires_at - ttl_seconds)
    return max(times, default=None)
