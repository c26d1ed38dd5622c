"""The SynthralOS backend: agents, replays, restores, webhooks, errors and health.

The token must be `sandbox-token`, at every platform; webhooks and health need none.
"""
import re
import time

from sandbox import hints
from sandbox.answers import Exchange, answer, as_text, rendered, tokens

TOKEN = "sandbox-token"
# Errors of the agent's own model that the platform passes on.
PASSED_ON = {
    "quota": "You exceeded your current quota, please check your plan and billing details.",
    "model_not_found": "The model does not exist or you do not have access to it.",
    "context_length": "This model's maximum context length is exceeded (context_length_exceeded).",
    "content_policy": "The response was filtered by the content filter (content_filter).",
}
_EXECUTE = re.compile(r"/api/.*/execute\Z|/api/.*/execute/[^/]+\Z")
_RESTORE = re.compile(r"/api/v1/agents/([^/]+)/restore\Z")
_EXECUTION = re.compile(r"/api/v1/executions/([^/]+)(/replay)?\Z")


def exchange(name, rest, call, number, errors):
    """The Exchange of a call to `rest`, the path below /platform or /platform-NAME.

    :param name: `platform` or `platform:NAME`.
    :param number: of the call, for the ids in its answer.
    :param errors: what the observability route lists.
    """
    if rest.startswith("/webhooks/"):
        return _fixed(name + "/webhooks", {"success": True, "message": "Webhook received"})
    if rest == "/health" and call.method == "GET":
        return _fixed(name + "/health", {"status": "ok", "timestamp": _iso(time.time())})
    refusal = _fault_of_token(call.headers)
    if rest == "/api/v1/observability/errors" and call.method == "GET":
        return _fixed(name + "/errors", {"errors": errors}, refusal)
    execution = _EXECUTION.match(rest)
    if execution and call.method == "GET" and not execution.group(2):
        return _fixed(name + "/executions", _execution(execution.group(1)), refusal)
    if execution and call.method == "POST" and execution.group(2):
        replayed = {"executionId": f"exec-sandbox-{number}", "message": "Execution replayed"}
        return _agent(name, number, lambda step: dict(replayed, **_unfinished(step)), refusal)
    if call.method == "POST" and _RESTORE.match(rest):
        return _fixed(name + "/restore", {"success": True, "message": "State restored"}, refusal)
    if call.method == "POST" and _EXECUTE.match(rest):
        request = call.body if isinstance(call.body, dict) else {}
        query = request.get("query", request.get("input"))
        if not query:
            refusal = refusal or answer(400, {"error": "Query is required"})
        return _agent(name, number, lambda step: _run(query, number, step), refusal)
    unknown = answer(404, {"error": "Not found"})
    return Exchange(name + "/unknown", lambda step: unknown, unknown, scripted=False)


def _agent(target, number, good, refusal):
    def render(step):
        return rendered(step, good, _of_status, lambda step: _refusal(number, step))

    return Exchange(target, render, refusal)


def _fixed(target, body, refusal=None):
    def render(step):
        return rendered(step, lambda step: body, _of_status, lambda step: _refusal(0, step))

    return Exchange(target, render, refusal)


def _run(query, number, step):
    output = step.get("text", "Answer to: " + as_text(query))
    used = tokens(as_text(query)) + tokens(as_text(output))
    run = {
        "executionId": f"exec-sandbox-{number}",
        "status": "completed",
        "output": output,
        "metadata": {
            "framework": "auto",
            "executionTime": used,
            "tokensUsed": used,
            "cost": round(used * 0.00001, 6),
            "intermediateSteps": [],
        },
    }
    unfinished = _unfinished(step)
    if unfinished:
        del run["output"], run["metadata"]
    return dict(run, **unfinished)


def _unfinished(step):
    if step.name != "no_finish_reason":
        return {}
    return {"status": "running", "message": "Agent execution started"}


def _execution(execution_id):
    now = _iso(time.time())
    return {
        "id": execution_id,
        "workflowId": "workflow-sandbox",
        "status": "completed",
        "startedAt": now,
        "finishedAt": now,
        "input": {},
        "output": "Answer of execution " + execution_id,
        "error": None,
        "metadata": {},
        "logs": [],
    }


def _fault_of_token(headers):
    authorization = headers.get("authorization", "")
    if not authorization.startswith("Bearer "):
        message = "Missing or invalid authorization header"
        return answer(401, {"error": "Unauthorized", "message": message})
    if authorization != "Bearer " + TOKEN:
        return answer(*_unauthorized())
    return None


def _of_status(code, message):
    return {"error": "Internal server error" if message == "Internal Server Error" else message}


def _refusal(number, step):
    if step.name == "unauthorized":
        return _unauthorized()
    if step.name == "rate_limit":
        return 429, dict(hints.details(step), error="Too many requests")
    if step.name == "overloaded":
        return 503, dict(hints.details(step), error="Service overloaded")
    if step.name == "agent_failed":
        return step.get("status"), _failed(number, step.get("error"))
    message = "Agent execution failed after 3 attempts. Last error: " + PASSED_ON[step.name]
    return 500, _failed(number, message)


def _failed(number, message):
    return {"executionId": f"exec-sandbox-{number}", "status": "failed", "error": message}


def _unauthorized():
    return 401, {"error": "Invalid token", "details": "The token is expired or was never issued"}


def _iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
