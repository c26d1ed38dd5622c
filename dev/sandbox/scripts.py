"""Which step a call gets: scripts by target, used up step by step, and targets that are dead."""
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
        """Puts `script` in place of what `pattern` had; `forever` repeats its last step.

        ValueError and TypeError for what is no target, no step, or nothing to repeat.
        """
        targets.checked(pattern)
        items = deque(steps.checked(item) for item in script)
        if forever and not items:
            raise ValueError("there is no step in it to repeat for ever")
        with self._lock:
            self._scripts[pattern] = (items, forever)

    def next(self, target):
        """The next step for a call to `target`, or None when no script has one left.

        The pattern that says most about the target goes first; once it is used up, wider ones.
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
        """ValueError when `pattern` was not killed in these words."""
        with self._lock:
            if pattern not in self._dead:
                dead = ", ".join(sorted(self._dead)) or "nothing"
                raise ValueError("%r was not killed; dead: %s" % (pattern, dead))
            self._dead.remove(pattern)

    def dead(self, target):
        with self._lock:
            return any(targets.silences(pattern, target) for pattern in self._dead)

    def clear(self):
        with self._lock:
            self._scripts.clear()
            self._dead.clear()
