import pytest

from synthralos.core.causes import CAUSES
from synthralos.escalation import ticket_analysis
from synthralos.storage import history, tickets

from .test_escalation import HOSTILE, MARKS


@pytest.fixture
def reported(make_env, store, clock):
    """reported(cause=..., times=...) -> (env, report) of a ticket that has occurred so often."""

    def make(cause="authentication", times=1, workflow="llm_retry", summary="it failed", **more):
        env = make_env({"platforms": [{"base_url": "http://h", "token": "very-secret"}]})
        failure = {"type": "llm_error", "cause": cause, "severity": "high"}
        for n in range(times):
            clock.forward(60)
            ticket = tickets.record_occurrence(
                store, clock(), workflow, "gpt-4", failure, "run%d" % n, summary,
                attempts=3, **more
            )
        return env, ticket_analysis.analyze_ticket(env, tickets.get(store, ticket["ticket"]))

    return make


def test_a_report_says_what_why_how_bad_and_what_to_do(reported):
    _, report = reported(times=2)
    assert report["root_cause"]["cause"] == "authentication"
    assert "credential" in report["root_cause"]["meaning"]
    impact = report["impact"]
    assert (impact["subject"], impact["workflow"]) == ("gpt-4", "llm_retry")
    assert (impact["occurrences"], impact["attempts"], impact["level"]) == (2, 6, "medium")
    assert impact["runs"] == ["run1", "run0"] and impact["since"] < impact["last"]
    assert [entry["run"] for entry in report["timeline"]] == ["run0", "run1"]
    assert report["markdown"].startswith("# Ticket T") and "## What to do" in report["markdown"]


@pytest.mark.parametrize("cause", list(CAUSES) + ["held_back", "refused"])
def test_every_cause_has_a_meaning_and_recommendations_of_its_own(reported, cause):
    _, report = reported(cause)
    assert report["recommendations"] and all(
        "{" not in recommendation for recommendation in report["recommendations"]
    )
    if cause != "unknown":
        assert report["root_cause"]["meaning"] != ticket_analysis._CAUSES["unknown"][0]


@pytest.mark.parametrize("workflow, cause, words", [
    ("agent_recovery", "authentication", "platforms[].token_from"),
    ("llm_retry", "authentication", "providers[].api_key_from"),
    ("reroute_request", "authentication", "routes[].token_from"),
    ("ticket.create", "authentication", "..._from"),
    ("llm_retry", "quota", "fallback provider"),
    ("llm_retry", "context_length", "larger window"),
    ("agent_recovery", "timeout", "attempt_timeouts.agent"),
    ("agent_recovery", "held_back", "probes"),
])
def test_recommendations_follow_from_the_case(reported, workflow, cause, words):
    _, report = reported(cause, workflow=workflow)
    assert words in " ".join(report["recommendations"])


def test_a_refusal_names_the_field_and_the_way_out(reported):
    details = {"field": "original_request.model", "hint": "Use one of gpt-4"}
    _, report = reported("refused", details=details)
    assert report["recommendations"][0] == "Correct original_request.model: Use one of gpt-4"


def test_what_recurs_for_long_is_to_be_stopped(reported):
    _, report = reported(times=10)
    assert "10 times" in report["recommendations"][-1]


def test_the_timeline_holds_events_and_history_once_each(reported, store, clock, make_env):
    env, report = reported()
    for run, reason in (("run0", "the same run"), ("run9", "another cause")):
        clock.forward(1)
        history.append_entry(store, "gpt-4", clock(), {
            "event": "failed", "workflow": "llm_retry", "run": run, "reason": reason})
    clock.forward(1)
    tickets.take(store, clock(), report["ticket"], "ann", "r")
    clock.forward(1)
    tickets.escalate(store, clock(), report["ticket"], "human_intervention", "late", "r")
    clock.forward(1)
    tickets.resolve(store, clock(), report["ticket"], "new key", "ann", "r")
    report = ticket_analysis.analyze_ticket(env, tickets.get(store, report["ticket"]))
    assert [entry["event"] for entry in report["timeline"]] == [
        "occurred: it failed", "llm_retry failed: another cause", "taken by ann",
        "raised to human_intervention: late", "resolved by ann: new key"]
    assert (report["status"], report["level"]) == ("resolved", "human_intervention")
    assert report["impact"]["occurrences"] == 1


def test_an_earlier_problem_is_not_in_the_report(reported, store, clock):
    env, report = reported(summary="the first")
    clock.forward(60)
    tickets.resolve(store, clock(), report["ticket"], "done", "ann", "r")
    _, report = reported(summary="the second")
    assert [entry["event"] for entry in report["timeline"]] == ["occurred: the second"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_markdown_is_harmless_and_the_report_has_no_secret(reported, hostile):
    _, report = reported(summary="very-secret " + hostile)
    assert not any(mark in report["markdown"] for mark in MARKS)
    assert "very-secret" not in str(report)


def test_a_report_is_bounded(reported, store, clock):
    env, report = reported(summary="x" * 300, times=100)
    assert len(report["timeline"]) == ticket_analysis.MAX_LINES
    assert len(report["markdown"]) <= ticket_analysis.MAX_MARKDOWN_CHARS
    assert len(report["impact"]["runs"]) == ticket_analysis.MAX_RUNS
