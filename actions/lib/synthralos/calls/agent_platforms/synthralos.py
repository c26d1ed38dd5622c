"""The API of SynthralOS: an agent is run, or an execution replayed, within one call.

An agent's run has no id before it has ended, so it is neither joined nor cancelled; what protects
it from being repeated is its `Idempotency-Key`.
"""

from collections.abc import Mapping
from typing import Any, Optional
from urllib.parse import quote

from synthralos.calls import delivery_receipts, idempotency
from synthralos.calls.agent_platforms.protocol import (
    COMPLETED,
    FAILED,
    AgentRequest,
    Capabilities,
    Checkpoint,
    CheckResult,
    Handle,
    Question,
    RunState,
    is_id,
    not_supported,
)
from synthralos.calls.agent_platforms.session import Reply, Session, check_reply
from synthralos.calls.http import CallError, Client
from synthralos.config.platforms import Platform
from synthralos.core import evidence, failures
from synthralos.core.failures import Failure

API = "synthralos"


class SynthralOS:
    """A SynthralOS platform; see protocol.AgentPlatform."""

    capabilities = Capabilities()

    def __init__(self, client: Client, platform: Platform) -> None:
        self._client, self._platform = client, platform

    def handle_for(self, request: AgentRequest) -> Optional[Handle]:
        return None

    def start(self, request: AgentRequest, seconds: float) -> RunState:
        """Run the agent to its end, or replay an execution and read the result."""
        session = Session(self._client, self._platform, seconds)
        body = (
            self._execute(session, request)
            if request.replay_of is None
            else self._replay(session, request, request.replay_of)
        )
        execution_id = body.get("executionId")
        ids = {"execution": str(execution_id)} if is_id(execution_id) else {}
        handle = Handle(API, self._platform.name, request.agent, ids)
        if body.get("status") not in (None, "completed"):
            message = "the agent ended as %s" % body.get("status")
            return RunState(
                FAILED, handle, failure=failures.make_failure("agent_failed", message, 200)
            )
        metadata = body.get("metadata")
        return RunState(
            COMPLETED,
            handle,
            output=body.get("output", body.get("results")),
            metadata=metadata if isinstance(metadata, dict) else {},
        )

    def join(self, handle: Handle, seconds: float) -> RunState:
        raise not_supported(API, "join a run")

    def cancel(self, handle: Handle, seconds: float) -> RunState:
        raise not_supported(API, "cancel a run")

    def resume(self, request: AgentRequest, checkpoint: Checkpoint, seconds: float) -> RunState:
        raise not_supported(API, "continue from a checkpoint")

    def answer(
        self, handle: Handle, question: Question, answer: str, key: str, seconds: float
    ) -> RunState:
        raise not_supported(API, "answer a question")

    def check(self, agent: Optional[str], seconds: float) -> CheckResult:
        path = self._platform.health_path
        reply = Session(self._client, self._platform, seconds).request("GET", path)
        return check_reply(reply, self._platform.connection, path)

    def _execute(self, session: Session, request: AgentRequest) -> dict[str, Any]:
        path = request.execute_path or self._platform.execute_path
        path = path.replace("{agent_id}", _quoted(request.agent))
        body = {
            "query": request.query,
            "agentType": request.agent_type,
            "config": dict(request.config),
        }
        return self._post(session, path, body, request)

    def _replay(
        self, session: Session, request: AgentRequest, replay_of: str
    ) -> dict[str, Any]:
        """Replay an execution and read its result, which the reply to the replay does not contain.
        """
        path = self._platform.replay_path.replace("{execution_id}", _quoted(replay_of))
        replayed = self._post(session, path, {}, request)
        execution_id = replayed.get("executionId")
        if not isinstance(execution_id, str):
            raise CallError(_malformed(200))
        path = self._platform.execution_path.replace("{execution_id}", _quoted(execution_id))
        body = self._body_of(session, session.request("GET", path))
        return dict(body, executionId=execution_id)

    def _post(
        self, session: Session, path: str, body: dict[str, Any], request: AgentRequest
    ) -> dict[str, Any]:
        headers = {idempotency.HEADER: request.idempotency_key}
        return self._body_of(session, session.request("POST", path, body, headers))

    def _body_of(self, session: Session, reply: Reply) -> dict[str, Any]:
        """Return the JSON object of a reply.

        :raises CallError: the platform or the agent failed.
        """
        body = reply.body if isinstance(reply.body, dict) else None
        has_failed = body is not None and (
            body.get("status") == "failed" or
            (reply.status < 300 and "status" not in body and evidence.is_error_body(body))
        )
        if body is not None and has_failed:
            # The platform responded; the agent failed, which does not count for its breaker.
            raise CallError(_agent_failure(reply.status, body))
        if not reply.succeeded:
            raise CallError(session.failure_of(reply))
        if body is None:
            raise CallError(_malformed(reply.status))
        return body


def notify(client: Client, platform: Platform, payload: Mapping[str, Any], seconds: float) -> None:
    """Post a failure record to the platform's webhook.

    :raises CallError: it was not accepted.
    """
    session = Session(client, platform, seconds)
    reply = session.request("POST", str(platform.failure_webhook), payload)
    if not reply.succeeded:
        raise CallError(session.failure_of(reply))
    refusal = delivery_receipts.refusal_of(reply.response)
    if refusal is not None:
        raise CallError(refusal)


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _malformed(status: int) -> Failure:
    message = "the platform's response is not a JSON object"
    return failures.make_failure("malformed_answer", message, status)


def _agent_failure(status: int, body: Mapping[str, Any]) -> Failure:
    clues = evidence.read(body.get("error"))
    failure = failures.make_failure("agent_failed", clues.message or "the agent failed", status)
    reported_cause = failures.cause_of(clues)
    if reported_cause is None:
        return failure
    return failures.with_evidence(failure, spoken_cause=reported_cause)
