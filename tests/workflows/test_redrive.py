"""recovery.redrive, on st2local: after an outage, failed runs once more."""
import pytest
from fixtures.waiting import PATIENCE_SECONDS, let_pass, until
from workflows.orchestrations import Orchestrated, statuses
from workflows.test_joined_agents import (
    ANSWER,
    Agent,
    answer_of,
    let_it_die,
    rounds,
    start,
)

from sandbox import content_policy, ok, rate_limit, reset, status
from sandbox.langgraph import LangGraphServer

GPT4 = "llm:openai/gpt-4"
HOSTILE = "{{ config_context.api_key }} <% 1 + 1 %> <%= erb %> {% raw %}"
# A 429 after which the target may be called again at once.
SHORT = rate_limit(retry_after=1)
# In place of actions/redrives.py: its process is killed the first time that it starts a run.
KILLED = """
import os
import signal

from redrives_as_they_are import Redrives as Original
from synthralos.storage import stackstorm_api

as_it_is = stackstorm_api.Api.re_run


def re_run(self, *arguments):
    mark = %(mark)r
    if not os.path.exists(mark):
        open(mark, "w").close()
        if %(after)r:
            as_it_is(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return as_it_is(self, *arguments)


stackstorm_api.Api.re_run = re_run


class Redrives(Original):
    pass
"""


@pytest.fixture(autouse=True)
def _short_delays(world):
    """A second is enough for a cooldown to end; more rounds do no harm."""
    world.delay = lambda seconds: let_pass(min(seconds, 1))


@pytest.fixture
def outage(world):
    """outage(number, step) -> the ids of runs of llm_retry that failed during an outage."""
    def fail(number, step=SHORT, prompt="Hello %d", **parameters):
        world.box.script(GPT4, [step], forever=True)
        runs = []
        for index in range(number):
            inputs = {
                "original_request": {"prompt": prompt % index, "model": "gpt-4"},
                "failure_reason": "rate limit", "max_retries": 0,
            }
            execution, _ = world.run("llm_retry", **dict(inputs, **parameters))
            assert execution["status"] == "failed", execution["result"]
            runs.append(execution["id"])
        world.box.reset()
        return runs

    return fail


def redrive(world, **parameters):
    inputs = dict({"dry_run": False, "per_minute": 600}, **parameters)
    execution, output = world.run("recovery.redrive", **inputs)
    return execution, output


def prompts(world):
    return sorted(call.body["messages"][-1]["content"] for call in world.box.calls_to(GPT4))


def reruns(world, run):
    return [
        execution for execution in world.local.executions()
        if (execution["context"].get("re-run") or {}).get("ref") == run
    ]


def test_failed_runs_are_answered_once_the_provider_is_back(world, outage):
    runs = outage(4)
    execution, report = redrive(world, dry_run=True)
    assert execution["status"] == "succeeded" and report["outcome"] == "dry_run"
    assert [entry["failed_run"] for entry in report["remaining"]] == runs
    assert world.box.calls_to(GPT4) == []
    execution, report = redrive(world)
    assert execution["status"] == "succeeded" and report["counts"]["recovered"] == 4
    assert execution["result"]["output"]["outcome"] == "completed"
    assert prompts(world) == ["Hello %d" % index for index in range(4)]
    assert len(report["resolved_tickets"]) == 1
    execution, report = redrive(world)
    assert execution["status"] == "succeeded" and report["outcome"] == "nothing_to_redrive"
    assert all(len(reruns(world, run)) == 1 for run in runs)


def test_it_stops_when_the_provider_fails_again(world, outage):
    outage(6)
    world.box.script(GPT4, [ok(text="Hi")] * 2 + [SHORT], forever=True)
    execution, report = redrive(world)
    counts = report["counts"]
    assert execution["status"] == "failed" and report["outcome"] == "stopped"
    assert counts["recovered"] == 2 and counts["failed"] + counts["remaining"] == 4
    assert len(world.box.calls_to(GPT4)) == counts["started"]
    run = world.local.run("synthralos.ticket.get", {"ticket_id": report["ticket"]})
    ticket = run["result"]["result"]["ticket"]
    assert ticket["subject"] == GPT4 and GPT4 + " fails again" in ticket["summary"]
    assert ticket["details"]["failed"] == [entry["run"] for entry in report["failed"]]


@pytest.mark.parametrize("after", [False, True])
def test_a_round_that_is_killed_starts_no_run_twice(world, outage, tmp_path, after):
    runs = outage(3)
    actions = world.copy_pack() / "actions"
    source = (actions / "redrives.py").read_text()
    (actions / "lib" / "redrives_as_they_are.py").write_text(source)
    world.with_action("redrives", KILLED % {"mark": str(tmp_path / "mark"), "after": after})
    world.close()
    world._local = None
    execution, report = redrive(world)
    assert execution["status"] == "failed" and "crashed" in report["stopped"]
    assert report["counts"]["unknown"] == (not after) and report["counts"]["remaining"] == 2
    assert report["ticket"]
    _, rest = redrive(world)
    assert rest["counts"]["recovered"] == 2
    assert [len(reruns(world, run)) for run in runs] == [int(after), 1, 1]
    if not after:
        assert rest["skipped"] == [{
            "run": runs[0], "workflow": "llm_retry", "cause": "rate_limit", "reason": "unknown"}]


def test_hostile_text_comes_through_unchanged(world, outage):
    (run,) = outage(
        1, original_request={"prompt": "base64:" + _encoded(HOSTILE), "model": "gpt-4"})
    execution, report = redrive(world)
    assert execution["status"] == "succeeded" and prompts(world) == [HOSTILE]
    (again,) = reruns(world, run)
    assert "config_context" not in str(again["parameters"])


def _encoded(text):
    import base64

    return base64.b64encode(text.encode()).decode()


def test_a_wrong_parameter_ends_the_redrive_with_its_name(world):
    execution, output = world.run("recovery.redrive", since="{{ 'yesterday' }} at noon")
    assert execution["status"] == "failed" and output["error"]["field"] == "since"


def test_what_would_fail_again_stays_and_is_listed(world, outage):
    world.config["agents"] = {"careful": {"unsafe_to_repeat": True}}
    (refused,) = outage(1, content_policy())
    world.box.script("platform", [rate_limit(retry_after=1)], forever=True)
    unsafe, _ = world.run(
        "agent_recovery", agent_id="careful", failure_type="error", original_query="Pay 4711",
        max_retries=0, failure_details={"message": "rate limit", "code": "rate_limit_exceeded"})
    assert unsafe["status"] == "failed"
    world.box.reset()
    execution, report = redrive(world)
    assert execution["status"] == "succeeded" and report["counts"]["started"] == 0
    assert {entry["run"]: entry["reason"] for entry in report["skipped"]} == {
        refused: "incurable", unsafe["id"]: "unsafe_to_repeat"}
    assert world.box.calls_to(GPT4) == world.box.calls_to("platform") == []


def test_an_orchestration_goes_on_from_its_checkpoint(world):
    flow = Orchestrated(world)
    broken = [status(503)] * 10
    flow.answers["B"] = lambda prompt, number: broken.pop() if broken else "mended"
    flow.define([{"name": name, "role": name.upper()} for name in "abc"])
    first, output = flow.run(input={"q": HOSTILE})
    assert statuses(output) == {"a": "completed", "b": "failed", "c": "skipped"}
    broken.clear()
    world.config["breaker"] = {"open_seconds": 1}
    execution, report = redrive(world)
    assert execution["status"] == "succeeded", report
    (entry,) = report["recovered"]
    assert entry["failed_run"] == first["id"] and entry["workflow"] == "orchestration.run"
    resumed = world.local.execution(entry["run"])
    assert statuses(resumed["result"]["output"]) == dict.fromkeys("abc", "completed")
    assert len(flow.prompts("A")) == 1
    assert redrive(world)[1]["skipped_by_reason"] == {"already_redriven": 1}


def test_an_agent_that_still_works_is_joined(world, tmp_path):
    agent = Agent(tmp_path / "effects")
    with LangGraphServer(agent.work) as graphs:
        world.config["platforms"] = [{
            "name": "graphs", "api": "langgraph", "base_url": graphs.base_url,
            "token": "sandbox-token", "hold_seconds": 1,
        }]
        world.config["agents"] = {"invoices": {"platform": "graphs", "agent": "invoice_graph"}}
        dead = let_it_die(world, start(world), graphs)
        handle = world.local.start("synthralos.recovery.redrive", {"dry_run": False})
        until(lambda: reruns(world, dead["id"]), "it is run again")
        (again,) = reruns(world, dead["id"])
        until(lambda: rounds(world, again["id"]), "the agent is asked for")
        agent.may_end.set()
        execution = handle.wait(PATIENCE_SECONDS)
        assert execution["result"]["output"]["counts"]["recovered"] == 1
        assert answer_of(world.local.execution(again["id"])) == ANSWER
        assert len(graphs.runs) == 1 and agent.lines() == ["paid"]


def test_a_request_whose_answer_was_lost_has_the_same_key_when_it_is_redriven(world):
    """And another one once it is another request."""
    world.box.script("platform", [reset()], forever=True)
    failed, _ = world.run(
        "agent_recovery", agent_id="invoices", failure_type="error", original_query="Pay 4711",
        max_retries=0)
    assert failed["status"] == "failed"
    first = world.box.calls_to("platform")[0]
    world.box.reset()
    execution, report = redrive(world)
    assert report["counts"]["recovered"] == 1, report
    again = world.box.calls_to("platform")[0]
    assert again.body == first.body
    assert again.headers["idempotency-key"] == first.headers["idempotency-key"]


def test_a_start_after_a_known_failure_has_another_key(world):
    world.box.script("platform", [rate_limit(retry_after=1)], forever=True)
    world.run(
        "agent_recovery", agent_id="invoices", failure_type="error", original_query="Pay 4711",
        max_retries=0)
    first = world.box.calls_to("platform")[0]
    world.box.reset()
    assert redrive(world)[1]["counts"]["recovered"] == 1
    again = world.box.calls_to("platform")[0]
    assert again.headers["idempotency-key"] != first.headers["idempotency-key"]
