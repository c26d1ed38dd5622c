"""A LangGraph Server with one agent, which works for as long as a function does.

The function may divide its work into steps, which a thread does not do twice, and may ask people.
"""
import re
import threading
import uuid
from dataclasses import dataclass, field
from typing import Optional

from sandbox.agent_server import AgentServer

_RUNS = re.compile(r"/threads/([^/]+)/runs(?:\?.*)?\Z")
_RUN = re.compile(r"/threads/([^/]+)/runs/([^/?]+)(/cancel|/join)?(?:\?.*)?\Z")
_STATE = re.compile(r"/threads/([^/]+)/state\Z")
_NOT_FOUND = (404, {"detail": "Not found"})


@dataclass
class Thread:
    """What a thread keeps from one run to the next.

    :ivar results: {step: its result} of the steps that are done.
    :ivar answers: {question: what a person has answered}.
    :ivar question: the one that is open, or None.
    """

    query: str
    results: dict = field(default_factory=dict)
    answers: dict = field(default_factory=dict)
    question: Optional["Question"] = None


class Question(Exception):
    """Ends a run that asks; the next one on its thread knows the answer."""

    def __init__(self, text):
        super().__init__(text)
        self.text, self.id = text, str(uuid.uuid4())


@dataclass
class Run:
    """A run of the agent.

    :ivar status: in LangGraph's words: running, success, error or interrupted.
    :ivar output: the agent's answer, or the words of its error.
    """

    thread: str
    memory: Thread
    status: str = "running"
    output: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def query(self):
        return self.memory.query

    def step(self, name, work):
        """Return what `work()` returned, in this run or an earlier one on the thread."""
        if name not in self.memory.results:
            self.memory.results[name] = work()
        return self.memory.results[name]

    def ask(self, text):
        """Return a person's answer; without one, the run ends here and asks."""
        if text not in self.memory.answers:
            raise Question(text)
        return self.memory.answers[text]

    def document(self):
        return {"run_id": self.id, "thread_id": self.thread, "status": self.status}


class LangGraphServer(AgentServer):
    """A LangGraph Server; `runs` are its Runs, each on a thread of LangGraph's.

    :param work: the agent: a function from its Run to its answer, called on a thread of its own.
        What it raises is the error of the run; what it returns after `run.cancelled` is dropped.
    :ivar runs: all Runs that were started, oldest first.
    """

    def answer(self, method, path, body, headers):
        """Return (status, body) of a request."""
        runs, run, state = (pattern.match(path) for pattern in (_RUNS, _RUN, _STATE))
        if path == "/assistants/search":
            return 200, []
        if runs and method == "POST":
            return self._start(runs.group(1), body)
        if runs:
            own = self._on(runs.group(1))
            return (200, [own[-1].document()]) if own else _NOT_FOUND
        if run:
            return self._existing(run.group(1), run.group(2), run.group(3))
        if state and self._on(state.group(1)):
            return 200, _state(self._on(state.group(1))[-1])
        return _NOT_FOUND

    def _on(self, thread):
        with self._lock:
            return [run for run in self.runs if run.thread == thread]

    def _start(self, thread, body):
        own = self._on(thread)
        if own and body.get("input") is None:
            new = Run(thread, own[-1].memory)
        else:
            new = Run(thread, Thread(body["input"]["messages"][-1]["content"]))
        question = new.memory.question
        if question is not None and "resume" in (body.get("command") or {}):
            new.memory.answers[question.text] = body["command"]["resume"]
            new.memory.question = None
        with self._lock:
            if any(run.status == "running" for run in self.runs if run.thread == thread):
                return 409, {"detail": "Thread is already running a task."}
            self.runs.append(new)
        threading.Thread(target=self._perform, args=(new,), daemon=True).start()
        return 200, new.document()

    def _perform(self, run):
        try:
            status, output = "success", self._work(run)
        except Question as question:
            # LangGraph calls a run that asks a success, too.
            status, output, run.memory.question = "success", "", question
        except Exception as error:
            status, output = "error", str(error)
        with self._lock:
            if run.status == "running":
                run.status, run.output = status, output

    def _existing(self, thread, run_id, operation):
        run = next((run for run in self._on(thread) if run.id == run_id), None)
        if run is None:
            return _NOT_FOUND
        if operation == "/cancel":
            with self._lock:
                if run.status == "running":
                    run.status = "interrupted"
            run.cancelled.set()
        if operation == "/join" and run.status == "error":
            return 200, {"__error__": {"error": "RuntimeError", "message": run.output}}
        return 200, run.document()


def _state(run):
    messages = [{"type": "human", "content": run.query}]
    question, interrupts = run.memory.question, []
    if question is not None:
        interrupts = [{"id": question.id, "value": {"question": question.text}}]
    elif run.status == "success":
        messages.append({"type": "ai", "content": run.output})
    stopped = interrupts or run.status in ("error", "interrupted")
    tasks = [{"name": "work", "error": None, "interrupts": interrupts}] if stopped else []
    return {
        "values": {"messages": messages}, "tasks": tasks, "next": ["work"] if stopped else [],
    }
