"""A Prometheus: any query is answered; a script says what is down (`down`).

Scripts are for instant queries. A range query consumes no step: what the last instant query said is
down has been so all the time, and what was down before is up again. A query with `!=` is for the
latter. A query whose series are set returns these, whatever its kind, and consumes no step either.
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


class SeriesByQuery:
    """The series that queries return now."""

    def __init__(self):
        self._series = {}

    def set(self, query, series):
        """Set what `query` returns from now on.

        :param series: the labels of each series, as a list of objects; or a function that is called
            at each query and returns it. None for what queries return that are not set.
        :raises ValueError: it is something else.
        """
        if not isinstance(query, str) or not query:
            raise ValueError(f"query must be a text (got {query!r})")
        if series is None:
            self._series.pop(query, None)
            return
        if not callable(series):
            _require_labels(series)
        self._series[query] = series

    def get(self, query):
        """Return the labels of the series of `query`, or None if they are not set."""
        series = self._series.get(query)
        return series() if callable(series) else series

    def clear(self):
        self._series.clear()


def _require_labels(series):
    if not isinstance(series, list) or not all(isinstance(labels, dict) for labels in series):
        raise ValueError(f"series must be a list of objects, the labels of each (got {series!r})")


def exchange(rest, call, nodes, series_by_query):
    """The Exchange of a call to `rest`, the path below /prometheus.

    :param nodes: the Nodes of this sandbox; series_by_query: its SeriesByQuery.
    """
    series = series_by_query.get(call.query.get("query"))
    if series is not None and rest in (PATH, RANGE_PATH):
        response = _range(call.query, series) if rest == RANGE_PATH else _instant(series)
        return Exchange("prometheus", lambda step: None, response)
    if rest == RANGE_PATH:
        return Exchange("prometheus", lambda step: None, _range_of_nodes(call.query, nodes))
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


def _instant(series):
    """Return the Answer to an instant query with these series; each has the value 1."""
    samples = [{"metric": labels, "value": [time.time(), "1"]} for labels in series]
    return answer(
        200, {"status": "success", "data": {"resultType": "vector", "result": samples}}
    )


def _range_of_nodes(query, nodes):
    """Return the Answer to a range query for what is down, or up again."""
    is_down = "!=" not in query.get("query", "")
    series = [{label: name} for name, label in nodes.series(is_down).items()]
    return _range(query, series, "0" if is_down else "1")


def _range(query, series, value="1"):
    """Return the Answer to a range query: each series has this value all the time."""
    try:
        start, end, step = (float(query[name]) for name in ("start", "end", "step"))
        times = [start + step * n for n in range(int((end - start) / step + 1.001))]
    except (KeyError, ValueError, ZeroDivisionError):
        return answer(400, _error("bad_data", "invalid parameter"))
    result = [{"metric": labels, "values": [[t, value] for t in times]} for labels in series]
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
