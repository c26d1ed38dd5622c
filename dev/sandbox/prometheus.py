"""A Prometheus: instant queries. Any query is answered; a script says what is down (`down`)."""
import time

from sandbox import hints
from sandbox.answers import Exchange, answer, rendered
from sandbox.region import CODES

PATH = "/api/v1/query"


def exchange(rest, call):
    """The Exchange of a call to `rest`, the path below /prometheus."""
    if rest != PATH or call.method not in ("GET", "POST"):
        unknown = answer(404, {"error": "Not found"})
        return Exchange("prometheus", lambda step: unknown, unknown, scripted=False)
    refusal = None
    if not call.query.get("query"):
        refusal = answer(400, _error("bad_data", 'invalid parameter "query": unexpected end'))

    def render(step):
        return rendered(step, _vector, _of_status, _refusal)

    return Exchange("prometheus", render, refusal)


def _vector(step):
    """Return the samples of a `down` step, or none."""
    samples = [
        {"metric": {"__name__": "up", step.get("label", "instance"): name},
         "value": [time.time(), "0"]}
        for name in step.get("down", ())
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": samples}}


def _of_status(code, message):
    return _error("internal" if code >= 500 else "bad_data", message)


def _refusal(step):
    if step.name == "agent_failed":
        return step.get("status"), _error("execution", step.get("error"))
    status, code, message = CODES[step.name]
    return status, dict(_error(code, message), **hints.details(step))


def _error(kind, message):
    return {"status": "error", "errorType": kind, "error": message}
