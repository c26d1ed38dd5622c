"""OpenAI's Responses API, for agents that are a model with instructions and tools, or a prompt.

A response is created in the background and polled, so that it outlives the call that began it. Its
id is known only from the reply; behind some gateways it is hundreds of characters long, and another
one at each look: the first is kept.
"""

import re
from collections.abc import Mapping
from typing import Any, Optional
from urllib.parse import quote

from synthralos.calls import idempotency
from synthralos.calls.agent_platforms.agent_failures import cancelled
from synthralos.calls.agent_platforms.protocol import (
    ASKING,
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
    not_supported,
)
from synthralos.calls.agent_platforms.session import Reply, Session, check_reply, malformed
from synthralos.calls.http import CallError, Client
from synthralos.calls.llm_wires.chat_messages import text_of
from synthralos.config.platforms import Platform
from synthralos.core import evidence, failures
from synthralos.core.failures import Failure
from synthralos.core.timestamps import parse_timestamp

API = "openai_responses"
PATH, CHECK_PATH = "/responses", "/models"
# Prompts that are stored at OpenAI have ids that begin so; every other agent is a model.
PROMPT_PREFIX = "pmpt_"
# What an agent's configuration may set; the rest is of other APIs, such as maxIterations.
PARAMETERS = (
    "include", "instructions", "max_output_tokens", "max_tool_calls", "parallel_tool_calls",
    "prompt", "reasoning", "service_tier", "temperature", "text", "tool_choice", "tools", "top_p",
    "truncation",
)
MAX_METADATA_CHARS = 512
# Instead of the query, which the response that is continued holds already.
CONTINUE = "Continue where the previous response stopped."
# A response names the release of the model that answered: gpt-4o-2024-08-06 of gpt-4o.
_RELEASE = re.compile(r"-\d{4}-\d{2}-\d{2}\Z")
_RUNNING = ("queued", "in_progress")
_TOOL_CALLS = ("function_call", "custom_tool_call", "computer_call", "local_shell_call")


class OpenAIResponses:
    """A server of the Responses API; see protocol.AgentPlatform."""

    capabilities = Capabilities(joins=True, cancels=True, checkpoint_id="response")

    def __init__(self, client: Client, platform: Platform) -> None:
        self._client, self._platform = client, platform
        if not platform.background:
            # The start is awaited, for as long as the run may take.
            self.capabilities = Capabilities(checkpoint_id="response")

    def handle_for(self, request: AgentRequest) -> Optional[Handle]:
        return None

    def start(self, request: AgentRequest, seconds: float) -> RunState:
        """See AgentPlatform.start. Where the server refuses to work in the background, or the
        configuration says that it cannot, the response is awaited.
        """
        session = Session(self._client, self._platform, seconds, "model request")
        return self._create(session, request, _body(request))

    def _create(
        self, session: Session, request: AgentRequest, body: dict[str, Any]
    ) -> RunState:
        headers = {idempotency.HEADER: request.idempotency_key}
        if self._platform.background:
            body.update(background=True, store=True)
        reply = session.request("POST", PATH, body, headers)
        if "background" in body and not reply.succeeded and _refuses_background(session, reply):
            del body["background"]
            # Another body needs another key.
            headers[idempotency.HEADER] += "-awaited"
            reply = session.request("POST", PATH, body, headers)
        response = _require_response(session, reply)
        ids = {"response": response["id"]} if is_id(response.get("id")) else {}
        handle = Handle(API, self._platform.name, request.agent, ids)
        state = _state_of(response, handle)
        if state.status == RUNNING and not ids:
            raise CallError(malformed(reply, "the response that is in progress has no id"))
        return state

    def join(self, handle: Handle, seconds: float) -> RunState:
        session = self._session(seconds)
        reply = session.request("GET", _path(handle))
        if reply.status == 404:
            return RunState(UNKNOWN, handle)
        return _state_of(_require_response(session, reply), handle)

    def cancel(self, handle: Handle, seconds: float) -> RunState:
        session = self._session(seconds)
        reply = session.request("POST", _path(handle) + "/cancel")
        if reply.status in (400, 404, 409):
            # It has ended before, or cannot be cancelled: the response says which.
            reply = session.request("GET", _path(handle))
            if reply.status == 404:
                return RunState(UNKNOWN, handle)
        return _state_of(_require_response(session, reply), handle)

    def resume(self, request: AgentRequest, checkpoint: Checkpoint, seconds: float) -> RunState:
        """See AgentPlatform.resume. The response that stopped is the previous one of the new one;
        whether the server has kept it, and continues one like it, is its own matter.
        """
        session = Session(self._client, self._platform, seconds, "model request")
        body = dict(
            _body(request),
            input=[{"role": "developer", "content": CONTINUE}],
            previous_response_id=checkpoint.handle.ids["response"],
        )
        try:
            return self._create(session, request, body)
        except CallError as error:
            # 400, 404: there is no such response here, or none to continue.
            if error.failure.status not in (400, 404):
                raise
            raise NoCheckpoint(error.failure) from None

    def answer(
        self, handle: Handle, question: Question, answer: str, key: str, seconds: float
    ) -> RunState:
        raise not_supported(API, "answer a question")

    def describe(self, handle: Handle, seconds: float) -> RunDetails:
        """See RunSource.describe. A model that calls a function of its caller waits for the result:
        that is a question to the caller, which no failure is.
        """
        session = self._session(seconds)
        reply = session.request("GET", _path(handle))
        if reply.status == 404:
            return RunDetails(RunState(UNKNOWN, handle))
        response = _require_response(session, reply)
        state, metadata = _state_of(response, handle), response.get("metadata")
        if response["status"] == "completed" and _tool_calls(response):
            question = Question("the result of %s" % ", ".join(_tool_calls(response)))
            state = RunState(ASKING, handle, question=question)
        metadata = metadata if isinstance(metadata, dict) else {}
        return RunDetails(
            state=state,
            agents=_names_of_agent(response),
            query=_query(session, handle) if state.has_ended else None,
            instructions=response.get("instructions") or None,
            metadata=metadata,
            keys=keys_of(metadata),
            started_at=parse_timestamp(response.get("created_at")),
        )

    def is_agent(self, details: RunDetails, agent: str, config: Mapping[str, Any]) -> bool:
        """See RunSource.is_agent. A stored prompt is an agent; a model is one together with its
        instructions.
        """
        own_prompt, prompt = {}, config.get("prompt")
        if agent.startswith(PROMPT_PREFIX):
            own_prompt = {"id": agent}
        prompt = prompt if isinstance(prompt, dict) else own_prompt
        if prompt:
            return prompt.get("id") in details.agents
        is_model = (config.get("model") or agent) in details.agents
        return is_model and details.instructions == (config.get("instructions") or None)

    def check(self, agent: Optional[str], seconds: float) -> CheckResult:
        reply = self._session(seconds).request("GET", CHECK_PATH)
        return check_reply(reply, self._platform.connection, CHECK_PATH)

    def _session(self, seconds: float) -> Session:
        return Session(self._client, self._platform, seconds)


def _body(request: AgentRequest) -> dict[str, Any]:
    config = request.config
    body = {name: config[name] for name in PARAMETERS if config.get(name) is not None}
    body["input"] = request.query
    if request.agent.startswith(PROMPT_PREFIX):
        body.setdefault("prompt", {"id": request.agent})
        model = config.get("model")
    else:
        model = config.get("model") or request.agent
    if model:
        body["model"] = model
    facts = dict(request.context, idempotency_key=request.idempotency_key)
    metadata = {name: text[:MAX_METADATA_CHARS] for name, text in facts.items() if text}
    return dict(body, metadata=metadata)


def _names_of_agent(response: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the id of the stored prompt, else the name of the model with and without its release.
    """
    prompt = response.get("prompt")
    if isinstance(prompt, dict) and is_id(prompt.get("id")):
        return (str(prompt["id"]),)
    model = response.get("model")
    return (model, _RELEASE.sub("", model)) if isinstance(model, str) else ()


def _query(session: Session, handle: Handle) -> Optional[str]:
    """Return the last message of the user in the input of a response."""
    reply = session.request("GET", _path(handle) + "/input_items?order=desc&limit=100")
    items = [] if reply.status == 404 else session.require(reply).get("data")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("role") == "user":
            text = text_of(item.get("content"))
            return text if text.strip() else None
    return None


def _refuses_background(session: Session, reply: Reply) -> bool:
    failure = session.failure_of(reply)
    clues = evidence.read(reply.body)
    named = failure.evidence.get("parameter") or clues.field("param")
    return named == "background" or (
        failure.cause in ("bad_request", "unsupported_parameter") and "background" in clues.text
    )


def _path(handle: Handle) -> str:
    return "%s/%s" % (PATH, quote(handle.ids["response"], safe=""))


def _require_response(session: Session, reply: Reply) -> dict[str, Any]:
    """Return the response in a reply.

    :raises CallError: its status is an error, or it is no response.
    """
    response: dict[str, Any] = session.require(reply)
    if not isinstance(response.get("status"), str):
        if evidence.is_error_body(response):
            raise CallError(_failure_of_error(response, reply.status))
        raise CallError(malformed(reply))
    return response


def _state_of(response: Mapping[str, Any], handle: Handle) -> RunState:
    status, metadata = response["status"], _metadata(response)
    if status in _RUNNING:
        return RunState(RUNNING, handle, metadata=metadata)
    failure = _failure(response)
    if failure is not None:
        return RunState(FAILED, handle, failure=failure, metadata=metadata)
    return RunState(COMPLETED, handle, output=_text(response), metadata=metadata)


def _failure(response: Mapping[str, Any]) -> Optional[Failure]:
    """Return why a response that has ended is no answer, or None."""
    status = response["status"]
    if status == "cancelled":
        return cancelled("the response was cancelled")
    if status == "incomplete":
        return _failure_of_incomplete(response)
    if status != "completed":
        return _failure_of_error(response.get("error") or "the response ended as %s" % status, 200)
    refusal = _first(response, "refusal", "refusal")
    if refusal is not None:
        return failures.make_failure("content_policy", refusal, 200)
    tools = _tool_calls(response)
    if tools and not _text(response).strip():
        message = "the model called %s, and waits for a result" % ", ".join(tools)
        return failures.make_failure("invalid_output", message, 200)
    return None


def _failure_of_error(error: Any, status: int) -> Failure:
    """Return the failure of an error inside a success: the model's provider itself failed."""
    clues = evidence.read(error)
    cause = failures.cause_of(clues) or "agent_failed"
    message = clues.message or " ".join(clues.names) or "the response failed"
    return failures.with_evidence(failures.make_failure(cause, message, status), ran=True)


def _failure_of_incomplete(response: Mapping[str, Any]) -> Failure:
    details = response.get("incomplete_details")
    reason = str(details.get("reason")) if isinstance(details, dict) else "no reason given"
    if reason == "content_filter":
        return failures.make_failure("content_policy", "the answer was filtered", 200)
    if reason == "max_output_tokens" and not _text(response).strip():
        message = "the model used all of max_output_tokens before it answered anything"
        return failures.make_failure("output_limit", message, 200)
    message = "the answer is not complete (%s)" % reason
    return failures.make_failure("truncated_stream", message, 200)


def _tool_calls(response: Mapping[str, Any]) -> list[str]:
    """Return the names of the tools that the model has left to its caller."""
    return [
        str(item.get("name") or item["type"])
        for item in _items(response)
        if item.get("type") in _TOOL_CALLS
    ]


def _items(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    output = response.get("output")
    return [item for item in (output if isinstance(output, list) else ()) if isinstance(item, dict)]


def _contents(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of all messages of a response."""
    return [
        part
        for item in _items(response)
        if item.get("type") == "message" and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict)
    ]


def _text(response: Mapping[str, Any]) -> str:
    texts = [
        part.get("text") for part in _contents(response) if part.get("type") == "output_text"
    ]
    return "".join(text for text in texts if isinstance(text, str))


def _first(response: Mapping[str, Any], part_type: str, key: str) -> Optional[str]:
    for part in _contents(response):
        if part.get("type") == part_type:
            return str(part.get(key) or "the model refused")
    return None


def _metadata(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return {model, usage} as far as the response has them."""
    facts = {"model": response.get("model"), "usage": response.get("usage")}
    kinds: dict[str, type] = {"model": str, "usage": dict}
    return {name: fact for name, fact in facts.items() if isinstance(fact, kinds[name])}
