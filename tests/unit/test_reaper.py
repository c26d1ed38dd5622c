"""recovery.reap against a StackStorm that holds the executions a test gives it."""
import pytest

from synthralos.automation import reaper
from synthralos.automation.config import AutomationConfig
from synthralos.core.timestamps import to_iso
from synthralos.storage import agent_runs
from synthralos.storage.agent_runs import AgentRun
from synthralos.storage.stackstorm_api import StackStormError

NOW = 1_800_000_000.0
RUN, CHILD = "a" * 24, "b" * 24


class Api:
    """:param rows: {id: execution}; a child names its parent in context.parent.execution_id."""

    def __init__(self, *rows):
        self.rows = {row["id"]: row for row in rows}

    def executions(self, attributes, action, status, offset=0, **_):
        return [] if offset else [
            row for row in self.rows.values()
            if row["action"]["ref"] == action and row["status"] == status
        ]

    def execution(self, execution_id, attributes):
        return self.rows[execution_id]

    def children(self, execution_id, attributes):
        def parent(row):
            return (row["context"].get("parent") or {}).get("execution_id")

        return [row for row in self.rows.values() if parent(row) == execution_id]

    def set_status(self, execution_id, status, result=None):
        self.rows[execution_id]["status"] = status
        return True

    def cancel(self, execution_id):
        self.rows[execution_id]["status"] = "canceled"
        return True

    def inquiries(self, offset=0):
        return []

    def fire(self, trigger, payload):
        pass


def run(ref="synthralos.agent_recovery", status="running", age=400, **more):
    return dict(
        {
            "id": RUN,
            "action": {"ref": ref, "parameters": {"timeout": {"default": 300}},
                       "runner_type": "orquesta"},
            "status": status,
            "start_timestamp": to_iso(NOW - age),
            "parameters": {"agent_id": "agent_1"},
            "context": {"user": "st2admin", "pack": "synthralos"},
        },
        **more,
    )


def child(ref="synthralos.execute_recovery", status="running", runner="python-script"):
    parent = {"execution_id": RUN, "pack": "synthralos"}
    return dict(
        run(ref, status), id=CHILD, action={"ref": ref, "runner_type": runner},
        context={"parent": parent},
    )


def long_run(ref="synthralos.agent_recovery"):
    """A run that has hours left."""
    return run(ref, age=5000, parameters={"agent_id": "agent_1", "timeout": 24 * 3600})


def age_of(seconds, **more):
    """A round of it."""
    return dict(child(**more), start_timestamp=to_iso(NOW - seconds))


@pytest.fixture
def reap(make_env, clock):
    def reaped(*rows):
        clock.at = NOW
        env = make_env(api=Api(*rows))
        if reaped.before is not None:
            reaped.before(env)
        return env.api.rows, reaper.reap(env, AutomationConfig()), env

    reaped.before = None
    return reaped


def test_an_action_whose_runner_died_is_abandoned_so_that_its_workflow_goes_on(reap):
    rows, report, _ = reap(run(), child())
    assert rows[CHILD]["status"] == "abandoned" and rows[RUN]["status"] == "running"
    assert report["abandoned"] == [
        {"run": RUN, "workflow": "agent_recovery", "execution": CHILD}
    ]


@pytest.mark.parametrize("age, more", [
    (300, {}), (359, {}), (500, {"parameters": {"agent_id": "a", "timeout": 450}}),
])
def test_a_run_has_its_time_and_a_minute_more(reap, age, more):
    rows, report, _ = reap(run(age=age, **more), child())
    assert rows[CHILD]["status"] == "running" and report["summary"].startswith("0 abandoned, 0")


@pytest.mark.parametrize("status", ["requested", "scheduled", "delayed"])
@pytest.mark.parametrize("age, ended", [(599, False), (600, True)])
def test_an_action_that_never_began_is_lost_five_minutes_after_the_deadline(
        reap, status, age, ended):
    rows, report, _ = reap(run(age=age), dict(child(status=status), start_timestamp=to_iso(
        NOW - 310)))
    assert (rows[CHILD]["status"] == "abandoned") == ended == bool(report["abandoned"])
    assert rows[RUN]["status"] == "running"


def agent_run(started_by):
    handle = {"api": "langgraph", "platform": "p", "agent": "a", "ids": {"thread": "t"}}
    return AgentRun("agent_1", "key-1", started_by, "k", "platform:p", handle, NOW - 4000, NOW)


@pytest.mark.parametrize("starts, joins", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("age, is_dead_poll, is_dead_round", [
    (299, False, False), (301, True, False), (3701, True, True)])
def test_a_round_of_a_long_run_is_judged_by_its_own_limit(
    reap, monkeypatch, starts, joins, age, is_dead_poll, is_dead_round
):
    monkeypatch.setattr(reaper.agent_run_reaper, "cancel_left_behind", lambda env: [])
    if starts or joins:
        record = agent_run(RUN if starts else "c" * 24)
        reap.before = lambda env: (
            agent_runs.save(env.store, record, NOW),
            joins and agent_runs.add_waiter(env.store, record, RUN, NOW),
        )
    rows, report, _ = reap(long_run(), age_of(age))
    is_dead = is_dead_poll if starts or joins else is_dead_round
    assert (rows[CHILD]["status"] == "abandoned") == is_dead == bool(report["abandoned"])
    assert rows[RUN]["status"] == "running"


@pytest.mark.parametrize("ref", ["synthralos.orchestration.run", "synthralos.llm_retry",
                                 "synthralos.infrastructure_repair"])
def test_only_rounds_of_agent_recovery_are_judged_before_the_deadline(reap, ref):
    rows, report, _ = reap(long_run(ref), age_of(4000, ref="synthralos.orchestration.run_wave"))
    assert rows[CHILD]["status"] == "running" and report["abandoned"] == []


@pytest.mark.parametrize("status, delay, ended", [
    ("scheduled", 3600, True), ("requested", 0, True), ("delayed", 0, True),
    # It is due in the future, or has been for less than 15 minutes.
    ("delayed", 3600, False), ("delayed", 200, False),
])
def test_a_round_of_a_long_run_that_stackstorm_has_lost_is_abandoned(reap, status, delay, ended):
    log = [{"status": "requested", "timestamp": to_iso(NOW - 4000)},
           {"status": status, "timestamp": to_iso(NOW - 1000)}]
    rows, report, _ = reap(long_run(), dict(
        age_of(4000, status=status), log=log, delay=delay * 1000))
    assert (rows[CHILD]["status"] == "abandoned") == ended == bool(report["abandoned"])


def test_agent_runs_are_listed_once_however_many_long_runs_there_are(reap, monkeypatch):
    lookups = []
    undelivered = agent_runs.undelivered
    monkeypatch.setattr(reaper.agent_run_reaper, "cancel_left_behind", lambda env: [])
    monkeypatch.setattr(
        reaper.agent_runs, "undelivered", lambda store: lookups.append(1) or undelivered(store))
    reap(*[dict(long_run(), id=letter * 24) for letter in "cde"])
    assert len(lookups) == 1


def test_an_action_that_has_just_been_requested_is_not_lost(reap):
    rows, report, _ = reap(run(age=900), dict(child(status="requested"), start_timestamp=to_iso(
        NOW - 299)))
    assert rows[CHILD]["status"] == "requested" and not report["abandoned"]


def test_a_run_that_a_policy_held_back_until_its_time_was_up_is_cancelled_and_logged(reap):
    rows, report, _ = reap(run(status="delayed"))
    assert rows[RUN]["status"] == "canceled" and report["logged"][0]["ticket"]
    rows, report, _ = reap(run(status="delayed", age=300))
    assert rows[RUN]["status"] == "delayed"


def test_a_child_workflow_is_left_to_end_its_own_actions(reap):
    rows, _, _ = reap(
        run("synthralos.handle_error"), child("synthralos.agent_recovery", runner="orquesta")
    )
    assert rows[CHILD]["status"] == rows[RUN]["status"] == "running"


def test_a_run_in_which_nothing_runs_any_more_is_cancelled_and_logged(reap):
    rows, report, _ = reap(run(), child(status="succeeded"))
    assert rows[RUN]["status"] == "canceled" and report["canceled"][0]["run"] == RUN
    assert [entry["run"] for entry in report["logged"]] == [RUN] and report["logged"][0]["ticket"]


def test_a_run_that_waits_for_the_end_of_a_dead_action_to_be_cancelled(reap):
    rows, report, _ = reap(run(status="canceling"), child())
    assert rows[CHILD]["status"] == "abandoned" and report["canceled"] == []
    rows, report, _ = reap(run(status="canceling"), child(status="abandoned"))
    assert rows[RUN]["status"] == "canceled" and report["canceled"]


def approval_child(status, began, ended):
    row = child("core.ask", status, runner="inquirer")
    row.update(id="c" * 24, start_timestamp=to_iso(NOW - began))
    return dict(row, end_timestamp=to_iso(NOW - ended))


def test_the_time_that_people_took_to_answer_is_not_the_run_s(reap):
    late = run("synthralos.infrastructure_repair", age=4000)
    working = dict(child("synthralos.assign_repair_crew"), start_timestamp=to_iso(NOW - 130))
    rows, report, _ = reap(late, approval_child("succeeded", 3980, 140), working)
    assert rows[CHILD]["status"] == "running" and report["abandoned"] == []
    rows, report, _ = reap(late, approval_child("succeeded", 3980, 3900), working)
    assert rows[CHILD]["status"] == "abandoned"


def test_an_action_that_began_a_moment_ago_is_not_dead(reap):
    fresh = dict(child(), start_timestamp=to_iso(NOW - 5))
    rows, _, _ = reap(run(), fresh)
    assert rows[CHILD]["status"] == "running"


@pytest.mark.parametrize("status", ["timeout", "succeeded"])
def test_a_run_that_an_approval_has_paused_for_good_goes_on(reap, status):
    """Also after an answer: StackStorm resumes no run that it is still pausing."""
    rows, report, _ = reap(run(status="paused"), approval_child(status, 100, 50))
    assert rows[RUN]["status"] == "resuming" and report["resumed"][0]["run"] == RUN


def test_a_run_that_a_person_has_paused_is_left_alone(reap):
    rows, report, _ = reap(run(status="paused"), child(status="succeeded"))
    assert rows[RUN]["status"] == "paused" and report["canceled"] == []


@pytest.mark.parametrize("status", ["timeout", "succeeded"])
def test_a_run_that_a_person_has_paused_after_an_approval_is_left_alone(reap, status):
    later = dict(child(status="succeeded"), start_timestamp=to_iso(NOW - 20))
    rows, report, _ = reap(run(status="paused"), approval_child(status, 100, 50), later)
    assert rows[RUN]["status"] == "paused" and report["resumed"] == []


def test_what_goes_wrong_with_one_run_keeps_nobody_from_the_next(reap, monkeypatch):
    def broken(self, execution_id, attributes):
        if execution_id == RUN:
            raise StackStormError("StackStorm's API answered (500)")
        return []

    monkeypatch.setattr(Api, "children", broken)
    other = dict(run("synthralos.llm_retry"), id="d" * 24)
    rows, report, _ = reap(run(), other)
    assert rows["d" * 24]["status"] == "canceled"
    assert report["errors"] == [{"run": RUN, "error": "StackStorm's API answered (500)"}]


def test_a_run_is_logged_under_its_own_id_and_once(reap):
    rows, report, env = reap(run(status="canceled"))
    assert report["logged"] and env.run != RUN
    assert reaper.reap(env, AutomationConfig())["logged"] == []


def test_a_run_of_another_run_is_logged_by_that_one(reap):
    parent = {"execution_id": CHILD, "pack": "synthralos"}
    _, report, _ = reap(run(status="canceled", context={"parent": parent}))
    assert report["logged"] == []


@pytest.mark.parametrize("age, status", [(60, "running"), (299, "running"), (301, "abandoned")])
def test_a_roll_up_whose_runner_died_keeps_no_other_away(reap, age, status):
    rows, report, _ = reap(run("synthralos.metrics.roll_up", age=age))
    assert rows[RUN]["status"] == status
    assert len(report["abandoned"]) == (status == "abandoned") and report["errors"] == []


ASK = "d" * 24


@pytest.mark.parametrize("seconds, canceled", [(0, True), (200, False)])
def test_the_time_of_people_in_a_run_within_a_run_does_not_count(reap, seconds, canceled):
    """handle_error, whose agent had a question; nothing of it is live just now."""
    inner = dict(child("synthralos.agent_recovery", "succeeded", "orquesta"))
    ask = dict(child("core.ask", "succeeded", "inquirer"), id=ASK,
               context={"parent": {"execution_id": CHILD, "pack": "synthralos"}},
               start_timestamp=to_iso(NOW - 300), end_timestamp=to_iso(NOW - 300 + seconds))
    rows, report, _ = reap(run("synthralos.handle_error", age=400), inner, ask)
    assert (rows[RUN]["status"] == "canceled") == canceled == bool(report["canceled"])
