import asyncio

import pytest

from synthralos.recovery.error_handling import ErrorHandlingSystem, adjusted_prompt
from synthralos.refusals import Refused

CONTEXT = {"agent_id": "trainer_01", "task_id": "training"}


class Agent:
    """Fails `times` times, then answers."""

    def __init__(self, times):
        self.times, self.prompts = times, []

    def __call__(self, prompt=None):
        self.prompts.append(prompt)
        if len(self.prompts) <= self.times:
            raise ConnectionError("reset")
        return "done"

    async def later(self, prompt=None):
        return self(prompt)


@pytest.fixture
def slept():
    return []


@pytest.fixture
def system(slept):
    async def sleep(seconds):
        slept.append(seconds)

    return ErrorHandlingSystem(sleep=sleep)


def handled(system, error, callback=None, **context):
    return asyncio.run(system.handle_error(error, dict(CONTEXT, **context), callback))


@pytest.mark.parametrize("wrapped", ["function", "coroutine"])
def test_a_transient_error_is_retried_until_it_recovers(system, slept, wrapped):
    agent = Agent(1)
    callback = agent if wrapped == "function" else agent.later
    told = handled(system, ConnectionError("reset"), callback)
    assert told["success"] and told["result"] == "done" and told["strategy"] == "auto_retry"
    assert len(slept) == 2 and 0.75 <= slept[0] <= 1.25 and 1.5 <= slept[1] <= 2.5
    health = system.get_system_health()
    assert health["active_errors"] == 0
    assert health["stats"]["successful_recoveries"] == health["stats"]["total_errors"] == 1


def test_the_prompt_is_adjusted_further_with_each_attempt(system):
    agent = Agent(2)
    handled(system, TimeoutError("slow"), agent, prompt="Train it")
    assert [prompt.startswith("Train it") for prompt in agent.prompts] == [True] * 3
    assert len(agent.prompts[0]) < len(agent.prompts[1]) < len(agent.prompts[2])
    assert adjusted_prompt(None, 1, "timeout") is None


def test_max_retries_and_delays_come_from_the_config(slept):
    async def sleep(seconds):
        slept.append(seconds)

    config = {"retry": {"max_retries": 5, "base_delay": 2.0, "backoff_multiplier": 1.5}}
    system = ErrorHandlingSystem(config, sleep=sleep)
    agent = Agent(9)
    told = handled(system, TimeoutError("slow"), agent)
    assert not told["success"] and told["escalated"] and told["ticket"]
    assert len(agent.prompts) == len(slept) == 5
    for seconds, whole in zip(slept, (2, 3, 4.5, 6.75, 10.125)):
        assert 0.75 * whole <= seconds <= 1.25 * whole


def test_the_config_of_the_guide_is_taken():
    ErrorHandlingSystem({
        "retry": {"max_retries": 5, "base_delay": 2.0, "backoff_multiplier": 1.5,
                  "max_delay": 60.0, "adaptive_learning": True},
        "rollback": {"max_snapshots": 20, "cleanup_after_hours": 48, "compression_enabled": True,
                     "verification_enabled": True},
        "escalation": {"max_auto_recovery_attempts": 3, "escalation_timeout": 600,
                       "critical_error_types": ["resource_error", "infinite_loop"],
                       "notification_channels": {"email": True, "slack": True, "webhook": False}},
        "loop_detection": {"max_iterations": 100, "similarity_threshold": 0.9,
                           "time_window_seconds": 600, "enable_auto_pause": True},
        "history": {"max_versions": 200, "retention_days": 60, "compression_enabled": True},
    })


def test_a_wrong_config_names_its_entry():
    with pytest.raises(Refused, match="retry.max_retries"):
        ErrorHandlingSystem({"retry": {"max_retries": 99}})


def rolled_back(system, agent, restore):
    context = {"agent_id": "trainer_01", "task_id": "training", "strategy": "rollback"}
    error = RuntimeError("x")
    return asyncio.run(system.handle_error(error, context, agent, restore_callback=restore))


def test_a_rollback_puts_the_state_back_and_runs_the_work_again(system):
    state, put_back = {"learning_rate": 0.001}, []
    snapshot = system.create_snapshot("trainer_01", "training", state)
    told = rolled_back(system, None, put_back.append)
    assert told["success"] and told["snapshot"] == snapshot and told["restored"]
    assert put_back == [state]
    told = rolled_back(system, lambda: "done again", put_back.append)
    assert told["success"] and told["result"] == "done again" and put_back == [state, state]
    assert told["strategies_tried"] == ["rollback", "auto_retry"]


def test_a_state_that_nobody_put_back_is_no_success(system):
    system.create_snapshot("trainer_01", "training", {"a": 1})
    told = rolled_back(system, None, None)
    assert not told["success"] and told["state"] == {"a": 1} and not told["restored"]

    def refuse(state):
        raise OSError("the disk is full")

    told = rolled_back(system, None, refuse)
    assert not told["success"] and "the disk is full" in told["steps"][0]["summary"]


@pytest.mark.parametrize("error", [MemoryError("full"), PermissionError("no")])
def test_a_lack_of_resources_is_escalated_at_once(system, error):
    agent = Agent(0)
    told = handled(system, error, agent)
    assert told["escalated"] and told["strategy"] == "escalation" and agent.prompts == []
    assert system.get_system_health()["stats"]["escalations"] == 1


def test_a_loop_pauses_the_agent(system):
    agent = Agent(99)
    seen = [handled(system, TimeoutError("slow"), agent)["strategy"] for _ in range(8)]
    assert "circuit_breaker" in seen


def test_it_can_be_shut_down(system):
    handled(system, MemoryError("full"))
    assert system.get_system_health()["active_errors"] == 1
    asyncio.run(system.shutdown())
    assert system.get_system_health()["active_errors"] == 0
