"""What an event adds, how many series there may be, and how they look."""
import json
import random
import shutil
import subprocess

import pytest
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.metrics import definitions as f
from synthralos.metrics import event_mapping, prometheus_text
from synthralos.metrics.totals import MAX_LABEL_VALUES, OTHER, Totals
from synthralos.runtime import workflow_run

PROMTOOL = shutil.which("promtool")
A, B = "llm:openai/gpt-4", "llm:anthropic/claude"
FELL_OVER = {
    "kind": "end", "workflow": "llm_retry", "outcome": "recovered", "failure_type": "llm_error",
    "duration": 4.2, "recovery": 4.2, "targets": [A, B, A], "currency": "USD",
    "causes": ["rate_limit", "timeout", None], "latency_ms": [120, 60000, 900],
    "skipped": ["llm:x/y"],
    "llm": [["openai", "gpt-4", 120, "rate_limit", None, None, None],
            ["openai", "gpt-4", 900, None, 100, 20, 0.0042],
            ["anthropic", "claude", 900, None, 7, 3, None]],
}


def added(event):
    totals = Totals()
    totals.count_event(event)
    return totals.series


def test_attempts_are_first_ones_fallbacks_and_repeats():
    series = added(FELL_OVER)
    assert series[f.ATTEMPTS] == {("llm_retry", A): 2, ("llm_retry", B): 1}
    assert series[f.FALLBACKS] == {("llm_retry", A, "rate_limit"): 1}
    assert series[f.REPEATS] == {("llm_retry", A, "rate_limit"): 1}
    assert series[f.ATTEMPT_FAILURES] == {
        ("llm_retry", A, "rate_limit"): 1, ("llm_retry", B, "timeout"): 1
    }
    assert series[f.SKIPPED] == {("llm_retry", "llm:x/y"): 1}
    assert series[f.ATTEMPT_SECONDS][(A,)][:2] == [2, 1.02]


def test_tokens_and_cost_are_those_of_answers():
    series = added(FELL_OVER)
    tokens = {labels[1:]: value[1] for labels, value in series[f.LLM_TOKENS].items()}
    assert tokens == {
        ("openai", "gpt-4", "input"): 100, ("openai", "gpt-4", "output"): 20,
        ("anthropic", "claude", "input"): 7, ("anthropic", "claude", "output"): 3,
    }
    assert series[f.LLM_COST] == {("openai", "gpt-4", "USD"): 0.0042}
    assert series[f.LLM_UNPRICED] == {("anthropic", "claude"): 1}
    assert sorted(labels[3] for labels in series[f.LLM_SECONDS]) == ["", "", "rate_limit"]


def test_a_run_that_failed():
    series = added(dict(FELL_OVER, outcome="failed", cause="quota", end="out_of_time",
                        transitions={"INIT->FINAL": 2}))
    assert series[f.FAILED] == {("llm_retry", "out_of_time", "llm_error", "quota"): 1}
    assert series[f.TRANSITIONS] == {("llm_retry", "INIT", "FINAL"): 2}
    assert not series[f.COMPLETED] and not series[f.RECOVERY_SECONDS]


def test_an_action_alone_is_no_run_but_its_calls_count():
    series = added(dict(FELL_OVER, alone=True))
    assert not series[f.COMPLETED] and series[f.ATTEMPTS] and series[f.LLM_COST]


@pytest.mark.parametrize("event", [
    {}, {"kind": "end"}, {"kind": 7}, {"kind": "end", "targets": 7, "llm": {}, "transitions": []},
    {"kind": "end", "targets": ["a"], "causes": [], "latency_ms": [None]},
    {"kind": "end", "targets": ["a"], "causes": [None], "latency_ms": ["7"], "duration": "x"},
    {"kind": "end", "llm": [7, [], [1, 2, 3, 4, 5, 6, 7]], "duration": float("nan")},
    {"kind": "end", "workflow": {"x": 1}, "outcome": ["y"], "duration": -1, "skipped": [{}]},
])
def test_what_a_hand_wrote_ends_nothing(event):
    totals = Totals()
    totals.count_event(event)
    prometheus_text.to_prometheus_text(totals.series)
    assert all(labels.count(None) == 0 for rows in totals.series.values() for labels in rows)


def test_every_label_is_bounded():
    labels = {label for family in f.TOTALS for label in family.labels}
    assert labels == set(MAX_LABEL_VALUES)
    totals = Totals(max_values={"agent": 2}, reserved={"agent": {"configured"}})
    for agent in ("a", "b", "c", "d", "configured", "a", "x" * 200):
        totals.observe(f.AGENT_CALLS, (agent, "success"), 1)
    counts = {labels[0]: value for labels, value in totals.series[f.AGENT_CALLS].items()}
    assert counts == {"a": 2, "b": 1, OTHER: 3, "configured": 1}
    # Who has a series keeps it, and nobody new gets one.
    again = Totals(json.loads(json.dumps(totals.as_dict())), max_values={"agent": 2})
    for agent in ("b", "e"):
        again.observe(f.AGENT_CALLS, (agent, "success"), 1)
    counts = {labels[0]: value for labels, value in again.series[f.AGENT_CALLS].items()}
    assert counts == {"a": 2, "b": 2, OTHER: 4, "configured": 1}


def agent_calls(totals):
    return {labels[0]: value for labels, value in totals.series[f.AGENT_CALLS].items()}


def test_the_agent_that_was_not_called_for_longest_gives_way_once_it_is_idle():
    def counted(totals, agent):
        totals.observe(f.AGENT_CALLS, (agent, "success"), 1)
        totals.observe(f.AGENT_SECONDS, (agent,), 0.5)
        return Totals(totals.as_dict(), {"agent": 2}, {}, totals.seen, totals._now, 600)

    totals = Totals(max_values={"agent": 2}, now=1000.0, idle_seconds=600)
    totals = counted(totals, "a")
    totals._now = 1100.0
    totals = counted(totals, "b")
    totals._now = 1599.0
    totals = counted(totals, "c")
    assert agent_calls(totals) == {"a": 1, "b": 1, OTHER: 1}
    totals._now = 1600.0
    totals = counted(totals, "c")
    # What the one that is gone had counted is nobody's: `other` would count it twice.
    assert agent_calls(totals) == {"b": 1, "c": 1, OTHER: 1}
    assert {labels[0] for labels in totals.series[f.AGENT_SECONDS]} == {"b", "c", OTHER}
    totals._now = 1700.0
    assert agent_calls(counted(totals, "a")) == {"a": 1, "c": 1, OTHER: 1}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_agents_come_the_series_are_bounded_and_no_count_is_lost_or_doubled(seed):
    chance = random.Random(seed)
    max_agents, idle, now = chance.randint(0, 5), 600, 0.0
    names, always = ["a%d" % n for n in range(12)], frozenset(["a0", "a1"])
    stored, seen, gone, last, counts = None, None, 0, {}, {}
    for _ in range(60):
        now += chance.choice([1, 60, 599, 900])
        totals = Totals(stored, {"agent": max_agents}, {"agent": always}, seen, now, idle)
        for _ in range(chance.randint(1, 8)):
            before, agent = agent_calls(totals), chance.choice(names)
            totals.observe(f.AGENT_CALLS, (agent, "success"), 1)
            after = agent_calls(totals)
            left = set(before) - set(after)
            assert len(left) <= 1 and not left & always
            # It was idle, and nobody was idle for longer.
            for name in left:
                assert now - last[name] >= idle
                assert last[name] == min(
                    last[agent] for agent in before if agent not in always | {OTHER}
                )
                gone += before[name]
            grown = {name: value - before.get(name, 0) for name, value in after.items()}
            assert {name for name, value in grown.items() if value} <= {agent, OTHER}
            assert sum(grown.values()) == 1
            if agent in after:
                last[agent] = now
            counts[agent] = counts.get(agent, 0) + 1
            assert len(set(after) - always - {OTHER}) <= max_agents
        stored, seen = json.loads(json.dumps(totals.as_dict())), totals.seen
    assert sum(agent_calls(totals).values()) + gone == sum(counts.values())


def test_totals_survive_json():
    totals = Totals()
    totals.count_event(FELL_OVER)
    stored = json.loads(json.dumps(totals.as_dict()))
    assert prometheus_text.to_prometheus_text(
        Totals(stored).series
    ) == prometheus_text.to_prometheus_text(totals.series)


def test_what_another_version_kept_does_no_harm():
    stored = {"gone_total": [[["a"], 1]], f.STARTED.name: [[["a", "b"], 1], [["w"], 2]],
            f.RUN_SECONDS.name: [[["w", "failed"], [1, 2.0, [1, 0]]]]}
    series = Totals(stored).series
    assert series[f.STARTED] == {("w",): 2} and not series[f.RUN_SECONDS]


def test_the_text_format():
    family = f.Family("x_seconds", f.HISTOGRAM, "a \\ b\nc", ("l",), (0.5, 2.5))
    text = prometheus_text.to_prometheus_text({
        family: {('q"\\\n',): [3, 7.25, [1, 1, 1]]},
        f.Family("y_total", f.COUNTER, "Y."): {(): 3},
        f.Family("z_total", f.COUNTER, "Z."): {},
    })
    assert text == (
        "# HELP x_seconds a \\\\ b\\nc\n"
        "# TYPE x_seconds histogram\n"
        'x_seconds_bucket{l="q\\"\\\\\\n",le="0.5"} 1\n'
        'x_seconds_bucket{l="q\\"\\\\\\n",le="2.5"} 2\n'
        'x_seconds_bucket{l="q\\"\\\\\\n",le="+Inf"} 3\n'
        'x_seconds_sum{l="q\\"\\\\\\n"} 7.25\n'
        'x_seconds_count{l="q\\"\\\\\\n"} 3\n'
        "# HELP y_total Y.\n"
        "# TYPE y_total counter\n"
        "y_total 3\n"
    )


def test_json():
    metrics = prometheus_text.to_json({f.STARTED: {("w",): 2}, f.RUN_SECONDS: {
        ("w", "failed"): [1, 0.7, [0, 1] + [0] * 11]
    }})
    assert metrics[0]["samples"] == [{"labels": {"workflow": "w"}, "value": 2}]
    sample = metrics[1]["samples"][0]
    assert (sample["count"], sample["sum"]) == (1, 0.7)
    assert sample["buckets"][:2] == [[0.5, 0], [1.0, 1]] and sample["buckets"][-1] == [None, 1]


def every_metric():
    rows = {}
    for family in f.FAMILIES:
        labels = tuple("v" for _ in family.labels)
        histogram = [1, 0.5, [1] + [0] * len(family.buckets)]
        rows[family] = {labels: histogram if family.buckets else 1}
    return rows


def test_names_are_prometheus_s():
    for family in f.FAMILIES:
        assert (family.type == f.COUNTER) == family.name.endswith("_total")
        assert family.name.startswith(("synthralos_", "gen_ai_client_"))
        assert (family.type == f.HISTOGRAM) == bool(family.buckets)
        assert list(family.buckets) == sorted(set(family.buckets))
    assert len({family.name for family in f.FAMILIES}) == len(f.FAMILIES)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's prometheus)")
def test_promtool_finds_nothing_wrong():
    process = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=prometheus_text.to_prometheus_text(every_metric()).encode(),
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (process.returncode, process.stdout + process.stderr) == (0, b"")


def test_counting_is_of_events_only():
    assert list(event_mapping.updates_for({"kind": "start", "workflow": "w"})) == [
        (f.STARTED, ("w",), 1)
    ]


@pytest.mark.parametrize("timestamps, seconds_before", [
    ((), 0), ((None, 7, {}, "soon"), 0), (("2023-11-14T22:12:20Z",), 60),
    (("2023-11-14T21:12:20-01:00",), 0),
    (("2023-11-14T22:13:21Z",), 0), (("2023-11-01T00:00:00Z", "2023-11-14T22:12:20Z"), 60),
])
def test_when_it_failed(timestamps, seconds_before):
    assert 1_700_000_000.0 - workflow_run.failed_at(1_700_000_000.0, *timestamps) == seconds_before
