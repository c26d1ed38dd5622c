"""An Anthropic-compatible provider: messages.

Any model is served; the key must be `sandbox-PROVIDER-key`, in `x-api-key` or, as newer clients
send it, as a bearer token. Any `anthropic-version` is accepted.
"""
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
from sandbox.openai import key

INVALID = "invalid_request_error"
# The context window in the message of a `context_length` step, in tokens.
WINDOW = 200000
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def exchange(provider, rest, call, number, models):
    """The Exchange of a call to `rest`, the path below /anthropic/PROVIDER.

    :param number: of the call, for the id of its answer.
    :param models: names for the list of models.
    """
    refusal = _fault_of_headers(provider, call.headers)
    if rest == "/v1/models" and call.method == "GET":
        model_list = answer(200, {"data": [_model(name) for name in models], "has_more": False})
        return Exchange(
            "llm:" + provider, lambda step: model_list, refusal or model_list, scripted=False
        )
    if rest != "/v1/messages" or call.method != "POST":
        unknown = answer(404, _of_status(404, "Not found"))
        return Exchange("llm:" + provider, lambda step: unknown, unknown, scripted=False)
    request = call.body if isinstance(call.body, dict) else {}
    model = request.get("model") if isinstance(request.get("model"), str) else ""
    refusal = refusal or _fault_of(request, model)
    target = "llm:%s/%s" % (provider, model) if model else "llm:" + provider

    def render(step):
        return rendered(
            step,
            lambda step: _message(request, model, number, step),
            _of_status,
            lambda step: _refusal(request, model, step),
        )

    return Exchange(target, render, refusal)


def _message(request, model, number, step):
    text = as_text(step.get("text", _default_text(request, model)))
    finish = step.get("finish_reason", "stop")
    finish = None if step.name == "no_finish_reason" else STOP_REASONS.get(finish, finish)
    return {
        "id": f"msg_sandbox_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        # Without text a model sends no block, not an empty one.
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": finish,
        "stop_sequence": None,
        "usage": {"input_tokens": _read(request), "output_tokens": tokens(text)},
    }


def _default_text(request, model):
    """Return the unscripted answer of a model: an echo, or JSON if the request asks for JSON."""
    json_text = schemas.answer(_texts(request))
    return (
        f"Answer from {model}: {prompt_of(request['messages'])}" if json_text is None else json_text
    )


def _texts(request):
    texts = [content_text(m.get("content")) for m in request["messages"] if isinstance(m, dict)]
    return [content_text(request.get("system"))] + texts


def _read(request):
    return tokens("".join(_texts(request)))


def _fault_of_headers(provider, headers):
    api_key, bearer = headers.get("x-api-key"), headers.get("authorization", "")
    if api_key is None and bearer.startswith("Bearer "):
        api_key = bearer[len("Bearer "):]
    if api_key is None:
        return answer(401, _error(ERROR_TYPES[401], "x-api-key header is required"))
    if api_key != key(provider):
        return answer(*_unauthorized())
    if not headers.get("anthropic-version"):
        return answer(400, _error(INVALID, "anthropic-version: header is required"))
    return None


def _fault_of(request, model):
    if not model:
        return answer(400, _error(INVALID, "model: Field required"))
    if not isinstance(request.get("messages"), list) or not request["messages"]:
        return answer(400, _error(INVALID, "messages: Field required"))
    for message in request["messages"]:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant"):
            error_text = (
                'messages: Unexpected role "%s". The Messages API takes `system` apart.' % role
            )
            return answer(400, _error(INVALID, error_text))
    limit = request.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        return answer(400, _error(INVALID, "max_tokens: Field required"))
    if request.get("stream"):
        return answer(400, _error(INVALID, "stream: The sandbox does not stream."))
    return None


def _of_status(code, message):
    return _error(ERROR_TYPES.get(code, "api_error" if code >= 500 else INVALID), message)


def _refusal(request, model, step):
    if step.name == "rate_limit":
        message = "This request would exceed your rate limit of 50 requests per minute"
        return 429, _error(ERROR_TYPES[429], message, **hints.details(step))
    if step.name == "quota":
        message = (
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & "
            "Billing to upgrade or purchase credits."
        )
        return 400, _error(INVALID, message)
    if step.name == "unauthorized":
        return _unauthorized()
    if step.name == "model_not_found":
        return 404, _error(ERROR_TYPES[404], "model: " + model)
    if step.name == "context_length":
        message = f"prompt is too long: {WINDOW + _read(request)} tokens > {WINDOW} maximum"
        return 400, _error(INVALID, message)
    if step.name == "content_policy":
        return 400, _error(INVALID, "Output blocked by content filtering policy")
    if step.name == "overloaded":
        return 529, _error(ERROR_TYPES[529], "Overloaded", **hints.details(step))
    return 500, _error("api_error", step.get("error"))


def _unauthorized():
    return 401, _error(ERROR_TYPES[401], "invalid x-api-key")


def _error(kind, message, **details):
    return {"type": "error", "error": dict(details, type=kind, message=message)}


def _model(name):
    return {"type": "model", "id": name, "display_name": name, "created_at": "2024-01-01T00:00:00Z"}
