"""Scripts by target, consumed step by step, and killed targets."""
import threading
from collections import deque

from sandbox import steps, targets


class Scripts:
    """The scripts in force; safe to use from several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._scripts = {}
        self._dead = set()

    def set(self, pattern, script, forever=False):
        """Replace the script of `pattern`; `forever` repeats its last step.

        :raises ValueError: for an invalid target, or if there is no step to repeat.
        :raises TypeError: for an invalid step.
        """
        targets.checked(pattern)
        items = deque(steps.checked(item) for item in script)
        if forever and not items:
            raise ValueError("forever needs at least one step to repeat")
        with self._lock:
            self._scripts[pattern] = (items, forever)

    def next(self, target):
        """Return the next step for a call to `target`, or None if no script has one left.

        The most specific pattern goes first; once it is used up, wider ones.
        """
        with self._lock:
            patterns = [
                pattern
                for pattern, (items, _) in self._scripts.items()
                if items and targets.covers(pattern, target)
            ]
            if not patterns:
                return None
            items, forever = self._scripts[max(patterns, key=targets.closeness)]
            return items[0] if forever and len(items) == 1 else items.popleft()

    def kill(self, pattern):
        targets.checked(pattern)
        with self._lock:
            self._dead.add(pattern)

    def revive(self, pattern):
        """Undo `kill`.

        :raises ValueError: if exactly this pattern was not killed.
        """
        with self._lock:
            if pattern not in self._dead:
                dead = ", ".join(sorted(self._dead)) or "nothing"
                raise ValueError("%r is not killed; killed: %s" % (pattern, dead))
            self._dead.remove(pattern)

    def dead(self, target):
        with self._lock:
            return any(targets.silences(pattern, target) for pattern in self._dead)

    def clear(self):
        with self._lock:
            self._scripts.clear()
            self._dead.clear()
