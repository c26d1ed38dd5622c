"""When an incident starts a run, as time goes by."""
import pytest

from synthralos.automation import admission, decision, outcomes
from synthralos.automation.config import AutomationConfig
from synthralos.automation.incident import Incident
from synthralos.config.modes import ACT, APPROVE
from synthralos.core.timestamps import to_iso
from synthralos.storage import incidents, tickets
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.storage.stackstorm_api import StackStormError

from .conftest import StartingApi

SINCE = "2023-11-14T22:00:00.000Z"
FAILURE = {"type": "error", "cause": "agent_failed", "severity": "high"}


@pytest.fixture
def api():
    return StartingApi()


@pytest.fixture
def env(make_env, api, clock):
    environment = make_env(api=api)

    def end(run, status, **output):
        api.runs[run] = {
            "status": status, "result": {"output": output}, "end_timestamp": to_iso(clock())}

    environment.end = end
    return environment


def incident(id="alert-1", since=SINCE, subject="bot", **more):
    defaults = dict(
        workflow="agent_recovery", parameters={}, request={}, failure=FAILURE, summary="it failed"
    )
    return Incident(id=id, since=since, subject=subject, **dict(defaults, **more))


def begin(env, *arguments, config=None, **more):
    return admission.admit(env, config or AutomationConfig(mode=ACT), incident(*arguments, **more))


def test_a_report_of_what_is_known_starts_nothing(env, api):
    result = begin(env)
    assert result["outcome"] == outcomes.STARTED
    assert begin(env)["outcome"] == outcomes.RUNNING
    env.end(result["run"], "failed")
    assert begin(env) == dict(result, outcome=outcomes.DUPLICATE)


@pytest.mark.parametrize("status, outcome", [
    ("succeeded", outcomes.STILL_FAILING), ("failed", outcomes.STARTED),
])
def test_what_goes_on_long_after_its_run_has_ended_is_looked_at_again(env, clock, status, outcome):
    env.end(begin(env)["run"], status)
    clock.at += decision.RECHECK_SECONDS
    assert begin(env)["outcome"] == outcome


def test_a_crew_takes_its_time(env, clock):
    result = begin(env, workflow="infrastructure_repair")
    env.end(result["run"], "succeeded")
    clock.at += decision.RECHECK_SECONDS
    again = begin(env, workflow="infrastructure_repair")
    assert again["outcome"] == outcomes.DUPLICATE


def test_a_refusal_holds_while_the_incident_lasts_and_is_no_successful_repair(env, clock):
    env.end(begin(env)["run"], "succeeded", outcome="refused")
    clock.at += 10 * decision.RECHECK_SECONDS
    assert begin(env)["outcome"] == outcomes.DUPLICATE
    admission.resolve_incident(env, "alert-1", SINCE, "alertmanager")
    assert begin(env, since="2023-11-14T23:30:00.000Z")["outcome"] == outcomes.STARTED


def at(clock):
    return to_iso(clock(), milliseconds=True)


def resolve(env, since=SINCE):
    return admission.resolve_incident(env, "alert-1", since, "alertmanager")


@pytest.mark.parametrize("outcome", ["over", "healthy"])
def test_a_run_that_found_nothing_to_do_settles_nothing(env, clock, outcome):
    """The alert was over before its run began, or was approved."""
    env.end(begin(env)["run"], "succeeded", outcome=outcome)
    assert begin(env)["outcome"] == outcomes.DUPLICATE
    clock.at += decision.RECHECK_SECONDS
    env.end(begin(env)["run"], "succeeded", outcome=outcome)
    resolve(env)
    assert begin(env, since=at(clock))["outcome"] == outcomes.STARTED


def test_an_alert_that_flaps_recurs_however_often(env, clock):
    env.end(begin(env)["run"], "succeeded")
    resolve(env)
    for _ in range(40):
        clock.at += 60
        assert begin(env, since=at(clock))["outcome"] == outcomes.RECURRED
        resolve(env, at(clock))


def test_what_comes_back_while_its_run_is_at_work_is_the_run_s_again(env, clock, api, store):
    run = begin(env)["run"]
    clock.at += 60
    resolve(env)
    assert incidents.is_close_scheduled(store, run)
    clock.at += 60
    again = begin(env, since=at(clock))
    assert (again["outcome"], again["run"]) == (outcomes.RUNNING, run)
    # Its ticket stays open while the alert fires, and what it asks still matters.
    assert not incidents.is_close_scheduled(store, run) and len(api.started) == 1
    env.end(run, "failed", ticket=None)
    assert begin(env, since=at(clock))["outcome"] == outcomes.DUPLICATE
    result = resolve(env, at(clock))
    assert (result["outcome"], result["run"]) == (outcomes.RESOLVED, run)


class AskingApi(StartingApi):
    """With a run that waits for a person.

    :ivar statuses: [(execution, status, result)], as they were set.
    """

    def __init__(self, ref):
        super().__init__()
        self.ref, self.statuses = ref, []

    def execution(self, run, attributes):
        return dict(super().execution(run, attributes), action={"ref": self.ref}) \
            if run in self.runs else {"status": "pending", "result": {"schema": {}}}

    def executions(self, attributes, **filters):
        return [{"id": "q", "status": "pending", "start_timestamp": SINCE}]

    def set_status(self, execution, status, result=None):
        self.statuses.append((execution, status, result))
        return True


@pytest.mark.parametrize("ref, is_withdrawn", [
    ("synthralos.recovery_with_approval", True), ("synthralos.infrastructure_repair", True),
    ("synthralos.agent_recovery", False),
])
def test_the_end_of_an_alert_withdraws_the_question_of_its_run(make_env, ref, is_withdrawn):
    """What an agent asks is about its own work."""
    api = AskingApi(ref)
    env = make_env(api=api)
    run = begin(env)["run"]
    resolve(env)
    expected = [("q", "timeout", {"schema": {}, "withdrawn": True}), (run, "resuming", None)]
    assert api.statuses == (expected if is_withdrawn else [])


@pytest.mark.parametrize("workflow, parameters, started", [
    ("agent_recovery", {"agent_id": "bot"}, ("recovery_with_approval", "agent_recovery", None)),
    ("llm_retry", {}, ("recovery_with_approval", "llm_retry", None)),
    ("reroute_request", {}, ("recovery_with_approval", "reroute_request", None)),
    ("infrastructure_repair", {"source": "alert"}, ("infrastructure_repair", None, "required")),
])
def test_in_the_mode_approve_the_run_asks_first(env, api, workflow, parameters, started):
    config = AutomationConfig(mode=APPROVE)
    result = begin(env, workflow=workflow, parameters=parameters, config=config)
    assert (result["outcome"], result["mode"]) == (outcomes.STARTED, APPROVE)
    [(action, inputs)] = api.started
    assert (action, inputs.get("workflow"), inputs.get("approval")) == (
        "synthralos." + started[0], *started[1:]
    )
    assert parameters.items() <= inputs.items()


def test_what_was_held_back_has_its_turn_when_it_is_reported_again(env, clock):
    config = AutomationConfig(mode=ACT, recoveries_per_hour=1)
    env.end(begin(env, "alert-0", config=config)["run"], "failed")
    result = begin(env, config=config)
    assert result["outcome"] == outcomes.TOO_MANY and result["ticket"]
    assert begin(env, config=config)["outcome"] == outcomes.DUPLICATE
    clock.at += 3601
    assert begin(env, config=config)["outcome"] == outcomes.STARTED


def test_a_ticket_that_was_resolved_too_early_is_opened_again(env, clock, store):
    result = begin(env, blocked=outcomes.NO_QUERY)
    tickets.resolve(store, clock(), result["ticket"], "never mind", "jane", "")
    clock.at += decision.RECHECK_SECONDS
    assert begin(env, blocked=outcomes.NO_QUERY)["ticket"] == result["ticket"]
    assert tickets.get(store, result["ticket"])["status"] == tickets.OPEN


@pytest.mark.parametrize("after, outcome", [
    (3500, outcomes.RECURRED), (3700, outcomes.STARTED),
])
def test_coming_back_counts_from_the_end_of_the_repair(env, clock, after, outcome):
    result = begin(env)
    clock.at += 7200
    env.end(result["run"], "succeeded")
    clock.at += after
    admission.resolve_incident(env, "alert-1", SINCE, "alertmanager")
    assert begin(env, since="2023-11-15T03:00:00.000Z")["outcome"] == outcome


@pytest.mark.parametrize("was_refused, outcome", [
    (False, outcomes.DUPLICATE), (True, outcomes.STARTED),
])
def test_a_start_of_unknown_effect_is_not_repeated_at_once(env, api, was_refused, outcome):
    api.broken = StackStormError("away")
    api.broken.refused = was_refused
    with pytest.raises(StackStormError):
        begin(env)
    api.broken = None
    assert begin(env)["outcome"] == outcome


def test_requests_that_failed_are_each_run_again(env):
    for n in range(3):
        result = begin(env, "execution-%d" % n, is_state=False)
        assert result["outcome"] == outcomes.STARTED
    assert begin(env, "execution-0", is_state=False)["outcome"] == outcomes.RUNNING


def test_a_state_of_an_agent_that_is_being_recovered_starts_no_second_run(env):
    first = begin(env)
    result = begin(env, "alert-2")
    assert (result["outcome"], result["run"]) == (outcomes.RUNNING, first["run"])


def test_a_ticket_that_another_run_has_added_to_since_stays_open(env, store, clock):
    first = begin(env)["run"]
    ticket = tickets.record_occurrence(
        store, clock(), "agent_recovery", "bot", FAILURE, first, "x"
    )["ticket"]
    env.end(first, "failed", ticket=ticket)
    clock.at += 1
    tickets.record_occurrence(store, clock(), "agent_recovery", "bot", FAILURE, "f" * 24, "again")
    assert admission.resolve_incident(env, "alert-1", SINCE, "alertmanager")["ticket"] is None
    assert tickets.get(store, ticket)["status"] == tickets.OPEN


def test_without_a_datastore_nothing_starts(env, monkeypatch):
    env.store.unavailable_reason = "it is away"
    with pytest.raises(DatastoreUnavailable, match="storm"):
        begin(env)


def test_a_ticket_that_could_not_be_written_is_said(env, monkeypatch):
    monkeypatch.setattr(admission.ticketing, "open_failure_ticket", lambda *_, **__: None)
    with pytest.raises(DatastoreUnavailable, match="ticket"):
        begin(env, blocked=outcomes.NO_QUERY)
    assert incidents.recent_events(env.store, "alert-1") == []
