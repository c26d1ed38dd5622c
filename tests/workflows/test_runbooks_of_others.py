"""Repairs of PoundCake and Robusta as runbooks: from the alert's notification to the checked end.

tests/fixtures/runbooks/README.md says where they are from. Their actions are stand-ins with the
parameters of the real ones; what they change is what Prometheus then returns for the check.
"""
import pytest
import yaml
from fixtures import PACK, foreign_packs
from fixtures.waiting import ENDED, until

from sandbox import ok, status

FOLDER = PACK / "tests" / "fixtures" / "runbooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
HOST = {"alertname": "HostDown", "instance": "web-1:9100", "job": "node", "severity": "critical"}
MYSQL = {"alertname": "MySqlConnectionErrors", "namespace": "shop", "pod": "orders-7f9c-x2x4z"}
CRASH = {
    "alertname": "KubePodCrashLooping", "namespace": "production", "container": "worker",
    "pod": "payment-processing-worker-6d5f9-bq7hk", "job": "kube-state-metrics",
    "instance": "10.244.0.7:8080",
}
JOB = {"alertname": "TestAlert", "namespace": "shop", "pod": "orders-0", "region": "eu"}
ALERTS = {
    "poundcake_host_down": HOST,
    "robusta_mysql_connection_errors": MYSQL,
    "robusta_crash_loop_scale_down": CRASH,
    "robusta_alert_handling_job": JOB,
}
# What the check returns for the healthy thing.
HEALTHY = {
    "poundcake_host_down": {"instance": "web-1:8080", "job": "health"},
    "robusta_mysql_connection_errors": {"namespace": "shop"},
    "robusta_crash_loop_scale_down": {
        "namespace": "production", "deployment": "payment-processing-worker"},
    "robusta_alert_handling_job": {"namespace": "shop"},
}


def load(name):
    return yaml.safe_load((FOLDER / (name + ".yaml")).read_text(encoding="utf-8"))


class Site:
    """A StackStorm with one of the runbooks, and the things that its actions repair.

    :ivar helps: ref of the action that repairs, or None for none; `failures` is how many of the
        executions of an action fail, by ref.
    """

    def __init__(self, world, name):
        self.world, self.name, self.runbook = world, name, load(name)
        self.helps, self.failures = None, {}
        world.packs = foreign_packs.write(world.folder / "packs", world.box.url("/hook/actions"))
        world.box.script("hook:actions", [self._act], forever=True)
        world.config["automation"] = {"mode": "act"}
        world.config["infrastructure"].update(
            topology=[{"name": "web-1"}], crews=[], runbooks=[self.runbook], settle_seconds=1,
            allowed_actions=sorted({step["action"] for step in self.runbook["steps"]}),
        )
        for step in self.runbook["steps"]:
            world.box.set_series(step["check"], [])

    def _act(self, call):
        ref = call.body["action"]
        if self.failures.get(ref):
            self.failures[ref] -= 1
            return status(500)
        if ref == self.helps:
            for step in self.runbook["steps"]:
                self.world.box.set_series(step["check"], [HEALTHY[self.name]])
        return ok()

    def started(self):
        """[(action, the parameters that a runbook gives it)] in order."""
        return [
            (call.body["action"], {
                name: value for name, value in call.body["parameters"].items() if value is not None
            })
            for call in self.world.box.calls_to("hook:actions")
        ]

    def alert(self, labels=None, generator="http://prometheus.example.com/graph?g0.expr=x"):
        """Post the alert as Alertmanager does; return (its entry, the ended run or None)."""
        alert = {
            "status": "firing", "labels": labels or ALERTS[self.name], "annotations": {},
            "startsAt": "2026-11-23T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": generator,
        }
        body = {"version": "4", "status": "firing", "receiver": "st2", "alerts": [alert]}
        received = self.world.local.run(
            "synthralos.alert.receive", {}, rule="synthralos.webhook_alertmanager",
            trigger_instance={"payload": {"body": body, "headers": {}}},
        )
        (entry,) = received["result"]["result"]["alerts"]
        if entry["run"] is None:
            return entry, None
        run = entry["run"]
        until(lambda: self.world.local.execution(run)["status"] in ENDED, "the run has ended")
        return entry, self.world.local.execution(run)


@pytest.fixture
def site(world):
    return lambda name: Site(world, name)


def parameters_of(name, step):
    """The parameters that the runbook itself writes for a step and that the action receives."""
    return {
        parameter: value for parameter, value in load(name)["steps"][step]["parameters"].items()
        if parameter != "timeout" and not (isinstance(value, dict) and "label" in value)
    }


def test_every_runbook_of_others_has_its_alert_here():
    assert set(NAMES) == set(ALERTS) == set(HEALTHY)


def test_poundcake_s_host_down_restarts_the_services_until_the_restart_succeeds(site):
    host_down = site("poundcake_host_down")
    host_down.helps, host_down.failures = "core.remote_sudo", {"core.remote_sudo": 1}
    _, run = host_down.alert()
    output = run["result"]["output"]
    assert (run["status"], output["outcome"], output["ticket"]) == ("succeeded", "repaired", None)
    name, host = "poundcake_host_down", {"hosts": "web-1"}
    steps = [dict(parameters_of(name, n), **host) for n in (0, 1, 2, 2)]
    refs = ["core.remote", "core.remote", "core.remote_sudo", "core.remote_sudo"]
    assert [ref for ref, _ in host_down.started()] == refs
    for (_, parameters), expected in zip(host_down.started(), steps):
        assert expected.items() <= parameters.items()
    (check,) = output["checks"]
    assert (check["crew"], check["status"]) == ("host_down/restart_services", "repaired")


def test_poundcake_s_host_down_restarts_nothing_that_has_come_back(site):
    host_down = site("poundcake_host_down")
    host_down.helps = "core.remote"
    _, run = host_down.alert()
    assert run["result"]["output"]["outcome"] == "repaired"
    assert [ref for ref, _ in host_down.started()] == ["core.remote"]


@pytest.mark.parametrize("instance", [
    "web-1:9100; reboot", "web-9:9100", "{{ config_context.platform.token }}",
])
def test_poundcake_s_host_down_starts_nothing_on_what_is_no_host_of_the_topology(site, instance):
    host_down = site("poundcake_host_down")
    _, run = host_down.alert(dict(HOST, instance=instance, node="web-1"))
    assert host_down.started() == []
    assert run["status"] == "failed" and run["result"]["output"]["ticket"]


def test_robusta_s_playbook_deletes_the_pod_of_the_alert(site):
    mysql = site("robusta_mysql_connection_errors")
    mysql.helps = "kubernetes.deleteCoreV1NamespacedPod"
    _, run = mysql.alert()
    assert run["result"]["output"]["outcome"] == "repaired"
    ((ref, parameters),) = mysql.started()
    assert ref == "kubernetes.deleteCoreV1NamespacedPod"
    assert parameters == {"namespace": "shop", "name": "orders-7f9c-x2x4z", "body": {}}


def test_robusta_s_playbook_scales_the_deployment_down_and_no_other(site):
    crash = site("robusta_crash_loop_scale_down")
    crash.helps = "core.local"
    entry, run = crash.alert()
    assert run["result"]["output"]["outcome"] == "repaired"
    assert entry["subject"] == "production/payment-processing-worker-6d5f9-bq7hk"
    ((ref, parameters),) = crash.started()
    expected = parameters_of("robusta_crash_loop_scale_down", 0)
    assert ref == "core.local" and expected.items() <= parameters.items()
    crash.alert(dict(CRASH, pod="web-6d5f9-bq7hk"))
    assert len(crash.started()) == 1


def test_robusta_s_job_is_run_for_the_alert_of_a_rule_and_not_for_a_test(site):
    job = site("robusta_alert_handling_job")
    job.helps = "kubernetes.createBatchV1NamespacedJob"
    entry, _ = job.alert(generator="")
    assert entry["outcome"] == "test" and job.started() == []
    _, run = job.alert()
    assert run["result"]["output"]["outcome"] == "repaired"
    ((ref, parameters),) = job.started()
    assert ref == "kubernetes.createBatchV1NamespacedJob"
    assert parameters == parameters_of("robusta_alert_handling_job", 0)


@pytest.mark.parametrize("name", NAMES)
def test_what_no_step_has_changed_is_not_repaired_and_a_ticket_says_so(site, name):
    unchanged = site(name)
    _, run = unchanged.alert()
    output = run["result"]["output"]
    assert (run["status"], output["outcome"]) == ("failed", "not_repaired") and output["ticket"]
    assert [ref for ref, _ in unchanged.started()] == [
        step["action"] for step in load(name)["steps"]]
