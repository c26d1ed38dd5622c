"""How long to wait before a target that has failed is tried again."""

import math
import random
from typing import Callable

JITTER = 0.25

# (base_delay, repeat, multiplier, success_rate) -> seconds, before the cap; repeat is 1, 2, ...
_FORMULAS: dict[str, Callable[[float, int, float, float], float]] = {
    "exponential": lambda base, repeat, multiplier, rate: base * multiplier ** (repeat - 1),
    "linear": lambda base, repeat, multiplier, rate: base * repeat,
    "fixed": lambda base, repeat, multiplier, rate: base,
    "immediate": lambda base, repeat, multiplier, rate: 0.0,
    "adaptive": lambda base, repeat, multiplier, rate: base * (2.0 - rate) * repeat,
}


def jittered_delay(
    strategy: str,
    repeat: int,
    base_delay: float,
    max_delay: float,
    base_delay_is_explicit: bool = False,
    success_rate: float = 1.0,
    multiplier: float = 2.0,
) -> float:
    """Return the seconds to wait before repeat number `repeat` (1, 2, ...), with jitter.

    :param base_delay_is_explicit: whether the caller set `base_delay`. Then the delay varies by
        +-25 %; otherwise it is drawn from 0 to the full delay ("full jitter", AWS Architecture
        Blog, "Exponential Backoff And Jitter").
    """
    delay = full_delay(strategy, repeat, base_delay, max_delay, success_rate, multiplier)
    minimum, maximum = 0.0, delay
    if base_delay_is_explicit:
        minimum, maximum = delay * (1 - JITTER), delay * (1 + JITTER)
    return min(random.uniform(minimum, maximum), max_delay)


def full_delay(
    strategy: str,
    repeat: int,
    base_delay: float,
    max_delay: float,
    success_rate: float = 1.0,
    multiplier: float = 2.0,
) -> float:
    """Return the delay before jitter, in seconds, at most `max_delay`.

    :param strategy: exponential (`base * multiplier^(repeat-1)`), linear (`base * repeat`), fixed
        (`base`), immediate (0), or adaptive: linear, up to doubled as `success_rate` falls from 1
        to 0 (`base * (2 - rate) * repeat`).
    :raises KeyError: the strategy is not one of these.
    """
    try:
        delay = _FORMULAS[strategy](base_delay, repeat, multiplier, success_rate)
    except OverflowError:
        return float(max_delay)
    return float(min(max(delay, 0.0), max_delay))


def round_up(seconds: float) -> int:
    """Return `seconds` rounded up: a task's delay in Orquesta is a whole number."""
    return max(0, int(math.ceil(seconds - 1e-9)))
