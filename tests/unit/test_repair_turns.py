"""Runs that act on the same node do so one after the other, whatever their clocks say."""
import pytest

from synthralos.infrastructure import turns
from synthralos.infrastructure.workloads import workload_of
from synthralos.storage import repair_turns
from synthralos.storage.stackstorm_api import StackStormError

from .runbook_plant import (
    CHECK,
    FULL,
    SETTLE,
    Plant,
    alert,
    group,
    labels_of,
    runbook,
    step,
)
from .test_infrastructure_repair import Run

OTHER_RUN = "aa0000000000000000000001"


@pytest.fixture
def plant(infra, clock):
    return Plant(infra, clock)


def queue_other_run(store, *nodes, run=OTHER_RUN, now=lambda: 1_600_000_000.0):
    """Another run that is before every run that queues up later."""
    return repair_turns.queue_up(store, now, run, nodes)


class TestQueue:
    def test_a_turn_is_taken_once(self, store, clock):
        first = repair_turns.queue_up(store, clock, "a", ["x", "y"])
        assert repair_turns.queue_up(store, clock, "a", ["x"]) == first
        assert repair_turns.list_turns(store) == [first]

    def test_other_nodes_need_another_turn_at_the_end(self, store, clock):
        repair_turns.queue_up(store, clock, "a", ["x"])
        second = repair_turns.queue_up(store, clock, "b", ["x", "y"])
        third = repair_turns.queue_up(store, clock, "a", ["y"])
        assert repair_turns.list_turns(store) == [second, third]
        assert repair_turns.turns_before(store, third) == [second]

    def test_only_runs_with_a_common_node_are_waited_for(self, store, clock):
        first = repair_turns.queue_up(store, clock, "a", ["x"])
        repair_turns.queue_up(store, clock, "b", ["y"])
        third = repair_turns.queue_up(store, clock, "c", ["x", "z"])
        assert repair_turns.turns_before(store, third) == [first]
        repair_turns.leave(store, "a")
        assert repair_turns.turns_before(store, third) == []

    def test_a_clock_that_is_behind_gets_nobody_to_the_front(self, store, clock):
        """Also where the last key is of the last microseconds of its millisecond."""
        names = ["r%d" % n for n in range(300)]
        for n, name in enumerate(names):
            repair_turns.queue_up(store, lambda n=n: clock() - n * 0.3337 + 0.000999, name, ["x"])
        assert [turn.run for turn in repair_turns.list_turns(store)] == names

    def test_more_turns_than_a_page_of_the_datastore(self, store, clock):
        first = repair_turns.queue_up(store, clock, "first", ["x"])
        for n in range(250):
            repair_turns.queue_up(store, clock, "r%d" % n, ["other"])
        last = repair_turns.queue_up(store, clock, "last", ["x"])
        assert repair_turns.turns_before(store, last) == [first]
        repair_turns.leave(store, "first")
        assert repair_turns.turns_before(store, last) == []

    def test_one_that_was_too_slow_to_join_has_no_turn(self, store, clock):
        """Its lock has expired meanwhile; another run has joined, and may act."""
        put = store.put

        def slowly(name, value, ttl=None):
            if name.startswith("synthralos.repair_turn."):
                store.put = put
                clock.forward(300)
                assert repair_turns.queue_up(store, clock, "b", ["x"]) is not None
            return put(name, value, ttl)

        store.put = slowly
        assert repair_turns.queue_up(store, clock, "a", ["x"]) is None
        assert [turn.run for turn in repair_turns.list_turns(store)] == ["b"]

    def test_what_a_run_has_started_keeps_its_place_until_it_ends(self, store, clock):
        first = repair_turns.queue_up(store, clock, "a", ["x"])
        second = repair_turns.queue_up(store, clock, "b", ["x"])
        first = repair_turns.add_execution(store, first, "e1")
        first = repair_turns.add_execution(store, first, "e2")
        repair_turns.leave(store, "a", lambda execution: execution == "e2")
        [place] = repair_turns.turns_before(store, second)
        assert (place.run, place.executions, place.has_left) == ("a", ("e2",), True)
        again = repair_turns.queue_up(store, clock, "a", ["x"])
        assert again.key > second.key and not again.has_left
        repair_turns.leave(store, "a")
        assert repair_turns.turns_before(store, second) == []

    @pytest.mark.parametrize("operation", ["put", "list"])
    def test_without_a_datastore_there_is_no_turn(self, store, datastore, clock, operation):
        datastore.away = (operation,)
        assert repair_turns.queue_up(store, clock, "a", ["x"]) is None
        assert store.unavailable_reason

    def test_a_row_that_cannot_be_read_is_nobody(self, store, clock):
        store.put("synthralos.repair_turn.1600000000000-1", "{")
        store.put("synthralos.repair_turn.1600000000000-2", '{"v":1,"run":"b","nodes":"x"}')
        turn = repair_turns.queue_up(store, clock, "a", ["x"])
        assert repair_turns.turns_before(store, turn) == []


@pytest.mark.parametrize("name, workload", [
    ("shop/web-7f9c", "shop/web"), ("shop/web-7f9c8d6b5-x2x4z", "shop/web"),
    ("shop/shipper-x2x4z", "shop/shipper"), ("shop/db-0", "shop/db"), ("shop/db-12", "shop/db"),
    ("shop/web", "shop/web"), ("eu/shop/web-7f9c", "eu/shop/web"), ("shop/api-gateway",
     "shop/api-gateway"), ("shop/7f9c", "shop/7f9c"),
    ("web-7f9c", "web-7f9c"), ("db-1", "db-1"), ("web-1:9100", "web-1"), ("", ""),
    ("shop/web-bcdfghjklm-x2x4z", "shop/web"), ("shop/web-2-7f9c8d6b5-x2x4z", "shop/web"),
    ("shop/web-2", "shop/web"), ("shop/redis-7f9c-6d5b8c9f47-x2x4z", "shop/redis"),
    ("shop/redis-7f9c", "shop/redis"), ("10.0.0.1:9104", "10.0.0.1"), ("[::1]:9100", "[::1]"),
    ("fe80::1", "fe80::1"), (":9100", ":9100"),
])
def test_the_workload_of_a_pod(name, workload):
    assert workload_of(name) == workload


class TestRuns:
    def test_a_run_waits_while_another_acts_on_its_node(self, plant):
        env = plant.configure(runbook(step("clean")))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-1")
        run = Run(env, alert=alert()).to("execute")
        delays = []
        for _ in range(6):
            result = run.step()
            assert (result["next_task"], result["action"]) == ("execute", "waiting_for_run")
            assert OTHER_RUN in result["summary"] and plant.calls == []
            delays.append(result["next"]["delay"])
        assert delays == [5, 10, 20, 40, 60, 60]
        assert run.labels.count("waiting_for_run") == 1
        plant.api.runs[OTHER_RUN] = "succeeded"
        assert run.end()["outcome"] == "repairs_assigned" and plant.calls == [("clean", {})]

    @pytest.mark.parametrize("parameters", [
        {"hosts": {"label": "host"}}, {"limit": {"label": "host", "host": True}},
        {"hosts": "evil.example.com, web-2:22"},
        {"machine": {"label": "host", "one_of": ["web-2"]}},
    ], ids=["label", "host", "text", "one_of"])
    def test_a_run_waits_while_another_acts_on_the_host_of_its_action(self, plant, parameters):
        """The alert is about a web site, whose certificate the host renews."""
        env = plant.configure(runbook(step("clean", parameters=parameters)))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-2")
        labels = {"instance": "https://shop.example.com", "host": "web-2"}
        run = Run(env, alert=alert(labels)).to("execute")
        assert run.step()["action"] == "waiting_for_run" and plant.calls == []
        plant.api.runs[OTHER_RUN] = "succeeded"
        assert run.end()["outcome"] == "repairs_assigned" and len(plant.calls) == 1

    def test_an_address_that_is_no_node_is_no_reason_to_wait(self, plant):
        env = plant.configure(runbook(step("clean", parameters={"url": "http://web-9/hook"})))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "http://web-9/hook")
        assert Run(env, alert=alert()).end()["outcome"] == "repairs_assigned"

    @pytest.mark.parametrize("status", ["paused", "pending", "delayed", "canceling"])
    def test_a_run_that_has_not_ended_is_waited_for(self, plant, status):
        env = plant.configure(runbook(step("clean")))
        plant.api.runs[OTHER_RUN] = status
        queue_other_run(env.store, "web-1")
        assert Run(env, alert=alert()).to("execute").step()["action"] == "waiting_for_run"

    @pytest.mark.parametrize("status", ["failed", "canceled", "abandoned", "timeout", None])
    def test_a_run_that_ended_without_leaving_locks_nobody_out(self, plant, status):
        env = plant.configure(runbook(step("clean")))
        if status is not None:
            plant.api.runs[OTHER_RUN] = status
        queue_other_run(env.store, "web-1")
        assert Run(env, alert=alert()).end()["outcome"] == "repairs_assigned"
        assert plant.calls == [("clean", {})]

    def test_other_nodes_are_no_reason_to_wait(self, plant):
        env = plant.configure(runbook(step("clean")))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-2")
        Run(env, alert=alert()).end()
        assert plant.calls == [("clean", {})]

    def test_people_do_not_wait_for_their_turn(self, plant):
        env = plant.configure(runbook({"name": "ask", "crew": "on-call"}))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-1")
        assert Run(env, alert=alert()).end()["outcome"] == "repairs_assigned"
        assert len(plant.infra.notices) == 1

    @pytest.mark.parametrize("is_over", [True, False])
    def test_after_a_wait_it_looks_whether_its_own_alert_is_still_there(self, plant, is_over):
        env = plant.configure(runbook(step("clean", check=CHECK)))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-1")
        run = Run(env, alert=alert()).to("execute")
        run.step()
        plant.heals({"instance": "web-1:9100", "mountpoint": "/data" if is_over else "/var"})
        plant.clock.forward(30)
        plant.api.runs[OTHER_RUN] = "succeeded"
        result = run.end()
        if is_over:
            assert plant.calls == [] and "failures_over" in labels_of(result)
            assert (result["outcome"], result["resolved"]) == ("healthy", ["web-1"])
        else:
            assert plant.calls == [("clean", {})] and result["outcome"] == "not_repaired"

    def test_it_asks_alertmanager_too(self, plant):
        env = plant.configure(runbook(step("clean")), alertmanager=True, prometheus=None)
        plant.member.alerts = [FULL]
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-1")
        run = Run(env, alert=alert()).to("execute")
        run.step()
        plant.member.alerts, plant.api.runs[OTHER_RUN] = [], "succeeded"
        assert run.end()["outcome"] == "healthy" and plant.calls == []

    def test_a_flap_while_it_waited_is_not_over(self, plant):
        env = plant.configure(runbook(step("clean", check=CHECK)))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-1")
        run = Run(env, alert=alert()).to("execute")
        run.step()
        plant.heals({"instance": "web-1:9100"}, lambda seconds: not 10 < seconds < 20)
        plant.clock.forward(30)
        plant.api.runs[OTHER_RUN] = "succeeded"
        run.end()
        assert plant.calls == [("clean", {})]

    def test_the_queue_that_is_busy_counts_as_a_wait(self, plant, monkeypatch):
        """Another run that joined at the same moment may have repaired it by now."""
        env = plant.configure(runbook(step("clean", check=CHECK)))
        queue_up = repair_turns.queue_up
        monkeypatch.setattr(turns.repair_turns, "queue_up", lambda *_: None)
        run = Run(env, alert=alert()).to("execute")
        assert run.step()["action"] == "waiting_for_run"
        monkeypatch.setattr(turns.repair_turns, "queue_up", queue_up)
        plant.heals({"instance": "web-1:9100"})
        assert run.end()["outcome"] == "healthy" and plant.calls == []

    def test_when_its_time_is_up_it_ends_with_a_ticket(self, plant):
        env = plant.configure(runbook(step("clean")))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-1")
        result = Run(env, alert=alert(), timeout=120).end()
        assert plant.calls == [] and result["outcome"] == "out_of_time" and result["ticket"]
        assert "another run" in result["error"]["reason"]
        assert [turn.run for turn in repair_turns.list_turns(env.store)] == [OTHER_RUN]

    def test_it_leaves_when_it_ends_and_while_a_person_is_asked(self, plant):
        env = plant.configure(runbook(
            step("clean", check=CHECK), step("grow", approval="required", check=CHECK)))
        run = Run(env, alert=alert()).to("reschedule")
        assert [turn.run for turn in repair_turns.list_turns(env.store)] == [run.case["run"]]
        run.to("ask")
        assert repair_turns.list_turns(env.store) == []
        plant.api.response = {"approved": True}
        run.last["next_task"] = "execute"
        run.to("reschedule")
        assert [turn.run for turn in repair_turns.list_turns(env.store)] == [run.case["run"]]
        run.end()
        assert repair_turns.list_turns(env.store) == []

    def test_without_a_datastore_it_acts_at_once(self, plant, datastore):
        env = plant.configure(runbook(step("clean")))
        run = Run(env, alert=alert()).to("execute")
        datastore.away = True
        run.end()
        assert plant.calls == [("clean", {})]

    def test_a_dry_run_takes_no_turn(self, plant):
        env = plant.configure(runbook(step("clean")))
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, "web-1")
        assert Run(env, alert=alert(), dry_run=True).end()["outcome"] == "planned"
        assert len(repair_turns.list_turns(env.store)) == 1

    @pytest.mark.parametrize("check", [True, False])
    def test_the_next_step_waits_for_an_action_that_takes_longer(self, plant, check):
        """Also where the next step is that of another alert of the node."""
        more = {"check": CHECK} if check else {}
        down = runbook(step("restart"), name="down", alertname="Down")
        env = plant.configure(runbook(step("clean", **more), step("grow", **more)), down)
        plant.api.ends["ops.clean"] = ["running"]
        alerts = [alert()] if check else [alert(), alert({"alertname": "Down"})]
        run = Run(env, alert=group(*alerts), timeout=3600).to("reschedule")
        for _ in range(5):
            result = run.step()
            assert (result["next_task"], result["action"]) == ("reschedule", "repairs_pending")
            assert result["checks"][0]["reason"] == "its action has not ended"
        assert plant.calls == [("clean", {})]
        plant.api.runs["e1"] = "succeeded"
        assert run.end()["outcome"] == ("not_repaired" if check else "repairs_assigned")
        assert [name for name, _ in plant.calls] == ["clean", "grow" if check else "restart"]

    def test_a_repair_counts_from_the_end_of_its_action(self, plant):
        env = plant.configure(runbook(step("clean", check=CHECK)))
        plant.api.ends["ops.clean"] = ["running"]
        plant.heals({"instance": "web-1:9100"})
        run = Run(env, alert=alert(), timeout=3600).to("reschedule")
        for _ in range(5):
            run.step()
        plant.api.runs["e1"], ended_at = "succeeded", plant.clock()
        assert run.end()["outcome"] == "repaired"
        assert plant.clock() - ended_at >= SETTLE

    def test_an_action_that_never_ends_is_not_judged(self, plant):
        env = plant.configure(runbook(step("clean", check=CHECK), step("grow")))
        plant.api.ends["ops.clean"] = ["running"]
        result = Run(env, alert=alert()).end()
        assert result["outcome"] == "repairs_unchecked" and result["ticket"]
        assert "its action has not ended" in result["error"]["reason"]
        assert plant.calls == [("clean", {})]

    @pytest.mark.parametrize("way", ["ended", "killed"])
    def test_the_actions_of_a_run_that_has_ended_are_waited_for(self, plant, way):
        env = plant.configure(
            runbook(step("clean")), runbook(step("grow"), name="down", alertname="Down"))
        plant.api.ends["ops.clean"] = ["running"]
        env.run = OTHER_RUN
        first = Run(env, alert=alert())
        if way == "killed":
            with pytest.raises(Killed):
                plant.api.wait = killed
                first.to("final")
            plant.api.runs["e1"] = "running"
            del plant.api.wait
        else:
            assert first.end()["outcome"] == "repairs_assigned"
        plant.api.runs[OTHER_RUN] = "failed"
        env.run = "aa0000000000000000000002"
        second = Run(env, alert=alert({"alertname": "Down"}), timeout=3600).to("execute")
        for _ in range(3):
            assert second.step()["action"] == "waiting_for_run"
        plant.api.runs["e1"] = "failed"
        second.end()
        assert [name for name, _ in plant.calls] == ["clean", "grow"]
        assert [turn.run for turn in repair_turns.list_turns(env.store)] == [OTHER_RUN]

    def test_an_action_that_runs_while_a_person_is_asked_is_waited_for(self, plant):
        robots = [{"name": "clean", "action": "ops.clean", "approval": "none", "skills": ["a"]},
                  {"name": "grow", "action": "ops.grow"}]
        nodes = [{"name": "web-1", "skills": ["a"]}, {"name": "web-2"}]
        env = plant.configure(crews=robots, topology=nodes, prometheus=None)
        plant.api.ends["ops.clean"] = ["running"]
        Run(env, nodes=["web-1", "web-2"]).to("ask")
        assert [action for action, _ in plant.api.started] == ["ops.clean"]
        [turn] = repair_turns.list_turns(env.store)
        assert (turn.nodes, turn.executions, turn.has_left) == ({"web-1"}, ("e1",), True)

    def test_while_stackstorm_is_unavailable_nobody_knows_whose_turn_it_is(self, plant):
        env = plant.configure(runbook(step("clean")))
        queue_other_run(env.store, "web-1")
        run, execution = Run(env, alert=alert()).to("execute"), plant.api.execution

        def unavailable(*_):
            raise StackStormError("away")

        plant.api.execution = unavailable
        assert run.step()["action"] == "waiting_for_run" and plant.calls == []
        plant.api.execution = execution
        assert run.end()["outcome"] == "repairs_assigned" and plant.calls == [("clean", {})]

    def test_two_exporters_of_one_host_are_one_node(self, plant):
        env = plant.configure(runbook(step("clean")), topology=[])
        plant.api.runs[OTHER_RUN] = "running"
        queue_other_run(env.store, turns.workload_of("web-1:9104"))
        assert Run(env, alert=alert()).to("execute").step()["action"] == "waiting_for_run"


class Killed(BaseException):
    """The process is killed in the middle of its work."""


def killed(*_):
    raise Killed
