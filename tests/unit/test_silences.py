"""A silence is a lease of a run: whatever happens to the run, no alert stays silenced for long."""
import pytest

from synthralos.automation import silence_reaper
from synthralos.automation.config import AutomationConfig
from synthralos.core.timestamps import parse_iso
from synthralos.infrastructure import outcome
from synthralos.infrastructure.alertmanager_silences import matchers_of
from synthralos.sensing import alert_payloads
from synthralos.storage import silence_records
from synthralos.storage.silence_records import SilenceRecord
from synthralos.storage.stackstorm_api import ExecutionNotFound

from .monitoring import Member
from .test_infrastructure_repair import Run
from .test_repair_check import DOWN, FIRST, HOSTILE, SECOND, Plant

RUN = "a" * 24
WITHIN_SECONDS = 120


@pytest.fixture
def plant(infra, clock):
    """Two members of a cluster, and a crew whose action `then` a test gives."""
    new_plant = Plant(infra, clock)
    shared = {}
    new_plant.members = {url: Member(clock, silences=shared) for url in (FIRST, SECOND)}
    return new_plant


def configure(plant, urls=(FIRST,), **more):
    return plant.configure(("alertmanager",), urls=urls, **dict({"silence_alerts": True}, **more))


def fire(plant, *labels):
    for member in plant.members.values():
        member.alerts = list(labels)


def request(*labels):
    alerts = [
        {"status": "firing", "labels": entry, "fingerprint": alert_payloads.fingerprint(entry)}
        for entry in labels
    ]
    return {"source": "alert", "alert": {"alerts": alerts}}


def start(plant, env, *labels, **more):
    env.run = RUN
    return Run(env, max_steps=50, **dict(request(*labels), **more))


class TestSilence:
    def test_it_is_not_there_by_default(self, plant):
        fire(plant, DOWN)
        result = start(plant, configure(plant, silence_alerts=False), DOWN).end()
        assert plant.members[FIRST].silences == {} and result["silences"] == []

    def test_it_has_the_labels_of_the_alert_literally(self, plant):
        fire(plant, HOSTILE)
        seen = []

        def repair(node):
            seen.extend(plant.members[FIRST].active_silences)
            fire(plant)

        plant.api.effects["ops.first"] = repair
        run = start(plant, configure(plant), HOSTILE)
        result = run.end()
        assert result["outcome"] == "repaired"
        [silence] = seen
        assert silence["matchers"] == [
            {"name": name, "value": value, "isRegex": False, "isEqual": True}
            for name, value in sorted(HOSTILE.items())
        ]
        assert silence["createdBy"] == "synthralos.infrastructure_repair " + RUN
        assert RUN in silence["comment"]
        assert plant.members[FIRST].active_silences == []
        assert result["silences"] == [{
            "fingerprint": alert_payloads.fingerprint(HOSTILE), "id": silence["id"],
            "status": "ended", "reason": "",
        }]

    def test_it_never_lasts_longer_than_the_run(self, plant, clock):
        """Also where the action takes all the time that there is."""
        fire(plant, DOWN)
        began = clock()
        ends = []

        def work(node):
            for _ in range(300):
                clock.forward(1)
                plant.sleep(1)
                silences = plant.members[FIRST].silences.values()
                ends.append(max(parse_iso(silence["endsAt"]) for silence in silences))

        plant.api.effects["ops.first"] = work
        waiting(plant)
        start(plant, configure(plant), DOWN, timeout=200).end()
        assert max(ends) <= began + 200 and len(plant.members[FIRST].silences) == 1

    def test_a_run_that_works_keeps_it(self, plant, clock):
        fire(plant, DOWN)
        active = []

        def work(node):
            for _ in range(250):
                clock.forward(1)
                plant.sleep(1)
                active.append(len(plant.members[FIRST].active_silences))

        plant.api.effects["ops.first"] = work
        waiting(plant)
        run = start(plant, configure(plant), DOWN, timeout=600).to("reschedule")
        assert set(active) == {1}
        # And while it waits for the check.
        clock.forward(run.last["next"]["delay"])
        assert len(plant.members[FIRST].active_silences) == 1

    @pytest.mark.parametrize("killed_at", ["execute", "reschedule"])
    def test_a_run_that_is_killed_leaves_it_for_less_than_two_minutes(
        self, plant, clock, killed_at
    ):
        """Whatever the reaper does: the run still counts as running."""
        fire(plant, DOWN)
        plant.api.effects["ops.first"] = lambda node: killed(killed_at == "execute")
        run = start(plant, configure(plant), DOWN).to("execute")
        if killed_at == "execute":
            with pytest.raises(Killed):
                run.step()
        else:
            run.step()
            clock.forward(run.last["next"]["delay"])
        assert len(plant.members[FIRST].active_silences) == 1
        clock.forward(WITHIN_SECONDS)
        assert plant.members[FIRST].active_silences == []

    def test_nobody_works_while_a_person_is_asked(self, plant):
        fire(plant, DOWN)
        env = configure(plant, crews=[
            {"name": "first", "action": "ops.first", "approval": "none"},
            {"name": "second", "action": "ops.second", "approval": "required"},
        ])
        run = start(plant, env, DOWN).to("ask")
        assert plant.api.crews == ["first"] and plant.members[FIRST].active_silences == []
        assert run.case["silences"][0]["status"] == "ended"

    def test_somebody_who_ends_it_has_decided(self, plant, clock):
        fire(plant, DOWN)

        def unsilence(node):
            for silence in plant.members[FIRST].silences.values():
                silence["endsAt"] = "2020-01-01T00:00:00Z"

        plant.api.effects["ops.first"] = unsilence
        result = start(plant, configure(plant), DOWN).end()
        assert plant.api.crews == ["first", "second"]
        assert len(plant.members[FIRST].silences) == 1
        assert result["silences"][0]["status"] == "ended_by_others"

    def test_the_next_crew_silences_it_again_if_it_was_too_late_to_extend(self, plant, clock):
        fire(plant, DOWN)
        env = configure(plant)
        run = start(plant, env, DOWN).to("reschedule")
        clock.forward(400)
        run.to("execute").step()
        assert len(plant.members[FIRST].active_silences) == 1
        assert len(plant.members[FIRST].silences) == 2

    @pytest.mark.parametrize("break_it, reason", [
        (lambda plant: set_writes(plant, 403), "could not silence it (permission)"),
        (lambda plant: set_writes(plant, "network"), "could not silence it (network)"),
        (lambda plant: set_writes(plant, "timeout"), "could not silence it (timeout)"),
        (lambda plant: fire(plant), "does not list it"),
    ], ids=["forbidden", "away", "slow", "unknown"])
    def test_that_it_failed_is_named_and_stops_nothing(self, plant, break_it, reason):
        fire(plant, DOWN)
        env = configure(plant)
        run = start(plant, env, DOWN).to("execute")
        break_it(plant)
        plant.api.effects["ops.first"] = lambda node: fire(plant)
        result = run.end()
        assert (result["next_task"], result["outcome"]) == ("done", "repaired")
        assert result["silences"][0]["status"] == "not_silenced"
        assert reason in result["silences"][0]["reason"]

    def test_without_the_datastore_nobody_would_end_it(self, plant):
        fire(plant, DOWN)
        env = configure(plant)
        run = start(plant, env, DOWN).to("execute")
        put = env.store.put
        env.store.put = lambda name, *rest, **more: (
            not name.startswith("synthralos.silence.") and put(name, *rest, **more)
        )
        run.step()
        assert plant.members[FIRST].silences == {}
        assert "datastore" in run.case["silences"][0]["reason"]

    def test_the_next_member_is_asked(self, plant):
        fire(plant, DOWN)
        plant.members[FIRST].status = "network"
        run = start(plant, configure(plant, urls=(FIRST, SECOND)), DOWN).to("reschedule")
        assert run.case["silences"][0]["status"] == "active"
        assert len(plant.members[SECOND].active_silences) == 1

    def test_a_run_that_fails_ends_it(self, plant):
        fire(plant, DOWN)
        env = configure(plant)
        run = start(plant, env, DOWN).to("reschedule")
        # The log task has what the last good task left, which may know of no silence.
        outcome.log_failure(env, dict(run.case, silences=[]), {})
        assert plant.members[FIRST].active_silences == []


class TestReaper:
    @pytest.mark.parametrize("status, ended", [
        ("running", False), ("paused", False), ("canceled", True), ("abandoned", True),
        (None, True),
    ])
    def test_the_silences_of_runs_that_have_ended_end(self, plant, status, ended):
        fire(plant, DOWN)
        env = configure(plant)
        start(plant, env, DOWN).to("reschedule")
        assert [entry["ended"] for entry in reap(env, status)] == [True] * ended
        assert len(plant.members[FIRST].active_silences) == (not ended)
        # It fires: Alertmanager reports its end.
        assert list(silence_records.list_all(env.store)) == [] or not ended

    def test_one_whose_id_was_lost_is_found(self, plant):
        fire(plant, DOWN)
        env = configure(plant)
        start(plant, env, DOWN).to("reschedule")
        [record] = silence_records.list_all(env.store)
        silence_records.save(env.store, SilenceRecord(
            RUN, record.fingerprint, record.starts_at, None, record.ends_at))
        foreign = dict(plant.members[FIRST].silences["s-0"], id="s-9", createdBy="somebody")
        plant.members[FIRST].silences["s-9"] = foreign
        assert reap(env, "canceled")[0]["ended"]
        assert [silence["id"] for silence in plant.members[FIRST].active_silences] == ["s-9"]

    def test_it_tries_again_while_alertmanager_is_away(self, plant):
        fire(plant, DOWN)
        env = configure(plant)
        start(plant, env, DOWN).to("reschedule")
        plant.members[FIRST].status = "network"
        [entry] = reap(env, "canceled")
        assert (entry["ended"], entry["outcome"]) == (False, "unknown")
        plant.members[FIRST].status = 200
        assert reap(env, "canceled")[0]["ended"] and reap(env, "canceled") == []

    def test_an_empty_list_after_a_restart_closes_nothing(self, plant, clock):
        fire(plant, DOWN)
        env = configure(plant)
        start(plant, env, DOWN).to("reschedule")
        plant.members[FIRST].restart()
        assert reap(env, "canceled")[0]["outcome"] == "unknown"
        clock.forward(600)
        assert reap(env, "canceled")[0]["outcome"] == "nothing_open"


class TestMatchers:
    def test_an_alert_with_more_labels_is_not_meant(self):
        labels = {"alertname": "A", "instance": "x"}
        other_labels = [labels, dict(labels, device="sda"), dict(labels, device="sdb", zone="z"),
                  dict(labels, instance="y", rack="r"), dict(labels, zone="z")]
        absent = [m["name"] for m in matchers_of(labels, other_labels) if not m["value"]]
        assert absent == ["device", "zone"]


class Killed(Exception):
    pass


def killed(now):
    if now:
        raise Killed()


def waiting(plant):
    """Let an action wait as StackStorm's API client does: with the sleep that it is given."""
    waits = type(plant.api).wait
    started = type(plant.api).start

    def start_only(action, parameters):
        plant.effect = plant.api.effects.pop(action, None), parameters["node"]
        return started(plant.api, action, parameters)

    def wait(execution_id, seconds, sleep=None):
        # The real one sleeps for a second, which the clock of a test does not notice.
        plant.sleep = lambda _: sleep(0)
        effect, node = plant.effect
        if effect is not None:
            effect(node)
        return waits(plant.api, execution_id, seconds)

    plant.api.start, plant.api.wait = start_only, wait


def set_writes(plant, status):
    for member in plant.members.values():
        member.write_status = status


def reap(env, status):
    """:param status: of the run, or None if StackStorm knows it no longer."""
    def execution(run, attributes):
        if status is None:
            raise ExecutionNotFound()
        return {"status": status}

    env.api.execution = execution
    return silence_reaper.end_left_behind(env, AutomationConfig())
