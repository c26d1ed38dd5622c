"""The API of LangGraph Server: LangSmith Deployment, `langgraph dev`, and Aegra, which copies it.

A run belongs to a thread whose id the client chooses, so a run is found again whatever became of
the reply to its start. One run of the pack has a thread to itself: a second one would find the
messages of the first there.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional
from urllib.parse import quote

from synthralos.calls import output_schema
from synthralos.calls.agent_platforms.agent_failures import agent_failure, cancelled
from synthralos.calls.agent_platforms.langgraph_questions import resume_value
from synthralos.calls.agent_platforms.langgraph_state import (
    asking,
    errors_of,
    graph_config,
    interrupts,
    output_of,
    query_of,
)
from synthralos.calls.agent_platforms.protocol import (
    COMPLETED,
    FAILED,
    RUNNING,
    UNKNOWN,
    AgentRequest,
    Capabilities,
    Checkpoint,
    CheckResult,
    Handle,
    NoCheckpoint,
    Question,
    RunDetails,
    RunState,
    is_id,
    keys_of,
)
from synthralos.calls.agent_platforms.session import Reply, Session, check_reply, malformed
from synthralos.calls.http import CallError, Client
from synthralos.config.platforms import Platform
from synthralos.core import failures
from synthralos.core.failures import Failure
from synthralos.core.timestamps import parse_timestamp

API = "langgraph"
CHECK_PATH = "/assistants/search"
# Runs under one key that failed, each followed by another: more than a run of the pack attempts.
MAX_RUNS_OF_KEY = 50
_NAMESPACE = uuid.UUID("6f0d1c5e-0a0b-5d0e-9d5f-2a4c1c5f7b31")
_LIVE = ("pending", "running")


class LangGraph:
    """A LangGraph Server; see protocol.AgentPlatform."""

    capabilities = Capabilities(
        chooses_run_id=True,
        joins=True,
        cancels=True,
        checkpoint_id="thread",
        answers_questions=True,
    )

    def __init__(self, client: Client, platform: Platform) -> None:
        self._client, self._platform = client, platform

    def handle_for(self, request: AgentRequest) -> Optional[Handle]:
        if request.checkpoint is not None:
            ids = {"thread": request.checkpoint.handle.ids["thread"]}
            return Handle(API, self._platform.name, request.agent, ids)
        thread = str(uuid.uuid5(_NAMESPACE, request.idempotency_key))
        return Handle(API, self._platform.name, request.agent, {"thread": thread})

    def start(self, request: AgentRequest, seconds: float) -> RunState:
        """See AgentPlatform.start. What failed under the same key stays on its thread; a new run
        gets the next one, whose id follows from that of the run that failed.
        """
        session = self._session(seconds)
        handle, run = self._last_run(session, self._first(request))
        if run is not None:
            state = self._state_of(session, handle, run)
            if not _is_to_be_repeated(state, request):
                return state
            handle = _next_thread(handle)
        body = {
            "input": self._input(request),
            "if_not_exists": "create",
            "config": graph_config(request.config),
            "metadata": _metadata(request),
        }
        return self._create(session, handle, body)

    def join(self, handle: Handle, seconds: float) -> RunState:
        """See AgentPlatform.join. Without the id of a run, the last one under its key is meant."""
        session = self._session(seconds)
        if "run" not in handle.ids:
            handle, run = self._last_run(session, handle)
        else:
            run = self._run(session, handle)
        if run is None:
            return RunState(UNKNOWN, handle)
        return self._state_of(session, handle, run)

    def cancel(self, handle: Handle, seconds: float) -> RunState:
        session = self._session(seconds)
        if "run" not in handle.ids:
            handle, run = self._last_run(session, handle)
            if run is None:
                return RunState(UNKNOWN, handle)
        reply = session.request("POST", _run_path(handle) + "/cancel?wait=false&action=interrupt")
        # 404 and 409: it has ended before.
        if not reply.succeeded and reply.status not in (404, 409):
            raise CallError(session.failure_of(reply))
        run = self._run(session, handle)
        if run is None:
            return RunState(UNKNOWN, handle)
        return self._state_of(session, handle, run)

    def resume(self, request: AgentRequest, checkpoint: Checkpoint, seconds: float) -> RunState:
        session = self._session(seconds)
        own_handle = replace(checkpoint.handle, agent=request.agent)
        handle, run = self._latest(session, own_handle)
        if run is not None and _is_of_another_agent(session, run, request.agent):
            message = "the run on this thread is one of another agent"
            raise NoCheckpoint(failures.make_failure("not_found", message))
        if run is not None and run["status"] in _LIVE:
            return RunState(RUNNING, handle)
        state = self._thread_state(session, handle) if run is not None else {}
        if interrupts(state):
            return asking(handle, state)
        if not state.get("next") and checkpoint.id is None:
            message = "the run on this thread left no checkpoint to continue from"
            raise NoCheckpoint(failures.make_failure("not_found", message))
        # Without the key `input`, or with {}, the graph would start from its beginning.
        body: dict[str, Any] = {
            "input": None,
            "config": graph_config(request.config),
            "metadata": _metadata(request),
        }
        checkpoint_id = checkpoint.id
        if checkpoint.state is not None:
            # The corrected state is a checkpoint of its own.
            checkpoint_id = self._correct(session, handle, checkpoint) or checkpoint_id
        if checkpoint_id is not None:
            body["checkpoint_id"] = checkpoint_id
        return self._create(session, handle, body)

    def checkpoint(self, handle: Handle, seconds: float) -> Checkpoint:
        session = self._session(seconds)
        reply = session.request("GET", _thread_path(handle) + "/state")
        state = {} if reply.status == 404 else session.require(reply)
        latest = state.get("checkpoint")
        checkpoint_id = latest.get("checkpoint_id") if isinstance(latest, dict) else None
        if not is_id(checkpoint_id):
            raise NoCheckpoint(failures.make_failure("not_found", "the thread has no checkpoint"))
        return Checkpoint(handle, checkpoint_id)

    def restore(self, checkpoint: Checkpoint, seconds: float) -> None:
        """See CheckpointKeeper.restore. The thread gets a new checkpoint, a copy of the old one."""
        self._correct(self._session(seconds), checkpoint.handle, checkpoint)

    def answer(
        self, handle: Handle, question: Question, answer: str, key: str, seconds: float
    ) -> RunState:
        """See AgentPlatform.answer. `multitask_strategy` takes the part of the key."""
        session = self._session(seconds)
        handle, run = self._latest(session, handle)
        if run is None:
            return RunState(UNKNOWN, handle)
        state = self._thread_state(session, handle)
        questions = {interrupt.id: interrupt for interrupt in interrupts(state)}
        is_open = question.id in questions and question.run == run["run_id"]
        if run["status"] in _LIVE or not is_open:
            return self._state_of(session, handle, run)
        value = resume_value(questions[question.id], answer)
        # Servers before LangGraph 0.4 know no answers by id; of a single question none is needed.
        resume = value if len(questions) == 1 else {question.id: value}
        body = {"command": {"resume": resume}, "metadata": {"idempotency_key": key}}
        return self._create(session, handle, body)

    def describe(self, handle: Handle, seconds: float) -> RunDetails:
        """See RunSource.describe. A stateless run is unknown: the server removes it with its thread
        as soon as it ends.
        """
        session = self._session(seconds)
        run = self._run(session, handle)
        if run is None:
            return RunDetails(RunState(UNKNOWN, handle))
        # As the server spells them: it accepts several spellings of one id.
        handle = handle.with_ids(
            **{name: run[name + "_id"] for name in handle.ids if is_id(run.get(name + "_id"))}
        )
        state, metadata = self._state_of(session, handle, run), run.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        newest = self._newest(session, handle)
        return RunDetails(
            state=state,
            agents=_names_of_agent(session, run),
            query=self._query(session, handle, run) if state.has_ended else None,
            metadata=metadata,
            keys=keys_of(metadata),
            started_at=parse_timestamp(run.get("created_at")),
            is_superseded=newest is not None and newest["run_id"] != run["run_id"],
        )

    def is_agent(self, details: RunDetails, agent: str, config: Mapping[str, Any]) -> bool:
        return agent in details.agents

    def check(self, agent: Optional[str], seconds: float) -> CheckResult:
        reply = self._session(seconds).request("POST", CHECK_PATH, {"limit": 1})
        return check_reply(reply, self._platform.connection, CHECK_PATH)

    def _session(self, seconds: float) -> Session:
        return Session(self._client, self._platform, seconds)

    def _first(self, request: AgentRequest) -> Handle:
        handle = self.handle_for(request)
        assert handle is not None
        return handle

    def _input(self, request: AgentRequest) -> dict[str, Any]:
        if self._platform.input_key == "messages":
            return {"messages": [{"role": "user", "content": request.query}]}
        return {self._platform.input_key: request.query}

    def _query(
        self, session: Session, handle: Handle, run: Mapping[str, Any]
    ) -> Optional[str]:
        kwargs = run.get("kwargs")
        graph_input = kwargs.get("input") if isinstance(kwargs, dict) else None
        if graph_input is None:
            # It continued from a checkpoint, where an earlier run was asked.
            graph_input = self._thread_state(session, handle).get("values")
        return query_of(graph_input, self._platform.input_key)

    def _latest(self, session: Session, handle: Handle) -> tuple[Handle, Optional[dict[str, Any]]]:
        """Return the newest run on the thread of a run, else the last one under its key."""
        if "run" not in handle.ids:
            return self._last_run(session, handle)
        run = self._newest(session, handle)
        return handle.with_ids(run=run["run_id"]) if run is not None else handle, run

    def _last_run(
        self, session: Session, handle: Handle
    ) -> tuple[Handle, Optional[dict[str, Any]]]:
        """Return the last run under the key that a handle's thread follows from, or None."""
        last, thread = None, handle
        for _ in range(MAX_RUNS_OF_KEY):
            run = self._newest(session, thread)
            if run is None:
                break
            handle, last = thread.with_ids(run=run["run_id"]), run
            if run["status"] in _LIVE:
                break
            thread = _next_thread(handle)
        return handle, last

    def _newest(self, session: Session, handle: Handle) -> Optional[dict[str, Any]]:
        reply = session.request("GET", _thread_path(handle) + "/runs?limit=1")
        if reply.status == 404:
            return None
        runs = session.require(reply, list)
        return _require_run(reply, runs[0]) if runs else None

    def _run(self, session: Session, handle: Handle) -> Optional[dict[str, Any]]:
        reply = session.request("GET", _run_path(handle))
        return None if reply.status == 404 else _require_run(reply, session.require(reply))

    def _create(self, session: Session, handle: Handle, body: Mapping[str, Any]) -> RunState:
        """Create a run in the background; where the thread has a live one, that is joined."""
        body = dict(
            body,
            assistant_id=handle.agent,
            multitask_strategy="reject",
            on_disconnect="continue",
            durability="sync",
        )
        reply = session.request("POST", _thread_path(handle) + "/runs", body)
        if reply.status == 409:
            run = self._newest(session, handle)
            if run is None:
                raise CallError(session.failure_of(reply))
        elif reply.status == 422 and _names_no_assistant(reply):
            failure = session.failure_of(reply)
            raise CallError(failures.make_failure("not_found", failure.message, reply.status))
        else:
            run = _require_run(reply, session.require(reply))
        return RunState(RUNNING, handle.with_ids(run=run["run_id"]))

    def _state_of(self, session: Session, handle: Handle, run: Mapping[str, Any]) -> RunState:
        status = run["status"]
        if status in _LIVE:
            return RunState(RUNNING, handle)
        if status == "success":
            state = self._thread_state(session, handle)
            if interrupts(state):
                return self._asking(session, handle, state)
            return RunState(COMPLETED, handle, output=output_of(state, self._platform.output))
        if status == "interrupted":
            # The word for a question and for a cancelled run; only the first has interrupts.
            state = self._thread_state(session, handle)
            if interrupts(state):
                return self._asking(session, handle, state)
            return RunState(FAILED, handle, failure=cancelled())
        return RunState(FAILED, handle, failure=self._failure(session, handle, status))

    def _asking(
        self, session: Session, handle: Handle, state: Mapping[str, Any]
    ) -> RunState:
        """Return the RunState of a thread that has a question open, of the run that asks it."""
        newest = self._newest(session, handle)
        if newest is None or newest["run_id"] == handle.ids["run"]:
            return asking(handle, state)
        # An answer began it; what the state says is read again, as of this run.
        return self._state_of(session, handle.with_ids(run=newest["run_id"]), newest)

    def _failure(self, session: Session, handle: Handle, status: str) -> Failure:
        """Return why a run failed: its own error, else those of the thread's tasks."""
        reply = session.request("GET", _run_path(handle) + "/join")
        body = reply.body if isinstance(reply.body, dict) else {}
        # Aegra answers {} here.
        error: Any = body.get("__error__")
        if not error:
            error = errors_of(self._thread_state(session, handle))
        if status == "timeout":
            default = "the run exceeded the platform's time limit"
            return replace(agent_failure(error, 200, default), type="timeout")
        return agent_failure(error, 200, "the run ended as %s" % status)

    def _correct(
        self, session: Session, handle: Handle, checkpoint: Checkpoint
    ) -> Optional[str]:
        """Write the values of a corrected state, and return the id of the checkpoint that they
        make, where the server says it.
        """
        body: dict[str, Any] = {"values": checkpoint.state}
        if checkpoint.as_node is not None:
            body["as_node"] = checkpoint.as_node
        if checkpoint.id is not None:
            body["checkpoint_id"] = checkpoint.id
        reply = session.request("POST", _thread_path(handle) + "/state", body)
        corrected = session.require(reply).get("checkpoint")
        checkpoint_id = corrected.get("checkpoint_id") if isinstance(corrected, dict) else None
        return checkpoint_id if is_id(checkpoint_id) else None

    def _thread_state(self, session: Session, handle: Handle) -> dict[str, Any]:
        state: dict[str, Any] = session.require(
            session.request("GET", _thread_path(handle) + "/state")
        )
        return state


def _metadata(request: AgentRequest) -> dict[str, str]:
    """Return what is stored with each run, so that it is recognized as one of the pack."""
    return dict(request.context, idempotency_key=request.idempotency_key)


def _names_of_agent(session: Session, run: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the id of a run's assistant, and the name of its graph where the assistant is the one
    that the server itself has made for it: others have a configuration of their own.
    """
    assistant_id = run.get("assistant_id")
    if not is_id(assistant_id):
        return ()
    reply = session.request("GET", "/assistants/" + quote(str(assistant_id), safe=""))
    assistant = {} if reply.status == 404 else session.require(reply)
    metadata, graph = assistant.get("metadata"), assistant.get("graph_id")
    is_default = isinstance(metadata, dict) and metadata.get("created_by") == "system"
    names = [assistant_id, graph] if is_default and is_id(graph) else [assistant_id]
    return tuple(str(name) for name in names)


def _is_of_another_agent(session: Session, run: Mapping[str, Any], agent: str) -> bool:
    """Return whether a run is known to be one of another graph: its state is none of this agent's.
    """
    assistant_id = run.get("assistant_id")
    if not is_id(assistant_id) or assistant_id == agent:
        return False
    reply = session.request("GET", "/assistants/" + quote(str(assistant_id), safe=""))
    graph = reply.body.get("graph_id") if isinstance(reply.body, dict) else None
    if not reply.succeeded or not is_id(graph) or graph == agent:
        return False
    # The agent may be an assistant of the same graph, with a configuration of its own.
    own = session.request("GET", "/assistants/" + quote(agent, safe=""))
    own_graph = own.body.get("graph_id") if isinstance(own.body, dict) else None
    return own.status in (404, 422) or (own.succeeded and own_graph != graph)


def _is_to_be_repeated(state: RunState, request: AgentRequest) -> bool:
    """Return whether a run gave nothing that a further start under the same key could return."""
    if state.status == COMPLETED:
        return output_schema.accept_output(state.output, request.schema)[1] is not None
    return state.status == FAILED


def _next_thread(handle: Handle) -> Handle:
    """Return the thread for the run after the one of `handle`, which ended without an answer."""
    thread = uuid.uuid5(_NAMESPACE, "%s/%s" % (handle.ids["thread"], handle.ids["run"]))
    return Handle(handle.api, handle.platform, handle.agent, {"thread": str(thread)})


def _thread_path(handle: Handle) -> str:
    return "/threads/" + quote(handle.ids["thread"], safe="")


def _run_path(handle: Handle) -> str:
    return "%s/runs/%s" % (_thread_path(handle), quote(handle.ids["run"], safe=""))


def _require_run(reply: Reply, run: Any) -> dict[str, Any]:
    is_run = (
        isinstance(run, dict) and is_id(run.get("run_id")) and isinstance(run.get("status"), str)
    )
    if not is_run:
        raise CallError(malformed(reply))
    valid_run: dict[str, Any] = run
    return valid_run


def _names_no_assistant(reply: Reply) -> bool:
    details = reply.body.get("detail") if isinstance(reply.body, dict) else None
    return isinstance(details, str) and details.lower().startswith("invalid assistant")
