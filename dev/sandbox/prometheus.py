"""A Prometheus: any query is answered; a script says what is down (`down`).

Scripts are for instant queries. A range query consumes no step: what the last instant query said is
down has been so all the time, and what was down before is up again. A query with `!=` is for the
latter.
"""
import time

from sandbox import hints
from sandbox.answers import Exchange, answer, rendered
from sandbox.region import CODES

PATH, RANGE_PATH = "/api/v1/query", "/api/v1/query_range"


class Nodes:
    """What instant queries have said is down.

    :ivar down: {name: label} of the last one; seen: of all of them.
    """

    def __init__(self):
        self.down, self.seen = {}, {}

    def note(self, step):
        self.down = dict.fromkeys(step.get("down", ()), step.get("label", "instance"))
        self.seen = dict(self.seen, **self.down)

    def series(self, is_down):
        """{name: label} of the nodes that are down, or of those that are up again."""
        down = self.down
        return down if is_down else {n: v for n, v in self.seen.items() if n not in down}


def exchange(rest, call, nodes):
    """The Exchange of a call to `rest`, the path below /prometheus.

    :param nodes: the Nodes of this sandbox.
    """
    if rest == RANGE_PATH:
        return Exchange("prometheus", lambda step: None, _range(call.query, nodes))
    if rest != PATH or call.method not in ("GET", "POST"):
        unknown = answer(404, {"error": "Not found"})
        return Exchange("prometheus", lambda step: unknown, unknown, scripted=False)
    refusal = None
    if not call.query.get("query"):
        refusal = answer(400, _error("bad_data", 'invalid parameter "query": unexpected end'))

    def render(step):
        def vector(step):
            nodes.note(step)
            return _vector(step)

        return rendered(step, vector, _of_status, _refusal)

    return Exchange("prometheus", render, refusal)


def _vector(step):
    """Return the samples of a `down` step, or none."""
    samples = [
        {"metric": {"__name__": "up", step.get("label", "instance"): name},
         "value": [time.time(), "0"]}
        for name in step.get("down", ())
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": samples}}


def _range(query, nodes):
    """Return the Answer to a range query."""
    try:
        start, end, step = (float(query[name]) for name in ("start", "end", "step"))
        times = [start + step * n for n in range(int((end - start) / step + 1.001))]
    except (KeyError, ValueError, ZeroDivisionError):
        return answer(400, _error("bad_data", "invalid parameter"))
    is_down = "!=" not in query.get("query", "")
    result = [
        {"metric": {label: name}, "values": [[t, "0" if is_down else "1"] for t in times]}
        for name, label in nodes.series(is_down).items()
    ]
    return answer(200, {"status": "success", "data": {"resultType": "matrix", "result": result}})


def _of_status(code, message):
    return _error("internal" if code >= 500 else "bad_data", message)


def _refusal(step):
    if step.name == "agent_failed":
        return step.get("status"), _error("execution", step.get("error"))
    status, code, message = CODES[step.name]
    return status, dict(_error(code, message), **hints.details(step))


def _error(kind, message):
    return {"status": "error", "errorType": kind, "error": message}
