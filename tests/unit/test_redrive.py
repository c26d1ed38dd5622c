"""recovery.redrive: real runs against a server, on a clock that nobody waits for."""
import functools
import random

import pytest
from fixtures.waiting import limit_under_test

from synthralos.automation import reaper
from synthralos.automation.config import AutomationConfig
from synthralos.core.causes import CAUSES
from synthralos.core.errors import InvalidInput
from synthralos.metrics import definitions, query, rollup
from synthralos.metrics.config import MetricsConfig
from synthralos.operations import health, redrive, redrive_automatic, redrive_request
from synthralos.operations.redrive_health import FAILED_RUNS
from synthralos.reports import markdown, period_report
from synthralos.storage import redrives, tickets
from synthralos.storage.datastore import BestEffortDatastore

from .interleaving import GatedDatastore, Interleaving
from .redrive_plant import TARGET, Plant, Redrive, StackStormError, reruns_of


@pytest.fixture
def plant(make_env, serve, clock, store):
    return Plant(make_env, serve, clock, store)


@pytest.fixture
def outage(plant):
    """outage(number) -> the ids of runs that failed while the provider answered 429."""
    def fail(number, **fault):
        plant.provider.fail(**fault)
        runs = [plant.llm_retry("Hello %d" % index) for index in range(number)]
        assert {plant.rows[run]["status"] for run in runs} == {"failed"}
        # The cooldown that the last of them left.
        plant.advance(120)
        plant.provider.calls.clear()
        plant.provider.prompts.clear()
        return runs

    return fail


def test_forty_failed_runs_are_answered_at_the_rate_and_once(plant, outage):
    runs = outage(40)
    plant.provider.heal()
    plant.queue, plant.duration = (lambda: plant.random.uniform(0, 40)), lambda: 2.0
    report = plant.redrive(per_minute=6)
    assert report["outcome"] == "completed" and report["counts"]["recovered"] == 40
    assert sorted(plant.provider.prompts) == sorted("Hello %d" % index for index in range(40))
    assert plant.provider.most_within(60) <= 6
    assert all(len(reruns_of(plant, run)) == 1 for run in runs)
    again = plant.redrive()
    assert again["outcome"] == "nothing_to_redrive" and len(plant.provider.calls) == 40
    assert again["skipped_by_reason"] == {"already_redriven": 40}


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_no_minute_sees_more_calls_than_the_rate(plant, outage, per_minute):
    outage(8 if per_minute < 10 else 80)
    plant.provider.heal()
    plant.queue = lambda: plant.random.uniform(0, 90)
    report = plant.redrive(per_minute=per_minute, timeout=24 * 3600)
    assert report["outcome"] == "completed"
    assert plant.provider.most_within(60) <= per_minute


def test_two_redrives_share_the_rate_and_start_each_run_once(plant, outage):
    runs = outage(20)
    plant.provider.heal()
    first, second = Redrive(plant, per_minute=6), Redrive(plant, per_minute=6)
    while first.report is None or second.report is None:
        for current in (first, second):
            if current.report is None:
                current.step()
    assert len(plant.provider.calls) == 20 and plant.provider.most_within(60) <= 6
    assert all(len(reruns_of(plant, run)) == 1 for run in runs)
    assert sum(current.report["counts"]["recovered"] for current in (first, second)) == 20


def test_it_stops_when_the_target_fails_again_and_goes_on_later(plant, outage):
    runs = outage(40)
    plant.provider.heal(for_calls=5)
    report = plant.redrive(per_minute=60)
    counts = report["counts"]
    assert report["outcome"] == "stopped" and TARGET + " fails again" in report["stopped"]
    assert counts["recovered"] == 5 and 1 <= counts["failed"] <= 6
    assert counts["remaining"] == 40 - counts["started"] == len(report["remaining"])
    assert len(plant.provider.calls) == counts["started"]
    plant.advance(600)
    plant.provider.heal()
    rest = plant.redrive(per_minute=60)
    assert rest["counts"]["recovered"] == counts["remaining"] and rest["outcome"] == "completed"
    assert all(len(reruns_of(plant, run)) == 1 for run in runs)


def test_a_breaker_that_the_outage_has_opened_is_waited_for(plant):
    """The runs after it had opened called nothing, and are redriven, too."""
    plant.provider.fail(status=503, message="down")
    runs = [plant.llm_retry("Hello %d" % index, timeout=limit_under_test(30)) for index in range(9)]
    calls = len(plant.provider.calls)
    plant.config["breaker"] = {"open_seconds": 300}
    assert calls < 9
    plant.provider.heal()
    began = plant.clock()
    report = plant.redrive(targets=[TARGET])
    assert report["outcome"] == "completed" and report["counts"]["recovered"] == 9
    assert len(plant.provider.calls) == calls + 9 and plant.provider.calls[calls] >= began + 200
    assert {entry["failed_run"] for entry in report["recovered"]} == set(runs)


def test_the_first_run_is_alone_until_it_has_answered(plant, outage):
    outage(10)
    plant.duration = lambda: 50.0
    report = plant.redrive(per_minute=600)
    assert report["outcome"] == "stopped" and len(plant.provider.calls) <= FAILED_RUNS


def test_one_ticket_names_the_runs_that_failed_again(plant, outage):
    outage(12)
    opened = tickets.list_tickets(plant.store)
    assert [ticket["occurrences"] for ticket in opened] == [12]
    plant.provider.heal(for_calls=3)
    report = plant.redrive()
    (ticket,) = [t for t in tickets.list_tickets(plant.store) if t["workflow"] != "llm_retry"]
    assert ticket["ticket"] == report["ticket"] and ticket["subject"] == TARGET
    details = ticket["details"]
    assert details["failed"] == [entry["run"] for entry in report["failed"]]
    assert len(details["remaining"]) == report["counts"]["remaining"]
    assert "recovery.redrive dry_run=false" in details["hint"]
    # Those of the outage are still the last occurrences of theirs.
    assert tickets.get(plant.store, opened[0]["ticket"])["occurrences"] == 12


def test_a_redriven_run_whose_redrive_is_dead_opens_its_own_ticket(plant, outage):
    outage(1)
    plant.queue = lambda: 100.0
    current = Redrive(plant)
    current.step()
    plant.rows[current.run]["status"] = "abandoned"
    plant.settle()
    (ticket,) = tickets.list_tickets(plant.store)
    assert ticket["occurrences"] == 2


def test_the_reaper_reports_a_redrive_that_did_not_come_to_its_end(plant, outage):
    outage(3)
    plant.provider.heal()
    current = Redrive(plant)
    current.step()
    plant.advance(60)
    plant.rows[current.run]["status"] = "abandoned"
    env = plant.env("0" * 24)
    logged = reaper.reap(env, AutomationConfig())["logged"]
    (entry,) = [entry for entry in logged if entry["run"] == current.run]
    ticket = tickets.get(plant.store, entry["ticket"])
    assert "was ended as abandoned" in ticket["summary"]
    assert len(ticket["details"]["remaining"]) == 2
    assert reaper.reap(env, AutomationConfig())["logged"] == []


def test_the_reaper_ends_a_redrive_in_which_nothing_runs_any_more(plant, outage):
    outage(2)
    current = Redrive(plant, timeout=60)
    plant.advance(200)
    reaper.reap(plant.env("0" * 24), AutomationConfig())
    assert plant.rows[current.run]["status"] == "canceled"


def test_the_tickets_of_the_outage_are_resolved_when_each_of_its_runs_is_answered(plant, outage):
    outage(3)
    (ticket,) = tickets.list_tickets(plant.store)
    plant.provider.heal()
    partial = plant.redrive(limit=2)
    assert partial["resolved_tickets"] == [] and partial["outcome"] == "incomplete"
    report = plant.redrive()
    assert report["resolved_tickets"] == [ticket["ticket"]] and report["ticket"] is None
    assert tickets.get(plant.store, ticket["ticket"])["status"] == "resolved"


@pytest.mark.parametrize("moment, started", [("before", 0), ("after", 1)])
@pytest.mark.parametrize("number", [1, 3])
def test_a_round_that_is_killed_starts_nothing_twice(plant, outage, moment, started, number):
    runs = outage(10)
    plant.provider.heal()
    current = Redrive(plant)
    while len(plant.provider.calls) < number - 1:
        current.step()
    plant.kills = [moment]
    killed = current.to_end()
    plant.settle()
    assert killed["outcome"] == "stopped" and "crashed" in killed["stopped"]
    unknown = killed["counts"]["unknown"]
    # What StackStorm knows of is found; what it does not is named.
    assert unknown == 1 - started
    rest = plant.redrive()
    assert all(len(reruns_of(plant, run)) <= 1 for run in runs)
    assert len(plant.provider.calls) == 10 - unknown
    assert rest["counts"]["recovered"] + killed["counts"]["started"] == 10 - unknown
    if unknown:
        (named,) = killed["unknown"]
        assert [entry["run"] for entry in rest["skipped"] if entry["reason"] == "unknown"] == [
            named["failed_run"]]
        ticket = tickets.get(plant.store, killed["ticket"])
        assert ticket["details"]["unknown"] == [named["failed_run"]]


def test_a_start_of_which_the_reply_was_lost_is_looked_for(plant, outage):
    outage(2)
    plant.provider.heal()
    current, re_run = Redrive(plant), plant.re_run

    def without_reply(*arguments):
        plant.re_run = re_run
        re_run(*arguments)
        raise StackStormError("StackStorm's API is unavailable: ReadTimeout")

    plant.re_run = without_reply
    report = current.to_end()
    assert report["outcome"] == "completed" and len(plant.provider.calls) == 2


def test_what_stackstorm_refuses_is_not_started_and_may_be_later(plant, outage):
    outage(1)
    plant.provider.heal()
    plant.broken = StackStormError("StackStorm's API returned an error (400)")
    plant.broken.refused = True
    report = plant.redrive()
    assert report["counts"]["not_started"] == 1 and report["outcome"] == "incomplete"
    assert report["ticket"]
    plant.broken = None
    assert plant.redrive()["outcome"] == "completed"


def test_a_dry_run_starts_nothing_and_says_how_to_go_on(plant, outage):
    runs = outage(3)
    report = plant.redrive(dry_run=True, causes=["rate_limit"])
    assert report["outcome"] == "dry_run" and plant.provider.calls == []
    assert [entry["failed_run"] for entry in report["remaining"]] == runs
    assert report["command"].startswith("st2 run synthralos.recovery.redrive dry_run=false since=")
    assert "causes=rate_limit" in report["command"]
    assert list(redrives.runs_since(plant.store, 0.0)) == []


def test_filters(plant, outage):
    runs = outage(2)
    plant.provider.fail(status=503, message="down")
    other = plant.llm_retry(model="gpt-4o")

    def matching(**filters):
        report = plant.redrive(dry_run=True, **filters)
        return [entry["failed_run"] for entry in report["remaining"]]

    assert matching() == runs + [other]
    assert matching(causes=["server_error", "overloaded"]) == [other]
    assert matching(targets=[TARGET]) == runs and matching(targets=["llm:openai"]) == runs + [other]
    assert matching(targets=["llm:open"]) == [] == matching(agents=["agent_1"])
    assert matching(workflows=["agent_recovery"]) == [] and matching(since="1m") == [other]
    assert matching(until="1m") == runs and matching(limit=1) == runs[:1]


@pytest.mark.parametrize("field, value, words", [
    ("since", "yesterday", "is not a time"), ("since", "8d", "7 days"),
    ("until", "2h", "must be later than since"), ("causes", ["tired"], "is not a cause"),
    ("causes", "rate_limit", "is not a list"), ("targets", ["{{ x }}"], "is not a name"),
    ("workflows", ["handle_error"], "is not a workflow"), ("per_minute", 0, "out of bounds"),
])
def test_a_wrong_parameter_is_named(plant, field, value, words):
    with pytest.raises(InvalidInput) as raised:
        redrive_request.read({"since": "1h", field: value}, plant.clock())
    assert raised.value.field.startswith(field) and words in str(raised.value)


def test_incurable_runs_stay_and_are_listed(plant, outage):
    runs = outage(1)
    plant.provider.fail(status=400, message="bad", code="content_policy_violation")
    refused = plant.llm_retry()
    plant.provider.heal()
    report = plant.redrive()
    assert [entry["failed_run"] for entry in report["recovered"]] == runs
    assert report["skipped"] == [{
        "run": refused, "workflow": "llm_retry", "cause": "content_policy", "reason": "incurable"}]


def test_every_cause_says_whether_it_passes():
    passing = {name for name, cause in CAUSES.items() if cause.is_redrivable}
    assert {"rate_limit", "overloaded", "server_error", "timeout", "network", "quota",
            "authentication", "model_quota", "conflict", "budget", "unknown"} <= passing
    assert not passing & {"bad_request", "not_found", "content_policy", "wrong_address",
                          "context_length", "model_not_found", "cancelled", "request_too_large"}


def test_a_lineage_is_its_reruns_and_its_newest_run_is_started(plant, outage):
    (first,) = outage(1)
    second = plant.llm_retry("Hello 0", context={"re-run": {"ref": first}})
    plant.provider.heal()
    plant.advance(120)
    report = plant.redrive()
    assert [entry["failed_run"] for entry in report["recovered"]] == [second]
    assert reruns_of(plant, first) == [second]
    assert plant.redrive()["counts"]["skipped"] == 1


def test_what_was_run_again_and_answered_is_left_alone(plant, outage):
    first, other = outage(2)
    plant.provider.heal()
    plant.llm_retry(context={"re-run": {"ref": first}})
    plant.provider.calls.clear()
    report = plant.redrive()
    assert report["skipped_by_reason"] == {"answered_since": 1}
    assert [entry["failed_run"] for entry in report["recovered"]] == [other]


def test_what_is_running_again_is_left_alone(plant, outage):
    (first,) = outage(1)
    plant.queue = lambda: 1000.0
    plant.request("synthralos.llm_retry", plant.rows[first]["parameters"],
                  context={"re-run": {"ref": first}})
    assert plant.redrive()["skipped_by_reason"] == {"running_again": 1}


def test_a_part_of_another_run_is_left_to_that(plant, outage):
    parent = plant.request("acme.jobs", {}, status="failed")
    approved = plant.request("synthralos.recovery_with_approval", {}, status="failed")
    plant.provider.fail()
    for run in (parent, approved):
        plant.llm_retry("of " + run, context={"parent": {"execution_id": run, "pack": "acme"}})
    plant.advance(120)
    plant.provider.heal()
    plant.provider.prompts.clear()
    report = plant.redrive()
    assert report["skipped_by_reason"] == {"part_of_a_run": 1}
    assert plant.provider.prompts == ["of " + approved]


def test_a_masked_request_is_sent_nowhere_and_named(plant, outage):
    (run,) = outage(1)
    plant.rows[run]["parameters"]["original_request"]["prompt"] = "********"
    plant.provider.heal()
    report = plant.redrive()
    assert plant.provider.calls == [] and report["skipped"][0]["reason"] == "request_unknown"
    assert report["skipped"][0]["details"].startswith("original_request: is a secret")


HOSTILE = "{{ config_context.api_key }} <% ctx() %> {% raw %} \u202e\U0001f600"


def test_hostile_text_arrives_as_it_was_and_is_never_a_parameter(plant):
    plant.provider.fail()
    run = plant.llm_retry(HOSTILE)
    plant.advance(120)
    plant.provider.heal()
    assert plant.redrive()["outcome"] == "completed"
    assert plant.provider.prompts[-1] == HOSTILE
    (again,) = reruns_of(plant, run)
    assert "{{" not in str(plant.rows[again]["parameters"])


def test_time_that_is_up_leaves_the_rest(plant, outage):
    outage(10)
    plant.provider.heal()
    report = plant.redrive(per_minute=1, timeout=200)
    assert report["outcome"] == "stopped" and report["stopped"] == "its time was up"
    assert report["counts"]["remaining"] > 0 and report["ticket"]


def test_the_plan_of_a_redrive_survives_json(plant, outage):
    outage(2)
    current = Redrive(plant, causes=["rate_limit"])
    plan = redrive.Plan.open(plant.env(current.run), current.next["carry"])
    assert plan.request.causes == ("rate_limit",)
    assert [candidate.targets for candidate in plan.candidates] == [(TARGET,)] * 2


def test_health_metrics_and_the_report_count_a_redriven_failure_as_made_good(plant, outage):
    outage(3)
    env = plant.env("0" * 24)
    assert health.get(env)["stats"]["failed_recoveries"] == 3
    plant.provider.heal()
    plant.redrive(limit=2)
    stats = health.get(plant.env("0" * 24))["stats"]
    assert (stats["failed_recoveries"], stats["redriven"]) == (1, 2)
    assert (stats["total_errors"], stats["successful_recoveries"]) == (3, 2)
    text = markdown.render(period_report.build_period_report(env, 1), 50)
    assert "2 of 5 runs recovered, and 2 were made good later" in text
    config = MetricsConfig.from_config({})
    rollup.roll_up(env, config)
    counted = query.current_series(env, config)
    assert counted[definitions.REDRIVEN] == {("llm_retry", "completed"): 2}
    assert list(counted[definitions.RECENT_RATIO].values()) == [round(2 / 3, 4)]


class Automatic:
    """The rule: a redrive that a timer starts."""

    def __init__(self, plant):
        self.plant = plant
        plant.config["automation"] = {"mode": "act"}

    def begin(self, **parameters):
        return Redrive(
            self.plant, rule={"ref": "synthralos.redrive"}, **dict({"per_minute": 60}, **parameters)
        )

    def fire(self, **parameters):
        return self.begin(**parameters).to_end()


@pytest.fixture
def rule(plant):
    return Automatic(plant)


def test_the_rule_uses_up_no_run_while_the_provider_is_down(plant, outage, rule):
    runs = outage(5)
    for _ in range(20):
        report = rule.fire()
        assert report["outcome"] == "nothing_to_redrive"
        assert report["skipped_by_reason"] == {"no_answer": 5} and report["ticket"] is None
        plant.advance(300)
    probes = len(plant.provider.calls)
    assert 0 < probes <= 20 and set(plant.provider.prompts) == {redrive_automatic.PROBE_TEXT}
    plant.provider.heal()
    report = rule.fire()
    assert report["outcome"] == "completed" and report["counts"]["recovered"] == 5
    # One more probe, and the runs.
    assert len(plant.provider.calls) == probes + 1 + 5
    assert all(len(reruns_of(plant, run)) == 1 for run in runs)


def test_the_rule_needs_no_probe_where_another_run_was_answered(plant, outage, rule):
    outage(2)
    plant.provider.heal()
    plant.llm_retry("of another")
    assert rule.fire()["counts"]["recovered"] == 2
    assert redrive_automatic.PROBE_TEXT not in plant.provider.prompts


def test_the_rule_leaves_a_target_alone_at_which_its_runs_failed_again(plant, outage, rule):
    outage(10)
    plant.provider.heal(for_calls=3)
    stopped = rule.fire()
    assert stopped["outcome"] == "stopped" and stopped["ticket"]
    plant.advance(300)
    calls = len(plant.provider.calls)
    assert rule.fire()["skipped_by_reason"]["failed_lately"] == stopped["counts"]["remaining"]
    assert len(plant.provider.calls) == calls
    plant.advance(redrive_automatic.PAUSE_SECONDS)
    plant.provider.heal()
    assert rule.fire()["counts"]["recovered"] == stopped["counts"]["remaining"]


@pytest.mark.parametrize("automation", [
    {}, {"mode": "approve"}, {"mode": "act", "modes": {"llm_retry": "observe"}}])
def test_the_rule_only_lists_unless_the_mode_is_act(plant, outage, rule, automation):
    outage(2)
    plant.provider.heal()
    plant.config["automation"] = automation
    report = rule.fire()
    assert report["outcome"] == "dry_run" and report["counts"]["remaining"] == 2
    assert plant.provider.calls == []


def go_down(plant, lowered):
    if lowered == "switch":
        plant.store.put("synthralos.enabled", "false")
    elif lowered == "override":
        plant.store.put("synthralos.mode", "observe")
    else:
        plant.config["automation"] = {"mode": lowered}


@pytest.mark.parametrize("lowered", ["observe", "approve", "override", "switch"])
def test_whoever_goes_down_stops_a_redrive_of_the_rule(plant, outage, rule, lowered):
    runs = outage(9)
    plant.provider.heal()
    redriving = rule.begin(per_minute=6)
    while sum(bool(reruns_of(plant, run)) for run in runs) < 3:
        redriving.step()
    go_down(plant, lowered)
    report = redriving.to_end()
    started = [run for run in runs if reruns_of(plant, run)]
    assert len(started) == 3 and report["counts"]["recovered"] == 3
    # An operator's decision is no failure.
    assert report["skipped_by_reason"] == {"not_in_mode_act": 6} and report["ticket"] is None


def test_a_redrive_that_a_person_has_started_goes_on_in_any_mode(plant, outage):
    outage(3)
    plant.provider.heal()
    redriving = Redrive(plant)
    go_down(plant, "observe")
    assert redriving.to_end()["counts"]["recovered"] == 3


def test_the_rule_starts_nothing_beside_an_older_redrive(plant, outage, rule):
    outage(3)
    plant.provider.heal()
    other = Redrive(plant)
    assert rule.fire()["outcome"] == "another_redrive"
    assert other.to_end()["counts"]["recovered"] == 3


def test_of_several_runs_of_the_rule_that_overlap_the_oldest_starts_the_runs(plant, outage, rule):
    outage(3)
    plant.provider.heal()
    newer = plant.request("synthralos.recovery.redrive", {}, status="running")
    plant.rows["f" * 24] = dict(plant.rows.pop(newer), id="f" * 24)
    assert rule.fire()["counts"]["recovered"] == 3


def test_a_dead_redrive_blocks_the_rule_until_its_time_is_up(plant, outage, rule):
    plant.request("synthralos.recovery.redrive", {"timeout": 600}, status="running")
    outage(2)
    plant.provider.heal()
    assert rule.fire()["outcome"] == "another_redrive"
    plant.advance(720)
    assert rule.fire()["counts"]["recovered"] == 2


def test_processes_that_claim_a_run_at_the_same_time_start_it_once(clock, datastore):
    """In whatever order their calls reach the datastore."""
    for seed in range(60):
        draw = random.Random(seed)
        lineage, claimed = "%024x" % seed, []

        def work(process, lineage=lineage, claimed=claimed):
            store = BestEffortDatastore(GatedDatastore(datastore, process))
            own = redrives.RedrivenRun(
                redrive="r%d" % id(process), lineage=lineage, failed_run=lineage,
                workflow="llm_retry", targets=(), failed_cause=None, claimed_at=clock())
            if redrives.claim(store, own):
                claimed.append(own)

        interleaving = Interleaving()
        for _ in range(3):
            interleaving.start(work)
        interleaving.run([draw.randrange(3) for _ in range(30)], 100)
        assert len(claimed) <= 1


@pytest.mark.parametrize("per_minute", [1, 600])
def test_rounds_of_two_redrives_in_any_order_keep_rate_and_claims(
        plant, outage, datastore, per_minute):
    runs = outage(2)
    plant.provider.heal()
    before = set(plant.rows)
    for seed in range(25):
        draw, plans = random.Random(seed), []
        for _ in range(2):
            current = Redrive(plant, per_minute=per_minute)
            plan = redrive.Plan.open(plant.env(current.run), current.next["carry"])
            plans.append((current, plan))
        plant.queue = lambda: 1000.0

        def play(process, current, plan):
            env = plant.env(current.run)
            env.store = BestEffortDatastore(GatedDatastore(datastore, process))
            redrive.run_round(env, plan, current.next["carry"], 0)

        interleaving = Interleaving()
        for current, plan in plans:
            interleaving.start(functools.partial(play, current=current, plan=plan))
        interleaving.run([draw.randrange(2) for _ in range(60)], 400)
        started = [rerun for run in runs for rerun in reruns_of(plant, run)]
        assert len(started) <= per_minute
        assert all(len(reruns_of(plant, run)) <= 1 for run in runs)
        # As if nothing had been started, for the next order.
        plant._events.clear()
        for row in set(plant.rows) - before:
            del plant.rows[row]
        for name in datastore.names():
            if name.startswith(("synthralos.redrive_claim.", "synthralos.redriven_run.")):
                datastore.delete(name)
