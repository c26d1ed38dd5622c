"""How long to wait before a target that has failed is tried again."""

import math

JITTER = 0.25


def jittered_delay(
    strategy, repeat, base_delay, max_delay, given=False, success_rate=1.0, multiplier=2.0
):
    """Seconds to wait before repeat number `repeat` (1, 2, ...), jittered, before rounding.

    :param given: whether the caller named `base_delay`. It is then kept within +-25 %; otherwise
        the wait is drawn from 0 to the whole delay ("full jitter", AWS Architecture Blog,
        "Exponential Backoff And Jitter").
    """
    import tenacity

    longest = full_delay(strategy, repeat, base_delay, max_delay, success_rate, multiplier)
    least, most = (longest * (1 - JITTER), longest * (1 + JITTER)) if given else (0.0, longest)
    return min(float(tenacity.wait_random(least, most)(None)), max_delay)


def full_delay(strategy, repeat, base_delay, max_delay, success_rate=1.0, multiplier=2.0):
    """The delay before jitter, in seconds.

    :param strategy: exponential (`base * multiplier^(repeat-1)`), linear (`base * repeat`), fixed
        (`base`), immediate (0), or adaptive: linear, up to doubled as `success_rate` falls from 1
        to 0 (`base * (2 - rate) * repeat`).
    """
    import tenacity

    strategies = {
        "exponential": tenacity.wait_exponential(
            multiplier=base_delay, exp_base=multiplier, max=max_delay
        ),
        "linear": tenacity.wait_incrementing(start=base_delay, increment=base_delay, max=max_delay),
        "fixed": tenacity.wait_fixed(min(base_delay, max_delay)),
        "immediate": tenacity.wait_none(),
        "adaptive": tenacity.wait_incrementing(
            start=base_delay * (2.0 - success_rate),
            increment=base_delay * (2.0 - success_rate),
            max=max_delay,
        ),
    }
    state = tenacity.RetryCallState(retry_object=None, fn=None, args=(), kwargs={})
    state.attempt_number = repeat
    return float(strategies[strategy](state))


def round_up(seconds):
    """`seconds` rounded up: a task's delay in Orquesta is a whole number."""
    return max(0, int(math.ceil(seconds - 1e-9)))
