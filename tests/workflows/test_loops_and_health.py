"""Loop detection, pauses and health through the real actions."""
import base64
import json

AGENT = "invoice-bot"


def act(world, name, **parameters):
    """(status, result) of a single action."""
    execution = world.local.run("synthralos." + name, parameters)
    return execution["status"], execution["result"]["result"]


def check(world, **more):
    parameters = {
        "agent_id": AGENT,
        "action": "search",
        "input": {"query": "x"},
        "output": "nothing",
    }
    return act(world, "loop.check", **dict(parameters, **more))[1]


def test_a_loop_warns_then_pauses_then_is_reset(world):
    seen = [check(world) for _ in range(4)]
    assert [result["level"] for result in seen] == ["none", "none", "warn", "critical"]
    assert seen[-1]["paused"] and seen[-1]["pause"]["by"] == "loop_detector"
    assert seen[-1]["summary"] == (
        "invoice-bot: search was repeated 4 times with the same outcome (paused)"
    )
    patterns = act(world, "loop.patterns", agent_id=AGENT)[1]["patterns"]
    assert [pattern["kind"] for pattern in patterns] == ["identical"]
    status, health = act(world, "health.get")
    assert (status, health["status"]) == ("succeeded", "degraded")
    assert [paused["agent_id"] for paused in health["pauses"]] == [AGENT]
    status, reset = act(world, "loop.reset", agent_id=AGENT)
    assert (status, reset["resumed"]) == ("succeeded", True)
    after = check(world)
    assert (after["level"], after["steps"], after["paused"]) == ("none", 1, False)


def test_an_output_that_is_json_in_words_or_encoded(world):
    document = json.dumps({"items": ["{{ config_context.x }}"], "took": 1})
    encoded = "base64:" + base64.b64encode(document.encode()).decode()
    for output in (encoded, encoded):
        result = check(world, output=output)
    assert result["steps"] == 2 and result["level"] == "none"
    result_text = json.dumps(world.local.run("synthralos.loop.check", {
        "agent_id": AGENT, "action": "search", "input": {"query": "x"}, "output": encoded,
    })["result"])
    assert "config_context" not in result_text


def test_progress_keeps_a_busy_agent_going(world):
    for n in range(6):
        assert check(world, progress=n)["level"] == "none"


def test_a_person_pauses_and_resumes_an_agent(world):
    status, result = act(
        world, "agent.pause", agent_id=AGENT, reason="maintenance", probe_seconds=60
    )
    assert status == "succeeded" and result["paused"]
    assert (result["pause"]["by"], result["pause"]["reason"]) == ("person", "maintenance")
    assert result["pause"]["probe_at"] < result["pause"]["until"]
    assert check(world)["paused"]
    status, result = act(world, "agent.resume", agent_id=AGENT)
    assert (status, result["resumed"]) == ("succeeded", True)
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
        status, result = act(world, action, **parameters)
        assert (status, result["error"]["cause"]) == ("failed", "refused"), action
        assert result["error"]["field"] == field and result["error"]["hint"]


def test_health_of_what_is_configured(world):
    status, health = act(world, "health.get")
    assert (status, health["status"]) == ("succeeded", "healthy")
    assert health["breakers"]["platform:synthralos"] == "closed"
    assert health["breakers"]["llm:openai/gpt-4"] == "closed"
    assert health["breakers"]["route:google/us-west-2"] == "closed"
    assert health["subsystem_status"]["notifications"] == "ok"
    world.run("llm_retry", original_request={"prompt": "Hi", "model": "gpt-4"},
              failure_reason="Rate limit exceeded")
    stats = act(world, "health.get")[1]["stats"]
    assert (stats["total_errors"], stats["success_rate"]) == (1, 1.0)
    assert stats["by_target"]["llm:openai/gpt-4"]["answered"] == 1
