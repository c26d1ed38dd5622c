"""An OpenAI-compatible provider: chat completions and the list of models.

Any model is served; the key must be `sandbox-PROVIDER-key`.
"""
import time

from sandbox import hints, schemas
from sandbox.answers import (
    Exchange,
    answer,
    as_text,
    content_text,
    prompt_of,
    rendered,
    tokens,
)

INVALID = "invalid_request_error"
# The context window in the message of a `context_length` step, in tokens.
WINDOW = 8192


def key(provider):
    """The API key that the provider accepts."""
    return f"sandbox-{provider}-key"


def exchange(provider, rest, call, number, models):
    """The Exchange of a call to `rest`, the path below /openai/PROVIDER.

    :param number: of the call, for the id of its answer.
    :param models: names for the list of models.
    """
    refusal = None
    if call.headers.get("authorization") != "Bearer " + key(provider):
        refusal = answer(*_unauthorized())
    if rest == "/models" and call.method == "GET":
        data = [_model(provider, name) for name in models]
        model_list = answer(200, {"object": "list", "data": data})
        return Exchange(
            "llm:" + provider, lambda step: model_list, refusal or model_list, scripted=False
        )
    if rest != "/chat/completions" or call.method != "POST":
        message = f"Unknown request URL: {call.method} {call.path}"
        unknown = answer(404, _error(message, INVALID, "unknown_url"))
        return Exchange("llm:" + provider, lambda step: unknown, unknown, scripted=False)
    request = call.body if isinstance(call.body, dict) else {}
    model = request.get("model") if isinstance(request.get("model"), str) else ""
    refusal = refusal or _fault_of(request, model)
    target = "llm:%s/%s" % (provider, model) if model else "llm:" + provider

    def render(step):
        return rendered(
            step,
            lambda step: _completion(request, model, number, step),
            _of_status,
            lambda step: _refusal(request, model, step),
        )

    return Exchange(target, render, refusal)


def _completion(request, model, number, step):
    text = as_text(step.get("text", _default_text(request, model)))
    finish = None if step.name == "no_finish_reason" else step.get("finish_reason", "stop")
    read, written = _read(request), tokens(text)
    return {
        "id": f"chatcmpl-sandbox-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        },
    }


def _default_text(request, model):
    """Return the unscripted answer of a model: an echo, or JSON if the request asks for JSON."""
    json_text = schemas.answer(_texts(request), request.get("response_format"))
    return (
        f"Answer from {model}: {prompt_of(request['messages'])}" if json_text is None else json_text
    )


def _texts(request):
    return [content_text(m.get("content")) for m in request["messages"] if isinstance(m, dict)]


def _read(request):
    return tokens("".join(_texts(request)))


def _fault_of(request, model):
    if not model:
        return answer(400, _error("you must provide a model parameter", INVALID))
    if not isinstance(request.get("messages"), list) or not request["messages"]:
        message = "Missing required parameter: 'messages'."
        return answer(400, _error(message, INVALID, "missing_required_parameter", "messages"))
    if request.get("stream"):
        return answer(400, _error("The sandbox does not stream.", INVALID, None, "stream"))
    return None


def _of_status(code, message):
    if code == 401:
        return _error(message, INVALID, "invalid_api_key")
    if code == 429:
        return _error(message, "requests", "rate_limit_exceeded")
    return _error(message, "server_error" if code >= 500 else INVALID)


def _refusal(request, model, step):
    if step.name == "rate_limit":
        message = f"Rate limit reached for {model} on requests per min (RPM): Limit 3, Used 3."
        return 429, _error(message, "requests", "rate_limit_exceeded", **hints.details(step))
    if step.name == "quota":
        message = "You exceeded your current quota, please check your plan and billing details."
        return 429, _error(message, "insufficient_quota", "insufficient_quota")
    if step.name == "unauthorized":
        return _unauthorized()
    if step.name == "model_not_found":
        message = "The model `%s` does not exist or you do not have access to it." % model
        return 404, _error(message, INVALID, "model_not_found")
    if step.name == "context_length":
        message = (
            f"This model's maximum context length is {WINDOW} tokens. However, your messages "
            f"resulted in {WINDOW + _read(request)} tokens. Please reduce the length of the "
            "messages."
        )
        return 400, _error(message, INVALID, "context_length_exceeded", "messages")
    if step.name == "content_policy":
        message = "The response was filtered due to the prompt triggering the content filter."
        return 400, _error(message, INVALID, "content_filter", "prompt")
    if step.name == "overloaded":
        message = "The engine is currently overloaded, please try again later"
        return 503, _error(message, "server_error", **hints.details(step))
    return 500, _error(step.get("error"), "server_error")


def _unauthorized():
    message = "Incorrect API key provided. Find yours where you made it."
    return 401, _error(message, INVALID, "invalid_api_key")


def _error(message, kind, code=None, param=None, **details):
    return {"error": dict(details, message=message, type=kind, param=param, code=code)}


def _model(provider, name):
    return {"id": name, "object": "model", "created": 0, "owned_by": provider}
