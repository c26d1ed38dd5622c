"""A small world for the tests of infrastructure_repair: nodes, crews, a Prometheus, channels."""
import json
import urllib.parse

from synthralos.calls.http import CallError, Response
from synthralos.core.failures import make_failure
from synthralos.escalation.channels import DeliveryError
from synthralos.infrastructure import crews

from .conftest import CONFIG

NODES = [
    {"name": "switch", "criticality": "critical", "zone": "east", "skills": ["network"]},
    {"name": "db", "depends_on": ["switch"], "criticality": "high", "people": 100, "zone": "east"},
    {"name": "web", "depends_on": ["db"], "people": 5000, "zone": "west", "repair_seconds": 600},
]
INFRASTRUCTURE = {
    "prometheus": {"base_url": "http://prometheus.example.com"},
    "topology": NODES,
    "crews": [
        {"name": "network", "skills": ["network"], "zone": "east", "channels": ["webhook"]},
        {"name": "east", "zone": "east", "channels": ["webhook"]},
        {"name": "west", "zone": "west", "channels": ["webhook"]},
    ],
    "travel_seconds": {"east": {"west": 1800}},
    "holidays": ["2025-12-25"],
    "settle_seconds": 0,
}


class World:
    """:ivar env: the environment; `down` and `failing` are lists that a test fills.

    :ivar down: what Prometheus says at each query: a list of nodes, or a cause of its failing;
        the last one for ever.
    :ivar failing: the crews that cannot be told; told: (channel, notice) of what was sent.
    """

    def __init__(self, make_env, monkeypatch, **more):
        self.down, self.failing, self.notices, self.queries = [[]], [], [], []
        self._last_down, self._seen = [], {}
        self._make_env, self.llm_calls = make_env, []
        self.configure()
        monkeypatch.setattr(crews, "sender_for", self._send_by)
        monkeypatch.setattr(crews, "RETRY_DELAY_SECONDS", 0)

    def configure(self, infrastructure=None, api=None, **config):
        settings = dict(INFRASTRUCTURE, **(infrastructure or {}))
        escalation = {"webhook": {"url": "http://hook.example.com"}}
        strategy = {"strategy": "immediate"}
        settings = dict(
            CONFIG, infrastructure=settings, escalation=escalation, backoff=strategy, **config
        )
        self.env = self._make_env(settings, api=api)
        self.env.client = self
        return self.env

    def request(self, connection, method, path, seconds, *_):
        """In place of the HTTP client's."""
        if path.startswith("/api/v1/query_range"):
            return self._range(urllib.parse.parse_qs(path.partition("?")[2]))
        self.queries.append(path)
        nodes = self.down.pop(0) if len(self.down) > 1 else self.down[0]
        if isinstance(nodes, str):
            raise CallError(make_failure(nodes, "as asked"))
        self._last_down = nodes
        self._seen.update(dict.fromkeys(nodes))
        return Response(200, {}, json.dumps(samples(nodes)), 0.01)

    def _range(self, query):
        """What was down at the last query was so all the time; what was down before it is up."""
        names = self._last_down
        if "!=" in query["query"][0]:
            names = [name for name in self._seen if name not in names]
        start, end, step = (float(query[name][0]) for name in ("start", "end", "step"))
        values = [[start + step * n, "1"] for n in range(int((end - start) / step + 1.001))]
        result = [{"metric": {"instance": name}, "values": values} for name in names]
        body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return Response(200, {}, json.dumps(body), 0.01)

    def _send_by(self, channel):
        def send(env, config, notice, seconds):
            if notice["subject"] in self.failing:
                raise DeliveryError("as asked")
            self.notices.append((channel, notice))

        return send


def samples(names, label="instance"):
    """What Prometheus answers: a sample for each name."""
    result = [{"metric": {label: name}, "value": [0, "0"]} for name in names]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}
