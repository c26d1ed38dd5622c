"""How long to wait before the next connection."""

import random

MAX_DELAY_SECONDS = 60.0
_SPREAD = 0.25


class ReconnectDelay:
    """Doubles from `base` to LONGEST seconds, and varies by a quarter: a server that comes back
    must not meet all its clients at once.

    :param tries: failed tries in a row after which every wait is LONGEST.
    :ivar base: seconds; a server's `retry:` replaces it.
    """

    def __init__(self, base, tries, draw=random.random):
        self.base, self._tries, self._draw = base, tries, draw

    def delay(self, failed, hint=None):
        """Seconds to wait after `failed` tries in a row, at least 1.

        :param hint: seconds that the server asked for, or None; kept up to ten minutes.
        """
        if failed >= self._tries:
            wait = max(MAX_DELAY_SECONDS, self.base)
        else:
            wait = max(self.base, min(self.base * 2 ** (failed - 1), MAX_DELAY_SECONDS))
        wait *= 1 - _SPREAD + 2 * _SPREAD * self._draw()
        return max(wait, min(hint, 10 * MAX_DELAY_SECONDS)) if hint else wait
