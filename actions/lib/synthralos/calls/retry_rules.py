"""The rules of a run's retries; a case carries them as JSON."""

from dataclasses import dataclass, field
from typing import TypedDict

from synthralos.calls import backoff


class RuleFields(TypedDict, total=False):
    """The fields of RetryRules, as a case carries them."""

    max_retries: int
    strategy: str
    base_delay: float
    max_delay: float
    base_delay_given: bool
    success_rate: float
    multiplier: float
    fall_over: dict[str, bool]
    ask_next_after: float


@dataclass
class RetryRules:
    """The rules of a run's retries; delays in seconds.

    :ivar base_delay_given: whether the caller set the base delay (see backoff.jittered_delay).
    :ivar fall_over: see relations.timing_after.
    :ivar ask_next_after: seconds without an answer after which the next host is asked, too; 0 for
        never.
    """

    max_retries: int = 3
    strategy: str = "exponential"
    base_delay: float = 2.0
    max_delay: float = 60.0
    base_delay_given: bool = False
    success_rate: float = 1.0
    multiplier: float = 2.0
    fall_over: dict[str, bool] = field(default_factory=dict)
    ask_next_after: float = 0.0

    def back_off(self, tries: int) -> float:
        """Return the seconds to wait before a target that failed `tries` times is tried again."""
        return backoff.jittered_delay(
            self.strategy,
            tries,
            self.base_delay,
            self.max_delay,
            self.base_delay_given,
            self.success_rate,
            self.multiplier,
        )
