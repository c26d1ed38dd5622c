"""Delay before the next connection attempt."""

import random
from typing import Callable, Optional

MAX_DELAY_SECONDS = 60.0
_SPREAD = 0.25


class ReconnectDelay:
    """Exponential backoff from `base` to MAX_DELAY_SECONDS with 25 % jitter.

    The jitter keeps all clients from reconnecting at the same moment.

    :param tries: failed attempts in a row after which every delay is MAX_DELAY_SECONDS.
    :param draw: returns a random number, 0 to 1.
    :ivar base: seconds; a server's `retry:` replaces it.
    """

    def __init__(
        self, base: float, tries: int, draw: Callable[[], float] = random.random
    ) -> None:
        self.base, self._tries, self._draw = base, tries, draw

    def delay(self, failed: int, hint: Optional[float] = None) -> float:
        """Return the seconds to wait after `failed` attempts in a row.

        :param hint: seconds that the server asked for, or None; honored up to ten minutes.
        """
        if failed >= self._tries:
            wait = max(MAX_DELAY_SECONDS, self.base)
        else:
            wait = max(self.base, min(self.base * 2 ** (failed - 1), MAX_DELAY_SECONDS))
        wait *= 1 - _SPREAD + 2 * _SPREAD * self._draw()
        return max(wait, min(hint, 10 * MAX_DELAY_SECONDS)) if hint else wait
