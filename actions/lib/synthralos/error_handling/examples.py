"""Six demonstrations of the error handling system, in memory and in some seconds.

    PYTHONPATH=actions/lib python -m synthralos.error_handling.examples

Each prints what it shows. The exit status is 1 when one of them did not show it.
"""
import asyncio
import sys
from collections.abc import Awaitable
from typing import Any, Callable, Optional

from synthralos.error_handling import (
    ErrorContext,
    ErrorHandlingSystem,
    ErrorType,
    EscalationLevel,
    HandledError,
    Severity,
)

# Waits that a person does not notice.
CONFIG = {"retry": {"base_delay": 0.05, "max_delay": 0.2}}


class DemonstrationFailed(Exception):
    """A demonstration did not show what it is there to show."""


def show(text: str, holds: bool = True) -> None:
    """Prints a line. DemonstrationFailed when what it says does not hold."""
    if not holds:
        raise DemonstrationFailed(text)
    print("  " + text)


class UnreliableAgent:
    """Fails a number of times, then answers.

    :param failures: how many calls fail; error: what they raise.
    """

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error = failures, error
        self.prompts: list[Optional[str]] = []

    async def answer(self, adjusted_prompt: Optional[str] = None) -> str:
        self.prompts.append(adjusted_prompt)
        if len(self.prompts) <= self.failures:
            raise self.error
        return "the report"


def describe(handled: HandledError) -> str:
    return "strategy %s, tried %s, phases %s" % (
        handled["strategy"],
        ", ".join(handled["strategies_tried"]) or "nothing",
        " > ".join(handled["phases"]),
    )


async def simple_retry(system: ErrorHandlingSystem) -> None:
    agent = UnreliableAgent(1, ConnectionError("the connection was reset"))
    context = {
        "agent_id": "writer_01", "task_id": "report",
        "task_data": {"prompt": "Write the report of the week"},
    }
    handled = await system.handle_error(agent.error, context, agent.answer)
    show(describe(handled))
    show("recovered with %r after %d attempts" % (handled["result"], len(agent.prompts)),
         handled["success"] and len(agent.prompts) == 2)
    show("the prompt of the last attempt: %s" % " ".join(str(agent.prompts[-1]).split())[:90],
         agent.prompts[0] != agent.prompts[1])


async def rollback(system: ErrorHandlingSystem) -> None:
    agent = {"learning_rate": 0.001, "epoch": 12}
    snapshot = await system.rollback_system.create_snapshot(
        "trainer_01", "training", dict(agent), {"checkpoint": "before fine tuning"}
    )
    show("snapshot %s of %s" % (snapshot, agent))
    agent.update(learning_rate=99.0, epoch=-1)
    show("the agent's state is corrupted: %s" % agent)

    def restore(state: dict[str, Any]) -> None:
        agent.clear()
        agent.update(state)

    async def train() -> str:
        return "trained from epoch %d" % agent["epoch"]

    context = {"agent_id": "trainer_01", "task_id": "training", "strategy": "rollback"}
    handled = await system.handle_error(
        RuntimeError("loss is not finite"), context, train, restore_callback=restore,
        validation_callback=lambda state: {"valid": state["epoch"] >= 0},
    )
    show(describe(handled))
    show("restored to %s, and %s" % (agent, handled["result"]),
         handled["restored"] and handled["result"] == "trained from epoch 12")
    refused = await system.rollback_system.rollback_to_snapshot(snapshot, lambda state: False)
    show("a validation can refuse a snapshot: %s" % refused["error"], not refused["success"])


async def loop_and_circuit_breaker(system: ErrorHandlingSystem) -> None:
    agent = "searcher_01"
    for _ in range(10):
        seen = await system.loop_detector.record_step(
            agent, "search", {"query": "the same"}, "no results"
        )
        if seen["paused"]:
            break
    show("step %d: %s" % (seen["steps"], seen["reason"]), seen["paused"])
    show("paused: %s" % await system.loop_detector.is_agent_paused(agent),
         await system.loop_detector.is_agent_paused(agent))
    for pattern in await system.loop_detector.get_loop_patterns(agent):
        show("pattern %(pattern_id)s: %(kind)s, %(repeats)d times, %(level)s" % pattern)
    called = UnreliableAgent(0, TimeoutError("no answer"))
    handled = await system.handle_error(called.error, {"agent_id": agent}, called.answer)
    show("the breaker keeps the paused agent from being called: ticket %s" % handled["ticket"],
         not handled["success"] and not called.prompts)
    await system.loop_detector.reset_agent(agent)
    show("after reset_agent, paused: %s" % await system.loop_detector.is_agent_paused(agent),
         not await system.loop_detector.is_agent_paused(agent))


async def escalation(system: ErrorHandlingSystem) -> None:
    notified: list[str] = []
    system.escalation_system.register_notification_callback(
        EscalationLevel.CRITICAL_ALERT,
        lambda report: notified.append(report["ticket_info"]["ticket_id"]),
    )
    agent = UnreliableAgent(0, MemoryError("out of memory"))
    handled = await system.handle_error(agent.error, {"agent_id": "loader_01"}, agent.answer)
    show(describe(handled))
    show("escalated at once, without another call: ticket %s" % handled["ticket"],
         handled["escalated"] and not agent.prompts and notified == [handled["ticket"]])
    ticket = await system.escalation_system.create_escalation(
        ErrorContext(ErrorType.VALIDATION_ERROR, Severity.LOW, "loader_01", "import",
                     "the totals do not match"),
        recovery_attempts=[],
        level=EscalationLevel.HUMAN_INTERVENTION,
    )
    report = await system.escalation_system.get_escalation_report(ticket)
    assert report is not None
    info = report["ticket_info"]
    show("by hand: ticket %s, %s, priority %d" % (ticket, info["level"], info["priority"]),
         info["level"] == "human_intervention")
    for advice in report["recommendations"]:
        show("- " + advice)
    await system.escalation_system.resolve_escalation(ticket, "the import is corrected", "ann")
    statistics = await system.escalation_system.get_statistics()
    show("tickets by status: %s" % statistics["by_status"],
         statistics["by_status"].get("resolved") == 1)


async def history_and_versions(system: ErrorHandlingSystem) -> None:
    history, where = system.history_manager, ("writer_01", "chapter")
    before = {"status": "running", "pages": 3}
    after = {"status": "completed", "pages": 7, "result": "success"}
    first = await history.record_state(*where, before, {"phase": "draft"})
    second = await history.record_state(*where, after, {"phase": "final"})
    compared = await history.compare_versions(*where, first, second)
    show("%s and %s differ in %d places" % (first, second, compared["diff"]["total_changes"]),
         compared["diff"]["total_changes"] == 3)
    print("    " + compared["diff"]["unified"].replace("\n", "\n    "))
    await history.record_intervention(*where, "manual_edit", after, dict(after, pages=8))
    for entry in await history.get_intervention_timeline(*where):
        show("%(timestamp)s %(entry_type)s %(intervention_type)s, %(version)s" % entry)


async def health(system: ErrorHandlingSystem) -> None:
    seen = await system.get_system_health()
    stats = seen["stats"]
    show("active errors: %d" % seen["active_errors"])
    show("success rate: %.2f of %d errors" % (
        stats["successful_recoveries"] / stats["total_errors"], stats["total_errors"]
    ), stats["total_errors"] == 4 and stats["successful_recoveries"] == 2)
    for subsystem, status in seen["subsystem_status"].items():
        show("%s: %s" % (subsystem, status), status.startswith("active"))
    show("resources: %s" % seen["resources"])


DEMONSTRATIONS: tuple[tuple[str, Callable[[ErrorHandlingSystem], Awaitable[None]]], ...] = (
    ("Simple retry scenarios", simple_retry),
    ("Rollback operations", rollback),
    ("Loop detection and circuit breaker", loop_and_circuit_breaker),
    ("Escalation workflows", escalation),
    ("History tracking and version comparison", history_and_versions),
    ("System health monitoring", health),
)


async def main() -> int:
    """Runs the demonstrations on one system; the exit status."""
    system, failed = ErrorHandlingSystem(CONFIG), 0
    try:
        for number, (title, demonstrate) in enumerate(DEMONSTRATIONS, 1):
            print("%d. %s" % (number, title))
            try:
                await demonstrate(system)
            except DemonstrationFailed as error:
                print("  FAILED: it does not hold that %s" % error)
                failed += 1
    finally:
        await system.shutdown()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
