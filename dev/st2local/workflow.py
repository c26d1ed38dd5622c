"""Drives orquesta's WorkflowConductor through one workflow execution.

The conductor decides what runs next; this module is StackStorm's workflow engine around it.
Only the thread in `run` uses the conductor; everything else reaches it as a message.
"""
import queue
import threading

from st2local import functions
from st2local.errors import InvalidActionReferencedException, ValidationError
from st2local.executions import COMPLETED
from st2local.ids import new_id, timestamp
from st2local.inspection import errors_of
from st2local.pack import load_yaml
from st2local.shims import apply

# orquesta parses expressions with one parser for the whole process, which only one thread at a time
# may use. No code that holds this lock waits for anything but orquesta.
_orquesta = threading.RLock()

_STUCK = "no task is left, but the workflow is %s: on StackStorm it would stay so forever"


class WorkflowRun:
    """A run of a workflow.

    :param local: the St2Local that requests and performs the tasks' actions.
    :param execution: the workflow's own execution.
    :param inputs: its final parameters.
    :param on_change: called with "paused" or "running" when it pauses or resumes.
    """

    def __init__(self, local, execution, inputs, on_change):
        self._local, self._execution, self._inputs = local, execution, inputs
        self._on_change = on_change
        self._messages = queue.Queue()
        self._children = {}
        self._tasks = {}
        self._output_lost = False
        self._conductor = None

    def cancel(self):
        self._messages.put((self._cancel,))

    def pause(self):
        self._messages.put((self._pause,))

    def resume(self):
        self._messages.put((self._resume,))

    def run(self):
        """Run to the end of the last action and return (status, result)."""
        context = self._context()
        functions.register_run(self._execution.id, self._local.keys, self._task)
        try:
            with _orquesta:
                errors = self._prepare(context)
                if errors:
                    return "failed", {"errors": errors, "output": None}
                self._start()
            self._attend()
            return self._outcome()
        finally:
            functions.forget_run(self._execution.id)

    def _prepare(self, context):
        """Create the conductor; return the errors of the inspection."""
        apply(functions.orquesta_functions())
        from orquesta import conducting, events, statuses
        from orquesta.specs import native

        self._events, self._statuses = events, statuses
        try:
            spec = native.instantiate(load_yaml(self._execution.action.entry_point))
            errors = errors_of(spec, context, self._local.find_action)
            if not errors:
                self._conductor = conducting.WorkflowConductor(
                    spec, context=context, inputs=self._inputs)
            return errors
        except Exception as error:
            # For any error in the file, StackStorm returns a failed execution.
            return [{"message": str(error)}]

    def _context(self):
        execution = self._execution
        return {
            "st2": {
                "action_execution_id": execution.id,
                "api_url": self._local.api_url,
                "user": execution.context.get("user"),
                "pack": execution.context.get("pack"),
                "action": execution.action.ref,
                "runner": execution.action.runner,
                "workflow_execution_id": new_id(),
            },
            "parent": execution.context,
        }

    @property
    def _status(self):
        return self._conductor.get_workflow_status()

    def _start(self):
        # Reading the status renders input and vars, which may fail the workflow.
        if self._status not in COMPLETED:
            self._conductor.request_workflow_status(self._statuses.REQUESTED)
            self._conductor.request_workflow_status(self._statuses.RUNNING)
            self._request_next()
        self._settle()

    def _attend(self):
        """Handles messages until the workflow is over and its last action has ended."""
        while self._children or self._status not in COMPLETED:
            if not self._children and self._status not in ("paused", "pausing"):
                with _orquesta:
                    self._fail(RuntimeError(_STUCK % self._status))
                    self._settle()
                continue
            message = self._messages.get()
            with _orquesta:
                try:
                    message[0](*message[1:])
                except Exception as error:
                    # StackStorm's engine fails the workflow for any error of its own.
                    self._fail(error)
                self._settle()

    def _settle(self):
        """Render the output of a completed workflow, and update the execution's status."""
        status = self._status
        if status in COMPLETED:
            if not self._output_lost:
                self._conductor.render_workflow_output()
            self._execution.set_status(*self._outcome())
            return
        visible_status = {"resuming": "running", "requested": "running"}.get(status, status)
        before = self._execution.status
        if self._execution.set_status(visible_status) and "paused" in (before, visible_status):
            self._on_change(visible_status)

    def _outcome(self):
        status = self._status
        output = None if self._output_lost else self._conductor.get_workflow_output()
        result = {"output": output or None}
        if status in self._statuses.ABENDED_STATUSES:
            result["errors"] = list(self._conductor.errors)
        return status, result

    def _request_next(self):
        tasks = self._conductor.get_next_tasks()
        while tasks:
            for task in tasks:
                self._mark_running(task)
            for task in tasks:
                try:
                    self._request_task(task)
                except Exception as error:
                    # Not catchable by the workflow: no transition of the task fires.
                    self._local.progress.refused(self._execution, task["id"], error)
                    self._fail(error, task)
                    return
            tasks = self._conductor.get_next_tasks()

    def _mark_running(self, task):
        running = self._statuses.RUNNING
        if task["spec"].has_items() and task.get("items_count") == 0:
            self._update(task["id"], task["route"], self._events.ActionExecutionEvent(running))
        for action in task["actions"]:
            item = action.get("item_id")
            event = self._events.ActionExecutionEvent(running) if item is None else (
                self._events.TaskItemActionExecutionEvent(item, running))
            self._update(task["id"], task["route"], event)

    def _request_task(self, task):
        key = (task["id"], task["route"])
        itemized = task["spec"].has_items()
        record = self._tasks.get(key)
        if not (record and record["itemized"] and record["status"] == "running"):
            record = self._tasks[key] = {
                "task_execution_id": new_id(),
                "task_name": task["id"],
                "task_id": task["id"],
                "route": task["route"],
                "itemized": itemized,
                "items": [None] * (task.get("items_count") or 0),
                "result": None,
                "status": "running",
                "start_timestamp": timestamp(self._local.clock()),
            }
        if task["spec"].action is None or (itemized and not record["items"]):
            self._end(record, "succeeded", None)
            succeeded = self._events.ActionExecutionEvent(self._statuses.SUCCEEDED)
            self._update(task["id"], task["route"], succeeded)
            return
        for action in task["actions"]:
            self._request_action(task, record, action)

    def _request_action(self, task, record, request):
        item, ref = request.get("item_id"), request["action"]
        action = self._local.find_action(ref)
        if action is None:
            raise InvalidActionReferencedException('Unable to find action "%s".' % (ref,))
        own = self._execution
        parent = {"execution_id": own.id, "user": own.context.get("user"),
                  "pack": own.context.get("pack")}
        context = {
            "pack": action.pack,
            "user": own.context.get("user"),
            "parent": parent,
            "orquesta": {
                "workflow_execution_id": self._conductor.get_workflow_parent_context()[
                    "st2"]["workflow_execution_id"],
                "task_execution_id": record["task_execution_id"],
                "task_name": task["id"], "task_id": task["id"], "task_route": task["route"],
            },
        }
        if item is not None:
            context["orquesta"]["item_id"] = item
        seconds = _delay(task, item)
        if seconds < 0:
            raise ValidationError("delay: must be 0 or more (got %d s)" % seconds)
        child = self._local.request(action, request["input"] or {}, context, parent=own.id)
        self._local.progress.requested(child, task["id"], item)
        self._children[child.id] = child
        threading.Thread(
            target=self._perform, args=(child, seconds, task["id"], task["route"], item),
            name="%s %s" % (task["id"], child.id), daemon=True,
        ).start()

    def _perform(self, child, seconds, task_id, route, item):
        """Perform an action in its own thread, from its delay to its result."""
        def changed(status):
            self._messages.put((self._child_changed, task_id, route, item, status))

        status, result = self._local.perform(child, seconds, changed, self.resume)
        self._messages.put((self._child_ended, child, task_id, route, item, status, result))

    def _child_changed(self, task_id, route, item, status):
        """Handle a child that waits for an answer, has paused, or continues."""
        if item is None:
            self._tasks[task_id, route]["status"] = status
        if status == "running" and self._status == self._statuses.PAUSED:
            self._conductor.request_workflow_status(self._statuses.RUNNING)
        self._update(task_id, route, self._event(task_id, route, item, status, None))

    def _child_ended(self, child, task_id, route, item, status, result):
        del self._children[child.id]
        record = self._tasks[task_id, route]
        if item is None:
            self._end(record, status, result)
        else:
            record["items"][item] = {"status": status, "result": result}
            record["result"] = {"items": record["items"]}
            if all(entry and entry["status"] in COMPLETED for entry in record["items"]):
                succeeded = all(entry["status"] == "succeeded" for entry in record["items"])
                self._end(record, "succeeded" if succeeded else "failed", record["result"])
        self._update(task_id, route, self._event(task_id, route, item, status, result))
        # StackStorm writes the outcome at this point, before it requests more.
        self._settle()
        self._request_next()

    def _event(self, task_id, route, item, status, result):
        if item is None:
            return self._events.ActionExecutionEvent(status, result=result)
        results = [entry.get("result") if entry else None
                   for entry in self._tasks[task_id, route]["items"]]
        return self._events.TaskItemActionExecutionEvent(
            item, status, result=result, accumulated_result=results)

    def _update(self, task_id, route, event):
        self._conductor.update_task_state(task_id, route, event)

    def _end(self, record, status, result):
        record.update(status=status, result=result,
                      end_timestamp=timestamp(self._local.clock()))

    def _fail(self, error, task=None):
        if self._status not in self._statuses.ABENDED_STATUSES:
            if self._status in COMPLETED:
                return
            self._conductor.request_workflow_status(self._statuses.FAILED)
        task_context = {"task_id": task["id"], "route": task["route"]} if task else {}
        self._conductor.log_error(error, **task_context)

    def _cancel(self):
        if self._status in COMPLETED:
            return
        self._conductor.request_workflow_status(self._statuses.CANCELED)
        for child in list(self._children.values()):
            # An action that already runs ends by itself.
            if child.action.runner == "orquesta" or child.status in (
                    "requested", "delayed", "pending"):
                self._local.stop(child)

    def _pause(self):
        if self._status in COMPLETED:
            return
        self._conductor.request_workflow_status(self._statuses.PAUSED)
        for child in list(self._children.values()):
            if child.action.runner == "orquesta" and child.run is not None:
                child.run.pause()

    def _resume(self):
        if self._status not in self._statuses.PAUSE_STATUSES:
            return
        self._conductor.request_workflow_status(self._statuses.RESUMING)
        if self._status in COMPLETED:
            # StackStorm renders no output on this path.
            self._output_lost = True
            return
        for child in list(self._children.values()):
            if child.action.runner == "orquesta" and child.run is not None:
                child.run.resume()
        self._request_next()

    def _task(self, name):
        """Return the last record of a task, as `task('name')` does in an expression."""
        records = [record for (task_id, _), record in self._tasks.items() if task_id == name]
        if not records:
            return None
        return {
            key: value for key, value in records[-1].items() if key not in ("itemized", "items")
        }


def _delay(task, item):
    """Seconds before the action starts; of items, only the first `concurrency` ones wait."""
    seconds, concurrency = task.get("delay"), task.get("concurrency")
    if not seconds:
        return 0
    if item is not None and concurrency and item >= concurrency:
        return 0
    return seconds
