"""One workflow on Orquesta's own conductor, with task results from the test."""
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


class Composer:
    """Composes the graph of each specification once: the conductor only reads it."""

    @staticmethod
    @functools.cache
    def compose(spec):
        from orquesta.composers.native import WorkflowComposer

        return WorkflowComposer.compose(spec)


class Conducted:
    """A run of `workflow`.

    :param results: a callable (task, number, input) -> (status, result); number counts the times
        that this task was requested, from 1.
    :ivar tasks: the tasks as they were requested: (name, input, delay).
    :ivar held: for each task as it ended, how many of its transitions held.
    :ivar errors: errors of expressions and rendering that the conductor logged.
    """

    MAX_TASKS = 8

    def __init__(self, workflow, results):
        from orquesta import conducting, events, statuses

        self._conductor = conducting.WorkflowConductor(specification(workflow), context=CONTEXT)
        self._conductor.composer = Composer
        self._event, self._running = events.ActionExecutionEvent, statuses.RUNNING
        self._conductor.request_workflow_status(statuses.RUNNING)
        self.tasks, self.transition_counts = [], []
        times = {}
        following = self._conductor.get_next_tasks()
        while following and len(self.tasks) < self.MAX_TASKS:
            assert len(following) == 1, "a workflow of one branch requests one task at a time"
            task = following[0]
            times[task["id"]] = times.get(task["id"], 0) + 1
            if task["spec"].has_items():
                self._end_items(task, results, times[task["id"]])
            else:
                task_input = task["actions"][0]["input"] or {}
                self.tasks.append((task["id"], task_input, task.get("delay") or 0))
                self._check(task, task["actions"][0])
                self._end(task, *results(task["id"], times[task["id"]], task_input))
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

    def _check(self, task, action):
        pack, _, name = action["action"].partition(".")
        task_input = action["input"] or {}
        if pack == "core":
            return
        assert pack == REF
        problem = unacceptable(ACTIONS[name], task_input)
        assert problem is None, "StackStorm would not request %s: %s" % (name, problem)
        delay = task.get("delay") or 0
        assert isinstance(delay, int) and not isinstance(delay, bool) and delay >= 0

    def _end(self, task, status, result):
        task_key = task["id"], task["route"]
        self._conductor.update_task_state(*task_key, self._event(self._running))
        self._conductor.update_task_state(*task_key, self._event(status, result=result))
        self._note_transitions(task)

    def _end_items(self, task, results, number):
        """Every item of a task ends, one after the other; `tasks` has them one by one."""
        from orquesta import events

        task_key, ended, count = (task["id"], task["route"]), {}, task.get("items_count") or 0
        if not count:
            self.tasks.append((task["id"], None, 0))
            self._conductor.update_task_state(*task_key, self._event(self._running))
            self._conductor.update_task_state(*task_key, self._event("succeeded"))
        running = self._requested_items(task) if count else []
        while running:
            action = running.pop(0)
            status, result = results(task["id"], number, action["input"])
            ended[action["item_id"]] = result
            self._conductor.update_task_state(
                *task_key,
                events.TaskItemActionExecutionEvent(
                    action["item_id"], status, result=result,
                    accumulated_result=[ended.get(n) for n in range(count)],
                ),
            )
            if len(ended) + len(running) < count:
                for following in self._conductor.get_next_tasks():
                    assert following["id"] == task["id"], "the task ended before its last item"
                    running += self._requested_items(following)
        self._note_transitions(task)

    def _requested_items(self, task):
        """The items that the conductor asks for, running."""
        from orquesta import events

        for action in task["actions"]:
            self._check(task, action)
            self.tasks.append((task["id"], action["input"], 0))
            event = events.TaskItemActionExecutionEvent(action["item_id"], self._running)
            self._conductor.update_task_state(task["id"], task["route"], event)
        return list(task["actions"])

    def _note_transitions(self, task):
        entry = self._conductor.get_task_state_entry(task["id"], task["route"])
        self.transition_counts.append((task["id"], sum(entry["next"].values())))
