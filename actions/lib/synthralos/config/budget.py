"""The entry `budget` of the configuration: limits on the LLM calls of a run and of a day."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from synthralos.config.reader import read_int, read_number
from synthralos.core.errors import InvalidInput

STOP, WARN, GO_ON = "stop", "warn", "go_on"
PERIODS = ("per_run", "per_day")
OUTPUT_TOKENS, MAX_OUTPUT_TOKENS = 1000, 1_000_000
# What can be limited: (how it is read, the maximum of a limit).
LIMITED: dict[
    str, tuple[Callable[[Mapping[str, Any], str, None, int, int, str], float], int]
] = {
    "tokens": (read_int, 10**12),
    "cost": (read_number, 10**9),
}


@dataclass(frozen=True)
class BudgetConfig:
    """Limits on LLM calls, and what to do when one is exceeded.

    :ivar per_run, per_day: {"tokens": a number, "cost": in the configuration's currency}; a missing
        key means no limit. Days are in UTC.
    :ivar on_exceeded: STOP, or WARN: make the call and add a warning to the result.
    :ivar on_datastore_unavailable: GO_ON or STOP, when spending is unknown.
    :ivar assumed_output_tokens: of a request without max_tokens, until its real usage is known.
    """

    per_run: dict[str, float] = field(default_factory=dict)
    per_day: dict[str, float] = field(default_factory=dict)
    on_exceeded: str = STOP
    on_datastore_unavailable: str = GO_ON
    assumed_output_tokens: int = OUTPUT_TOKENS

    def __bool__(self) -> bool:
        return bool(self.per_run or self.per_day)

    @classmethod
    def from_config(cls, entry: Mapping[str, Any]) -> "BudgetConfig":
        """Read the object under `budget`.

        :raises InvalidInput: an entry is not valid; names it.
        """
        return cls(
            per_run=_limits(entry, "per_run"),
            per_day=_limits(entry, "per_day"),
            on_exceeded=_read_choice(entry, "on_exceeded", (STOP, WARN)),
            on_datastore_unavailable=_read_choice(entry, "on_datastore_unavailable", (GO_ON, STOP)),
            assumed_output_tokens=read_int(
                entry, "assumed_output_tokens", OUTPUT_TOKENS, 0, MAX_OUTPUT_TOKENS, "budget."
            ),
        )


def _limits(entry: Mapping[str, Any], period: str) -> dict[str, float]:
    limits = entry.get(period)
    limits = {} if limits is None else limits
    path = "budget." + period
    if not isinstance(limits, dict) or set(limits) - set(LIMITED):
        raise InvalidInput(
            path,
            limits,
            "is not a valid limit",
            "Write {tokens: 50000, cost: 0.5}, or only one of these",
        )
    return {
        name: read(limits, name, None, 0, maximum, path + ".")
        for name, (read, maximum) in LIMITED.items()
        if limits.get(name) is not None
    }


def _read_choice(entry: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = entry.get(name) or allowed[0]
    if value not in allowed:
        hint = "Use " + " or ".join(allowed)
        raise InvalidInput("budget." + name, value, "is not a valid choice", hint)
    return str(value)
