"""The entry `budget` of the configuration: what the LLM calls of a run and of a day may take."""

import math
from dataclasses import dataclass, field

from synthralos.refusals import Refused

STOP, WARN, GO_ON = "stop", "warn", "go_on"
LIMITED = ("tokens", "cost")
PERIODS = ("per_run", "per_day")
MOST_TOKENS, MOST_COST = 10**12, 10**9
OUTPUT_TOKENS, MOST_OUTPUT = 1000, 1_000_000


@dataclass(frozen=True)
class Budget:
    """:ivar per_run, per_day: {"tokens": a number, "cost": in the configuration's currency}; what
        has no limit is not there. A day is one of UTC.
    :ivar on_exceeded: STOP, or WARN: the call is made, and the result says so.
    :ivar without_datastore: GO_ON or STOP, when nobody can tell what was spent.
    :ivar assumed_output_tokens: of a request that names no max_tokens, as long as it goes on.
    """

    per_run: dict = field(default_factory=dict)
    per_day: dict = field(default_factory=dict)
    on_exceeded: str = STOP
    without_datastore: str = GO_ON
    assumed_output_tokens: int = OUTPUT_TOKENS

    def __bool__(self):
        return bool(self.per_run or self.per_day)

    @classmethod
    def from_config(cls, entry):
        """From the mapping under `budget`. Refused names the entry that is wrong."""
        return cls(
            per_run=_limits(entry, "per_run"),
            per_day=_limits(entry, "per_day"),
            on_exceeded=_one_of(entry, "on_exceeded", (STOP, WARN)),
            without_datastore=_one_of(entry, "without_datastore", (GO_ON, STOP)),
            assumed_output_tokens=_number(
                entry, "assumed_output_tokens", 0, MOST_OUTPUT, True, OUTPUT_TOKENS
            ),
        )


def _limits(entry, period):
    given = entry.get(period)
    given = {} if given is None else given
    where = "budget." + period
    if not isinstance(given, dict) or set(given) - set(LIMITED):
        raise Refused(where, given, "is no limit", "Write {tokens: 50000, cost: 0.5}, or one of it")
    most = {"tokens": MOST_TOKENS, "cost": MOST_COST}
    found = {
        name: _number(given, name, 0, most[name], name == "tokens", None, period + ".")
        for name in LIMITED
    }
    return {name: limit for name, limit in found.items() if limit is not None}


def _number(entry, name, least, most, whole, default, below=""):
    value = entry.get(name)
    if value is None:
        return default
    good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or not least <= value <= most:
        way_out = "Use a %snumber from %d to %d" % ("whole " if whole else "", least, most)
        raise Refused("budget.%s%s" % (below, name), value, "is out of bounds", way_out)
    return value


def _one_of(entry, name, known):
    value = entry.get(name) or known[0]
    if value not in known:
        raise Refused("budget." + name, value, "is no way on", "Use " + " or ".join(known))
    return value
