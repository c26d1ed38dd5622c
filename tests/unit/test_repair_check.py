"""A repair is checked, not claimed: what the sources must show, and for how long."""
import json

import pytest

from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import detection
from synthralos.infrastructure.promql import opposite_of
from synthralos.storage import tickets

from .monitoring import Member, Monitoring, PrometheusState
from .test_infrastructure_repair import Inquiries, Run

SETTLE = 60
PROMETHEUS_URL = "http://prometheus.example.com"
FIRST, SECOND = "http://am-1.example.com", "http://am-2.example.com"
HOSTILE = {"alertname": "QueueGrowing", "instance": "db", "queue": "gum,latency",
           "path": 'C:\\t "x"\nnext', "expr": "a|b.*"}
DOWN = {"alertname": "NodeDown", "instance": "db"}


class Actions(Inquiries):
    """StackStorm, in which every action succeeds.

    :ivar effects: {action: callable (node)}, what it does besides.
    """

    def __init__(self):
        super().__init__(actions=("ops.first", "ops.second", "ops.third"))
        self.effects = {}

    def start(self, action, parameters):
        self.effects.get(action, lambda node: None)(parameters["node"])
        return super().start(action, parameters)

    def wait(self, execution_id, seconds, sleep=None):
        return {"id": execution_id, "status": "succeeded"}

    @property
    def crews(self):
        return [action.replace("ops.", "") for action, _ in self.started]


class Plant:
    """Nodes, their monitoring, and crews that are actions, in this order.

    :ivar up_since: {node: when it is healthy, as a callable of the time}.
    """

    def __init__(self, infra, clock):
        self.infra, self.clock, self.api = infra, clock, Actions()
        self.prometheus = PrometheusState(clock)
        self.members = {FIRST: Member(clock), SECOND: Member(clock)}

    def configure(self, sources=("prometheus",), names=("first", "second"), urls=(FIRST,), **more):
        crews = [{"name": n, "action": "ops." + n, "approval": "none"} for n in names]
        infrastructure = {
            "crews": crews, "allowed_actions": ["ops." + n for n in names], "topology": [],
            "settle_seconds": SETTLE,
            "prometheus": {"base_url": PROMETHEUS_URL} if "prometheus" in sources else None,
        }
        infrastructure.update(more)
        sensors = {"alertmanager": {"urls": list(urls)}} if "alertmanager" in sources else {}
        env = self.infra.configure(infrastructure, api=self.api, sensors=sensors)
        env.client = Monitoring(dict(self.members, **{PROMETHEUS_URL: self.prometheus}))
        return env

    def run(self, env, **parameters):
        return Run(env, **dict({"max_steps": 50}, **parameters)).end()

    def goes_up(self, node, then=lambda seconds: 1):
        """Let the node be in the state `then(seconds since now)`, from now on."""
        began, before = self.clock(), self.prometheus.states[node]
        self.prometheus.states[node] = lambda at: before(at) if at < began else then(at - began)


@pytest.fixture
def plant(infra, clock, monkeypatch):
    monkeypatch.setattr(detection, "RETRY_DELAY_SECONDS", 0)
    new_plant = Plant(infra, clock)
    new_plant.prometheus.states["db"] = lambda at: 0
    return new_plant


def statuses(result):
    return {check["node"]: check["status"] for check in result["checks"]}


def labels(result):
    return [step["action"] for step in result["step_history"]]


class TestPrometheus:
    def test_a_crew_that_does_nothing_gives_way_to_the_next(self, plant):
        plant.api.effects["ops.second"] = plant.goes_up
        result = plant.run(plant.configure())
        assert plant.api.crews == ["first", "second"]
        assert (result["outcome"], result["success"]) == ("repaired", True)
        assert result["resolved"] == ["db"] and result["ticket"] is None
        assert "repairs_failed" in labels(result)

    def test_when_no_crew_is_left_it_is_not_repaired(self, plant):
        env = plant.configure()
        result = plant.run(env)
        assert plant.api.crews == ["first", "second"]
        assert (result["next_task"], result["outcome"]) == ("failed", "not_repaired")
        assert result["unassigned"] == ["db"] and statuses(result) == {"db": "not_repaired"}
        ticket = tickets.get(env.store, result["ticket"])
        assert ticket["subject"] == "db"
        assert "shows it as failed" in result["error"]["reason"]

    def test_max_retries_bounds_the_further_crews(self, plant):
        env = plant.configure(names=("first", "second", "third"))
        result = plant.run(env, max_retries=1)
        assert plant.api.crews == ["first", "second"] and result["outcome"] == "not_repaired"

    def test_max_steps_leaves_no_claim(self, plant):
        result = plant.run(plant.configure(), max_steps=6)
        assert result["outcome"] == "max_steps_reached" and result["ticket"]

    def test_a_series_that_vanishes_proves_nothing(self, plant):
        plant.api.effects["ops.first"] = lambda node: plant.goes_up(node, lambda seconds: None)
        result = plant.run(plant.configure(names=("first",)))
        assert result["outcome"] == "not_repaired" and result["ticket"]
        assert "no sample" in result["checks"][0]["reason"] and result["resolved"] == []

    @pytest.mark.parametrize("state", [
        lambda seconds: 0 if 20 < seconds < 30 else 1,
        lambda seconds: int(seconds // 20 % 2 == 0),
    ], ids=["once", "again and again"])
    def test_flapping_is_not_repaired(self, plant, state):
        plant.api.effects["ops.first"] = lambda node: plant.goes_up(node, state)
        result = plant.run(plant.configure(names=("first",)))
        assert result["outcome"] == "not_repaired" and result["ticket"]
        assert "failed again" in result["checks"][0]["reason"]

    def test_it_must_be_healthy_for_the_whole_time(self, plant):
        """Prometheus sees the repair late; the check waits until it has held."""
        plant.api.effects["ops.first"] = lambda node: plant.goes_up(
            node, lambda seconds: int(seconds >= 45)
        )
        began = plant.clock()
        result = plant.run(plant.configure(names=("first",)))
        assert result["outcome"] == "repaired" and "repairs_pending" in labels(result)
        assert plant.clock() - began >= 45 + SETTLE

    def test_it_fails_late(self, plant):
        plant.api.effects["ops.first"] = lambda node: plant.goes_up(
            node, lambda seconds: int(45 <= seconds < 70)
        )
        result = plant.run(plant.configure(names=("first",)))
        assert result["outcome"] == "not_repaired"

    @pytest.mark.parametrize("status", ["network", "timeout", 400, 503])
    def test_no_response_is_not_known(self, plant, status):
        def breaks(node):
            plant.goes_up(node)
            plant.prometheus.status = status

        plant.api.effects["ops.first"] = breaks
        began = plant.clock()
        result = plant.run(plant.configure())
        assert plant.api.crews == ["first"]
        assert (result["next_task"], result["outcome"]) == ("failed", "repairs_unchecked")
        assert result["ticket"] and statuses(result) == {"db": "unchecked"}
        # It is asked again until the run's time is up, at growing intervals.
        assert 500 <= plant.clock() - began <= 600
        assert 3 <= labels(result).count("repairs_pending") <= 15

    def test_it_responds_again(self, plant):
        def breaks(node):
            plant.goes_up(node)
            plant.prometheus.status = 503

        env = plant.configure()
        plant.api.effects["ops.first"] = breaks
        run = Run(env).to("reschedule")
        for _ in range(3):
            assert run.step()["next_task"] == "reschedule"
        plant.prometheus.status = 200
        assert run.end()["outcome"] == "repaired"

    def test_too_little_time_for_a_check_is_no_repair(self, plant):
        plant.api.effects["ops.first"] = plant.goes_up
        result = plant.run(plant.configure(), timeout=60)
        assert result["outcome"] == "repairs_unchecked" and plant.api.crews == ["first"]

    def test_people_keep_the_node(self, plant):
        people = [{"name": "a", "channels": ["webhook"]}, {"name": "b", "channels": ["webhook"]}]
        env = plant.configure(crews=people, allowed_actions=[])
        result = plant.run(env)
        assert (result["outcome"], result["success"]) == ("repairs_assigned", True)
        assert len(plant.infra.notices) == 1 and result["ticket"] is None

    def test_people_are_next_after_an_action(self, plant):
        crews = [{"name": "first", "action": "ops.first", "approval": "none"},
                 {"name": "people", "channels": ["webhook"], "skills": ["more"]}]
        result = plant.run(plant.configure(crews=crews))
        assert [entry["crew"] for entry in result["assignments"]] == ["first", "people"]
        assert result["outcome"] == "repairs_assigned" and len(plant.infra.notices) == 1

    def test_one_node_of_two(self, plant):
        plant.prometheus.states["web"] = lambda at: 0
        plant.api.effects["ops.first"] = lambda node: node == "db" and plant.goes_up(node)
        plant.api.effects["ops.second"] = plant.api.effects["ops.first"]
        result = plant.run(plant.configure())
        assert result["outcome"] == "not_repaired" and result["unassigned"] == ["web"]
        assert statuses(result) == {"db": "repaired", "web": "not_repaired"}
        assert sorted(node["node"] for _, node in plant.api.started) == ["db", "web", "web"]

    def test_a_node_that_prometheus_never_showed_cannot_be_checked_there(self, plant):
        plant.prometheus.states["db"] = lambda at: 1
        result = plant.run(plant.configure(), nodes=["db"])
        assert result["outcome"] == "repairs_assigned" and result["resolved"] == []

    def test_a_listed_node_that_prometheus_shows_as_failed_is_checked(self, plant):
        result = plant.run(plant.configure(), nodes=["db"])
        assert result["outcome"] == "not_repaired"

    def test_a_query_without_an_opposite_needs_a_check(self, plant):
        plant.prometheus.states["db"] = lambda at: 0
        query = "(up == 0) or vector(0)"
        prometheus = {"base_url": PROMETHEUS_URL, "query": query}
        plant.prometheus.aliases = {query: "up == 0"}
        plant.api.effects["ops.first"] = plant.goes_up
        result = plant.run(plant.configure(prometheus=prometheus))
        assert result["outcome"] == "repairs_assigned"
        plant.prometheus.states["db"] = lambda at: 0
        prometheus["check"] = "healthy"
        result = plant.run(plant.configure(names=("first",), prometheus=prometheus))
        assert result["outcome"] == "repaired" and plant.api.crews == ["first", "first"]

    def test_a_second_crew_that_a_person_refuses(self, plant):
        plant.api.response = {"approved": False}
        crews = [{"name": "first", "action": "ops.first", "approval": "none"},
                 {"name": "second", "action": "ops.second", "skills": ["more"]}]
        env = plant.configure(crews=crews, allowed_actions=["ops.first", "ops.second"])
        run = Run(env, max_steps=50).to("ask")
        run.last["next_task"] = "execute"
        result = run.end()
        assert result["outcome"] == "not_repaired" and plant.api.crews == ["first"]
        assert result["ticket"] and result["unassigned"] == ["db"]


class TestAlertmanager:
    @pytest.fixture
    def repair(self, plant):
        """repair(alert, **configuration): the run of an alert that both members list."""

        def start(alert=None, labels=DOWN, then=lambda: None, crews=("first",), **more):
            for member in plant.members.values():
                member.alerts = [labels]
            plant.api.effects["ops.first"] = lambda node: then()
            env = plant.configure(("alertmanager",), crews, (FIRST, SECOND), **more)
            return plant.run(env, alert=alert or payload(labels))

        return start

    @staticmethod
    def ends(plant):
        for member in plant.members.values():
            member.alerts = []

    def test_the_alert_is_gone(self, plant, repair):
        began = plant.clock()
        result = repair(then=lambda: self.ends(plant))
        assert result["outcome"] == "repaired" and result["resolved"] == ["db"]
        # It was gone twice, `settle_seconds` apart.
        assert plant.clock() - began >= 2 * SETTLE

    def test_the_alert_still_fires(self, plant, repair):
        result = repair(crews=("first", "second"))
        assert plant.api.crews == ["first", "second"]
        assert result["outcome"] == "not_repaired" and result["ticket"]

    def test_a_silenced_alert_is_not_gone(self, plant, repair):
        def silence():
            for member in plant.members.values():
                member.silenced = True

        assert repair(then=silence)["outcome"] == "not_repaired"

    def test_one_member_still_lists_it(self, plant, repair):
        result = repair(then=lambda: plant.members[FIRST].alerts.clear())
        assert result["outcome"] == "not_repaired"

    def test_it_fires_again(self, plant, repair):
        def then():
            self.ends(plant)
            forward, start = plant.clock.forward, plant.clock()

            def returning(seconds):
                forward(seconds)
                if plant.clock() - start > SETTLE + 5:
                    plant.members[SECOND].alerts = [DOWN]

            plant.clock.forward = returning

        result = repair(then=then)
        assert result["outcome"] == "not_repaired"
        assert "fires again" in result["checks"][0]["reason"]

    @pytest.mark.parametrize("fresh", [(FIRST, SECOND), (SECOND,)], ids=["both", "one of two"])
    def test_an_empty_list_after_a_restart_proves_nothing(self, plant, repair, fresh):
        """The alert is back once Prometheus has sent it again."""
        def restart():
            for url in fresh:
                plant.members[url].restart()
            for url in (FIRST, SECOND):
                plant.members[url].alerts = []
            forward, start = plant.clock.forward, plant.clock()

            def returning(seconds):
                forward(seconds)
                if plant.clock() - start > 2 * SETTLE:
                    plant.members[SECOND].alerts = [DOWN]

            plant.clock.forward = returning

        result = repair(then=restart)
        assert result["outcome"] == "not_repaired" and "repairs_pending" in labels(result)

    def test_a_restarted_member_is_believed_later(self, plant, repair):
        def restart():
            self.ends(plant)
            plant.members[FIRST].restart()

        began = plant.clock()
        result = repair(then=restart)
        assert result["outcome"] == "repaired"
        assert plant.clock() - began >= 180 + SETTLE

    @pytest.mark.parametrize("status", ["network", 400, 401, 404, 503])
    def test_a_member_that_does_not_respond_is_no_witness(self, plant, repair, status):
        def breaks():
            self.ends(plant)
            plant.members[SECOND].status = status

        result = repair(then=breaks, crews=("first", "second"))
        assert result["outcome"] == "repairs_unchecked" and result["ticket"]
        assert plant.api.crews == ["first"]
        assert "1 of 2 Alertmanagers" in result["error"]["reason"]

    def test_a_firing_alert_counts_while_another_member_is_away(self, plant, repair):
        def breaks():
            plant.members[SECOND].status = 503

        assert repair(then=breaks)["outcome"] == "not_repaired"

    @pytest.mark.parametrize("gone", [True, False])
    @pytest.mark.parametrize("with_fingerprint", [True, False])
    def test_labels_with_commas_quotes_and_backslashes(
        self, plant, repair, gone, with_fingerprint
    ):
        def then():
            for member in plant.members.values():
                member.alerts = [dict(HOSTILE, queue="gum")]
                member.alerts += [] if gone else [HOSTILE]

        alert = payload(HOSTILE) if with_fingerprint else {"labels": HOSTILE}
        result = repair(alert, HOSTILE, then)
        assert result["outcome"] == ("repaired" if gone else "not_repaired")

    def test_an_alert_name_that_needs_quotes(self, plant, repair):
        hostile = dict(DOWN, alertname='a,b "c" \\ {d}')
        assert repair(labels=hostile)["outcome"] == "not_repaired"
        plant.api.started.clear()
        result = repair(labels=hostile, then=lambda: self.ends(plant))
        assert result["outcome"] == "repaired"

    def test_an_alert_that_alertmanager_never_listed_cannot_be_checked_there(self, repair):
        result = repair({"labels": {"alertname": "Other", "instance": "db"}})
        assert (result["outcome"], result["success"]) == ("repairs_assigned", True)

    def test_an_alert_of_grafana_is_not_in_alertmanager(self, repair):
        result = repair(dict(payload(DOWN), source="grafana"), then=lambda: None)
        assert result["outcome"] == "repairs_assigned"

    def test_two_alerts_of_one_notification(self, plant, repair):
        other = {"alertname": "NodeDown", "instance": "web"}

        def then():
            for member in plant.members.values():
                member.alerts = [other]

        alerts = [dict(payload(labels), startsAt="2024-01-01T00:00:00Z")
                  for labels in (DOWN, other)]
        result = repair({"version": "4", "alerts": alerts}, then=then)
        assert result["outcome"] == "not_repaired"
        assert statuses(result) == {"db": "repaired", "web": "not_repaired"}

    def test_prometheus_contradicts(self, plant):
        """The alert is gone because its exporter is: the node is down."""
        plant.prometheus.states["db"] = lambda at: 1
        for member in plant.members.values():
            member.alerts = [DOWN]

        def then(node):
            self.ends(plant)
            plant.prometheus.states["db"] = lambda at: 0

        plant.api.effects["ops.first"] = then
        env = plant.configure(("alertmanager", "prometheus"), ("first",))
        result = plant.run(env, alert=payload(DOWN))
        assert result["outcome"] == "not_repaired"

    def test_without_any_source_it_is_assigned(self, plant):
        result = plant.run(plant.configure(()), alert=payload(DOWN))
        assert (result["outcome"], result["success"]) == ("repairs_assigned", True)
        assert result["resolved"] == [] and result["ticket"] is None

    def test_an_invalid_configuration_is_named_before_anything_runs(self, plant):
        env = plant.configure()
        env.settings.sensors["alertmanager"] = {"url": FIRST, "timeout": -1}
        run = Run(env, alert=payload(DOWN))
        with pytest.raises(InvalidInput, match="sensors.alertmanager.timeout"):
            run.step()
        assert plant.api.started == []


def payload(labels):
    """What AlertmanagerSensor dispatches."""
    from synthralos.sensing import alert_payloads

    return {
        "source": "alertmanager", "fingerprint": alert_payloads.fingerprint(labels),
        "status": "firing", "starts_at": "2023-11-14T22:00:00Z", "ends_at": None,
        "labels": labels, "annotations": {}, "generator_url": None,
        "alertname": labels["alertname"], "extra": {},
    }


def test_a_case_stays_small_while_it_waits(plant):
    env = plant.configure()
    plant.api.effects["ops.first"] = lambda node: setattr(plant.prometheus, "status", 503)
    result = plant.run(env, timeout=3600)
    assert result["outcome"] == "repairs_unchecked"
    assert len(result["step_history"]) < 80 and len(json.dumps(result)) < 64_000


@pytest.mark.parametrize("query, expected", [
    ("up == 0", "up != 0"), ("up==0", "up != 0"), ("(up == 0)", "up != 0"),
    ('up{job="a == 0,b )\\""} == 0', 'up{job="a == 0,b )\\""} != 0'),
    ("sum by (instance) (rate(x[5m])) > 0.5", "sum by (instance) (rate(x[5m])) <= 0.5"),
    ("x < -1e-3", "x >= -1e-3"), ("a - b >= 10", "a - b < 10"),
    ("x offset 5m <= .5", "x offset 5m > .5"), ("x != 1", "x == 1"),
    ("up", None), ("0 == up", None), ("x < 5 or y > 2", None), ("a and b == 0", None),
    ("a unless b == 0", None), ("up == bool 0", None), ("x > on(a) y", None),
    ("a == 0 == 0", None), ("up == 0 # c", None), ("# c\nup == 0", None), ("x > NaN", None),
    ("absent(up)", None), ("(up == 0", None), ("x > 5m", None), ("", None), ("== 0", None),
])
def test_the_opposite_of_a_query(query, expected):
    assert opposite_of(query) == expected
