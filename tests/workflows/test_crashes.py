"""Whatever becomes of an action's process, the run ends failed, with its output and its record."""
import pytest

CRASHES = {
    "raises": "raise RuntimeError('gone')",
    "exits": "import os; os._exit(3)",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "returns nothing": "return None",
    "returns text": "return 'text'",
    "fails with text": "return False, 'text'",
    "says next is text": "return False, {'next': 'text'}",
}
SOURCE = """
from st2common.runners.base_action import Action


class Crashing(Action):
    def run(self, **parameters):
        %s
"""
RUNS = {
    "agent_recovery": {"agent_id": "a", "failure_type": "error", "original_query": "q"},
    "llm_retry": {
        "original_request": {"prompt": "Hello", "model": "gpt-4"}, "failure_reason": "x",
    },
    "reroute_request": {"original_request": {"endpoint": "/x"}, "failure_reason": "x"},
}
TASKS = [
    ("agent_recovery", "analyze_agent_failure"),
    ("agent_recovery", "generate_repair_plan"),
    ("agent_recovery", "execute_recovery"),
    ("llm_retry", "determine_retry_strategy"),
    ("llm_retry", "call_llm"),
    ("reroute_request", "analyze_routing_failure"),
    ("reroute_request", "execute_request"),
]


@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
@pytest.mark.parametrize("workflow, action", TASKS, ids=[action for _, action in TASKS])
def test_a_crash_is_logged_and_the_run_fails_with_output(world, workflow, action, crash):
    world.with_action(action, SOURCE % crash)
    run, output = world.run(workflow, **RUNS[workflow])
    assert run["status"] == "failed"
    assert output["success"] is False and output["ticket"]
    assert world.tasks(run)[-1].startswith("log_")


@pytest.mark.parametrize("workflow, log", [
    ("agent_recovery", "log_recovery_failure"),
    ("llm_retry", "log_retry_failure"),
    ("reroute_request", "log_reroute_failure"),
])
def test_a_crash_of_the_log_task_still_renders_the_output(world, workflow, log):
    world.config = {}
    world.with_action(log, SOURCE % CRASHES["raises"])
    run, output = world.run(workflow, **RUNS[workflow])
    assert run["status"] == "failed" and output["success"] is False
