"""The steps of runbooks in a run: their order, retries, approvals, and several alerts at once."""
import json

import pytest

from synthralos.infrastructure import detection
from synthralos.storage import inquiries, tickets

from .runbook_plant import (
    CHECK,
    SETTLE,
    Plant,
    alert,
    group,
    runbook,
    statuses,
    step,
)
from .test_infrastructure_repair import Run

MOUNT = {"mount": {"label": "mountpoint", "pattern": "/[a-z]+"}}
HERE = {"instance": "web-1:9100", "mountpoint": "/data"}


@pytest.fixture
def plant(infra, clock, monkeypatch):
    monkeypatch.setattr(detection, "RETRY_DELAY_SECONDS", 0)
    return Plant(infra, clock)


def checked(name, action=None, **more):
    return step(name, action, **dict({"check": CHECK}, **more))


class TestOrder:
    def test_the_next_step_follows_a_check_that_shows_no_repair(self, plant):
        plant.api.effects["ops.grow"] = lambda parameters: plant.heals(HERE)
        env = plant.configure(runbook(checked("clean", parameters=MOUNT), checked("grow")))
        result = plant.run(env, alert())
        assert plant.calls == [("clean", {"mount": "/data"}), ("grow", {})]
        assert (result["outcome"], result["success"]) == ("repaired", True)
        assert result["resolved"] == ["web-1"] and result["ticket"] is None
        assert statuses(result) == [("web-1", "disk_full/grow", "repaired")]
        assert result["checks"][0]["sources"] == ["step_check"]

    def test_the_first_step_that_helps_is_the_last(self, plant):
        plant.api.effects["ops.clean"] = lambda parameters: plant.heals(HERE)
        result = plant.run(plant.configure(runbook(checked("clean"), checked("grow"))), alert())
        assert plant.calls == [("clean", {})] and result["outcome"] == "repaired"

    def test_an_action_that_fails_is_run_again_and_then_the_next(self, plant):
        plant.api.ends["ops.clean"] = ["failed", "timeout", "failed"]
        plant.api.effects["ops.grow"] = lambda parameters: plant.heals(HERE)
        env = plant.configure(runbook(checked("clean", retries=2), checked("grow")))
        result = plant.run(env, alert())
        assert [name for name, _ in plant.calls] == ["clean"] * 3 + ["grow"]
        assert result["outcome"] == "repaired"
        assert [entry["status"] for entry in result["assignments"]] == ["Failed"] * 3 + ["Assigned"]

    def test_a_retry_that_works_is_the_last(self, plant):
        plant.api.ends["ops.clean"] = ["failed", "succeeded"]
        plant.api.effects["ops.clean"] = lambda parameters: plant.heals(HERE)
        env = plant.configure(runbook(checked("clean", retries=5), checked("grow")))
        assert plant.run(env, alert())["outcome"] == "repaired"
        assert [name for name, _ in plant.calls] == ["clean"] * 2

    def test_an_action_that_does_not_exist_is_no_reason_to_end(self, plant):
        plant.api.actions = ("ops.grow", "ops.clean")
        env = plant.configure(runbook(checked("clean"), checked("grow")))
        plant.api.actions = ("ops.grow",)
        plant.api.effects["ops.grow"] = lambda parameters: plant.heals(HERE)
        result = plant.run(env, alert())
        assert plant.calls == [("grow", {})] and result["outcome"] == "repaired"
        assert result["assignments"][0]["details"] == "ops.clean.action: does not exist"

    def test_a_pattern_before_a_shell_is_not_run(self, plant):
        plant.api.runner = "remote-shell-cmd"
        env = plant.configure(runbook(step("clean", parameters=MOUNT)))
        result = plant.run(env, alert())
        assert plant.calls == [] and result["next_task"] == "failed" and result["ticket"]
        assert "runs in a shell" in result["assignments"][0]["details"]

    def test_a_crew_of_people_is_the_last_resort(self, plant):
        env = plant.configure(runbook(checked("clean"), {"name": "ask", "crew": "on-call"}))
        result = plant.run(env, alert())
        assert [name for name, _ in plant.calls] == ["clean"]
        [(channel, notice)] = plant.infra.notices
        assert (channel, notice["subject"]) == ("webhook", "on-call")
        assert (result["outcome"], result["success"]) == ("repairs_assigned", True)

    def test_a_crew_that_is_an_action_gets_the_node(self, plant):
        crew = {"name": "robot", "action": "ops.robot", "approval": "none", "parameters": {"a": 1}}
        plant.api.effects["ops.robot"] = lambda parameters: plant.heals(HERE)
        env = plant.configure(
            runbook(checked("clean"), {"name": "robot", "crew": "robot", "check": CHECK}),
            crews=[crew],
        )
        result = plant.run(env, alert())
        assert plant.calls == [("clean", {}), ("robot", {"a": 1, "node": "web-1"})]
        assert result["outcome"] == "repaired"

    @pytest.mark.parametrize("more, starts", [
        ({}, False), ({"node_parameter": "hosts"}, False), ({"node_parameter": "unit"}, True),
    ], ids=["node", "hosts", "unit"])
    def test_a_crew_that_is_an_action_acts_on_nodes_of_the_topology_only(self, plant, more, starts):
        crew = dict({"name": "robot", "action": "ops.robot", "approval": "none"}, **more)
        env = plant.configure(runbook({"name": "robot", "crew": "robot"}), crews=[crew])
        result = plant.run(env, alert({"instance": "evil.example.com"}))
        assert bool(plant.calls) is starts
        if not starts:
            assert result["outcome"] == "repairs_incomplete" and result["ticket"]
            [unassigned] = result["plan"]["unassigned"]
            assert "robot.crew" in unassigned["reason"] and "topology" in unassigned["reason"]

    def test_a_parameter_of_the_runner_takes_no_label_that_it_cannot_hold(self, plant):
        plant.api.runner_parameters = {"python-script": {"timeout": {"type": "integer"}}}.get
        env = plant.configure(runbook(step("clean", parameters={"timeout": {"label": "seconds"}})))
        result = plant.run(env, alert({"seconds": "86400"}))
        assert plant.calls == []
        [entry] = result["assignments"]
        assert entry["status"] == "Failed" and "parameters.timeout" in entry["details"]

    def test_a_crew_that_is_not_available_is_passed_over(self, plant):
        crew = {"name": "robot", "action": "ops.robot", "approval": "none", "available": False}
        env = plant.configure(
            runbook({"name": "robot", "crew": "robot"}, checked("clean")), crews=[crew])
        plant.run(env, alert())
        assert [name for name, _ in plant.calls] == ["clean"]

    @pytest.mark.parametrize("count", [1, 10])
    def test_when_no_step_is_left_it_is_not_repaired(self, plant, count):
        """Ten steps take more transitions than max_steps allows by default."""
        steps = [checked("s%d" % n, "clean", retries=n % 2) for n in range(count)]
        env = plant.configure(runbook(*steps))
        result = plant.run(env, alert(), timeout=3600)
        assert len(plant.calls) == count
        assert (result["next_task"], result["outcome"]) == ("failed", "not_repaired")
        assert result["unassigned"] == ["web-1"] and result["resolved"] == []
        assert tickets.get(env.store, result["ticket"])["subject"] == "web-1"
        assert "no healthy result" in result["error"]["reason"]

    def test_retries_do_not_use_up_max_steps(self, plant):
        plant.api.ends["ops.clean"] = ["failed"]
        plant.api.effects["ops.grow"] = lambda parameters: plant.heals(HERE)
        env = plant.configure(runbook(checked("clean", retries=10), checked("grow")))
        assert plant.run(env, alert(), timeout=3600)["outcome"] == "repaired"
        assert len(plant.calls) == 12

    def test_an_action_that_never_succeeds_ends_with_a_ticket(self, plant):
        plant.api.ends["ops.clean"] = ["failed"]
        result = plant.run(plant.configure(runbook(step("clean", retries=1))), alert())
        assert len(plant.calls) == 2
        assert (result["next_task"], result["outcome"]) == ("failed", "repairs_incomplete")
        assert result["ticket"] and "no step of its runbook is left" in result["error"]["reason"]

    def test_an_alert_without_a_runbook_goes_to_a_crew(self, plant):
        env = plant.configure(runbook(step("clean")))
        result = plant.run(env, alert({"alertname": "Other"}))
        assert plant.calls == [] and len(plant.infra.notices) == 1
        assert result["outcome"] == "repairs_assigned"

    def test_nodes_that_are_listed_have_no_alert_and_so_no_runbook(self, plant):
        result = Run(plant.configure(runbook(step("clean"))), nodes=["web-1"]).end()
        assert plant.calls == [] and result["outcome"] == "repairs_assigned"

    def test_without_a_check_and_a_source_it_is_assigned(self, plant):
        result = plant.run(plant.configure(runbook(step("clean"), step("grow"))), alert())
        assert plant.calls == [("clean", {})]
        assert (result["outcome"], result["resolved"]) == ("repairs_assigned", [])

    def test_prometheus_that_does_not_respond_is_not_known(self, plant):
        def breaks(parameters):
            plant.heals(HERE)
            plant.prometheus.status = 503

        plant.api.effects["ops.clean"] = breaks
        result = plant.run(plant.configure(runbook(checked("clean"), checked("grow"))), alert())
        assert plant.calls == [("clean", {})] and result["ticket"]
        assert (result["next_task"], result["outcome"]) == ("failed", "repairs_unchecked")

    @pytest.mark.parametrize("settle", [0, 5, 300])
    def test_a_step_has_a_settle_time_of_its_own(self, plant, settle):
        plant.api.effects["ops.clean"] = lambda parameters: plant.heals(HERE)
        began = plant.clock()
        env = plant.configure(runbook(checked("clean", settle_seconds=settle)))
        assert plant.run(env, alert(), timeout=3600)["outcome"] == "repaired"
        assert settle <= plant.clock() - began < settle + SETTLE

    def test_a_flap_is_no_repair(self, plant):
        plant.api.effects["ops.clean"] = lambda parameters: plant.heals(
            HERE, lambda seconds: not 20 < seconds < 30)
        result = plant.run(plant.configure(runbook(checked("clean"))), alert())
        assert result["outcome"] == "not_repaired" and result["ticket"]
        assert "failed again" in result["checks"][0]["reason"]


class TestParameters:
    @pytest.mark.parametrize("labels", [
        {"instance": "evil.example.com"}, {"instance": "web-1,evil"}, {"mountpoint": "$(reboot)"},
        {"mountpoint": "{{ st2kv.system.x }}"}, {"mountpoint": None},
    ])
    def test_one_bad_label_of_the_second_step_starts_nothing(self, plant, labels):
        second = step("grow", parameters=dict(MOUNT, hosts={"label": "instance"}))
        env = plant.configure(runbook(step("clean"), second))
        result = plant.run(env, alert(labels))
        assert plant.calls == [] and plant.infra.notices == []
        assert (result["next_task"], result["outcome"]) == ("failed", "repairs_incomplete")
        assert result["error"]["reason"].startswith("grow.parameters.")
        text = json.dumps(result)
        assert "reboot" not in text and "st2kv" not in text
        assert tickets.get(env.store, result["ticket"])

    def test_a_dry_run_shows_the_action_and_its_parameters(self, plant):
        secret = step("clean", parameters=dict(
            MOUNT, hosts={"label": "instance"}, cmd="echo {{ x }}", deep={"a": ["<% y %>"]}))
        result = plant.run(plant.configure(runbook(secret)), alert(), dry_run=True)
        assert plant.calls == [] and result["outcome"] == "planned"
        [planned] = result["plan"]["assignments"]
        assert (planned["action"], planned["runbook"], planned["step"]) == (
            "ops.clean", "disk_full", "clean")
        assert planned["parameters"]["mount"] == "/data"
        assert planned["parameters"]["hosts"] == "web-1"
        text = json.dumps(planned)
        assert "echo" in text and "{{" not in text and "<%" not in text

    def test_secrets_of_the_configuration_are_not_shown(self, plant):
        prometheus = {"base_url": "http://prometheus.example.com", "token": "s3cr3t-token"}
        env = plant.configure(
            runbook(step("clean", parameters={"a": "x s3cr3t-token", "password": "hunter2"})),
            prometheus=prometheus,
        )
        result = plant.run(env, alert(), dry_run=True)
        text = json.dumps(result)
        assert "s3cr3t-token" not in text and "hunter2" not in text


class TestApproval:
    def asking(self, plant, *steps, **more):
        env = plant.configure(runbook(*steps), **more)
        return Run(env, alert=alert()).to("ask")

    def answer(self, run, approved):
        run.env.api.response = None if approved is None else {"approved": approved}
        run.last["next_task"] = "execute"
        return run

    def test_a_person_sees_what_would_run_where_and_with_what(self, plant):
        run = self.asking(plant, step("clean", parameters=MOUNT, approval="required"))
        assert plant.calls == []
        assert run.last["asking"] == [{
            "node": "web-1", "crew": "disk_full/clean", "runbook": "disk_full", "step": "clean",
            "action": "ops.clean", "parameters": {"mount": "/data"},
        }]
        stored = inquiries.get_inquiry(run.env.store, run.case["run"])
        assert stored == {
            "until": None, "question": "web-1: ops.clean (disk_full/clean) with mount=/data",
        }
        result = self.answer(run, True).end()
        assert plant.calls == [("clean", {"mount": "/data"})]
        assert result["outcome"] == "repairs_assigned"

    def test_the_question_is_sanitized(self, plant):
        parameters = {"a": "{{ x }}", "b": "<% y %>\n\u202e", "password": "hunter2"}
        run = self.asking(plant, step("clean", parameters=parameters, approval="required"))
        question = inquiries.get_inquiry(run.env.store, run.case["run"])["question"]
        assert "ops.clean" in question and "\n" not in question
        for hostile in ("{{", "<%", "\u202e", "hunter2"):
            assert hostile not in question and hostile not in json.dumps(run.last["asking"])

    def test_the_question_names_the_action_of_a_crew(self, plant):
        crew = {"name": "robot", "action": "ops.robot", "parameters": {"hard": True}}
        run = self.asking(plant, {"name": "ask", "crew": "robot"}, crews=[crew])
        assert inquiries.get_inquiry(run.env.store, run.case["run"])["question"] == (
            "web-1: ops.robot (robot) with hard=True, node=web-1")

    def test_a_refusal_starts_nothing(self, plant):
        run = self.asking(plant, step("clean", approval="required"), step("grow"))
        result = self.answer(run, False).end()
        assert plant.calls == [] and result["outcome"] == "refused"

    def test_a_refusal_of_the_second_step_asks_no_more(self, plant):
        steps = checked("clean"), step("grow", approval="required"), step("restart")
        run = self.asking(plant, *steps)
        result = self.answer(run, False).end()
        assert [name for name, _ in plant.calls] == ["clean"]
        assert result["outcome"] == "not_repaired" and result["ticket"]

    def test_no_answer_starts_nothing(self, plant):
        run = self.asking(plant, step("clean", approval="required"))
        result = self.answer(run, None).end()
        assert plant.calls == [] and result["outcome"] == "not_answered" and result["ticket"]

    def test_what_is_over_when_the_answer_comes_is_left_alone(self, plant):
        run = self.asking(plant, checked("clean", approval="required"))
        plant.heals(HERE)
        plant.clock.forward(3600)
        result = self.answer(run, True).end()
        assert plant.calls == [] and (result["outcome"], result["resolved"]) == (
            "healthy", ["web-1"])

    @pytest.mark.parametrize("change", [
        {"parameters": {"mount": "/other"}}, {"action": "ops.grow"},
        {"parameters": {"x": "a" * 2000}},
    ], ids=["parameters", "action", "a long one"])
    def test_what_has_changed_since_it_was_approved_is_asked_again(self, plant, change):
        first = step("clean", parameters={"x": "a" * 1500}, approval="required")
        run = self.asking(plant, first)
        plant.configure(runbook(dict(first, **change)))
        run.env = plant.infra.env
        self.answer(run, True).to("ask")
        assert plant.calls == [] and "runbooks_changed" in run.labels
        result = self.answer(run, True).end()
        [(action, parameters)] = plant.api.started
        assert action == change.get("action", "ops.clean")
        assert parameters == change.get("parameters", first["parameters"])
        assert result["outcome"] == "repairs_assigned"

    def test_what_needs_an_approval_since_it_was_planned_is_not_run_without(self, plant):
        run = Run(plant.configure(runbook(step("clean"))), alert=alert()).to("execute")
        plant.configure(runbook(step("clean", approval="required")))
        run.env = plant.infra.env
        run.to("ask")
        assert plant.calls == []

    def test_a_runbook_that_is_gone_gives_way_to_a_crew(self, plant):
        run = Run(plant.configure(runbook(step("clean"))), alert=alert()).to("execute")
        plant.configure()
        run.env = plant.infra.env
        result = run.end()
        assert plant.calls == [] and len(plant.infra.notices) == 1
        assert result["outcome"] == "repairs_assigned"

    def test_a_change_elsewhere_is_none(self, plant):
        first = step("clean", approval="required")
        run = self.asking(plant, first)
        plant.configure(runbook(first), runbook(step("grow"), name="o", alertname="O"))
        run.env = plant.infra.env
        self.answer(run, True).end()
        assert [name for name, _ in plant.calls] == ["clean"]


class TestSeveralAlerts:
    """Of one node, in one notification."""

    MOUNTED = {"mount": {"label": "mountpoint", "pattern": "/[a-z]+"}}

    def two(self, *more_alerts):
        return group(alert(), alert({"mountpoint": "/var"}), *more_alerts)

    def test_two_mountpoints_are_cleaned_one_after_the_other(self, plant):
        plant.api.effects["ops.clean"] = lambda parameters: plant.heals(
            dict(HERE, mountpoint=parameters["mount"]))
        env = plant.configure(runbook(checked("clean", parameters=self.MOUNTED), checked("grow")))
        result = plant.run(env, self.two())
        assert plant.calls == [("clean", {"mount": "/data"}), ("clean", {"mount": "/var"})]
        assert statuses(result) == [
            ("web-1", "disk_full/clean", "repaired"), ("web-1", "disk_full/clean/2", "repaired")]
        assert (result["outcome"], result["resolved"]) == ("repaired", ["web-1"])

    def test_one_of_two_that_cannot_be_repaired(self, plant):
        plant.api.effects["ops.clean"] = lambda parameters: (
            parameters["mount"] == "/var" and plant.heals(dict(HERE, mountpoint="/var")))
        env = plant.configure(runbook(checked("clean", parameters=self.MOUNTED), checked("grow")))
        result = plant.run(env, self.two())
        assert plant.calls == [
            ("clean", {"mount": "/data"}), ("grow", {}), ("clean", {"mount": "/var"})]
        assert result["outcome"] == "not_repaired" and result["ticket"]
        assert result["resolved"] == [] and result["unassigned"] == ["web-1"]
        assert [status for _, _, status in statuses(result)] == ["not_repaired", "repaired"]

    def test_what_the_first_repair_has_repaired_too_is_left_alone(self, plant):
        def clean(parameters):
            for mount in ("/data", "/var"):
                plant.heals(dict(HERE, mountpoint=mount))

        plant.api.effects["ops.clean"] = clean
        env = plant.configure(runbook(checked("clean", parameters=self.MOUNTED)))
        result = plant.run(env, self.two())
        assert plant.calls == [("clean", {"mount": "/data"})]
        assert (result["outcome"], result["resolved"]) == ("repaired", ["web-1"])

    def test_two_runbooks_without_any_check(self, plant):
        env = plant.configure(
            runbook(step("clean", parameters=self.MOUNTED)),
            runbook(step("restart", parameters={"hosts": {"label": "instance"}}), name="down",
                    alertname="Down"),
        )
        result = plant.run(env, group(alert(), alert({"alertname": "Down"})))
        assert plant.calls == [("clean", {"mount": "/data"}), ("restart", {"hosts": "web-1"})]
        assert result["outcome"] == "repairs_assigned"

    def test_each_looks_at_its_own_alert_in_alertmanager(self, plant):
        first, second = alert(), alert({"alertname": "Down"})
        plant.member.alerts = [first["labels"], second["labels"]]
        plant.api.effects.update({
            "ops.clean": lambda parameters: plant.member.alerts.remove(first["labels"]),
            "ops.restart": lambda parameters: plant.member.alerts.remove(second["labels"]),
        })
        env = plant.configure(
            runbook(step("clean"), step("grow")),
            runbook(step("restart"), name="down", alertname="Down"),
            alertmanager=True, prometheus=None,
        )
        result = plant.run(env, group(first, second))
        assert [name for name, _ in plant.calls] == ["clean", "restart"]
        assert (result["outcome"], result["resolved"]) == ("repaired", ["web-1"])

    def test_an_alert_without_a_runbook_goes_to_a_crew_afterwards(self, plant):
        plant.api.effects["ops.clean"] = lambda parameters: plant.heals(HERE)
        env = plant.configure(runbook(checked("clean")))
        result = plant.run(env, group(alert({"alertname": "Other"}), alert()))
        assert [name for name, _ in plant.calls] == ["clean"]
        assert len(plant.infra.notices) == 1
        assert (result["outcome"], result["resolved"]) == ("repairs_assigned", [])

    def test_unless_it_is_gone_by_then(self, plant):
        other, own = alert({"alertname": "Other"}), alert()
        plant.member.alerts = [other["labels"], own["labels"]]
        plant.api.effects["ops.clean"] = lambda parameters: plant.member.alerts.clear()
        env = plant.configure(runbook(step("clean")), alertmanager=True, prometheus=None)
        result = plant.run(env, group(other, own))
        assert [name for name, _ in plant.calls] == ["clean"] and plant.infra.notices == []
        assert (result["outcome"], result["resolved"]) == ("repaired", ["web-1"])

    def test_a_bad_label_of_the_second_alert_does_not_undo_the_first(self, plant):
        plant.api.effects["ops.clean"] = lambda parameters: plant.heals(HERE)
        env = plant.configure(runbook(checked("clean", parameters=self.MOUNTED)))
        result = plant.run(env, group(alert(), alert({"mountpoint": "$(x)"})))
        assert plant.calls == [("clean", {"mount": "/data"})]
        assert result["outcome"] == "repairs_incomplete" and result["ticket"]
        assert "clean.parameters.mount" in result["error"]["reason"]

    def test_nodes_are_repaired_side_by_side(self, plant):
        plant.api.effects["ops.clean"] = lambda parameters: plant.heals(
            {"instance": parameters["hosts"] + ":9100", "mountpoint": "/data"})
        parameters = {"hosts": {"label": "instance"}}
        env = plant.configure(runbook(checked("clean", parameters=parameters)))
        began = plant.clock()
        result = plant.run(env, group(alert(), alert({"instance": "web-2:9100"})))
        assert [parameters["hosts"] for _, parameters in plant.calls] == ["web-1", "web-2"]
        assert result["resolved"] == ["web-1", "web-2"] and plant.clock() - began < 2 * SETTLE

    def test_many_alerts_end_within_the_bounds(self, plant):
        mounts = ["/" + letter * 3 for letter in "abcdefghij"]
        plant.api.effects["ops.grow"] = lambda parameters: plant.heals(
            dict(HERE, mountpoint=parameters["mount"]))
        env = plant.configure(runbook(
            checked("clean", parameters=self.MOUNTED), checked("grow", parameters=self.MOUNTED)))
        alerts = [alert({"mountpoint": mount}) for mount in mounts]
        result = plant.run(env, group(*alerts), timeout=3600)
        assert result["outcome"] == "repaired" and len(plant.calls) == 2 * len(mounts)

    def test_resolved_alerts_of_the_group_start_nothing(self, plant):
        env = plant.configure(runbook(step("clean", parameters=self.MOUNTED)))
        plant.run(env, group(alert(status="resolved"), alert({"mountpoint": "/var"})))
        assert plant.calls == [("clean", {"mount": "/var"})]
