"""LLM providers: which of them serves a model, and one call to it."""

import re
import time
from dataclasses import dataclass

from synthralos.calls import idempotency, span_attributes
from synthralos.calls.http import CallError
from synthralos.calls.llm_wires import WIRE_FORMATS, anthropic
from synthralos.calls.llm_wires.completion import problem_of, read_response
from synthralos.calls.relations import Target
from synthralos.config.settings import Model, Provider
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier

# A reasoning model may refuse the limit's name, the temperature and a penalty.
MAX_ADAPTATIONS = 4
ROLES = ("system", "developer", "user", "assistant", "tool")
_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_REFUSED_PARAMETERS = {
    "stream": "streaming is not used; leave it out",
    "n": "only a single answer is requested; leave it out",
}


@dataclass(frozen=True)
class ServedModel:
    """A model and the provider that serves it."""

    provider: Provider
    model: Model

    @property
    def target(self):
        return "llm:%s/%s" % (self.provider.name, self.model.name)

    def as_target(self):
        """Return the model as a Target that a round may call."""
        return Target.over(
            self.provider.connection, self.target, self.provider.name, self,
            window=self.model.context_window,
        )


def resolve_model(providers, model, provider=None, field="original_request.model"):
    """Return the ServedModel of `model`: at `provider`, at the provider of a `provider/model` name,
    else at the first provider that lists it.

    :raises InvalidInput: there is none; names the known providers or models.
    """
    if not providers:
        raise InvalidInput(
            "config.providers",
            [],
            "has no LLM provider",
            "Configure at least one provider with its models",
        )
    require_identifier(field, model)
    if provider is not None:
        named = [candidate for candidate in providers if candidate.name == provider]
        if not named:
            raise InvalidInput(
                field.rpartition(".")[0] + ".provider" if "." in field else "provider",
                provider,
                "is not configured",
                "Known providers: " + ", ".join(candidate.name for candidate in providers),
            )
        return _serving(named, model, field)
    prefix, _, rest = model.partition("/")
    for candidate in providers:
        if (
            rest and
            candidate.name == prefix and
            any(candidate_model.name == rest for candidate_model in candidate.models)
        ):
            return _serving([candidate], rest, field)
    return _serving(providers, model, field)


def _serving(providers, model, field):
    for provider in providers:
        for candidate in provider.models:
            if candidate.name == model:
                return ServedModel(provider, candidate)
    names = [
        "%s/%s" % (provider.name, candidate.name)
        for provider in providers
        for candidate in provider.models
    ]
    raise InvalidInput(
        field,
        model,
        "is not served by any configured provider",
        "Known models: " + ", ".join(names[:40]),
    )


def parse_messages(request, field="original_request"):
    """Return the chat messages of a request with `messages`, or with `prompt` and maybe `system`.

    :raises InvalidInput: they are missing or not valid; names the field.
    """
    messages, prompt = request.get("messages"), request.get("prompt")
    if messages is None and prompt is None:
        raise InvalidInput(
            field, sorted(request), "has neither prompt nor messages", "Give one of them"
        )
    if messages is not None and prompt is not None:
        raise InvalidInput(
            field, sorted(request), "has both prompt and messages", "Give one of them"
        )
    if messages is None:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InvalidInput(
                field + ".prompt", prompt, "must be text and not blank", "Give the prompt as text"
            )
        return _system(request) + [{"role": "user", "content": prompt}]
    if not isinstance(messages, list) or not messages:
        raise InvalidInput(
            field + ".messages", messages, "is not a list of messages", "Give at least one message"
        )
    for n, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise InvalidInput(
                "%s.messages[%d]" % (field, n),
                message,
                "has an unknown role",
                "Use one of " + ", ".join(ROLES),
            )
        if not isinstance(message.get("content"), (str, list)) and not message.get("tool_calls"):
            raise InvalidInput(
                "%s.messages[%d].content" % (field, n),
                message.get("content"),
                "is not text",
                "Give it as text",
            )
    return _system(request) + messages


def _system(request):
    system_prompt = request.get("system")
    return (
        [{"role": "system", "content": system_prompt}]
        if isinstance(system_prompt, str) and system_prompt
        else []
    )


def parse_sampling(request, field="original_request.parameters"):
    """Return the sampling parameters in snake_case; camelCase is accepted, both at once are not.

    :raises InvalidInput: a parameter is a duplicate or not supported; names it.
    """
    raw_parameters = request.get("parameters")
    if raw_parameters is None:
        return {}
    if not isinstance(raw_parameters, dict):
        raise InvalidInput(
            field, raw_parameters, "is not an object", 'Write it as {"temperature": 0.2}'
        )
    parameters = {}
    for name, value in raw_parameters.items():
        snake = _CAMEL.sub(lambda match: "_" + match.group(1).lower(), str(name))
        if snake in parameters:
            raise InvalidInput(
                "%s.%s" % (field, name), value, "is a duplicate", "Give %s once" % snake
            )
        asks = value is not None and value is not False and not (snake == "n" and value == 1)
        if snake in _REFUSED_PARAMETERS and asks:
            raise InvalidInput(
                "%s.%s" % (field, name), value, "is not supported", _REFUSED_PARAMETERS[snake]
            )
        if snake in ("model", "messages", "prompt"):
            raise InvalidInput(
                "%s.%s" % (field, name), value, "does not belong here", "Give it beside parameters"
            )
        if snake not in _REFUSED_PARAMETERS and value is not None:
            parameters[snake] = value
    return parameters


def complete(client, served_model, messages, parameters, seconds, run):
    """Ask the model for one answer.

    A parameter of the sampling that the model refuses by name is left out, or sent under the name
    that the refusal suggests, and the model is asked once more.

    :returns: {response, model, provider, usage {input_tokens, output_tokens, total_tokens},
        finish_reason, latency_ms}; tool_calls if the model requested tools; and `adapted`, a list
        of {parameter, sent_as}, if it did not take all parameters.
    :raises CallError: an error status, no answer in `seconds`, or an answer that is truncated,
        blank, malformed or without finish reason.
    :raises CallNotMade: it does not fit the budget.
    """
    return ModelCall(client, served_model, messages, parameters, run).complete(seconds)


class ModelCall:
    """One call to a model, in three parts: only `send` may happen in another thread.

    `begin` and `settle` write to the datastore, if there is a budget, and to client.llm_calls.
    The parameters are those of `complete`.
    """

    def __init__(self, client, served_model, messages, parameters, run):
        self._client, self._sender = client, client
        self._served_model, self._messages = served_model, messages
        self._parameters, self._run = parameters, run
        self._usage_record = {
            "provider": served_model.provider.name,
            "model": served_model.model.name,
            "cause": None,
            "usage": None,
        }
        self._reservation, self._started_at, self._seconds = [], None, None

    def complete(self, seconds):
        """Make the call as a whole; see the function `complete`."""
        self.begin()
        failure = failures.make_failure("configuration")
        try:
            completion = self.send(seconds)
            failure = None
            return completion
        except CallError as error:
            failure = error.failure
            raise
        finally:
            self.settle(failure)

    def closable(self):
        """Return the call itself, which `close` can end from now on."""
        self._sender = self._client.closable()
        return self

    def begin(self):
        """Reserve the most that the call may use.

        :raises CallNotMade: it does not fit the budget.
        """
        if self._client.guard is not None:
            is_anthropic = self._served_model.provider.api == "anthropic"
            self._reservation = self._client.guard.reserve(
                self._served_model,
                self._messages,
                self._parameters,
                anthropic.DEFAULT_MAX_TOKENS if is_anthropic else None,
                self._run,
            )
        self._started_at = time.monotonic()

    def send(self, seconds):
        """Send the request and return the completion; see `complete`."""
        adapted, seconds_left = [], seconds
        try:
            while True:
                try:
                    completion = self._send_once(seconds_left)
                except CallError as error:
                    adaptation = _adaptation(error.failure, self._parameters, adapted)
                    if adaptation is None:
                        raise
                    adapted.append(adaptation)
                    self._parameters = _adapt(self._parameters, adaptation)
                    seconds_left = max(0.1, seconds - (time.monotonic() - self._started_at))
                else:
                    return dict(completion, adapted=adapted) if adapted else completion
        finally:
            self._seconds = time.monotonic() - self._started_at

    def _send_once(self, seconds):
        with span_attributes.chat(self._served_model, self._parameters):
            return _complete(
                self._sender,
                self._served_model,
                self._messages,
                self._parameters,
                seconds,
                self._run,
                self._usage_record,
            )

    def close(self):
        """End the call from any thread. Only for a closable one."""
        self._sender.close()

    def settle(self, failure):
        """Count what the call used; `failure` is why there is no completion, or None."""
        # A thread that has not ended yet may still write to the original.
        usage_record = dict(self._usage_record, cause=failure.cause if failure else None)
        seconds = self._seconds
        if seconds is None:
            seconds = time.monotonic() - self._started_at
        self._client.llm_calls.append(dict(usage_record, seconds=seconds))
        if self._client.guard is not None:
            self._client.guard.settle(
                self._reservation, self._served_model, usage_record["usage"], failure
            )


def _adaptation(failure, parameters, adapted):
    """Return {parameter, sent_as} for a parameter that the model refused, or None.

    :param adapted: those before it; each parameter is adapted once.
    """
    name, replacement = (failure.evidence.get(key) for key in ("parameter", "replacement"))
    is_adapted = any(name in adaptation.values() for adaptation in adapted)
    if (
        failure.cause != "unsupported_parameter" or
        name not in parameters or
        name not in failures.SAMPLING_PARAMETERS or
        is_adapted or
        len(adapted) >= MAX_ADAPTATIONS
    ):
        return None
    usable = replacement in failures.SAMPLING_PARAMETERS and replacement not in parameters
    return {"parameter": name, "sent_as": replacement if usable else None}


def _adapt(parameters, adaptation):
    remaining = dict(parameters)
    value = remaining.pop(adaptation["parameter"])
    if adaptation["sent_as"] is not None:
        remaining[adaptation["sent_as"]] = value
    return remaining


def _complete(client, served_model, messages, parameters, seconds, run, usage_record):
    """Return the completion; record its tokens in `usage_record` as soon as they are known."""
    model = served_model.model.name
    wire = WIRE_FORMATS[served_model.provider.api]
    logical = {"messages": messages, "parameters": parameters}
    headers = {idempotency.HEADER: idempotency.key(run, "POST", wire.path, logical, model)}
    headers.update(wire.headers)
    response = client.request(
        served_model.provider.connection,
        "POST",
        wire.path,
        seconds,
        body=wire.body(model, messages, parameters),
        headers=headers,
        authorize=wire.authorize,
    )
    if not 200 <= response.status < 300:
        raise CallError(client.failure_of(response, "model"))
    completion = read_response(wire, response, client.now())
    # An unusable answer has been paid for, too.
    usage_record["usage"] = completion.usage.as_dict()
    span_attributes.record_completion(completion.as_dict())
    problem = problem_of(completion, parameters.get("max_tokens"))
    if problem is not None:
        raise CallError(problem)
    return dict(
        completion.as_dict(),
        model=model,
        provider=served_model.provider.name,
        latency_ms=int(response.latency * 1000),
    )
