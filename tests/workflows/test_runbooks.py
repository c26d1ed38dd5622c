"""Runbooks on st2local: from a notification to the actions, one run after the other."""
import base64
import json
import threading

import pytest
from fixtures.monitoring_server import MonitoringServer
from fixtures.waiting import ENDED, PATIENCE_SECONDS, let_pass, until
from fixtures.workshop import Workshop

POD = {"alertname": "KubePodCrashLooping", "namespace": "shop", "pod": "web-7f9c"}
NOT_READY = dict(POD, alertname="KubePodNotReady")
WAITING = dict(POD, alertname="KubeContainerWaiting", container="web")
DEPLOYMENT = {"alertname": "KubeDeploymentReplicasMismatch", "namespace": "shop",
              "deployment": "web"}
FOUR = [POD, NOT_READY, WAITING, DEPLOYMENT]
DISK = {"alertname": "DiskFull", "instance": "web-1:9100", "mountpoint": "/data"}
MOUNT = {"mount": {"label": "mountpoint", "pattern": "/[a-z]{1,20}"},
         "hosts": {"label": "instance"}}


@pytest.fixture
def alertmanager():
    running = MonitoringServer()
    yield running
    running.close()


@pytest.fixture
def workshop(world, alertmanager):
    """The actions `first` and `second`, in a copy of the pack that asks this Alertmanager."""
    running = Workshop("first", "second")
    running.install(world.folder / "workshop")
    world.pack = world.folder / "workshop"
    # Long waits for a turn are shortened; a check that comes too early is repeated.
    world.delay = lambda seconds: let_pass(min(seconds, 1))
    world.config["automation"] = {"mode": "act"}
    world.config["sensors"] = {"alertmanager": {"url": alertmanager.url, "settle_seconds": 1}}
    world.config["infrastructure"].update(
        prometheus={}, settle_seconds=1, topology=[{"name": "web-1"}, {"name": "web-2"}],
        allowed_actions=running.actions, runbooks=[],
    )
    yield running
    running.close()


def runbook(labels, *steps, **more):
    return dict({
        "name": labels["alertname"], "match": {"alertname": labels["alertname"]},
        "steps": list(steps),
    }, **more)


def notification(*labels, starts="2026-11-29T01:00:00Z", status="firing"):
    alerts = [
        {"status": status, "labels": own, "annotations": {}, "startsAt": starts,
         "endsAt": "0001-01-01T00:00:00Z"} for own in labels
    ]
    return {"body": {
        "version": "4", "groupKey": "{}:{}", "status": status, "receiver": "st2",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://a",
        "truncatedAlerts": 0, "alerts": alerts,
    }}


@pytest.fixture
def receive(world):
    """receive(*labels) -> the entries of alert.receive."""

    def post(*labels, **more):
        run = world.local.run(
            "synthralos.alert.receive", {}, rule="synthralos.webhook_alertmanager",
            trigger_instance={"payload": notification(*labels, **more)},
        )
        assert run["status"] == "succeeded", run["result"]
        return run["result"]["result"]["alerts"]

    return post


def ended(world, run):
    until(lambda: world.local.execution(run)["status"] in ENDED, "%s has ended" % run)
    execution = world.local.execution(run)
    return execution["status"], (execution["result"] or {}).get("output") or {}


def labels_of(output):
    return [step["action"] for step in output["step_history"]]


def repairs(world):
    return world.local.executions(action="synthralos.infrastructure_repair", limit=100)


def calls_of(workshop):
    """[(name, parameters without the address)] of the actions, in the order of their start."""
    return [(call.name, call.parameters) for call in workshop.calls]


class TestFourAlertsOfOneWorkload:
    @pytest.fixture(autouse=True)
    def _runbooks(self, world, workshop, alertmanager):
        names = {"namespace": {"label": "namespace"}}
        world.config["infrastructure"]["runbooks"] = [
            runbook(POD, workshop.step("first", dict(names, pod={"label": "pod"}))),
            runbook(DEPLOYMENT, workshop.step(
                "second", dict(names, deployment={"label": "deployment"}))),
        ]
        alertmanager.alerts = list(FOUR)
        # How long the first action takes.
        self.may_end = threading.Event()
        workshop.repairs = {"first": self.repair(alertmanager, POD, NOT_READY, WAITING),
                            "second": self.repair(alertmanager, DEPLOYMENT)}

    def repair(self, alertmanager, *labels):
        def work():
            self.may_end.wait(PATIENCE_SECONDS)
            alertmanager.alerts = [own for own in alertmanager.alerts if own not in labels]

        return work

    def receive_four(self, world, workshop, receive):
        """The entries of the four alerts; the last run waits for the first, whose action runs."""
        entries = receive(*FOUR[:3])
        assert [entry["outcome"] for entry in entries] == ["started", "running", "running"]
        until(lambda: workshop.calls, "the first acts")
        [last] = receive(DEPLOYMENT)
        assert last["outcome"] == "started"
        until(lambda: world.local.executions(
            parent=last["run"], action="synthralos.assign_repair_crew", status="succeeded",
        ), "the last waits")
        return entries + [last]

    def test_the_second_runbook_begins_after_the_first_has_ended(self, world, workshop, receive):
        entries = self.receive_four(world, workshop, receive)
        self.may_end.set()
        outputs = [ended(world, entries[n]["run"]) for n in (0, 3)]
        assert [(status, output["outcome"]) for status, output in outputs] == [
            ("succeeded", "repaired")] * 2
        assert calls_of(workshop) == [
            ("first", {"namespace": "shop", "pod": "web-7f9c"}),
            ("second", {"namespace": "shop", "deployment": "web"}),
        ]
        assert "waiting_for_run" in labels_of(outputs[1][1])
        # The first has checked its repair by then, too.
        [task] = world.local.executions(parent=entries[0]["run"], action="synthralos.repair.finish")
        [acted] = world.local.executions(action="synthralos.repair_by_second")
        assert acted["start_timestamp"] >= task["start_timestamp"]

    def test_all_four_at_once_act_one_after_the_other(self, world, workshop, receive):
        self.may_end.set()
        for entry in receive(*FOUR):
            if entry["outcome"] == "started":
                assert ended(world, entry["run"])[1]["outcome"] == "repaired"
        first, second = workshop.calls
        assert {first.name, second.name} == {"first", "second"}
        assert second.began_at > first.ended_at

    def test_it_does_nothing_when_its_own_alert_is_gone(
        self, world, workshop, alertmanager, receive
    ):
        workshop.repairs["first"] = self.repair(alertmanager, *FOUR)
        entries = self.receive_four(world, workshop, receive)
        self.may_end.set()
        status, output = ended(world, entries[3]["run"])
        assert (status, output["outcome"], output["resolved"]) == (
            "succeeded", "healthy", ["shop/web"])
        assert "failures_over" in labels_of(output) and output["ticket"] is None
        assert [call.name for call in workshop.calls] == ["first"]

    @pytest.mark.parametrize("way", ["canceled", "killed"])
    def test_a_first_run_that_is_killed_locks_it_out_for_no_longer(
        self, world, workshop, alertmanager, receive, way
    ):
        workshop.repairs["second"] = lambda: alertmanager.alerts.remove(DEPLOYMENT)
        entries = self.receive_four(world, workshop, receive)
        first, last = entries[0]["run"], entries[3]["run"]
        try:
            if way == "canceled":
                # It ends when its task does.
                world.local.stop(world.local.live(first))
            else:
                [task] = world.local.executions(parent=first, status="running")
                world.local.live(task["id"]).run.kill()
                until(
                    lambda: world.local.execution(first)["status"] in ENDED, "the first has ended")
            # What it has started goes on to its end, and is waited for.
            polls = self.polls(world, last)
            until(lambda: self.polls(world, last) > polls + 1, "the last has looked twice")
            assert [call.name for call in workshop.calls] == ["first"]
        finally:
            self.may_end.set()
        status, output = ended(world, last)
        assert (status, output["outcome"]) == ("succeeded", "repaired")
        assert calls_of(workshop)[-1] == ("second", {"namespace": "shop", "deployment": "web"})
        earlier, later = workshop.calls
        assert later.began_at > earlier.ended_at

    def polls(self, world, run):
        return len(world.local.executions(
            parent=run, action="synthralos.assign_repair_crew", status="succeeded", limit=100))

    def test_what_comes_back_after_a_repair_is_a_person_s(
        self, world, workshop, alertmanager, receive
    ):
        workshop.repairs["first"] = lambda: alertmanager.alerts.clear()
        outcomes = []
        for minute in range(4):
            alertmanager.alerts = [POD]
            starts = "2026-11-29T01:%02d:00Z" % minute
            [entry] = receive(POD, starts=starts)
            outcomes.append(entry["outcome"])
            if entry["run"]:
                assert ended(world, entry["run"])[1]["outcome"] == "repaired"
            receive(POD, starts=starts, status="resolved")
        assert outcomes == ["started", "recurred", "recurred", "recurred"]
        assert len(workshop.calls) == 1


def test_two_alerts_of_one_node_start_two_actions_one_after_the_other(
    world, workshop, alertmanager, receive
):
    down = {"alertname": "NodeDown", "instance": "web-1:9100"}
    world.config["infrastructure"]["runbooks"] = [
        runbook(DISK, workshop.step("first", MOUNT)),
        runbook(down, workshop.step("second", {"hosts": {"label": "instance"}})),
    ]
    alertmanager.alerts = [DISK, down]
    workshop.repairs = {"first": lambda: alertmanager.alerts.remove(DISK),
                        "second": lambda: alertmanager.alerts.remove(down)}
    entries = receive(DISK, down)
    assert [entry["outcome"] for entry in entries] == ["started", "started"]
    for entry in entries:
        assert ended(world, entry["run"])[1]["outcome"] == "repaired"
    assert sorted(calls_of(workshop)) == [
        ("first", {"hosts": "web-1", "mount": "/data"}), ("second", {"hosts": "web-1"})]
    first, second = workshop.calls
    assert second.began_at > first.ended_at


def test_two_mountpoints_of_one_node_are_both_repaired(world, workshop, alertmanager, receive):
    var = dict(DISK, mountpoint="/var")
    world.config["infrastructure"]["runbooks"] = [runbook(DISK, workshop.step("first", MOUNT))]
    alertmanager.alerts = [DISK, var]
    workshop.repairs["first"] = lambda: alertmanager.alerts.remove(
        dict(DISK, mountpoint=workshop.calls[-1].parameters["mount"]))
    entries = receive(DISK, var, dict(var, severity="critical"))
    assert [entry["outcome"] for entry in entries] == ["started", "started", "running"]
    for entry in entries[:2]:
        assert ended(world, entry["run"])[1]["outcome"] == "repaired"
    assert sorted(call.parameters["mount"] for call in workshop.calls) == ["/data", "/var"]
    assert receive(DISK, var)[0]["outcome"] == "duplicate" and len(repairs(world)) == 2


def test_two_mountpoints_in_one_run(world, workshop, alertmanager):
    var = dict(DISK, mountpoint="/var")
    world.config["infrastructure"]["runbooks"] = [runbook(DISK, workshop.step("first", MOUNT))]
    alertmanager.alerts = [DISK, var]
    workshop.repairs["first"] = lambda: alertmanager.alerts.remove(
        dict(DISK, mountpoint=workshop.calls[-1].parameters["mount"]))
    execution, output = world.run(
        "infrastructure_repair", alert=notification(DISK, var)["body"], timeout=300)
    assert (execution["status"], output["outcome"]) == ("succeeded", "repaired")
    assert [call.parameters["mount"] for call in workshop.calls] == ["/data", "/var"]


def test_without_a_datastore_the_runs_act_all_the_same(world, workshop, alertmanager):
    """A repair is worth more than its turn."""
    world.config["infrastructure"]["runbooks"] = [runbook(DISK, workshop.step("first", MOUNT))]
    alertmanager.alerts = [DISK]
    workshop.repairs["first"] = lambda: alertmanager.alerts.clear()
    local, refused = world.local, []

    def refuse(*arguments, **more):
        refused.append(arguments)
        raise RuntimeError("the datastore is away")

    local.keys.put = local.keys.list = local.keys.document = refuse
    execution, output = world.run("infrastructure_repair", alert=notification(DISK)["body"])
    assert (execution["status"], output["outcome"]) == ("succeeded", "repaired")
    assert refused and len(workshop.calls) == 1


@pytest.mark.parametrize("approved", [True, False])
def test_an_approval_shows_what_would_run(world, workshop, alertmanager, approved):
    parameters = dict(MOUNT, unit="cron")
    world.config["infrastructure"]["runbooks"] = [
        runbook(DISK, workshop.step("first", parameters, approval="required"))]
    alertmanager.alerts = [DISK]
    workshop.repairs["first"] = lambda: alertmanager.alerts.clear()
    handle = world.local.start(
        "synthralos.infrastructure_repair", {"alert": notification(DISK)["body"]})
    until(lambda: handle.status in ("paused",) + ENDED, "it asks")
    assert handle.status == "paused", handle.document()["result"]
    response = world.local.run("synthralos.approval.list")["result"]["result"]["approvals"]
    [approval] = response
    assert (approval["run"], approval["id"], approval["answer_property"]) == (
        handle.id, handle.id, "approved")
    assert approval["until"] > approval["since"]
    for part in ("web-1: synthralos.repair_by_first (DiskFull/first)", "mount=/data",
                 "hosts=web-1", "unit=cron"):
        assert part in approval["question"]
    assert workshop.calls == []
    if not approved:
        answer = {"execution_id": handle.id, "approved": False}
        assert world.local.run("synthralos.approval.answer", answer)["status"] == "succeeded"
        assert handle.wait(PATIENCE_SECONDS)["result"]["output"]["outcome"] == "refused"
        assert workshop.calls == []
        return
    world.config["infrastructure"]["runbooks"] = [
        runbook(DISK, workshop.step("first", MOUNT, approval="required"))]
    answer = {"execution_id": handle.id, "approved": True}
    world.local.run("synthralos.approval.answer", answer)
    # What was approved has changed: it is asked again.
    until(lambda: [entry for entry in world.local.run("synthralos.approval.list")["result"][
        "result"]["approvals"] if "unit=" not in entry["question"]], "it is asked again")
    assert workshop.calls == []
    assert world.local.run("synthralos.approval.answer", answer)["status"] == "failed"
    world.local.run("synthralos.approval.answer", dict(answer, execution_id=handle.id + "-2"))
    output = handle.wait(PATIENCE_SECONDS)["result"]["output"]
    assert output["outcome"] == "repaired"
    assert calls_of(workshop) == [("first", {"hosts": "web-1", "mount": "/data"})]


HOSTILE = ["; rm -rf $(reboot)", "web-1,evil", "web-1@evil.example.com", "web-1\nevil", "wеb-1",
           "{{ config_context.platform.token }}", "<% st2kv('system.canary') %> {% raw %}"]


def encoded(text):
    return "base64:" + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("label", ["instance", "mountpoint"])
def test_hostile_labels_start_nothing(world, workshop, alertmanager, receive, label):
    world.local.keys.set("canary", "canary-in-the-datastore")
    world.config["automation"] = {"mode": "act", "recoveries_per_hour": 50}
    world.config["infrastructure"]["runbooks"] = [
        runbook(DISK, workshop.step("first", MOUNT), workshop.step("second"))]
    hostile = [dict(DISK, **{label: text}) for text in HOSTILE]
    for entry in receive(*hostile):
        assert entry["outcome"] == "started"
        status, output = ended(world, entry["run"])
        assert (status, output["success"]) == ("failed", False) and output["ticket"]
    assert len(repairs(world)) == len(HOSTILE) and workshop.calls == []
    everything = json.dumps(
        [world.local.executions(top=False, limit=500), world.local.keys.list(prefix="synthralos.")],
        default=str)
    for secret in ("canary-in-the-datastore", "sandbox-token"):
        assert secret not in everything


def test_hostile_labels_that_a_pattern_accepts_arrive_as_text(world, workshop, alertmanager):
    any_text = {"unit": {"label": "unit", "pattern": ".+"}}
    world.config["infrastructure"]["runbooks"] = [runbook(DISK, workshop.step("first", any_text))]
    texts = ["; rm -rf /", "$(reboot)", "-rf", "a'b\"c\\d", "ä ß \U0001f600", "gum,latency"]
    alerts = [
        dict(DISK, instance="web-%d" % n, unit=text) for n, text in enumerate(texts)
    ]
    execution, output = world.run(
        "infrastructure_repair", alert=notification(*alerts)["body"])
    assert execution["status"] == "succeeded", output
    # Those of several nodes run side by side.
    assert sorted(call.parameters["unit"] for call in workshop.calls) == sorted(texts)


def test_explain_shows_hostile_alerts_as_text_and_starts_nothing(world, workshop):
    world.local.keys.set("canary", "canary-in-the-datastore")
    world.config["infrastructure"]["runbooks"] = [runbook(DISK, workshop.step("first", MOUNT))]
    alerts = []
    for text in HOSTILE:
        labels = {name: encoded(text) for name in ("mountpoint", "instance", "x")}
        annotations = {"summary": encoded(text)}
        alerts.append(
            {"labels": dict(labels, alertname="DiskFull"), "annotations": annotations})
    run = world.local.run("synthralos.runbook.explain", {"alert": {"alerts": alerts}})
    assert run["status"] == "succeeded", run["result"]
    explanations = run["result"]["result"]["alerts"]
    assert len(explanations) == len(HOSTILE)
    for explanation in explanations:
        assert explanation["problem"].startswith(("nothing is started: ", "nothing can act: "))
    text = json.dumps(run["result"])
    assert "canary-in" not in text and "sandbox-token" not in text
    assert "{{" not in text and "<%" not in text
    assert repairs(world) == [] and workshop.calls == []


def test_the_runbooks_are_listed_and_validated(world, workshop):
    world.config["infrastructure"]["runbooks"] = [
        runbook(DISK, workshop.step("first", MOUNT)),
        runbook(POD, workshop.step("second", {"mountpoint": "/"})),
        runbook(DEPLOYMENT, workshop.step("second", {"address": None, "node": "x"})),
    ]
    response = world.local.run("synthralos.runbook.list")["result"]["result"]
    assert [entry["name"] for entry in response["runbooks"]] == [
        "DiskFull", "KubePodCrashLooping", "KubeDeploymentReplicasMismatch"]
    run = world.local.run("synthralos.runbook.validate")
    assert run["status"] == "failed"
    [problem] = run["result"]["result"]["problems"]
    assert (problem["runbook"], problem["field"]) == (
        "KubePodCrashLooping", "parameters.mountpoint")


@pytest.mark.parametrize("alertname", ["DiskFull", "Other"])
def test_an_invalid_runbook_is_no_silence(world, workshop, alertmanager, receive, alertname):
    """Only the runbooks act, everything else observes: that must not hide what is wrong."""
    bad = runbook(
        dict(DISK, alertname="Other"), workshop.step("second", action="acme.absent"), mode="act")
    world.config["automation"] = {"mode": "observe"}
    world.config["infrastructure"]["runbooks"] = [
        runbook(DISK, workshop.step("first"), mode="act"), bad]
    [entry] = receive(dict(DISK, alertname=alertname))
    assert (entry["outcome"], entry["mode"]) == ("started", "act")
    status, output = ended(world, entry["run"])
    assert status == "failed" and workshop.calls == []
    assert output["error"]["field"] == "infrastructure.runbooks[1].steps[0].action"
    assert "(runbook Other, step second)" in output["error"]["reason"]
    tickets = world.local.run("synthralos.ticket.list")["result"]["result"]["tickets"]
    assert [ticket["ticket"] for ticket in tickets] == [output["ticket"]]
    validated = world.local.run("synthralos.runbook.validate")["result"]["result"]
    [problem] = validated["problems"]
    assert (problem["runbook"], problem["step"]) == ("Other", "second")


def test_a_name_does_not_leave_its_place_in_a_path(world, workshop, alertmanager, receive):
    world.config["infrastructure"]["runbooks"] = [
        runbook(POD, workshop.step("first", {"name": {"label": "pod"}}))]
    [entry] = receive(dict(POD, pod="x/../../../../nodes/worker-1"))
    status, output = ended(world, entry["run"])
    assert status == "failed" and output["ticket"] and workshop.calls == []
