"""A generic upstream in one region of a provider: any method, any path, no key."""
from sandbox import hints
from sandbox.answers import Exchange, as_text, prompt_of, rendered

CODES = {
    "rate_limit": (429, "rate_limit_exceeded", "Too many requests"),
    "quota": (429, "insufficient_quota", "You exceeded your current quota"),
    "unauthorized": (401, "unauthorized", "Invalid credentials"),
    "model_not_found": (404, "model_not_found", "The model does not exist"),
    "context_length": (400, "context_length_exceeded", "The maximum context length is exceeded"),
    "content_policy": (400, "content_filter", "The request was refused by the content filter"),
    "overloaded": (503, "overloaded", "The region is overloaded"),
}


def exchange(provider, region, rest, call):
    """The Exchange of a call to `rest`, the path below /region/PROVIDER/REGION."""
    request = call.body if isinstance(call.body, dict) else {}
    model = request.get("model")

    def good(step):
        echo_text = f"Answer from {provider} in {region}: {_prompt(call.body)}"
        echo = {
            "provider": provider,
            "region": region,
            "path": rest,
            "method": call.method,
            "model": model,
            "response": step.get("text", echo_text),
        }
        if step.name == "no_finish_reason":
            echo["status"] = "running"
        return echo

    def render(step):
        return rendered(step, good, _of_status, _refusal)

    return Exchange("route:%s/%s" % (provider, region), render)


def _prompt(body):
    if not isinstance(body, dict):
        return "" if body is None else as_text(body)
    if isinstance(body.get("messages"), list):
        return prompt_of(body["messages"])
    for name in ("prompt", "query", "input"):
        if name in body:
            return as_text(body[name])
    return as_text(body)


def _of_status(code, message):
    return {"error": {"code": code, "message": message}}


def _refusal(step):
    if step.name == "agent_failed":
        return step.get("status"), {"status": "failed", "error": step.get("error")}
    status, code, message = CODES[step.name]
    return status, {"error": dict(hints.details(step), code=code, message=message)}
