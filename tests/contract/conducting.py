"""One workflow on Orquesta's own conductor, its tasks' results given by the test."""
import functools

import orquesta
import yaml
from fixtures import PACK
from pack_files import ACTIONS, REF, unacceptable

EXECUTION_ID = "5f0c0000000000000000beef"
CONTEXT = {"st2": {"action_execution_id": EXECUTION_ID}}

if tuple(map(int, orquesta.__version__.split("."))) < (1, 3, 0):
    from st2local import functions, shims

    shims.apply(functions.orquesta_functions())


@functools.cache
def specification(workflow):
    """Orquesta's specification of one of the pack's workflows."""
    from orquesta.specs import native

    path = PACK / "actions" / ACTIONS[workflow]["entry_point"]
    return native.instantiate(yaml.safe_load(path.read_text(encoding="utf-8")))


class Conducted:
    """A run of `workflow`.

    :param results: a callable (task, number, input) -> (status, result); number counts the times
        that this task was requested, from 1.
    :ivar tasks: the tasks as they were requested: (name, input, delay).
    :ivar held: for each task as it ended, how many of its transitions held.
    :ivar errors: what the conductor logged of expressions and rendering; empty when all is well.
    """

    MOST_TASKS = 8

    def __init__(self, workflow, results):
        from orquesta import conducting, events, statuses

        self._conductor = conducting.WorkflowConductor(specification(workflow), context=CONTEXT)
        self._event, self._running = events.ActionExecutionEvent, statuses.RUNNING
        self._conductor.request_workflow_status(statuses.RUNNING)
        self.tasks, self.held = [], []
        times = {}
        following = self._conductor.get_next_tasks()
        while following and len(self.tasks) < self.MOST_TASKS:
            assert len(following) == 1, "a workflow of one branch requests one task at a time"
            task = following[0]
            given = task["actions"][0]["input"] or {}
            self.tasks.append((task["id"], given, task.get("delay") or 0))
            self._check(task, given)
            times[task["id"]] = times.get(task["id"], 0) + 1
            self._end(task, *results(task["id"], times[task["id"]], given))
            following = self._conductor.get_next_tasks()
        if self.status in statuses.COMPLETED_STATUSES:
            self._conductor.render_workflow_output()

    @property
    def status(self):
        return self._conductor.get_workflow_status()

    @property
    def output(self):
        return self._conductor.get_workflow_output()

    @property
    def names(self):
        return [name for name, _, _ in self.tasks]

    @property
    def errors(self):
        expected = "Execution failed. See result for details."
        return [error for error in self._conductor.errors if error.get("message") != expected]

    def _check(self, task, given):
        pack, _, name = task["actions"][0]["action"].partition(".")
        if pack == "core":
            return
        assert pack == REF
        problem = unacceptable(ACTIONS[name], given)
        assert problem is None, "StackStorm would not request %s: %s" % (name, problem)
        delay = task.get("delay") or 0
        assert isinstance(delay, int) and not isinstance(delay, bool) and delay >= 0

    def _end(self, task, status, result):
        where = task["id"], task["route"]
        self._conductor.update_task_state(*where, self._event(self._running))
        self._conductor.update_task_state(*where, self._event(status, result=result))
        entry = self._conductor.get_task_state_entry(*where)
        self.held.append((task["id"], sum(entry["next"].values())))
