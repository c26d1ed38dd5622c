"""One call to a model, over the wire that its provider speaks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional

from synthralos.calls import answer_format, idempotency, llm_wires, span_attributes
from synthralos.calls.answer_format import Corrections
from synthralos.calls.http import CallError, CallNotMade, Client
from synthralos.calls.llm_providers import ServedModel
from synthralos.calls.llm_wires.chat_parameters import TOKEN_LIMITS
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.completion import problem_of, read_response
from synthralos.calls.llm_wires.refusals import Refusal, read_refusal
from synthralos.calls.llm_wires.wire import CannotCarry, WireRequest
from synthralos.core import failures
from synthralos.core.failures import Failure

if TYPE_CHECKING:
    from synthralos.storage.llm_spending import Reservation
    from synthralos.telemetry.llm_pricing import TokenUsage

# A reasoning model may refuse the limit's name, the temperature and a penalty.
MAX_ADAPTATIONS = 4


@dataclass(frozen=True)
class CallOptions:
    """How a call is made and checked.

    :ivar checks_format: whether an answer that is not the JSON that was asked for is a failure.
    :ivar corrections: the answers of this run that were rejected, or None if none is told why.
    """

    checks_format: bool = True
    corrections: Optional[Corrections] = None


def complete(
    client: Client,
    served_model: ServedModel,
    request: ChatRequest,
    seconds: float,
    run: str,
    options: Optional[CallOptions] = None,
) -> dict[str, Any]:
    """Ask the model for one answer.

    A parameter that the model refuses by name is left out, or sent under the name that the refusal
    suggests, and the model is asked once more.

    :returns: {response, model, provider, usage {input_tokens, output_tokens, total_tokens},
        finish_reason, provider_finish_reason, latency_ms}; tool_calls, as OpenAI has them, if the
        model requested tools; and `adapted`, a list of Adaptation, if it did not get the request as
        it was written.
    :raises CallError: an error status, no answer in `seconds`, or an answer that is truncated,
        blank, malformed, without finish reason or not the JSON that was asked for.
    :raises CallNotMade: it does not fit the budget, or the model cannot do what is asked for.
    """
    return ModelCall(client, served_model, request, run, options).complete(seconds)


class ModelCall:
    """One call to a model, in three parts: only `send` may happen in another thread.

    `begin` and `settle` write to the datastore, if there is a budget, and to client.llm_calls.
    The parameters are those of `complete`.
    """

    def __init__(
        self,
        client: Client,
        served_model: ServedModel,
        request: ChatRequest,
        run: str,
        options: Optional[CallOptions] = None,
    ) -> None:
        self._client = client
        self._sender: Any = client
        self._served_model, self._run = served_model, run
        self._options = options or CallOptions()
        self._request = request
        if self._options.corrections is not None:
            self._request = self._options.corrections.apply(served_model.target, request)
        self._wire = llm_wires.wire_format(served_model.provider.api)
        self._wire_request = WireRequest({})
        self._usage: Optional[TokenUsage] = None
        self._rejected_answer: Optional[str] = None
        self._reservation: Reservation = []
        self._started_at = 0.0
        self._seconds: Optional[float] = None

    def complete(self, seconds: float) -> dict[str, Any]:
        """Make the call as a whole; see the function `complete`."""
        self.begin()
        failure: Optional[Failure] = failures.make_failure("configuration")
        try:
            completion = self.send(seconds)
            failure = None
            return completion
        except CallError as error:
            failure = error.failure
            raise
        finally:
            self.settle(failure)

    def closable(self) -> "ModelCall":
        """Return the call itself, which `close` can end from now on."""
        self._sender = self._client.closable()
        return self

    def begin(self) -> None:
        """Translate the request, and reserve the most that the call may use.

        :raises CallNotMade: the model cannot do what is asked for, or it does not fit the budget.
        """
        try:
            self._translate([])
        except CannotCarry as error:
            raise CallNotMade(failures.make_failure(error.cause, str(error))) from error
        if self._client.guard is not None:
            self._reservation = self._client.guard.reserve(
                self._served_model,
                self._request.messages,
                self._request.parameters,
                self._wire_request.max_output_tokens,
                self._run,
            )
        self._started_at = time.monotonic()

    def send(self, seconds: float) -> dict[str, Any]:
        """Send the request and return the completion; see `complete`."""
        refusals: list[Refusal] = []
        seconds_left = seconds
        try:
            while True:
                try:
                    completion = self._send_once(seconds_left)
                except CallError as error:
                    refusal = read_refusal(error.failure, self._request, refusals)
                    if refusal is None or len(refusals) >= MAX_ADAPTATIONS:
                        raise
                    refusals.append(refusal)
                    self._request = refusal.apply(self._request)
                    self._translate(refusals)
                    seconds_left = max(0.1, seconds - (time.monotonic() - self._started_at))
                else:
                    adapted = self._wire_request.adapted
                    return dict(completion, adapted=adapted) if adapted else completion
        finally:
            self._seconds = time.monotonic() - self._started_at

    def close(self) -> None:
        """End the call from any thread. Only for a closable one."""
        self._sender.close()

    def settle(self, failure: Optional[Failure]) -> None:
        """Count what the call used; `failure` is why there is no completion, or None."""
        # A thread that has not ended yet may still set them.
        usage, seconds = self._usage, self._seconds
        if seconds is None:
            seconds = time.monotonic() - self._started_at
        self._client.llm_calls.append(
            {
                "provider": self._served_model.provider.name,
                "model": self._served_model.model.name,
                "seconds": seconds,
                "cause": failure.cause if failure else None,
                "usage": usage,
            }
        )
        if self._client.guard is not None:
            self._client.guard.settle(self._reservation, self._served_model, usage, failure)
        corrections, answer = self._options.corrections, self._rejected_answer
        if corrections is not None and failure is not None and answer is not None:
            corrections.record(self._served_model.target, answer, failure.message)

    def _translate(self, refusals: Sequence[Refusal]) -> None:
        """Translate the request, without what the model has refused of it.

        :raises CannotCarry: the model cannot do what is asked for.
        """
        served_model, traits = self._served_model, self._served_model.traits
        for refusal in refusals:
            if refusal.replacement in TOKEN_LIMITS:
                traits = replace(traits, token_limit=refusal.replacement)
        self._wire_request = self._wire.build(self._request, served_model.model.name, traits)
        self._wire_request.adapted[:0] = [refusal.adaptation for refusal in refusals]
        self._wire_request.body.update(
            self._request.extras.get(served_model.provider.name) or {}
        )

    def _send_once(self, seconds: float) -> dict[str, Any]:
        with span_attributes.chat(self._served_model, self._request.parameters):
            return self._request_once(seconds)

    def _request_once(self, seconds: float) -> dict[str, Any]:
        """Return the completion; record its tokens as soon as they are known."""
        served_model, wire, body = self._served_model, self._wire, self._wire_request.body
        model, connection = served_model.model.name, served_model.connection
        path = wire.path(model)
        headers = {idempotency.HEADER: idempotency.key(self._run, "POST", path, body, model)}
        headers.update(wire.headers)
        response = self._sender.request(
            connection,
            "POST",
            path,
            seconds,
            body=body,
            headers=headers,
            authorize=wire.authorize(connection.base_url),
        )
        if not 200 <= response.status < 300:
            raise CallError(self._sender.failure_of(response, "model"))
        completion = read_response(wire.read, response, self._sender.now())
        entries = completion.as_dict()
        # An unusable answer has been paid for, too.
        self._usage = completion.usage.as_dict()
        span_attributes.record_completion(completion)
        problem = problem_of(
            completion, self._wire_request.max_output_tokens, self._wire_request.max_calls
        )
        if problem is None and self._options.checks_format:
            problem = answer_format.check(completion, self._request)
            if problem is not None:
                self._rejected_answer = completion.response
        if problem is not None:
            raise CallError(problem)
        return dict(
            # The check may have dropped what is not JSON.
            entries,
            response=completion.response,
            model=model,
            provider=served_model.provider.name,
            latency_ms=int(response.latency * 1000),
        )
