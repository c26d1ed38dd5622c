"""LLM providers: their two wire formats, and which provider serves a model."""

import re
import time
from dataclasses import dataclass
from typing import Optional

from synthralos.calls import idempotency, span_attributes
from synthralos.calls.http import CallError
from synthralos.config.settings import Model, Provider
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier

ANTHROPIC_VERSION = "2023-06-01"
ANTHROPIC_MAX_TOKENS = 4096
ROLES = ("system", "developer", "user", "assistant", "tool")
_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_REFUSED_PARAMETERS = {
    "stream": "answers are read whole; leave it out",
    "n": "one answer is asked for; leave it out",
}


@dataclass(frozen=True)
class ServedModel:
    """A model and the provider that serves it."""

    provider: Provider
    model: Model

    @property
    def target(self):
        return "llm:%s/%s" % (self.provider.name, self.model.name)


def resolve_model(providers, model, provider=None, field="original_request.model"):
    """The provider that serves `model`: the one named, a `provider/model` prefix, else the first
    listing it.

    InvalidInput names the providers or models that are known.
    """
    if not providers:
        raise InvalidInput(
            "config.providers",
            [],
            "lists no LLM provider",
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
            any(known.name == rest for known in candidate.models)
        ):
            return _serving([candidate], rest, field)
    return _serving(providers, model, field)


def _serving(providers, model, field):
    for provider in providers:
        for known in provider.models:
            if known.name == model:
                return ServedModel(provider, known)
    names = [
        "%s/%s" % (provider.name, known.name) for provider in providers for known in provider.models
    ]
    raise InvalidInput(
        field,
        model,
        "is served by no configured provider",
        "Known models: " + ", ".join(names[:40]),
    )


def parse_messages(request, field="original_request"):
    """The chat messages of a request that has `messages`, or a `prompt` and perhaps a `system`."""
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
                field + ".prompt", prompt, "is no text or blank", "Give the prompt as text"
            )
        return _system(request) + [{"role": "user", "content": prompt}]
    if not isinstance(messages, list) or not messages:
        raise InvalidInput(
            field + ".messages", messages, "is no list of messages", "Give at least one message"
        )
    for n, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise InvalidInput(
                "%s.messages[%d]" % (field, n),
                message,
                "has no known role",
                "Use one of " + ", ".join(ROLES),
            )
        if not isinstance(message.get("content"), (str, list)) and not message.get("tool_calls"):
            raise InvalidInput(
                "%s.messages[%d].content" % (field, n),
                message.get("content"),
                "is no text",
                "Give it as text",
            )
    return _system(request) + messages


def _system(request):
    told = request.get("system")
    return [{"role": "system", "content": told}] if isinstance(told, str) and told else []


def parse_sampling(request, field="original_request.parameters"):
    """The sampling parameters in snake_case; camelCase is taken too, both at once are refused."""
    given = request.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidInput(field, given, "is not an object", 'Write it as {"temperature": 0.2}')
    parameters = {}
    for name, value in given.items():
        snake = _CAMEL.sub(lambda match: "_" + match.group(1).lower(), str(name))
        if snake in parameters:
            raise InvalidInput(
                "%s.%s" % (field, name), value, "is given twice", "Give %s once" % snake
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


def complete(client, served, messages, parameters, seconds, run):
    """Asks the model once.

    :returns: {response, model, provider, usage {input_tokens, output_tokens, total_tokens},
        finish_reason, latency_ms}, and tool_calls where the model asked for tools.
    :raises CallError: an error status, no answer in `seconds`, or an answer that is cut, blank,
        malformed or without finish reason; CallNotMade: it does not fit the budget.
    """
    if client.guard is None:
        return _complete_logged(client, served, messages, parameters, seconds, run, {})
    most = ANTHROPIC_MAX_TOKENS if served.provider.api == "anthropic" else None
    reserved, told = client.guard.reserve(served, messages, parameters, most, run), {}
    failure = failures.make_failure("configuration")
    try:
        found = _complete_logged(client, served, messages, parameters, seconds, run, told)
        failure = None
        return found
    except CallError as error:
        failure = error.failure
        raise
    finally:
        client.guard.settle(reserved, served, told.get("usage"), failure)


def _complete_logged(client, served, messages, parameters, seconds, run, told):
    """As `complete`; what is known of the call is written into `told`, and into client.llm_calls."""
    told.update(provider=served.provider.name, model=served.model.name)
    told.update(cause=None, usage=None)
    began = time.monotonic()
    try:
        with span_attributes.chat(served, parameters):
            found = _complete(client, served, messages, parameters, seconds, run, told)
    except CallError as error:
        told["cause"] = error.failure.cause
        raise
    finally:
        client.llm_calls.append(dict(told, seconds=time.monotonic() - began))
    return found


def _complete(client, served, messages, parameters, seconds, run, told):
    """As `complete`; what tokens it took is written into `told` as soon as it is known."""
    model = served.model.name
    wire = WIRE_FORMATS[served.provider.api]
    logical = {"messages": messages, "parameters": parameters}
    headers = {idempotency.HEADER: idempotency.key(run, "POST", wire.path, logical, model)}
    headers.update(wire.headers)
    answer = client.request(
        served.provider.connection,
        "POST",
        wire.path,
        seconds,
        body=wire.body(model, messages, parameters),
        headers=headers,
        authorize=wire.authorize,
    )
    if answer.status != 200:
        raise CallError(client.failure_of(answer, "model"))
    found = wire.read(answer.json())
    # An answer that is of no use has been paid for, too.
    told["usage"] = found["usage"]
    span_attributes.record_completion(found)
    if not found["finish_reason"]:
        raise CallError(
            failures.make_failure("truncated_stream", "the answer has no finish reason", status=200)
        )
    if found["finish_reason"] in ("content_filter", "refusal"):
        raise CallError(
            failures.make_failure("content_policy", "the provider filtered the answer", status=200)
        )
    if not found["response"].strip() and not found.get("tool_calls"):
        raise CallError(
            failures.make_failure("blank_output", "the model answered nothing", status=200)
        )
    found.update(
        model=model,
        provider=served.provider.name,
        latency_ms=int(answer.latency * 1000),
    )
    return found


class _OpenAI:
    """:cvar path: where chats go; listing: where GET lists the models.
    :cvar authorize: secret -> headers; None for a bearer token.
    """

    path, listing = "/chat/completions", "/models"
    headers = {}
    authorize = None

    @staticmethod
    def body(model, messages, parameters):
        return dict(parameters, model=model, messages=messages)

    @staticmethod
    def read(answer):
        choice = _first_choice(answer, "choices")
        message = choice.get("message") if isinstance(choice.get("message"), dict) else {}
        found = {
            "response": _text_of(message.get("content")),
            "finish_reason": _name_or_none(choice.get("finish_reason")),
            "usage": _usage(answer, "prompt_tokens", "completion_tokens"),
        }
        if message.get("tool_calls"):
            found["tool_calls"] = message["tool_calls"]
        elif message.get("refusal"):
            found["finish_reason"] = "refusal"
        return found


class _Anthropic:
    path, listing = "/v1/messages", "/v1/models"
    headers = {"anthropic-version": ANTHROPIC_VERSION}

    @staticmethod
    def authorize(secret):
        return {"x-api-key": secret}

    @staticmethod
    def body(model, messages, parameters):
        system = [
            _text_of(m.get("content")) for m in messages if m["role"] in ("system", "developer")
        ]
        body = {
            name: value for name, value in parameters.items() if name not in ("max_tokens", "stop")
        }
        body.update(
            model=model,
            messages=[m for m in messages if m["role"] not in ("system", "developer")],
            max_tokens=parameters.get("max_tokens", ANTHROPIC_MAX_TOKENS),
        )
        if system:
            body["system"] = "\n\n".join(system)
        if parameters.get("stop"):
            stop = parameters["stop"]
            body["stop_sequences"] = stop if isinstance(stop, list) else [stop]
        return body

    @staticmethod
    def read(answer):
        blocks = answer.get("content") if isinstance(answer, dict) else None
        if not isinstance(blocks, list):
            raise _malformed_response()
        blocks = [block for block in blocks if isinstance(block, dict)]
        found = {
            "response": "".join(
                _text_of(block.get("text")) for block in blocks if block.get("type") == "text"
            ),
            "finish_reason": _name_or_none(answer.get("stop_reason")),
            "usage": _usage(answer, "input_tokens", "output_tokens"),
        }
        tools = [block for block in blocks if block.get("type") == "tool_use"]
        if tools:
            found["tool_calls"] = tools
        return found


# By the name that the configuration has for it, in `api`.
WIRE_FORMATS = {"openai": _OpenAI, "anthropic": _Anthropic}


def _first_choice(answer, name):
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        raise _malformed_response()
    return found[0]


def _malformed_response():
    return CallError(
        failures.make_failure(
            "malformed_answer", "the answer has not the shape of the API", status=200
        )
    )


def _text_of(content):
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of(part.get("text")) for part in content if isinstance(part, dict))
    return ""


def _name_or_none(value) -> Optional[str]:
    # It becomes an output beside names: anything but a plain word is no finish reason.
    return value if isinstance(value, str) and re.match(r"^[A-Za-z_]{1,40}\Z", value) else None


def _usage(answer, read, written):
    usage = answer.get("usage") if isinstance(answer.get("usage"), dict) else {}
    tokens = [usage.get(read), usage.get(written)]
    tokens = [n if isinstance(n, int) and not isinstance(n, bool) and n >= 0 else 0 for n in tokens]
    return {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
