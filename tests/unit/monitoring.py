"""A Prometheus and the members of an Alertmanager as an injected clock has them."""
import json
import re
import urllib.parse
from email.utils import formatdate

from synthralos.calls.http import CallError, Response
from synthralos.core import failures
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.sensing import alert_payloads

# A matcher as Alertmanager reads it, with its escapes; names may not be quoted.
_MATCHER = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\["\\n])*)"\Z', re.S)
_UNESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class Member:
    """One Alertmanager.

    :ivar alerts: the labels of the alerts that fire; silenced: whether a silence suppresses them.
    :ivar starts: {fingerprint: since when, in seconds since the epoch}; else a minute before the
        member was made; ahead: seconds by which its clock is ahead of that of the pack.
    :ivar status: of its responses, or a cause of failure, such as "network".
    :ivar silences: {id: silence as the API has it}; a cluster shares it.
    :ivar write_status: like `status`, of its responses to anything but a GET.
    """

    def __init__(self, clock, age=3600.0, silences=None):
        self._clock, self.started_at = clock, clock() - age
        self.starts, self._began_at, self.ahead = {}, clock() - 60, 0.0
        self.alerts, self.silenced, self.status = [], False, 200
        self.silences, self.write_status = {} if silences is None else silences, 200

    def restart(self):
        self.started_at, self.alerts = self._clock(), []

    @property
    def active_silences(self):
        return [silence for silence in self.silences.values() if self._is_active(silence)]

    def response(self, path, query, method="GET", body=None):
        for status in (self.status, 200 if method == "GET" else self.write_status):
            if isinstance(status, str):
                raise CallError(failures.make_failure(status, "as asked"))
            if status != 200:
                return Response(status, {}, "no", 0.01)
        if path.startswith("/api/v2/silence"):
            return self._silence_response(path, method, body)
        if path == "/api/v2/status":
            return self._json({
                "uptime": to_iso(self.started_at + self.ahead, milliseconds=True)})
        matchers = [_MATCHER.match(text) for text in query.get("filter", ())]
        if None in matchers:
            return Response(400, {}, json.dumps("bad matcher format: latency"), 0.01)
        if self.silenced and query.get("silenced") != ["true"]:
            return self._json([])
        return self._json([
            self._entry(labels) for labels in self.alerts
            if all(labels.get(match[1], "") == _unescape(match[2]) for match in matchers)
        ])

    def _silence_response(self, path, method, body):
        silence_id = path.rpartition("/")[2]
        if method == "POST":
            assert parse_iso(body["endsAt"]) > self._clock()
            silence_id = body.get("id") or "s-%d" % len(self.silences)
            self.silences[silence_id] = dict(body, id=silence_id)
            return self._json({"silenceID": silence_id})
        if path == "/api/v2/silences":
            return self._json([self._silence(silence) for silence in self.silences.values()])
        silence = self.silences.get(silence_id)
        if silence is None:
            return Response(500 if method == "DELETE" else 404, {}, '"not found"', 0.01)
        if method == "DELETE" and self._is_active(silence):
            silence["endsAt"] = to_iso(self._clock(), milliseconds=True)
        return self._json(self._silence(silence))

    def _is_active(self, silence):
        return parse_iso(silence["endsAt"]) > self._clock()

    def _silence(self, silence):
        state = "active" if self._is_active(silence) else "expired"
        return dict(silence, status={"state": state})

    def _entry(self, labels):
        fingerprint = alert_payloads.fingerprint(labels)
        return {
            "labels": labels, "annotations": {}, "fingerprint": fingerprint,
            "startsAt": to_iso(self.starts.get(fingerprint, self._began_at), milliseconds=True),
            "endsAt": to_iso(self._clock() + self.ahead + 240),
            "status": {"state": "suppressed" if self.silenced else "active",
                       "silencedBy": ["s"] if self.silenced else [], "inhibitedBy": []},
        }

    def _json(self, body):
        date = formatdate(self._clock() + self.ahead, usegmt=True)
        return Response(200, {"date": date}, json.dumps(body), 0.01)


def _unescape(text):
    return re.sub(r"\\.", lambda match: _UNESCAPED[match[0]], text)


class PrometheusState:
    """Nodes whose state is a function of time.

    :ivar states: {node: callable (timestamp) -> 0 (down), 1 (up) or None (no sample)}.
    :ivar aliases: {query: another that it is read as}; status: as of a Member.
    """

    def __init__(self, clock):
        self._clock, self.states, self.status, self.aliases = clock, {}, 200, {}

    def response(self, path, query):
        if isinstance(self.status, str):
            raise CallError(failures.make_failure(self.status, "as asked"))
        if self.status != 200:
            return Response(self.status, {}, "no", 0.01)
        if path == "/api/v1/rules":
            return Response(200, {}, json.dumps({"data": {"groups": []}}), 0.01)
        promql = query["query"][0]
        if promql.startswith("ALERTS{"):
            body = {"status": "success", "data": {"resultType": "matrix", "result": []}}
            return Response(200, {}, json.dumps(body), 0.01)
        expected = {"up == 0": 0, "up != 0": 1, "healthy": 1}[self.aliases.get(promql, promql)]
        if path == "/api/v1/query":
            times, kind = [self._clock()], "vector"
        else:
            start, end, step = (float(query[name][0]) for name in ("start", "end", "step"))
            times, kind = [start + step * n for n in range(int((end - start) / step + 1.001))], (
                "matrix"
            )
        result = []
        for node, state in self.states.items():
            values = [[t, str(state(t))] for t in times if state(t) == expected]
            if values:
                row = {"value": values[0]} if kind == "vector" else {"values": values}
                result.append(dict({"metric": {"instance": node}}, **row))
        body = {"status": "success", "data": {"resultType": kind, "result": result}}
        return Response(200, {}, json.dumps(body), 0.01)


class SeriesState:
    """A Prometheus whose series exist as functions of time.

    :ivar series: {query: [(labels, callable (timestamp) -> whether there is a sample, or its value
        as text)]}; status: as of a Member; queries: of the range queries, in order.
    :ivar more: what its responses contain besides the data; ahead: seconds by which its clock is
        ahead of that of the pack; the series are as its own clock has them.
    """

    def __init__(self, clock):
        self._clock, self.series, self.status, self.queries = clock, {}, 200, []
        self.more, self.ahead = {}, 0.0

    def response(self, path, query):
        if isinstance(self.status, str):
            raise CallError(failures.make_failure(self.status, "as asked"))
        if self.status != 200:
            return Response(self.status, {}, "no", 0.01)
        now = self._clock() + self.ahead
        if path == "/api/v1/rules":
            return Response(200, {}, json.dumps({"data": {"groups": []}}), 0.01)
        promql, result, kind = query["query"][0], [], "vector"
        times = [now]
        if path != "/api/v1/query":
            self.queries.append(promql)
            start, end, step = (float(query[name][0]) for name in ("start", "end", "step"))
            times, kind = [start + step * n for n in range(int((end - start) / step + 1.001))], (
                "matrix"
            )
        for labels, state in self.series.get(promql, ()):
            # It knows nothing of the future, and takes the last sample for it, for a while.
            samples = [(t, state(min(t, now))) for t in times if t < now + 300]
            values = [
                [t, value if isinstance(value, str) else "1"] for t, value in samples if value
            ]
            if values:
                row = {"value": values[0]} if kind == "vector" else {"values": values}
                result.append(dict({"metric": labels}, **row))
        body = {"status": "success", "data": {"resultType": kind, "result": result}}
        headers = {"date": formatdate(now, usegmt=True)}
        return Response(200, headers, json.dumps(dict(body, **self.more)), 0.01)


class Monitoring:
    """In place of the HTTP client: dispatches by the base URL.

    :ivar servers: {base URL: Member or PrometheusState}.
    """

    def __init__(self, servers):
        self.servers, self.llm_calls = servers, []

    def request(self, connection, method, path, seconds, body=None):
        path, _, query = path.partition("?")
        server = self.servers[connection.base_url]
        more = {} if method == "GET" else {"method": method, "body": body}
        return server.response(path, urllib.parse.parse_qs(query), **more)

    def failure_of(self, response, call_kind):
        return failures.from_http(response.status, {}, response.text, 0.0, call_kind)
