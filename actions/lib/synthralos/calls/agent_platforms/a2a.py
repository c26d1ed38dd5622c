"""The Agent2Agent protocol (A2A), versions 1.0 and 0.3, by JSON-RPC and HTTP+JSON.

https://a2a-protocol.org/latest/specification/. A task that has ended cannot be restarted. Its id is
the server's, but it keeps the message that began it: with 1.0 a task is found by the id of that
message, which is the idempotency key.
"""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.calls.agent_platforms import a2a_card, a2a_task, a2a_wire
from synthralos.calls.agent_platforms.a2a_card import Interface
from synthralos.calls.agent_platforms.protocol import (
    ASKING,
    UNKNOWN,
    AgentRequest,
    Capabilities,
    Checkpoint,
    CheckResult,
    Handle,
    Question,
    RunDetails,
    RunState,
    not_supported,
)
from synthralos.calls.agent_platforms.session import Session
from synthralos.calls.http import CallError, Client
from synthralos.config.platforms import Platform
from synthralos.core import failures
from synthralos.core.timestamps import parse_timestamp

API = "a2a"
# No server has a task of this id: what it answers says whether it would let us ask.
ID_OF_CHECK = "synthralos-check"


class A2A:
    """An A2A server; see protocol.AgentPlatform."""

    capabilities = Capabilities(joins=True, cancels=True, answers_questions=True)

    def __init__(self, client: Client, platform: Platform) -> None:
        self._client, self._platform = client, platform
        self._interfaces: dict[str, Interface] = {}

    def handle_for(self, request: AgentRequest) -> Optional[Handle]:
        ids = {"message": request.idempotency_key}
        return Handle(API, self._platform.name, request.agent, ids)

    def start(self, request: AgentRequest, seconds: float) -> RunState:
        session = self._session(seconds)
        interface = self._interface(session, request.agent)
        metadata: dict[str, Any] = dict(request.context)
        if request.config:
            metadata["config"] = dict(request.config)
        params = a2a_wire.message_params(
            interface, request.query, request.idempotency_key, metadata
        )
        handle = self.handle_for(request)
        assert handle is not None
        return _state(a2a_wire.call(session, interface, a2a_wire.SEND, params), handle)

    def join(self, handle: Handle, seconds: float) -> RunState:
        session = self._session(seconds)
        interface = self._interface(session, handle.agent)
        if "task" not in handle.ids:
            return self._find(session, interface, handle)
        return _task(session, interface, a2a_wire.GET, handle)

    def cancel(self, handle: Handle, seconds: float) -> RunState:
        session = self._session(seconds)
        interface = self._interface(session, handle.agent)
        if "task" not in handle.ids:
            state = self._find(session, interface, handle)
            if state.status == UNKNOWN or state.has_ended:
                return state
            handle = state.handle
        try:
            return _task(session, interface, a2a_wire.CANCEL, handle)
        except a2a_wire.A2AError as error:
            if error.code not in (a2a_wire.NOT_CANCELABLE, a2a_wire.UNSUPPORTED):
                raise
            # It has ended before, or the server cannot: the task says which.
            return _task(session, interface, a2a_wire.GET, handle)

    def resume(self, request: AgentRequest, checkpoint: Checkpoint, seconds: float) -> RunState:
        raise not_supported(API, "continue from a checkpoint")

    def answer(
        self, handle: Handle, question: Question, answer: str, key: str, seconds: float
    ) -> RunState:
        """See AgentPlatform.answer. A task whose history has the answer already is not sent it
        again: not every server recognizes the id of a message.
        """
        session = self._session(seconds)
        interface = self._interface(session, handle.agent)
        result = _result(session, interface, a2a_wire.GET, handle)
        if result is None:
            return RunState(UNKNOWN, handle)
        state = _state(result, handle)
        has_answer = a2a_task.has_message(result.get("task", result), key)
        if state.status != ASKING or state.question != question or has_answer:
            return state
        ids = {"taskId": state.handle.ids["task"]}
        if "context" in state.handle.ids:
            ids["contextId"] = state.handle.ids["context"]
        params = a2a_wire.message_params(interface, answer, key, {}, **ids)
        return _state(a2a_wire.call(session, interface, a2a_wire.SEND, params), state.handle)

    def describe(self, handle: Handle, seconds: float) -> RunDetails:
        """See RunSource.describe. A task does not say of which agent it is: whose address knows it,
        has it.
        """
        session = self._session(seconds)
        interface = self._interface(session, handle.agent)
        try:
            params = {"id": handle.ids["task"]}
            result = a2a_wire.call(session, interface, a2a_wire.GET, params)
        except a2a_wire.A2AError as error:
            if error.code != a2a_wire.NOT_FOUND:
                raise
            return RunDetails(RunState(UNKNOWN, handle))
        task = result.get("task") if isinstance(result.get("task"), dict) else result
        return RunDetails(
            state=_state(task, handle),
            agents=(handle.agent,),
            query=a2a_task.query_of(task),
            metadata=a2a_task.metadata_of(task),
            keys=a2a_task.message_ids(task),
            started_at=parse_timestamp((task.get("status") or {}).get("timestamp")),
        )

    def is_agent(self, details: RunDetails, agent: str, config: Mapping[str, Any]) -> bool:
        connections = [
            a2a_card.connection_of_agent(self._platform, name) for name in (agent, *details.agents)
        ]
        return len({connection.base_url for connection in connections}) == 1

    def check(self, agent: Optional[str], seconds: float) -> CheckResult:
        session = self._session(seconds)
        try:
            interface = self._interface(session, agent or "")
            a2a_wire.call(session, interface, a2a_wire.GET, {"id": ID_OF_CHECK})
        except a2a_wire.A2AError as error:
            if error.code != a2a_wire.NOT_FOUND:
                return CheckResult(False, error.failure.message, "Check base_url and the card")
        except CallError as error:
            if error.failure.status is None and error.failure.cause != "configuration":
                raise
            return _failed_check(error)
        details = "answered by %s, version %s" % (interface.binding, interface.version)
        if interface.remark:
            details += "; " + interface.remark
        return CheckResult(True, details)

    def _session(self, seconds: float) -> Session:
        return Session(self._client, self._platform, seconds)

    def _interface(self, session: Session, agent: str) -> Interface:
        """Return the agent's interface; its card is read once in a process."""
        if agent not in self._interfaces:
            self._interfaces[agent] = (
                a2a_card.configured_interface(self._platform, agent) or
                a2a_card.read_interface(session, self._platform, agent)
            )
        return self._interfaces[agent]

    def _find(self, session: Session, interface: Interface, handle: Handle) -> RunState:
        """Return the state of the newest task that our message began.

        :raises NotSupported: the server cannot list tasks.
        """
        params = {"pageSize": a2a_wire.LIST_PAGE, "historyLength": a2a_wire.LIST_PAGE}
        try:
            result = a2a_wire.call(session, interface, a2a_wire.LIST, params)
        except a2a_wire.A2AError as error:
            raise not_supported(API, "find a task whose id is not known") from error
        tasks = result.get("tasks")
        for task in tasks if isinstance(tasks, list) else ():
            if a2a_task.has_message(task, handle.ids["message"]):
                state = _state(task, handle)
                # Lists leave out the artifacts.
                return _task(session, interface, a2a_wire.GET, state.handle)
        return RunState(UNKNOWN, handle)


def _task(session: Session, interface: Interface, operation: str, handle: Handle) -> RunState:
    """Get or cancel a task and return its state; UNKNOWN where the server does not know it."""
    result = _result(session, interface, operation, handle)
    return RunState(UNKNOWN, handle) if result is None else _state(result, handle)


def _result(
    session: Session, interface: Interface, operation: str, handle: Handle
) -> Optional[dict[str, Any]]:
    """Get or cancel a task and return the result; None where the server does not know it."""
    try:
        result: dict[str, Any] = a2a_wire.call(
            session, interface, operation, {"id": handle.ids["task"]}
        )
    except a2a_wire.A2AError as error:
        if error.code != a2a_wire.NOT_FOUND:
            raise
        return None
    return result


def _state(result: Any, handle: Handle) -> RunState:
    state = a2a_task.state_of(result, handle) if isinstance(result, dict) else None
    if state is None:
        message = "the response is neither a task nor a message"
        raise CallError(failures.make_failure("malformed_answer", message, 200))
    return state


def _failed_check(error: CallError) -> CheckResult:
    failure = error.failure
    if failure.status in (401, 403):
        hint = "Set token or token_from"
    elif failure.status == 404:
        hint = "Check base_url and card_path, or set protocol_version and binding"
    else:
        hint = "Check base_url, protocol_version and binding"
    is_up = failure.status is None or failure.status < 500
    return CheckResult(False, failure.message, hint, is_up)
