"""The kinds of keys that the pack writes: which group each belongs to, and how its names look.

A key is `synthralos.<kind>.<rest>`. What a person put there by hand (`synthralos.enabled`), a kind
that is not listed, and a name that no code of the pack makes are not ours.
"""

import re
from dataclasses import dataclass
from typing import Optional

from synthralos.state.datastore import PREFIX, time_of

DAY = 24 * 3600
_PART = r"(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+"
# Facts end in their time; other names in what they are about.
_FACT = re.compile(r"(?:%s\.)*[0-9]{13}-%s\Z" % (_PART, _PART))
_NAME = re.compile(r"%s(?:\.%s)*\Z" % (_PART, _PART))
_ALONE = re.compile(r"\Z")
_TICKET = re.compile(r"T[0-9a-f]{12}\Z")
_DEFINITION = re.compile(r"[RO][0-9a-f]{12}(?:\.[0-9]{6})?\Z")


@dataclass(frozen=True)
class Kind:
    """:ivar group: the name by which people know it, in `retention` and in state.clear.
    :ivar form: what the rest of a name matches.
    :ivar of_run: whether the rest begins with the run that goes on needing it.
    :ivar text: whether the pack writes down there what callers worded.
    """

    group: str
    form: re.Pattern = _FACT
    of_run: bool = False
    text: bool = False


KINDS = {
    "outcome": Kind("ledger"),
    "run": Kind("runs"),
    "uncounted": Kind("metrics", _NAME),
    "totals": Kind("metrics", _ALONE),
    "history": Kind("history", text=True),
    "version": Kind("history"),
    "version_head": Kind("history"),
    "snapshot": Kind("snapshots"),
    "snapshot_head": Kind("snapshots"),
    "ticket": Kind("tickets", _TICKET, text=True),
    "ticket_event": Kind("tickets", text=True),
    "notice": Kind("tickets", _NAME),
    "incident": Kind("incidents"),
    "start": Kind("incidents"),
    "attempted": Kind("incidents"),
    "closing": Kind("incidents", _NAME, of_run=True),
    "reaped": Kind("incidents", _NAME),
    "query": Kind("queries", _NAME, text=True),
    "answer": Kind("answers", _NAME, text=True),
    "case": Kind("cases", _NAME, of_run=True, text=True),
    "asked": Kind("cases", _NAME, of_run=True, text=True),
    "loop": Kind("loops"),
    "loop_step": Kind("loops"),
    "pause": Kind("pauses"),
    "wave": Kind("orchestrations", _NAME, of_run=True, text=True),
    "step": Kind("orchestrations", _NAME, of_run=True, text=True),
    "orchestrated": Kind("orchestrations"),
    "cached": Kind("orchestrations", _NAME, text=True),
    "role": Kind("definitions", _DEFINITION),
    "role_version": Kind("definitions", _DEFINITION),
    "orchestration": Kind("definitions", _DEFINITION),
    "orchestration_version": Kind("definitions", _DEFINITION),
    "assignment": Kind("assignments"),
    "spent": Kind("budget"),
    "spent_run": Kind("budget"),
    "spent_total": Kind("budget", _NAME),
    "sensor": Kind("sensors", _NAME),
    "claim": Kind("claims"),
    "claim_notice": Kind("claims"),
    "check": Kind("claims", _NAME),
}
GROUPS = tuple(dict.fromkeys(kind.group for kind in KINDS.values()))
# What goes by itself within minutes, or was put there to stay.
NEVER_CLEARED = ("claims", "definitions")
CLEARABLE = tuple(group for group in GROUPS if group not in NEVER_CLEARED)


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


def written_at(name) -> Optional[float]:
    """Seconds since the epoch at which the key was written, where its name says so."""
    kind = kind_of(name)
    return time_of(name) if kind is not None and KINDS[kind].form is _FACT else None
