"""Live progress lines on a stream."""
import sys
import threading

_COLOURS = {"succeeded": "32", "failed": "31", "timeout": "31", "canceled": "33",
            "abandoned": "31", "paused": "33"}


class Silent:
    """Prints nothing."""

    def requested(self, execution, task, item):
        """A task's action was requested; `task` is None for the run itself."""

    def refused(self, execution, task, error):
        """A task's action could not be requested."""

    def waiting(self, execution, seconds):
        """An action waits before it starts."""

    def line(self, execution, stream, line):
        """An action printed a line."""

    def asking(self, execution):
        """An inquiry waits for its answer."""

    def ended(self, execution):
        """An action or a run has ended."""

    def note(self, text):
        """Anything else."""


class Live(Silent):
    """Prints a line for each event.

    :param stream: default: stderr; coloured only on a terminal.
    """

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._colour = getattr(self._stream, "isatty", lambda: False)()
        self._lock = threading.Lock()
        self._names, self._depths = {}, {}

    def requested(self, execution, task, item):
        name = task or execution.action.ref
        name = "%s[%d]" % (name, item) if item is not None else name
        parent = (execution.context.get("parent") or {}).get("execution_id")
        self._names[execution.id] = name
        self._depths[execution.id] = self._depths.get(parent, -1) + 1
        if task:
            self._say(execution, "> %s  %s" % (name, execution.action.ref))
        else:
            self._say(execution, "%s  %s" % (name, execution.id))

    def refused(self, execution, task, error):
        self._say(execution, "  x %s could not be requested: %s" % (task, error), "31")

    def waiting(self, execution, seconds):
        self._say(execution, "  waiting %s s before %s" % (seconds, self._name(execution)), "2")

    def line(self, execution, stream, line):
        self._say(execution, "  | " + line, "2")

    def asking(self, execution):
        schema = (execution.result or {}).get("schema") or {}
        names = ["%s=..." % name for name in schema.get("properties") or {}] or ["NAME=VALUE"]
        self._say(execution, "  waiting for an answer: bin/st2local inquiry respond %s %s"
                  % (execution.id, " ".join(names)), "33")

    def ended(self, execution):
        self._say(execution, "< %s  %s  %.2f s" % (
            self._name(execution), execution.status, execution.seconds),
            _COLOURS.get(execution.status))

    def note(self, text):
        self._write(text)

    def _name(self, execution):
        return self._names.get(execution.id, execution.action.ref)

    def _say(self, execution, text, colour=None):
        indent = "  " * self._depths.get(execution.id, 0)
        if colour and self._colour:
            text = "\033[%sm%s\033[0m" % (colour, text)
        self._write(indent + text)

    def _write(self, text):
        with self._lock:
            try:
                self._stream.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # The reader is gone; the run continues.
                pass
