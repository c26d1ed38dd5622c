"""recovery.redrive and its rule on a live StackStorm."""
import contextlib
import time

import pytest
import requests
from fixtures.waiting import LIVE_PATIENCE_SECONDS, let_pass, until

from sandbox import ok, rate_limit

GPT4 = "llm:openai/gpt-4"
PROBE = "Reply with the word OK."
# A 429 after which the target may be called again a second later.
DOWN = rate_limit(retry_after=1)
# Longer than a run of the rule takes on a busy machine.
TICK_SECONDS = 60


@pytest.fixture(autouse=True)
def _act(st2, box):
    st2.call("PUT", "/configs/synthralos", json=dict(box.pack_config(), automation={"mode": "act"}))
    for kind in ("redrive_claim", "redriven_run"):
        prefix = "synthralos.%s." % kind
        for key in st2.call("GET", "/keys", params={"prefix": prefix, "limit": 100}):
            st2.call("DELETE", "/keys/" + requests.utils.quote(key["name"], safe=""))
    yield
    st2.call("PUT", "/configs/synthralos", json=box.pack_config())


@pytest.fixture
def since():
    let_pass(1)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time()))


def fail(st2, box, number):
    """The ids of so many runs of llm_retry that failed while the provider was down."""
    box.script(GPT4, [DOWN], forever=True)
    runs = [
        st2.start(
            "llm_retry", original_request={"prompt": "Question %d" % index, "model": "gpt-4"},
            failure_reason="rate limit", max_retries=0, timeout=900)
        for index in range(number)
    ]
    assert {st2.wait(run)["status"] for run in runs} == {"failed"}
    return runs


def executions(st2, action, since):
    return st2.call("GET", "/executions", params={
        "action": "synthralos." + action, "timestamp_gt": since, "limit": 100})


def reruns(st2, runs, since):
    """{failed run: the executions that ran it again}."""
    rows = executions(st2, "llm_retry", since)
    again = {run: [] for run in runs}
    for row in rows:
        origin = (row["context"].get("re-run") or {}).get("ref")
        if origin in again:
            again[origin].append(row)
    return again


def prompts(box):
    return [call.body["messages"][-1]["content"] for call in box.calls_to(GPT4)]


@contextlib.contextmanager
def rule_on(st2, seconds, **parameters):
    """The rule, on until the block ends, but more often and for the runs of this test."""
    rule = st2.call("GET", "/rules/synthralos.redrive")
    document = {name: rule[name] for name in ("name", "pack", "description", "criteria")}
    document["type"] = rule["type"]
    document["trigger"] = {
        "type": "core.st2.IntervalTimer", "parameters": {"unit": "seconds", "delta": seconds}}
    original = {"type": rule["trigger"]["type"], "parameters": rule["trigger"]["parameters"]}
    action = {"ref": rule["action"]["ref"], "parameters": rule["action"]["parameters"]}
    changed = dict(action, parameters=dict(action["parameters"], **parameters))
    st2.call("PUT", "/rules/" + rule["id"], json=dict(document, action=changed, enabled=True))
    try:
        yield
    finally:
        st2.call("PUT", "/rules/" + rule["id"], json=dict(
            document, trigger=original, action=action, enabled=False))


def redrives(st2, since, *outcomes):
    """The redrives that have ended with one of these outcomes."""
    return [
        row for row in executions(st2, "recovery.redrive", since)
        if ((row.get("result") or {}).get("output") or {}).get("outcome") in outcomes
    ]


def test_twenty_failed_runs_are_answered_without_anybody_s_hand(st2, box, since):
    runs = fail(st2, box, 20)
    box.reset_calls()
    with rule_on(st2, TICK_SECONDS, since=since, per_minute=120):
        # While the provider is down it is asked, and no run is used up.
        until(lambda: PROBE in prompts(box), "the provider is asked", LIVE_PATIENCE_SECONDS)
        until(lambda: redrives(st2, since, "nothing_to_redrive"), "nothing is started",
              LIVE_PATIENCE_SECONDS)
        assert set(prompts(box)) == {PROBE}
        box.reset()

        def all_answered():
            again = reruns(st2, runs, since)
            return all(
                [row["status"] for row in rows] == ["succeeded"] for rows in again.values()
            )

        until(all_answered, "each run is answered", 2 * LIVE_PATIENCE_SECONDS)
        until(lambda: redrives(st2, since, "completed"), "the redrive ends", LIVE_PATIENCE_SECONDS)
    questions = [prompt for prompt in prompts(box) if prompt != PROBE]
    assert sorted(questions) == sorted("Question %d" % index for index in range(20))
    (redrive,) = redrives(st2, since, "completed")
    assert redrive["status"] == "succeeded"
    assert redrive["result"]["output"]["counts"]["recovered"] == 20
    execution, output = st2.run("recovery.redrive", since=since, dry_run=False)
    assert execution["status"] == "succeeded" and output["outcome"] == "nothing_to_redrive"
    assert output["skipped_by_reason"] == {"already_redriven": 20}


def test_it_stops_when_the_provider_is_down_again(st2, box, since):
    runs = fail(st2, box, 10)
    box.reset()
    # The probe, and three runs.
    box.script(GPT4, [ok(text="OK")] * 4 + [DOWN], forever=True)
    with rule_on(st2, TICK_SECONDS, since=since, per_minute=120):
        until(lambda: redrives(st2, since, "stopped"), "it stops", 2 * LIVE_PATIENCE_SECONDS)
        (redrive,) = redrives(st2, since, "stopped")
        # Further runs of the rule leave the target alone.
        number = len(redrives(st2, since, "nothing_to_redrive"))
        until(lambda: len(redrives(st2, since, "nothing_to_redrive")) > number, "the rule runs",
              LIVE_PATIENCE_SECONDS)
    output = redrive["result"]["output"]
    counts = output["counts"]
    assert redrive["status"] == "failed" and GPT4 + " fails again" in output["stopped"]
    assert counts["recovered"] == 3 and counts["remaining"] >= 1
    again = reruns(st2, runs, since)
    assert sorted(map(len, again.values())) == [0] * counts["remaining"] + [1] * counts["started"]
    assert len(prompts(box)) == 1 + counts["started"]
    execution, _ = st2.run("ticket.get", ticket_id=output["ticket"])
    ticket = execution["result"]["result"]["ticket"]
    assert ticket["details"]["failed"] == [entry["run"] for entry in output["failed"]]
