"""One execution: its document, as StackStorm's API shows it, and its cancellation."""
import threading

from st2local.ids import new_id, timestamp

COMPLETED = ("succeeded", "failed", "timeout", "abandoned", "canceled")


class Execution:
    """An execution, saved at each change of status. Methods may be called from any thread.

    :param clock: a function that returns the seconds since 1970.
    """

    def __init__(self, store, clock, action, parameters, context, parent=None, origin=None):
        self.action, self.context = action, context
        self.id = new_id()
        self.output = []
        self.canceled = threading.Event()
        # Set when an inquiry need not wait any longer.
        self.settled = threading.Event()
        self.run = None
        # The final status that was set from outside, as by PUT /executions/<id>.
        self.ended_as = None
        self.parameters = parameters
        self._store, self._clock = store, clock
        self._started = clock()
        self._lock = threading.Lock()
        document = {
            "id": self.id,
            "action": action.document(),
            "runner": {"name": action.runner, "runner_parameters": action.runner_parameters},
            "liveaction": {
                "id": new_id(), "action": action.ref, "action_is_workflow":
                action.runner == "orquesta", "context": context, "parameters": parameters,
            },
            "context": context,
            "start_timestamp": timestamp(self._started),
            "web_url": "",
            "log": [],
        }
        if parameters:
            # An execution without parameters has no such member.
            document["parameters"] = parameters
        if parent is not None:
            document["parent"] = parent
        document.update(origin or {})
        self._document = document
        self.set_status("requested")

    @property
    def status(self):
        return self._document["status"]

    @property
    def result(self):
        return self._document.get("result")

    @property
    def seconds(self):
        return self._clock() - self._started

    def document(self):
        document = self._store.execution(self.id)
        document["output"] = list(self.output)
        return document

    def set_status(self, status, result=None):
        """Set the status, and the result unless it is None. Return whether the status changed."""
        with self._lock:
            document = self._document
            changed = document.get("status") != status
            if not changed and result is None:
                return False
            now = self._clock()
            document["status"] = status
            if changed:
                document["log"].append({"timestamp": timestamp(now), "status": status})
            if result is not None:
                document["result"] = result
            if status in COMPLETED and "end_timestamp" not in document:
                document["end_timestamp"] = timestamp(now)
                document["elapsed_seconds"] = round(now - self._started, 6)
            self._store.save_execution(document, self._started)
            return changed

    def answer(self, response):
        """Record the answer to an inquiry: whoever answers finds it succeeded, as on StackStorm."""
        self.set_status("succeeded", dict(self.result, response=response))
        self.settled.set()

    def cancel(self):
        self.canceled.set()
        self.settled.set()

    def set_delay(self, seconds):
        self._document["delay"] = seconds * 1000

    def add_line(self, stream, line):
        self.output.append({"stream": stream, "line": line})
