"""A plant whose alerts have runbooks: actions of StackStorm, monitoring, a clock moved by hand."""
from synthralos.storage.stackstorm_api import ExecutionNotFound, StackStormError

from .monitoring import Member, Monitoring, SeriesState
from .test_infrastructure_repair import Inquiries, Run

SETTLE = 60
PROMETHEUS_URL, ALERTMANAGER_URL = "http://prometheus.example.com", "http://am.example.com"
CHECK = "disk_free > 0.1"
FULL = {"alertname": "DiskFull", "instance": "web-1:9100", "mountpoint": "/data",
        "severity": "page"}
TOPOLOGY = [{"name": name} for name in ("web-1", "web-2", "db-1")]


class Actions(Inquiries):
    """StackStorm: its actions end at once, as `ends` says; other runs have a status.

    :ivar ends: {action: [statuses]}, the last one for ever; "running" for an action that does not
        end in time. effects: {action: callable (parameters)}, what it does; runs: {run or
        execution: status}.
    """

    def __init__(self, *actions):
        super().__init__(actions=actions)
        self.ends, self.effects, self.runs, self.runner = {}, {}, {}, "python-script"
        self.action_of = {}

    def action(self, ref):
        return dict(super().action(ref), runner_type=self.runner) if ref in self.actions else None

    def start(self, action, parameters):
        execution = super().start(action, parameters)
        self.effects.get(action, lambda parameters: None)(parameters)
        self.action_of[execution] = action
        return execution

    def wait(self, execution_id, seconds, sleep=None):
        ends = self.ends.get(self.action_of[execution_id], ["succeeded"])
        status = self.runs[execution_id] = ends.pop(0) if len(ends) > 1 else ends[0]
        if status == "running":
            raise StackStormError("it has not ended")
        return {"id": execution_id, "status": status}

    def execution(self, run, attributes):
        if run not in self.runs:
            raise ExecutionNotFound("execution %s does not exist" % run)
        return {"id": run, "status": self.runs[run]}


class Plant:
    """:ivar healthy: [(labels, since when)] of the series of CHECK; `members`: of Alertmanager."""

    def __init__(self, infra, clock):
        self.infra, self.clock = infra, clock
        self.api = Actions("ops.clean", "ops.grow", "ops.restart", "ops.robot")
        self.prometheus, self.member = SeriesState(clock), Member(clock)

    def configure(self, *runbooks, alertmanager=False, **more):
        infrastructure = dict({
            "crews": [{"name": "on-call", "channels": ["webhook"]}],
            "allowed_actions": list(self.api.actions), "topology": TOPOLOGY,
            "settle_seconds": SETTLE, "prometheus": {"base_url": PROMETHEUS_URL},
            "runbooks": list(runbooks),
        }, **more)
        sensors = {"alertmanager": {"urls": [ALERTMANAGER_URL]}} if alertmanager else {}
        env = self.infra.configure(infrastructure, api=self.api, sensors=sensors)
        env.client = Monitoring({
            PROMETHEUS_URL: self.prometheus, ALERTMANAGER_URL: self.member,
        })
        return env

    def heals(self, labels=None, then=lambda seconds: True, query=CHECK):
        """Let the query have a series with these labels from now on."""
        began = self.clock()
        series = self.prometheus.series.setdefault(query, [])
        series.append((labels or {}, lambda at: at >= began and then(at - began)))

    def run(self, env, alert, **parameters):
        return Run(env, alert=alert, **parameters).end()

    @property
    def calls(self):
        return [(action.replace("ops.", ""), parameters) for action, parameters in self.api.started]


def step(name, action=None, **more):
    return dict({"name": name, "action": "ops." + (action or name), "approval": "none"}, **more)


def runbook(*steps, name="disk_full", alertname="DiskFull", **more):
    return dict({"name": name, "match": {"alertname": alertname}, "steps": list(steps)}, **more)


def alert(labels=None, **more):
    from synthralos.sensing import alert_payloads

    labels = dict(FULL, **(labels or {}))
    labels = {name: value for name, value in labels.items() if value is not None}
    return dict({
        "status": "firing", "labels": labels, "fingerprint": alert_payloads.fingerprint(labels),
        "startsAt": "2023-11-14T22:00:00Z",
    }, **more)


def group(*alerts):
    return {"version": "4", "status": "firing", "alerts": list(alerts)}


def labels_of(result):
    return [entry["action"] for entry in result["step_history"]]


def statuses(result):
    return [(check["node"], check["crew"], check["status"]) for check in result["checks"]]
