"""Loop detection, pauses and health through the real actions."""
import base64
import json

AGENT = "invoice-bot"


def act(world, name, **parameters):
    """(status, result) of a single action."""
    execution = world.local.run("synthralos." + name, parameters)
    return execution["status"], execution["result"]["result"]


def check(world, **more):
    given = {"agent_id": AGENT, "action": "search", "input": {"query": "x"}, "output": "nothing"}
    return act(world, "loop.check", **dict(given, **more))[1]


def test_a_loop_warns_then_pauses_then_is_reset(world):
    seen = [check(world) for _ in range(4)]
    assert [found["level"] for found in seen] == ["none", "none", "warn", "critical"]
    assert seen[-1]["paused"] and seen[-1]["pause"]["by"] == "loop_detector"
    assert seen[-1]["summary"] == (
        "invoice-bot: search was repeated 4 times with the same outcome (paused)"
    )
    found = act(world, "loop.patterns", agent_id=AGENT)[1]["patterns"]
    assert [pattern["kind"] for pattern in found] == ["identical"]
    status, told = act(world, "health.get")
    assert (status, told["status"]) == ("succeeded", "degraded")
    assert [paused["agent_id"] for paused in told["pauses"]] == [AGENT]
    status, done = act(world, "loop.reset", agent_id=AGENT)
    assert (status, done["resumed"]) == ("succeeded", True)
    after = check(world)
    assert (after["level"], after["steps"], after["paused"]) == ("none", 1, False)


def test_an_output_that_is_json_in_words_or_encoded(world):
    told = json.dumps({"items": ["{{ config_context.x }}"], "took": 1})
    encoded = "base64:" + base64.b64encode(told.encode()).decode()
    for output in (encoded, encoded):
        found = check(world, output=output)
    assert found["steps"] == 2 and found["level"] == "none"
    shown = json.dumps(world.local.run("synthralos.loop.check", {
        "agent_id": AGENT, "action": "search", "input": {"query": "x"}, "output": encoded,
    })["result"])
    assert "config_context" not in shown


def test_progress_keeps_a_busy_agent_going(world):
    for n in range(6):
        assert check(world, progress=n)["level"] == "none"


def test_a_person_pauses_and_resumes_an_agent(world):
    status, told = act(world, "agent.pause", agent_id=AGENT, reason="maintenance", probe_seconds=60)
    assert status == "succeeded" and told["paused"]
    assert (told["pause"]["by"], told["pause"]["reason"]) == ("person", "maintenance")
    assert told["pause"]["probe_at"] < told["pause"]["until"]
    assert check(world)["paused"]
    status, told = act(world, "agent.resume", agent_id=AGENT)
    assert (status, told["resumed"]) == ("succeeded", True)
    assert act(world, "agent.resume", agent_id=AGENT)[1]["resumed"] is False
    assert not check(world)["paused"]


def test_refusals_name_the_field_and_the_way_out(world):
    for action, field, parameters in (
        ("loop.check", "agent_id", {"agent_id": "a b", "action": "x"}),
        ("loop.check", "action", {"agent_id": "a", "action": "no name"}),
        ("loop.check", "output", {"agent_id": "a", "action": "x", "output": "base64:%"}),
        ("loop.patterns", "agent_id", {"agent_id": "<%"}),
        ("loop.reset", "agent_id", {"agent_id": "a b"}),
        ("agent.pause", "agent_id", {"agent_id": "a b", "reason": "x"}),
        ("agent.pause", "reason", {"agent_id": "a", "reason": " "}),
        ("agent.pause", "probe_seconds",
         {"agent_id": "a", "reason": "x", "seconds": 60, "probe_seconds": 60}),
        ("agent.resume", "agent_id", {"agent_id": "a b"}),
        ("health.get", "agent_id", {"agent_id": "a b"}),
    ):
        status, told = act(world, action, **parameters)
        assert (status, told["error"]["cause"]) == ("failed", "refused"), action
        assert told["error"]["field"] == field and told["error"]["hint"]


def test_health_of_what_is_configured(world):
    status, told = act(world, "health.get")
    assert (status, told["status"]) == ("succeeded", "healthy")
    assert told["breakers"]["platform:synthralos"] == "closed"
    assert told["breakers"]["llm:openai/gpt-4"] == "closed"
    assert told["breakers"]["route:google/us-west-2"] == "closed"
    assert told["subsystem_status"]["notifications"] == "ok"
    world.run("llm_retry", original_request={"prompt": "Hi", "model": "gpt-4"},
              failure_reason="Rate limit exceeded")
    stats = act(world, "health.get")[1]["stats"]
    assert (stats["total_errors"], stats["success_rate"]) == (1, 1.0)
    assert stats["by_target"]["llm:openai/gpt-4"]["answered"] == 1
