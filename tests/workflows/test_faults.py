"""What goes wrong around a run: the datastore, the platform, cancel and pause, the crowd."""
import threading

import pytest
from fixtures.waiting import ENDLESS_SECONDS, PATIENCE_SECONDS, let_pass, limit_under_test, until

from sandbox import agent_failed, cut, delay, malformed, ok, rate_limit, reset, status

FAILED = {"agent_id": "a", "failure_type": "error", "original_query": "q"}
PROMPT = {"prompt": "Hello", "model": "gpt-4"}


class Away:
    """A datastore whose every call raises; counts them."""

    def __init__(self, error):
        self.error, self.calls = error, 0

    def __getattr__(self, name):
        def call(*arguments, **options):
            self.calls += 1
            raise self.error

        return call


def forbidden():
    from st2local.errors import InvalidInput

    class Forbidden(InvalidInput):
        status = 403

    return Forbidden("User doesn't have required permission")


@pytest.fixture(params=["away", "forbidden"])
def no_keys(request, world):
    world.local.keys = Away(RuntimeError("gone") if request.param == "away" else forbidden())
    return world


def results(world, run):
    children = world.local.executions(parent=run["id"])
    return [child["result"]["result"] for child in children]


def test_without_a_datastore_runs_go_on_and_say_what_was_not_recorded(no_keys):
    run, output = no_keys.run("agent_recovery", **FAILED)
    assert output["success"]
    notes = [result["unrecorded"] for result in results(no_keys, run) if "unrecorded" in result]
    notes.sort(key=len)
    # The task that begins tells what it could not count; the one that ends, all else.
    assert len(notes) == 2 and "uncounted" in notes[0] and "outcome" not in notes[0]
    assert "outcome" in notes[1] and "run" in notes[1]


def test_without_a_datastore_a_failure_still_ends_failed_with_output(no_keys):
    no_keys.box.script("platform", [status(400)], forever=True)
    run, output = no_keys.run("agent_recovery", **FAILED)
    assert run["status"] == "failed" and output["error"]["cause"] == "bad_request"
    assert output["ticket"] is None


def test_an_action_asks_a_datastore_that_is_away_once(world):
    world.local.keys = away = Away(RuntimeError("gone"))
    world.run("llm_retry", original_request=PROMPT, failure_reason="x")
    assert away.calls <= 2


def test_who_may_not_list_keys_may_still_read_a_credential(world):
    world.config["providers"][0].pop("api_key")
    world.config["providers"][0]["api_key_from"] = "openai_key"
    world.local.keys.set("openai_key", "sandbox-openai-key", encrypt=True)

    def refuse(*arguments, **options):
        raise forbidden()

    world.local.keys.list = world.local.keys.set = refuse
    run, output = world.run("llm_retry", original_request=PROMPT, failure_reason="x")
    assert output["success"] and output["final_model"] == "gpt-4"


def test_a_list_of_tickets_that_cannot_be_read_is_not_an_empty_list(no_keys):
    run = no_keys.local.run("synthralos.ticket.list", {})
    assert run["status"] == "failed" and run["result"]["result"]["error"]


@pytest.mark.parametrize(
    "fault",
    [reset(), cut(), malformed(), status(500), status(503), status(302), status(418),
     delay(ENDLESS_SECONDS), ok(body=[1, 2]), ok(body="plain text")],
    ids=["reset", "cut", "malformed", "500", "503", "redirect", "418", "slow", "list", "text"],
)
def test_whatever_the_platform_does_the_run_ends_in_a_defined_state(world, fault):
    world.config["attempt_timeouts"] = {"agent": 0.5}
    world.box.script("platform", [fault], forever=True)
    run, output = world.run("agent_recovery", retry_delay=0, max_retries=1, **FAILED)
    assert run["status"] == "failed" and output["ticket"] and output["error"]["reason"]
    assert 1 <= output["attempts"] <= 2


def test_a_run_ends_before_its_time_out(world):
    world.box.script("platform", [delay(ENDLESS_SECONDS)], forever=True)
    run, output = world.run(
        "agent_recovery", timeout=limit_under_test(6), retry_delay=0, max_retries=10, **FAILED)
    # By itself, with its record, though the platform would never have answered.
    assert run["status"] == "failed" and output["error"]["cause"] == "timeout"
    assert output["ticket"]


@pytest.fixture
def waiting(world):
    """The world with its back-off, so that runs wait: for as long as they would, or until
    `waiting.over` is set.
    """
    world.config["backoff"] = {"strategy": "exponential"}
    world.over = threading.Event()
    yield world
    world.over.set()


def wait_for_a_delay(world):
    until(lambda: world.local.delays, "an attempt waits")


def test_cancel_during_a_wait_stops_the_run(waiting):
    waiting.box.script("platform", [agent_failed()], forever=True)
    slow = dict(FAILED, retry_delay=300, timeout=3600)
    handle = waiting.local.start("synthralos.agent_recovery", slow)
    wait_for_a_delay(waiting)
    handle.cancel()
    assert handle.wait(PATIENCE_SECONDS)["status"] == "canceled"
    assert len(waiting.box.calls_to("platform")) == 1


def test_pause_and_resume_during_a_wait(waiting):
    waiting.box.script("platform", [agent_failed(), agent_failed(), ok(text="42")])
    waiting.delay = lambda seconds: waiting.over.wait(PATIENCE_SECONDS)
    handle = waiting.local.start("synthralos.agent_recovery", dict(FAILED, retry_delay=1))
    wait_for_a_delay(waiting)
    handle.pause()
    handle.wait_for("pausing")
    waiting.over.set()
    handle.wait_for("paused")
    calls = len(waiting.box.calls_to("platform"))
    let_pass(1.5)
    assert len(waiting.box.calls_to("platform")) == calls < 3
    handle.resume()
    run = handle.wait(PATIENCE_SECONDS)
    assert run["status"] == "succeeded"
    assert run["result"]["output"]["recovery_result"]["output"] == "42"


def test_twenty_runs_at_once_for_one_agent_lose_no_record(world):
    world.box.script("platform", [status(422)], forever=True)
    ended = []

    def run_once():
        ended.append(world.run("agent_recovery", **FAILED))

    threads = [threading.Thread(target=run_once) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run["status"] for run, _ in ended} == {"failed"}
    assert len({output["ticket"] for _, output in ended}) == 1
    ticket = world.local.run("synthralos.ticket.get", {"ticket_id": ended[0][1]["ticket"]})
    runs = {event["run"] for event in ticket["result"]["result"]["ticket"]["events"]}
    assert runs == {run["id"] for run, _ in ended}
    for kind in ("history.", "run.", "outcome."):
        assert len(world.local.keys.list(prefix="synthralos." + kind)) == 20, kind
    keys = [call.headers["idempotency-key"] for call in world.box.calls_to("platform")]
    assert len(keys) == len(set(keys)) == 20


def test_a_request_that_is_sent_again_bears_the_same_key(world):
    world.box.script("llm:openai/gpt-4", [status(503), rate_limit(retry_after=0), ok()])
    world.run("llm_retry", original_request=PROMPT, failure_reason="x", max_retries=3)
    keys = [call.headers["idempotency-key"] for call in world.box.calls_to("llm:*")]
    assert len(keys) == 3 and len(set(keys)) == 1


def test_the_switch_stops_what_rules_start_and_nothing_else(world):
    world.local.keys.set("synthralos.enabled", "false")
    _, output = world.run("agent_recovery", **FAILED)
    assert output["success"]
    run = world.local.run(
        "synthralos.agent_recovery",
        dict(FAILED, original_query="@trigger"),
        trigger_instance={"payload": {"original_query": "from the trigger"}},
        rule="synthralos.some_rule",
    )
    assert run["status"] == "failed"
    assert run["result"]["output"]["error"]["field"] == "synthralos.enabled"
    assert len(world.box.calls_to("platform")) == 1
    world.local.keys.set("synthralos.enabled", "true")
    run = world.local.run(
        "synthralos.agent_recovery",
        dict(FAILED, original_query="@trigger"),
        trigger_instance={"payload": {"body": {"original_query": "from the trigger"}}},
        rule="synthralos.some_rule",
    )
    assert run["status"] == "succeeded"
    assert world.box.calls_to("platform")[-1].body["query"].startswith("from the trigger")


def test_pack_check_says_what_works_and_what_does_not(world):
    world.box.kill("route:google")
    world.config["providers"][0]["api_key"] = "wrong"
    run = world.local.run("synthralos.pack.check", {})
    checks = {check["name"]: check for check in run["result"]["result"]["checks"]}
    assert run["status"] == "failed"
    assert checks["llm:openai"]["status"] == "failed"
    assert "api_key" in checks["llm:openai"]["hint"]
    assert checks["route:google/eu-west-1"]["status"] == "failed"
    for name in ("datastore", "platform:synthralos", "llm:anthropic", "route:openai/us-east-1"):
        assert checks[name]["status"] == "ok", checks[name]
    assert checks["planner"]["status"] == "not_configured"
