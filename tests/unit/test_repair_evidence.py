"""What must not be taken for a repair although something looks healthy, and what must be."""
import pytest

from synthralos.infrastructure import detection
from synthralos.sensing import alert_payloads
from synthralos.storage import tickets

from .runbook_plant import (
    CHECK,
    FULL,
    PROMETHEUS_URL,
    SETTLE,
    Plant,
    alert,
    group,
    runbook,
    step,
)
from .test_infrastructure_repair import Run

POD = {"alertname": "KubePodCrashLooping", "namespace": "shop", "pod": "web-7f9c8d6b5-x2x4z",
       "container": "web", "job": "kube-state-metrics", "instance": "10.244.1.5:8080",
       "severity": "warning"}
DOWN = {"alertname": "NodeDown", "instance": "web-1:9100", "job": "node"}


@pytest.fixture
def plant(infra, clock, monkeypatch):
    monkeypatch.setattr(detection, "RETRY_DELAY_SECONDS", 0)
    new_plant = Plant(infra, clock)
    new_plant.api.started.clear()
    return new_plant


def notification(labels, **more):
    return {
        "status": "firing", "labels": labels, "fingerprint": alert_payloads.fingerprint(labels),
        "startsAt": "2023-11-14T22:00:00Z", **more,
    }


class TestAlertmanager:
    """The alert is gone from Alertmanager's list, and nothing is repaired."""

    def repair(self, plant, labels, then=lambda parameters: None, request=None, **more):
        """The result of a run whose only step does `then`."""
        plant.member.alerts = plant.member.alerts or [labels]
        plant.api.effects["ops.clean"] = then
        more = dict({"prometheus": None}, **more)
        env = plant.configure(
            runbook(step("clean"), alertname=labels["alertname"]), alertmanager=True, **more)
        return plant.run(env, request or notification(labels))

    def replaces(self, plant, *labels, starts=None):
        """What lets Alertmanager list these alerts, which begin now, and no others."""
        def then(parameters):
            plant.member.alerts = list(labels)
            for own in labels:
                plant.member.starts[alert_payloads.fingerprint(own)] = plant.clock()

        return then

    def test_one_that_never_knew_the_alert_is_no_witness(self, plant):
        """A notification of another Alertmanager, or one that somebody made up."""
        plant.member.alerts = [dict(FULL, instance="other:9100")]
        result = self.repair(plant, FULL)
        assert (result["outcome"], result["resolved"]) == ("repairs_assigned", [])
        assert [check["status"] for check in result["checks"]] == ["assigned"]

    def test_one_that_was_restarted_before_the_run_lists_it_later(self, plant):
        plant.member.restart()
        plant.member.alerts = [dict(FULL, instance="other:9100")]
        began = plant.clock()

        def forward(seconds, inner=plant.clock.forward):
            inner(seconds)
            if plant.clock() - began > 30:
                plant.member.alerts = [FULL]

        plant.clock.forward = forward
        result = self.repair(plant, FULL)
        assert result["outcome"] == "not_repaired"

    def test_one_that_listed_it_once_the_run_had_begun_is_a_witness(self, plant):
        plant.member.status = 503

        def then(parameters):
            plant.member.status = 200

        plant.member.alerts = [FULL]
        result = self.repair(plant, FULL, then)
        assert result["outcome"] == "not_repaired"

    @pytest.mark.parametrize("alertname", ["DiskFull", "Other"])
    def test_an_alert_that_it_never_listed_keeps_its_node_from_being_repaired(
        self, plant, alertname
    ):
        """Two alerts of one node go to one crew; only one of them can be checked."""
        other = dict(FULL, alertname="Other")
        plant.member.alerts = [FULL if alertname == "DiskFull" else other]
        plant.api.effects["ops.robot"] = lambda parameters: plant.member.alerts.clear()
        robot = {"name": "robot", "action": "ops.robot", "approval": "none"}
        env = plant.configure(alertmanager=True, prometheus=None, crews=[robot])
        result = plant.run(env, group(notification(FULL), notification(other)))
        assert (result["outcome"], result["resolved"]) == ("repairs_assigned", [])

    def test_the_replica_of_its_prometheus_still_reports_it(self, plant):
        labels, twin = dict(FULL, prometheus_replica="a"), dict(FULL, prometheus_replica="b")
        plant.member.alerts = [labels, twin]
        result = self.repair(plant, labels, lambda parameters: plant.member.alerts.remove(labels))
        assert result["outcome"] == "not_repaired"

    def test_the_exporter_has_moved_and_still_reports_it(self, plant):
        moved = dict(POD, instance="10.244.9.9:8080")
        result = self.repair(plant, POD, self.replaces(plant, moved))
        assert result["outcome"] == "not_repaired"

    @pytest.mark.parametrize("change", [
        {"severity": "critical"}, {"pod": "web-7f9c8d6b5-k9l7m"},
        {"pod": "web-7f9c8d6b5-k9l7m", "severity": "critical"},
    ], ids=["severity", "pod", "both"])
    def test_it_fires_on_as_another_alert(self, plant, change):
        """It got worse, or the pod that took the place of the failed one fails too."""
        result = self.repair(plant, POD, self.replaces(plant, dict(POD, **change)))
        assert result["outcome"] == "not_repaired"

    @pytest.mark.parametrize("change", [
        {"severity": "critical"}, {"pod": "web-7f9c8d6b5-k9l7m"}, {"container": "sidecar"},
        {"pod": "shop-7f9c8d6b5-k9l7m"}, {"namespace": "test"}, {"cluster": "us"},
    ], ids=["severity", "pod", "container", "workload", "namespace", "cluster"])
    def test_another_alert_that_fired_before_is_another_failure(self, plant, change):
        other = dict(POD, **change)
        plant.member.alerts = [POD, other]
        plant.member.starts[alert_payloads.fingerprint(other)] = plant.clock() - 3600
        result = self.repair(plant, POD, lambda parameters: plant.member.alerts.remove(POD))
        assert result["outcome"] == "repaired"

    @pytest.mark.parametrize("change", [
        {"container": "sidecar"}, {"pod": "shop-7f9c8d6b5-k9l7m"}, {"namespace": "test"},
        {"cluster": "us"}, {"alertname": "Other"},
    ], ids=["container", "workload", "namespace", "cluster", "alertname"])
    def test_an_alert_of_something_else_is_another_failure(self, plant, change):
        result = self.repair(plant, POD, self.replaces(plant, dict(POD, **change)))
        assert result["outcome"] == "repaired"

    def test_the_pods_of_a_stateful_set_do_not_replace_each_other(self, plant):
        labels = dict(POD, pod="db-0")
        result = self.repair(plant, labels, self.replaces(plant, dict(POD, pod="db-1")))
        assert result["outcome"] == "repaired"

    @pytest.mark.parametrize("ahead", [-3600, 3600])
    def test_the_clock_of_alertmanager_is_another(self, plant, ahead):
        """What began before and what begins now is told apart by its own clock."""
        plant.member.ahead = ahead
        earlier = dict(POD, severity="info")
        plant.member.alerts = [POD, earlier]
        plant.member.starts[alert_payloads.fingerprint(earlier)] = plant.clock() + ahead - 60
        result = self.repair(plant, POD, lambda parameters: plant.member.alerts.remove(POD))
        assert result["outcome"] == "repaired"
        later = dict(POD, severity="critical")
        plant.api.started.clear()
        plant.member.alerts = [POD]
        plant.member.starts[alert_payloads.fingerprint(later)] = plant.clock() + ahead
        result = self.repair(
            plant, POD, lambda parameters: setattr(plant.member, "alerts", [later]))
        assert result["outcome"] == "not_repaired"

    def test_labels_that_are_no_text_do_no_harm(self, plant):
        labels = dict(FULL, alertname="a\ud800b", mountpoint="\udfff")
        result = self.repair(plant, labels)
        assert result["outcome"] in ("not_repaired", "repairs_unchecked", "repairs_assigned")


class TestRule:
    """Alertmanager knows what Prometheus tells it; Prometheus knows what it does not tell."""

    HISTORY = 'ALERTS{alertname="DiskFull"}'

    def repair(self, plant, state, labels=FULL, gone=True, **own):
        """The result of a run after whose step Alertmanager lists nothing; `state(seconds since the
        step)`, of the alert in Prometheus.
        """
        def then(parameters):
            plant.member.alerts.clear()
            series = dict(labels, alertstate="pending", __name__="ALERTS", **own)
            plant.heals(series, state, self.HISTORY)

        plant.member.alerts = [FULL]
        plant.api.effects["ops.clean"] = then
        env = plant.configure(runbook(step("clean")), alertmanager=True)
        return plant.run(env, alert())

    def test_an_alert_that_is_pending_again_is_not_over(self, plant):
        result = self.repair(plant, lambda seconds: True)
        assert result["outcome"] == "not_repaired" and result["ticket"]

    def test_a_flap_that_never_lasts_as_long_as_the_rule_demands(self, plant):
        result = self.repair(plant, lambda seconds: seconds // 20 % 2 == 1)
        assert result["outcome"] == "not_repaired"
        assert "failed again" in result["checks"][0]["reason"]

    def test_an_alert_that_ends_a_little_later_is_over(self, plant):
        result = self.repair(plant, lambda seconds: seconds < 30)
        assert result["outcome"] == "repaired"

    def test_external_labels_are_not_in_prometheus(self, plant):
        labels = {name: FULL[name] for name in FULL if name != "severity"}
        assert self.repair(plant, lambda seconds: True, labels)["outcome"] == "not_repaired"

    def test_another_alert_of_that_name_is_none(self, plant):
        result = self.repair(plant, lambda seconds: True, dict(FULL, mountpoint="/var"))
        assert result["outcome"] == "repaired"

    @pytest.mark.parametrize("status", ["network", 503])
    def test_without_its_prometheus_alertmanager_forgets_alerts(self, plant, status):
        def then(parameters):
            plant.member.alerts.clear()
            plant.prometheus.status = status

        plant.member.alerts = [FULL]
        plant.api.effects["ops.clean"] = then
        env = plant.configure(runbook(step("clean")), alertmanager=True)
        result = plant.run(env, alert())
        assert result["outcome"] == "repairs_unchecked" and result["ticket"]

    def test_the_name_of_an_alert_is_text_in_its_query(self, plant):
        name = 'a"} or up{x="\\\n'
        labels = dict(FULL, alertname=name)
        plant.member.alerts = [labels]
        plant.api.effects["ops.clean"] = lambda parameters: plant.member.alerts.clear()
        env = plant.configure(runbook(step("clean"), alertname=name), alertmanager=True)
        assert plant.run(env, notification(labels))["outcome"] == "repaired"
        assert 'ALERTS{alertname="a\\"} or up{x=\\"\\\\\\n"}' in plant.prometheus.queries


class TestNodes:
    """What Prometheus shows of a node."""

    NODE, MYSQL = ({"__name__": "up", "instance": "web-1:9100", "job": "node"},
                   {"__name__": "up", "instance": "web-1:9104", "job": "mysql"})

    def repair(self, plant, then, *always, **more):
        """The result of a run for what `up == 0` shows; `then` is what the crew's action does."""
        began, ended = plant.clock(), []
        plant.heals(
            self.NODE, lambda seconds: not ended or began + seconds <= ended[0], "up == 0")
        for labels in always:
            plant.heals(labels, query="up != 0")

        def act(parameters):
            ended.append(plant.clock())
            then()

        plant.api.effects["ops.robot"] = act
        robot = {"name": "robot", "action": "ops.robot", "approval": "none"}
        env = plant.configure(crews=[robot], **more)
        return Run(env).end()

    def test_another_target_of_the_node_proves_nothing(self, plant):
        """The failed one is not scraped any more."""
        result = self.repair(plant, lambda: None, self.MYSQL)
        assert result["outcome"] == "not_repaired" and result["ticket"]
        assert "no sample" in result["checks"][0]["reason"]

    def test_the_failed_target_is_back(self, plant):
        result = self.repair(plant, lambda: plant.heals(self.NODE, query="up != 0"), self.MYSQL)
        assert result["outcome"] == "repaired"

    def test_a_pod_that_took_its_place_is_back(self, plant):
        back = dict(self.NODE, pod="exporter-x2x4z", container="exporter", uid="7")
        result = self.repair(plant, lambda: plant.heals(back, query="up != 0"))
        assert result["outcome"] == "repaired"

    @pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
    def test_what_is_not_a_number_is_not_healthy(self, plant, value):
        result = self.repair(
            plant, lambda: plant.heals(self.NODE, lambda seconds: value, "up != 0"))
        assert result["outcome"] == "not_repaired"

    @pytest.mark.parametrize("more", [
        {"warnings": ["remote_read: one store did not respond"]}, {"isPartial": True},
    ], ids=["warnings", "isPartial"])
    def test_a_partial_response_is_none(self, plant, more):
        def then():
            plant.heals(self.NODE, query="up != 0")
            plant.prometheus.more = more

        result = self.repair(plant, then)
        assert result["outcome"] == "repairs_unchecked" and result["ticket"]

    @pytest.mark.parametrize("text", [
        "PromQL info: metric might not be a counter", "PromQL warning: mixed samples",
    ])
    def test_a_remark_on_the_query_is_no_partial_response(self, plant, text):
        def then():
            plant.heals(self.NODE, query="up != 0")
            plant.prometheus.more = {"warnings": [text], "infos": [text]}

        assert self.repair(plant, then)["outcome"] == "repaired"

    def test_an_error_with_status_200_is_no_empty_result(self, plant):
        def then():
            plant.prometheus.more = {"status": "error", "error": "no"}

        assert self.repair(plant, then)["outcome"] == "repairs_unchecked"

    def test_a_check_of_nodes_says_nothing_of_an_alert_that_it_did_not_show(self, plant):
        """The node is up all the time; its disk is full."""
        prometheus = {"base_url": PROMETHEUS_URL, "check": "up == 1"}
        plant.heals(self.NODE, query="up == 1")
        env = plant.configure(runbook(step("clean")), prometheus=prometheus)
        result = plant.run(env, alert())
        assert (result["outcome"], result["resolved"]) == ("repairs_assigned", [])

    @pytest.mark.parametrize("vanished", [True, False], ids=["vanished", "up"])
    def test_a_node_of_a_cascade_that_is_only_missing_is_not_resolved(self, plant, vanished):
        """It fails while another is repaired, and is missing when it is looked at again."""
        other = {"__name__": "up", "instance": "web-2:9100", "job": "node"}

        def then():
            plant.heals(self.NODE, query="up != 0")
            queries = []

            def is_down(seconds):
                # Down at the query of the check, not at the one of the next detection.
                queries.append(plant.clock())
                return len(queries) <= 1

            plant.heals(other, is_down, "up == 0")
            if not vanished:
                plant.heals(other, query="up != 0")

        result = self.repair(plant, then)
        assert ("web-2" in result["resolved"]) is not vanished


class TestClocks:
    """The clock of Prometheus is another."""

    HERE = {"instance": "web-1:9100", "mountpoint": "/data"}

    def repair(self, plant, ahead, state):
        """`state(seconds)`: whether the series of the check exists so long after the repair, by the
        clock of Prometheus.
        """
        plant.prometheus.ahead = ahead
        ended = []

        def exists(at):
            return not ended and at < plant.clock() - 3600 or bool(ended) and (
                at < ended[0] - 1000 or at >= ended[0] and state(at - ended[0]))

        plant.prometheus.series[CHECK] = [(self.HERE, exists)]
        plant.api.effects["ops.clean"] = lambda parameters: ended.append(plant.clock() + ahead)
        env = plant.configure(runbook(step("clean", check=CHECK)))
        return plant.run(env, alert())

    @pytest.mark.parametrize("ahead", [-1500, -120, -10, 0, 10, 120, 1500])
    def test_what_it_measured_before_the_failure_is_no_repair(self, plant, ahead):
        assert self.repair(plant, ahead, lambda seconds: False)["outcome"] == "not_repaired"

    @pytest.mark.parametrize("ahead", [-1500, -120, -10, 0, 10, 120, 1500])
    def test_a_repair_is_seen(self, plant, ahead):
        assert self.repair(plant, ahead, lambda seconds: True)["outcome"] == "repaired"

    @pytest.mark.parametrize("ahead", [-1500, -120, -10, 0, 10, 120, 1500])
    def test_a_flap_is_seen(self, plant, ahead):
        result = self.repair(plant, ahead, lambda seconds: not 15 <= seconds <= 45)
        assert result["outcome"] == "not_repaired"


class TestStepCheck:
    """A step's check has a healthy series, and what failed is not it."""

    UP = "up == 1"
    NODE, MYSQL = ({"__name__": "up", "instance": "web-1:9100", "job": "node"},
                   {"__name__": "up", "instance": "web-1:9104", "job": "mysql"})

    def repair(self, plant, labels, check, then):
        plant.api.effects["ops.clean"] = lambda parameters: then()
        env = plant.configure(
            runbook(step("clean", check=check), alertname=labels["alertname"]))
        return plant.run(env, notification(labels))

    def test_another_target_of_the_host_is_up(self, plant):
        """The failed one is not scraped any more."""
        plant.heals(self.NODE, lambda seconds: seconds <= 0, "up != 1")
        result = self.repair(
            plant, DOWN, self.UP, lambda: plant.heals(self.MYSQL, query=self.UP))
        assert result["outcome"] == "not_repaired"

    @pytest.mark.parametrize("job, outcome", [("node", "not_repaired"), ("other", "repaired")])
    def test_another_instance_of_its_job_on_the_same_host(self, plant, job, outcome):
        """Neither of the two queries can be turned round."""
        check = "ready > 2 * 3"
        series = {"instance": "web-1:9200", "job": job}
        result = self.repair(plant, DOWN, check, lambda: plant.heals(series, query=check))
        assert result["outcome"] == outcome

    def test_its_own_target_is_down_while_another_is_up(self, plant):
        def then():
            plant.heals(self.MYSQL, query=self.UP)
            plant.heals(self.NODE, query="up != 1")

        assert self.repair(plant, DOWN, self.UP, then)["outcome"] == "not_repaired"

    def test_one_of_its_series_is_bad(self, plant):
        """The alert names no mount point, so that it is about all of them."""
        labels = {"alertname": "DiskFull", "instance": "web-1:9100"}

        def then():
            plant.heals(dict(labels, mountpoint="/data"))
            plant.heals(dict(labels, mountpoint="/"), query="disk_free <= 0.1")

        result = self.repair(plant, labels, CHECK, then)
        assert result["outcome"] == "not_repaired"
        assert "shows it as failed" in result["checks"][0]["reason"]

    def test_one_of_its_series_was_bad_for_a_while(self, plant):
        labels = {"alertname": "DiskFull", "instance": "web-1:9100"}

        def then():
            plant.heals(dict(labels, mountpoint="/data"))
            plant.heals(
                dict(labels, mountpoint="/"), lambda seconds: 20 < seconds < 40,
                "disk_free <= 0.1")

        assert self.repair(plant, labels, CHECK, then)["outcome"] == "not_repaired"

    def test_a_bad_series_of_something_else_is_none_of_its(self, plant):
        def then():
            plant.heals({"instance": "web-1:9100", "mountpoint": "/data"})
            plant.heals({"instance": "web-1:9100", "mountpoint": "/var"}, query="disk_free <= 0.1")
            plant.heals({"instance": "web-2:9100", "mountpoint": "/data"}, query="disk_free <= 0.1")

        assert self.repair(plant, FULL, CHECK, then)["outcome"] == "repaired"

    @pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
    def test_what_is_not_a_number_is_not_healthy(self, plant, value):
        result = self.repair(plant, FULL, CHECK, lambda: plant.heals(
            {"instance": "web-1:9100"}, lambda seconds: value))
        assert result["outcome"] == "not_repaired"

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_partial_response_is_none(self, plant, exists):
        """Neither what it has nor what it lacks: the next step may be a reboot."""
        def then():
            plant.heals({"instance": "web-1:9100"}, lambda seconds: exists)
            plant.prometheus.more = {"warnings": ["store unavailable"]}

        result = self.repair(plant, FULL, CHECK, then)
        assert result["outcome"] == "repairs_unchecked" and result["ticket"]

    @pytest.mark.parametrize("series, outcome", [
        ({"deployment": "db"}, "not_repaired"),
        ({"deployment": "web"}, "repaired"),
        ({"pod": "db-0"}, "not_repaired"),
        ({"pod": "web-7f9c8d6b5-k9l7m"}, "not_repaired"),
        ({"container": "web"}, "repaired"),
        ({"container": "sidecar"}, "not_repaired"),
        ({}, "repaired"),
    ], ids=["other deployment", "its deployment", "other pod", "pod in its place", "its container",
            "other container", "its namespace"])
    def test_a_series_of_another_workload_in_its_namespace(self, plant, series, outcome):
        labels = {name: POD[name] for name in ("alertname", "namespace", "pod", "container")}
        result = self.repair(plant, labels, CHECK, lambda: plant.heals(
            dict(series, namespace="shop", job="kube-state-metrics")))
        assert result["outcome"] == outcome

    @pytest.mark.parametrize("pod, outcome", [
        ("web-7f9c8d6b5-k9l7m", "repaired"), ("db-7f9c8d6b5-k9l7m", "not_repaired"),
    ])
    def test_a_pod_of_its_deployment(self, plant, pod, outcome):
        labels = {"alertname": "KubeDeploymentReplicasMismatch", "namespace": "shop",
                  "deployment": "web"}
        result = self.repair(
            plant, labels, CHECK, lambda: plant.heals({"namespace": "shop", "pod": pod}))
        assert result["outcome"] == outcome


class TestFurtherAlerts:
    """A repair may have repaired other alerts of the node; one look does not show that."""

    VAR = {"instance": "web-1:9100", "mountpoint": "/var"}
    MOUNT = {"mount": {"label": "mountpoint", "pattern": "/[a-z]+"}}

    def repair(self, plant, **more):
        env = plant.configure(
            runbook(step("clean", parameters=self.MOUNT, **more)), alertmanager=not more,
            **({} if more else {"prometheus": None}))
        return plant.run(env, group(alert(), alert({"mountpoint": "/var"})), timeout=3600)

    def test_one_that_is_gone_for_a_moment_is_repaired_by_its_own_step(self, plant):
        """It flaps: it was gone when its turn came."""
        first, second = alert()["labels"], alert({"mountpoint": "/var"})["labels"]
        plant.member.alerts = [first, second]
        plant.api.effects["ops.clean"] = lambda parameters: plant.member.alerts.remove(
            first if parameters["mount"] == "/data" else second)
        began = plant.clock()

        def forward(seconds, inner=plant.clock.forward):
            inner(seconds)
            if len(plant.calls) == 1:
                is_gone = 1.5 * SETTLE < plant.clock() - began < 2.5 * SETTLE
                plant.member.alerts = [] if is_gone else [second]

        plant.clock.forward = forward
        result = self.repair(plant)
        assert plant.calls == [("clean", {"mount": "/data"}), ("clean", {"mount": "/var"})]
        assert result["outcome"] == "repaired"

    def test_people_are_notified_of_one_that_was_gone_for_a_moment(self, plant):
        """Without a runbook it goes to a crew, once it is back."""
        first, second = alert()["labels"], alert({"alertname": "Other"})["labels"]
        plant.member.alerts = [first, second]
        plant.api.effects["ops.clean"] = lambda parameters: plant.member.alerts.remove(first)
        began = plant.clock()

        def forward(seconds, inner=plant.clock.forward):
            inner(seconds)
            if plant.calls:
                is_gone = 1.5 * SETTLE < plant.clock() - began < 2.5 * SETTLE
                plant.member.alerts = [] if is_gone else [second]

        plant.clock.forward = forward
        env = plant.configure(runbook(step("clean")), alertmanager=True, prometheus=None)
        result = plant.run(env, group(notification(first), notification(second)), timeout=3600)
        assert [notice["subject"] for _, notice in plant.infra.notices] == ["on-call"]
        assert (result["outcome"], result["resolved"]) == ("repairs_assigned", [])

    def test_the_next_crew_follows_one_that_did_not_help_with_another_alert(self, plant):
        first, second = alert()["labels"], alert({"alertname": "Other"})["labels"]
        plant.member.alerts = [first, second]
        plant.api.effects["ops.clean"] = lambda parameters: plant.member.alerts.remove(first)
        plant.api.effects["ops.grow"] = lambda parameters: plant.member.alerts.remove(second)
        robots = [{"name": name, "action": "ops." + name, "approval": "none"}
                  for name in ("restart", "grow")]
        env = plant.configure(
            runbook(step("clean")), alertmanager=True, prometheus=None, crews=robots)
        result = plant.run(env, group(notification(first), notification(second)), timeout=3600)
        assert [name for name, _ in plant.calls] == ["clean", "restart", "grow"]
        assert (result["outcome"], result["resolved"]) == ("repaired", ["web-1"])

    def test_one_that_stays_away_is_left_alone(self, plant):
        plant.member.alerts = [alert()["labels"], alert({"mountpoint": "/var"})["labels"]]
        plant.api.effects["ops.clean"] = lambda parameters: plant.member.alerts.clear()
        began = plant.clock()
        result = self.repair(plant)
        assert plant.calls == [("clean", {"mount": "/data"})]
        assert (result["outcome"], result["resolved"]) == ("repaired", ["web-1"])
        # The first is gone at the first look, the second when its turn comes.
        assert plant.clock() - began >= 3 * SETTLE


def test_a_ticket_names_what_is_not_repaired(plant):
    env = plant.configure(runbook(step("clean", check=CHECK)))
    result = plant.run(env, alert())
    assert result["outcome"] == "not_repaired"
    assert tickets.get(env.store, result["ticket"])["subject"] == "web-1"
