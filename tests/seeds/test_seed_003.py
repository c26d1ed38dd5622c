"""Document 003, "Error Handling and Recovery System": each code block is run, each promise kept.

Its package `src.error_handling` is `synthralos.error_handling` here. What a block takes for granted
(an agent, an error, a system that exists) the test provides; the block itself is run as printed.
"""
import ast
import asyncio
import importlib
import inspect
import io
import json
import logging
import os
import random
import re
import subprocess
import sys
import textwrap
import types
from contextlib import redirect_stdout

import pytest
from fixtures import PACK
from seed_documents import block, code_blocks, covers, text_of

from synthralos import error_handling
from synthralos.error_handling import (
    ErrorContext,
    ErrorHandlingSystem,
    ErrorType,
    EscalationLevel,
    InvalidInput,
    MemoryDatastore,
    RecoveryStrategy,
    Severity,
)
from synthralos.inprocess.error_handling import KEYS

TEXT = text_of("003")
CONTEXT = {"agent_id": "agent_01", "task_id": "task_01"}
# Promise of the prose: the test of it.
PROMISES = {}


def named(line):
    """The block at a line, as a parameter whose id names it."""
    code = block("003", line)
    return pytest.mark.parametrize("code", [code], ids=[code.id])


def promises(*names):
    """Decorates the test of what the document promises under these bold words."""
    def register(test):
        for name in names:
            assert "**%s**" % name in TEXT, name
            PROMISES[name] = test.__name__
        return test

    return register


class Clock:
    def __init__(self):
        self.at = 1_700_000_000.0

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slept():
    return []


@pytest.fixture
def make(clock, slept):
    """Makes a system whose waits pass at once, on the test's clock."""
    async def sleep(seconds):
        slept.append(seconds)
        clock.at += seconds

    def system(config=None, datastore=None):
        return ErrorHandlingSystem(config, datastore, sleep=sleep, now=clock)

    return system


@pytest.fixture
def system(make):
    return make()


@pytest.fixture(autouse=True)
def source(monkeypatch):
    """The document's packages."""
    package, supervisor = types.ModuleType("src"), types.ModuleType("src.supervisor_agent")
    package.__path__ = []
    supervisor.SupervisorAgent = SupervisorAgent
    monkeypatch.setitem(sys.modules, "src", package)
    monkeypatch.setitem(sys.modules, "src.error_handling", error_handling)
    monkeypatch.setitem(sys.modules, "src.supervisor_agent", supervisor)


def run(code, **names):
    """Runs a block, awaits included; returns (its names, what it printed)."""
    compiled = compile(code.text, code.id, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()

    async def main(coroutine):
        await coroutine

    with redirect_stdout(printed):
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(main(eval(compiled, names)))
        else:
            exec(compiled, names)
    return names, printed.getvalue()


def handle(system, error, callback=None, restore=None, validation=None, **context):
    """What became of the error."""
    context = dict(CONTEXT, **context)
    return asyncio.run(system.handle_error(error, context, callback, restore, validation))


def health_of(system):
    return asyncio.run(system.get_system_health())


class Operation:
    """Raises `error` the first `failures` times, then returns `answer`."""

    def __init__(self, failures, error, answer="the answer"):
        self.failures, self.error, self.answer = failures, error, answer
        self.prompts = []

    async def __call__(self, adjusted_prompt=None):
        self.prompts.append(adjusted_prompt)
        if len(self.prompts) <= self.failures:
            raise self.error
        return self.answer


# Code blocks.

@covers("003", 58)
@named(58)
@pytest.mark.parametrize("failures, error, printed, calls", [
    (0, None, "", 1),
    (1, ConnectionError("reset"), "Successfully recovered: the answer\n", 2),
    (9, MemoryError("out of memory"), "Recovery failed: out of memory\n", 1),
])
def test_basic_usage(code, failures, error, printed, calls):
    operation = Operation(failures, error)
    assert run(code, some_risky_operation=operation)[1] == printed
    assert len(operation.prompts) == calls


@covers("003", 101)
@named(101)
def test_advanced_configuration(code):
    names, _ = run(code)
    system, config = names["error_system"], names["config"]
    assert isinstance(system, ErrorHandlingSystem)
    assert_configured(system, config)


def assert_configured(system, config):
    """The system's settings are those of the config, entry by entry."""
    read = {
        "retry": system.auto_retry.rules,
        "rollback": system.rollback_system.rules,
        "escalation": system.escalation_system.config,
        "loop_detection": system.loop_detector.limits,
        "history": system.history_manager.rules,
    }
    for section, entries in config.items():
        for name, value in entries.items():
            if name == "notification_channels":
                channels = {{"email": "mail"}.get(key, key) for key, on in value.items() if on}
                assert set(read[section].on) == channels
            elif isinstance(value, list):
                assert list(getattr(read[section], name)) == value
            else:
                assert getattr(read[section], name) == value, name


@covers("003", 149)
@named(149)
def test_creating_snapshots_for_rollback(code, system):
    names, printed = run(code, error_system=system)
    assert printed == "Created snapshot: %s\n" % names["snapshot_id"]
    rolled = asyncio.run(system.rollback_system.rollback_to_snapshot(names["snapshot_id"]))
    assert rolled["success"] and rolled["state_data"] == names["agent_state"]
    assert rolled["metadata"] == {"checkpoint": "before_fine_tuning"}


@covers("003", 169)
@named(169)
def test_manual_escalation(code, system):
    error = ErrorContext(ErrorType.AGENT_FAILURE, Severity.MEDIUM, "agent_01", "task_01",
                         "the totals do not match")
    names, printed = run(
        code, error_system=system, error_context=error, EscalationLevel=EscalationLevel
    )
    assert printed.startswith("Escalation report: {")
    report = names["report"]
    assert report["ticket_info"]["ticket_id"] == names["ticket_id"]
    assert report["ticket_info"]["level"] == "human_intervention"
    assert "the totals do not match" in report["error_analysis"]["root_cause"]["summary"]
    assert report["recommendations"]


@covers("003", 184)
@named(184)
@pytest.mark.parametrize("loops", [True, False])
def test_loop_detection_monitoring(code, system, loops):
    async def step():
        return await system.loop_detector.record_step("agent_01", "search", {"q": "same"}, "none")

    async def steps():
        return [await step() for _ in range(4 if loops else 1)]

    asyncio.run(steps())
    names, _ = run(code, error_system=system)
    assert names["is_paused"] is loops
    assert [pattern["kind"] for pattern in names["patterns"]] == (["identical"] if loops else [])
    assert asyncio.run(system.loop_detector.is_agent_paused("agent_01")) is False
    # Its window is empty, so the next step is no loop.
    assert asyncio.run(step())["looping"] is False


@covers("003", 198)
@named(198)
def test_history_and_version_management(code, system):
    record = system.history_manager.record_state
    assert asyncio.run(record("agent_01", "task_01", {"status": "running"})) == "v0001"
    names, printed = run(code, error_system=system)
    assert names["version_id"] == "v0002"
    # The status has changed, and there is a result.
    assert printed == "Changes detected: 2\n"


@covers("003", 217)
@named(217)
def test_system_health_monitoring(code, system):
    assert handle(system, ConnectionError("reset"), Operation(0, None))["success"]
    assert not handle(system, MemoryError("full"))["success"]
    names, printed = run(code, error_system=system)
    lines = printed.splitlines()
    assert lines[:2] == ["Active errors: 1", "Success rate: 0.5"]
    status = dict(line.split(": ", 1) for line in lines[2:])
    assert set(status) == {
        "auto_retry", "rollback_system", "escalation_system", "loop_detector", "history_manager",
        "recovery_orchestrator"}
    assert all(text.startswith("active") for text in status.values())


OPTIONS = [block("003", line) for line in (272, 284, 295)]


@covers("003", 272, 284, 295)
@pytest.mark.parametrize("code", OPTIONS, ids=[code.id for code in OPTIONS])
def test_the_defaults_of_a_configuration(code, make):
    config = ast.literal_eval("{%s}" % code.text)
    assert_configured(make(), config)
    assert_configured(make(config), config)
    ((section, entries),) = config.items()
    assert set(entries) <= KEYS[section]
    # Each entry has an effect on the settings of its own.
    for name, value in entries.items():
        if isinstance(value, bool):
            changed = {section: {name: not value}}
        elif isinstance(value, (int, float)):
            changed = {section: {name: value / 2 if isinstance(value, float) else value + 1}}
            if name == "backoff_multiplier":
                changed = {section: {name: 3.0}}
        elif isinstance(value, list):
            changed = {section: {name: value[:1]}}
        else:
            changed = {section: {name: {"email": False, "slack": True, "webhook": True}}}
        assert_configured(make(changed), changed)


class Task:
    """:ivar prompt: what the agent is asked."""

    def __init__(self, prompt):
        self.id, self.prompt = "task_7", prompt

    def to_dict(self):
        return {"id": self.id, "prompt": self.prompt}


class SupervisorAgent:
    """The base class that the document extends: fails as often as it is told to."""

    def __init__(self, agent_id, operation):
        self.agent_id, self.operation = agent_id, operation

    def get_current_state(self):
        return {"agent": self.agent_id}

    async def execute_task(self, task):
        return await self.operation(task.prompt)


def enhanced(code, make, monkeypatch, operation, text=None):
    """An EnhancedSupervisorAgent of the block."""
    monkeypatch.setattr(error_handling, "ErrorHandlingSystem", make)
    if text is not None:
        code = type(code)(code.document, code.line, code.language, text, code.heading)
    names, _ = run(code)
    return names["EnhancedSupervisorAgent"]("supervisor_01", operation)


@covers("003", 315)
@named(315)
def test_integration_with_supervisor_agent(code, make, monkeypatch):
    agent = enhanced(code, make, monkeypatch, Operation(0, None))
    assert asyncio.run(agent.execute_task(Task("Write it"))) == "the answer"
    snapshots = asyncio.run(agent.error_system.rollback_system.get_snapshots("supervisor_01"))
    assert [snapshot["task_id"] for snapshot in snapshots] == ["task_7"]


@named(315)
def test_integration_re_raises_what_is_not_recovered(code, make, monkeypatch):
    agent = enhanced(code, make, monkeypatch, Operation(9, MemoryError("full")))
    with pytest.raises(MemoryError, match="full"):
        asyncio.run(agent.execute_task(Task("Write it")))
    assert health_of(agent.error_system)["active_errors"] == 1


@named(315)
def test_integration_retries_with_an_adjusted_prompt(code, make, monkeypatch):
    """As printed, `super()` within `recovery_callback` is Python's: it takes that function's first
    argument for the instance, so the callback itself raises, and no library can recover it. With
    the instance named, the task is run again with the adjusted prompt.
    """
    operation = Operation(1, ConnectionError("reset"))
    agent = enhanced(code, make, monkeypatch, operation)
    with pytest.raises(ConnectionError, match="reset"):
        asyncio.run(agent.execute_task(Task("Write it")))
    assert operation.prompts == ["Write it"]

    printed = "                return await super().execute_task(task)\n"
    assert code.text.count(printed) == 1
    text = code.text.replace(
        printed, printed.replace("super()", "super(EnhancedSupervisorAgent, self)")
    )
    operation = Operation(2, ConnectionError("reset"))
    agent, task = enhanced(code, make, monkeypatch, operation, text), Task("Write it")
    assert asyncio.run(agent.execute_task(task)) == "the answer"
    first, second, third = operation.prompts
    assert first == "Write it" and second.startswith("Write it") and first != second != third
    assert task.prompt == third


@covers("003", 362)
@named(362)
def test_testing(code):
    command = code.text.replace("src.", "synthralos.").split()
    assert command[0] == "python"
    environment = dict(os.environ, PYTHONPATH=str(PACK / "actions" / "lib"))
    ended = subprocess.run(
        [sys.executable] + command[1:], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    will = TEXT.split("This will demonstrate:")[1].split("##")[0]
    subjects = re.findall(r"^- (.*)$", will, re.M)
    assert len(subjects) == 6
    titles = re.findall(r"^\d\. (.*)$", ended.stdout, re.M)
    assert titles == subjects
    # Each of them shows something.
    parts = re.split(r"^\d\. .*$", ended.stdout, flags=re.M)[1:]
    assert all(part.strip() for part in parts)


def test_an_example_that_does_not_show_it_fails(monkeypatch, capsys):
    examples = importlib.import_module("synthralos.error_handling.examples")

    async def wrong(system):
        examples.show("two and two make five", 2 + 2 == 5)

    monkeypatch.setattr(examples, "DEMONSTRATIONS", (("Sums", wrong),))
    assert asyncio.run(examples.main()) == 1
    assert "two and two make five" in capsys.readouterr().out


@pytest.fixture
def logging_as_before():
    root, own = logging.getLogger(), logging.getLogger("synthralos.error_handling")
    before = root.level, own.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    own.setLevel(before[1])
    root.handlers[:] = before[2]


@covers("003", 397)
@named(397)
def test_logging(code, system, caplog, logging_as_before):
    text = code.text.replace("'src.error_handling'", "'synthralos.error_handling'")
    run(type(code)(code.document, code.line, code.language, text, code.heading))
    handle(system, ConnectionError("reset"), Operation(1, ConnectionError("reset again")))
    records = [r for r in caplog.records if r.name == "synthralos.error_handling"]
    messages = "\n".join(record.getMessage() for record in records)
    assert any(record.levelno == logging.DEBUG for record in records)
    for detail in ("communication_error", "agent_01", "task_01", "auto_retry, priority 3",
                   "attempt 1 failed", "reset again", "attempt 2 succeeded", "validation",
                   "completion"):
        assert detail in messages, detail


@covers("003", 407)
def test_the_architecture_diagram(system):
    """Each box is a system, each bullet something that it can be asked to do."""
    diagram = block("003", 407).text
    boxes = {
        "Auto-Retry": (system.auto_retry, {
            "Strategies": "execute_retry", "Adjustments": "retry", "Learning": "success_rate"}),
        "Rollback": (system.rollback_system, {
            "Snapshots": "create_snapshot", "Validation": "rollback_to_snapshot",
            "Cleanup": "cleanup"}),
        "Recovery Orchestrator": (system.recovery_orchestrator, {
            "Strategy Selection": "orchestrate_recovery",
            "Multi-Phase Recovery": "orchestrate_recovery",
            "Validation & Completion": "orchestrate_recovery"}),
        "Loop Detector": (system.loop_detector, {
            "Pattern Recog": "get_loop_patterns", "Circuit Break": "is_agent_paused",
            "Agent Control": "reset_agent"}),
        "Escalation": (system.escalation_system, {
            "Multi-Level": "evaluate_escalation",
            "Notifications": "register_notification_callback"}),
        "History Manager": (system.history_manager, {
            "Version Tracking": "get_version_history", "Diff Generation": "compare_versions",
            "Intervention Timeline": "get_intervention_timeline"}),
    }
    drawn = set(re.findall(r"• ([\w& -]*\w)", diagram))
    assert drawn == {bullet for _, bullets in boxes.values() for bullet in bullets}
    for box, (component, bullets) in boxes.items():
        assert box in diagram
        assert all(callable(getattr(component, method)) for method in bullets.values())
    assert len(code_blocks("003")) == 14


# Overview.

@promises("Auto-Retry System", "Rollback System", "Escalation System", "Loop Detection",
          "History Manager", "Recovery Orchestrator")
def test_the_six_components(system):
    components = (
        system.auto_retry, system.rollback_system, system.escalation_system, system.loop_detector,
        system.history_manager, system.recovery_orchestrator)
    assert len({type(component) for component in components}) == 6


# Auto-retry.

@promises("Progressive Retry Strategies")
@pytest.mark.parametrize("strategy, delays", [
    ("exponential_backoff", [1, 2, 4]), ("linear_backoff", [1, 2, 3]), ("fixed_delay", [1, 1, 1]),
    ("adaptive", [1, 2, 3]), ("exponential", [1, 2, 4]),
])
def test_progressive_retry_strategies(system, slept, strategy, delays):
    handle(system, ConnectionError("reset"), Operation(9, OSError("x")), backoff_strategy=strategy)
    assert len(slept) == 3
    for seconds, whole in zip(slept, delays):
        assert 0.75 * whole <= seconds <= 1.25 * whole


@promises("Intelligent Prompt Adjustment")
def test_intelligent_prompt_adjustment(make):
    """Context addition, simplification, rephrasing, examples: each attempt has one more."""
    operation = Operation(9, ConnectionError("reset"))
    system = make({"retry": {"max_retries": 6}})
    handle(system, ConnectionError("reset"), operation, task_data={"prompt": "Sum the totals"})
    assert len(set(operation.prompts)) == 6
    for before, after in zip(operation.prompts, operation.prompts[1:]):
        assert len(before) < len(after) and "Sum the totals" in after
    last = operation.prompts[-1].lower()
    for words in ("context", "example", "simplest", "own words"):
        assert words in last, (words, last)


@promises("Success Rate Learning")
def test_success_rate_learning(make, clock):
    """Ten recoveries that failed: the next error of that type is not tried again; of others it is.
    An hour later it is, and without adaptive_learning always.
    """
    for learning in (True, False):
        system = make({"retry": {"adaptive_learning": learning}})
        for number in range(10):
            handle(system, TimeoutError("slow %d" % number), Operation(9, TimeoutError("slow")),
                   agent_id="agent_%d" % number)
        operation = Operation(0, None)
        result = handle(system, TimeoutError("slow"), operation, agent_id="another")
        assert result["success"] is not learning and len(operation.prompts) == (not learning)
        assert handle(system, ConnectionError("reset"), Operation(0, None),
                      agent_id="another")["success"]
        if learning:
            clock.at += 3601
            assert handle(system, TimeoutError("slow"), Operation(0, None),
                          agent_id="another")["success"]


@promises("Error Type Classification")
@pytest.mark.parametrize("error_type, strategy", [
    (ErrorType.COMMUNICATION_ERROR, "exponential"), (ErrorType.TIMEOUT_ERROR, "exponential"),
    (ErrorType.VALIDATION_ERROR, "linear"), (ErrorType.UNKNOWN_ERROR, "linear"),
    (ErrorType.TOOL_FAILURE, "adaptive"), (ErrorType.AGENT_FAILURE, "adaptive"),
])
def test_error_type_classification(system, error_type, strategy):
    error = ErrorContext(error_type, agent_id="agent_01", error_message="it went wrong")
    retried = asyncio.run(system.auto_retry.execute_retry(error, lambda: "again"))
    assert retried["success"] and retried["result"] == "again"
    assert retried["retry_context"]["strategy"] == strategy


# Rollback.

@promises("State Snapshots")
def test_state_snapshots(system):
    rollback = system.rollback_system
    state = {"epoch": 1, "rates": [0.1, None]}
    ids = [asyncio.run(rollback.create_snapshot("agent_01", "task_01", state))]
    state["epoch"] = 2
    ids.append(asyncio.run(rollback.create_snapshot("agent_01", "task_01", state)))
    snapshots = asyncio.run(rollback.get_snapshots("agent_01", "task_01"))
    assert [snapshot["snapshot_id"] for snapshot in snapshots] == ids[::-1]
    assert set(snapshots[0]) >= {
        "snapshot_id", "timestamp", "agent_id", "task_id", "metadata", "size_bytes"}
    rolled = [asyncio.run(rollback.rollback_to_snapshot(name)) for name in ids]
    assert [result["state_data"]["epoch"] for result in rolled] == [1, 2]
    assert asyncio.run(rollback.delete_snapshot(ids[0])) is True
    assert asyncio.run(rollback.delete_snapshot(ids[0])) is False
    gone = asyncio.run(rollback.rollback_to_snapshot(ids[0]))
    assert not gone["success"] and gone["rollback_id"] is None and ids[0] in gone["error"]


@promises("Integrity Verification")
@pytest.mark.parametrize("verified", [True, False])
def test_integrity_verification(make, verified):
    datastore = MemoryDatastore()
    config = {"rollback": {"verification_enabled": verified, "compression_enabled": False}}
    rollback = make(config, datastore).rollback_system
    name = asyncio.run(rollback.create_snapshot("agent_01", "task_01", {"rate": 0.25}))
    ((key, text),) = datastore.list("synthralos.snapshot.")
    head, _, body = text.rpartition(".")
    datastore.put(key, "%s.%s" % (head, tampered(body)))
    rolled = asyncio.run(rollback.rollback_to_snapshot(name))
    assert rolled["success"] is not verified
    if verified:
        assert "corrupted" in rolled["error"]
    else:
        assert rolled["state_data"] == {"rate": 9.25}


def tampered(body):
    import base64

    return base64.b64encode(base64.b64decode(body).replace(b"0.25", b"9.25")).decode()


@promises("Automatic Cleanup", "Memory Management")
def test_automatic_cleanup(make, clock):
    """By count with every snapshot and version, by age as they expire; and on demand."""
    datastore = MemoryDatastore(clock)
    system = make({"rollback": {"max_snapshots": 2, "cleanup_after_hours": 1},
                   "history": {"max_versions": 2, "retention_days": 1}}, datastore)
    rollback, history = system.rollback_system, system.history_manager

    async def fill():
        for number in range(4):
            await rollback.create_snapshot("agent_01", "task_01", {"number": number})
            await history.record_state("agent_01", "task_01", {"number": number})
            clock.at += 1

    asyncio.run(fill())
    assert len(asyncio.run(rollback.get_snapshots("agent_01"))) == 2
    versions = asyncio.run(history.get_version_history("agent_01", "task_01"))
    assert [head["version"] for head in versions] == ["v0004", "v0003"]
    clock.at += 3600
    assert asyncio.run(rollback.get_snapshots("agent_01")) == []
    assert datastore.list("synthralos.snapshot.") == []
    clock.at += 24 * 3600
    assert asyncio.run(history.get_version_history("agent_01", "task_01")) == []
    resources = health_of(system)["resources"]
    assert resources["stored_values"] == resources["stored_bytes"] == 0


def test_cleanup_on_demand_obeys_a_limit_that_was_lowered(make, clock):
    datastore = MemoryDatastore(clock)
    before = make(None, datastore).rollback_system

    async def fill():
        for number in range(4):
            await before.create_snapshot("agent_01", "task_01", {"number": number})
            clock.at += 1

    asyncio.run(fill())
    after = make({"rollback": {"max_snapshots": 1}}, datastore).rollback_system
    cleaned = asyncio.run(after.cleanup())
    assert len(cleaned["deleted"]) == 3 and cleaned["kept"] == 1


def refuse(state):
    raise ValueError("no epoch")


@promises("Rollback Validation")
@pytest.mark.parametrize("validation, reason", [
    (lambda state: True, None), (lambda state: {"valid": True}, None), (lambda state: {}, None),
    (lambda state: False, "no reason was stated"),
    (lambda state: {"valid": False, "reason": "too old"}, "too old"),
    (refuse, "ValueError: no epoch"),
])
@pytest.mark.parametrize("is_async", [False, True])
def test_rollback_validation(system, validation, reason, is_async):
    async def later(state):
        return validation(state)

    callback = later if is_async else validation
    rollback = system.rollback_system
    name = asyncio.run(rollback.create_snapshot("agent_01", "task_01", {"rate": 1}))
    rolled = asyncio.run(rollback.rollback_to_snapshot(name, callback))
    assert rolled["success"] is (reason is None)
    assert reason is None or reason in rolled["error"]
    # handle_error asks it too, before anything is put back.
    restored = []
    handled = handle(system, RuntimeError("bad"), None, restored.append, callback,
                     strategy="rollback")
    assert handled["success"] is handled["restored"] is (reason is None)
    assert restored == ([{"rate": 1}] if reason is None else [])


# Escalation.

def error_of(severity, **more):
    """An error that is in no critical_error_types."""
    more = dict({"agent_id": "agent_01", "error_message": "it went wrong"}, **more)
    return ErrorContext(ErrorType.VALIDATION_ERROR, severity, **more)


@promises("Multi-Level Escalation")
def test_multi_level_escalation(system, clock):
    """Nobody takes it: it rises a level each escalation_timeout."""
    assert [level.value for level in EscalationLevel] == [
        "auto_recovery", "supervisor_review", "human_intervention", "critical_alert"]
    desk = system.escalation_system
    ticket = asyncio.run(desk.create_escalation(error_of("low")))
    seen = []
    for _ in range(5):
        report = asyncio.run(desk.get_escalation_report(ticket))
        seen.append(report["ticket_info"]["level"])
        clock.at += 300
        asyncio.run(desk.process_escalation_queue())
    assert seen == [level.value for level in EscalationLevel] + ["critical_alert"]


@pytest.mark.parametrize("severity, attempts, level", [
    ("LOW", 0, EscalationLevel.AUTO_RECOVERY), ("MEDIUM", 0, EscalationLevel.AUTO_RECOVERY),
    ("HIGH", 0, EscalationLevel.SUPERVISOR_REVIEW), ("LOW", 3, EscalationLevel.SUPERVISOR_REVIEW),
    ("LOW", 5, EscalationLevel.HUMAN_INTERVENTION),
    ("CRITICAL", 0, EscalationLevel.CRITICAL_ALERT),
])
def test_the_level_follows_severity_and_attempts(system, severity, attempts, level):
    recovery_attempts = [{"strategy": "auto_retry"}] * attempts
    desk, error = system.escalation_system, error_of(severity)
    assert asyncio.run(desk.evaluate_escalation(error, recovery_attempts)) == level
    ticket = asyncio.run(desk.create_escalation(error, recovery_attempts))
    report = asyncio.run(desk.get_escalation_report(ticket))
    assert report["ticket_info"]["level"] == level.value


@promises("Priority Scoring")
def test_priority_scoring(system):
    """By severity, and by what is known of the error."""
    desk = system.escalation_system

    def priority(error, attempts=()):
        ticket = asyncio.run(desk.create_escalation(error, attempts))
        return asyncio.run(desk.get_escalation_report(ticket))["ticket_info"]["priority"]

    of_severity = [
        priority(error_of(severity, agent_id="agent_" + severity.value)) for severity in Severity
    ]
    assert of_severity == sorted(set(of_severity))
    assert priority(error_of("low", agent_id="tried"), ["retry"] * 8) > of_severity[0]
    assert priority(
        ErrorContext(ErrorType.RESOURCE_ERROR, "low", "agent_01")) > of_severity[-1]


@promises("Notification System")
def test_notification_system(make):
    """Callbacks, and the channels email, slack and webhook: what is not configured is named."""
    system = make({"escalation": {"notification_channels": {"slack": True, "webhook": False}}})
    desk, reports, later = system.escalation_system, [], []

    async def tell(report):
        later.append(report)

    def broken(report):
        raise RuntimeError("nobody is there")

    for callback in (broken, reports.append, tell):
        desk.register_notification_callback("CRITICAL_ALERT", callback)
    desk.register_notification_callback(
        EscalationLevel.SUPERVISOR_REVIEW, lambda report: pytest.fail("of another level"))
    handled = handle(system, MemoryError("full"))
    assert [report["ticket_info"]["ticket_id"] for report in reports] == [handled["ticket"]]
    assert later == reports
    channels = {
        entry["channel"]: entry["status"] for entry in handled["steps"][-1]["notifications"]}
    assert channels["mail"] == channels["slack"] == "not_configured"
    assert channels["webhook"] == "off"
    # The same problem again has been told.
    handle(system, MemoryError("full"))
    assert len(reports) == 1


@promises("Escalation Reports")
def test_escalation_reports(system):
    handled = handle(system, MemoryError("out of memory"))
    report = asyncio.run(system.escalation_system.get_escalation_report(handled["ticket"]))
    assert set(report) == {"ticket_info", "error_analysis", "recommendations", "system_impact",
                           "generated_at", "markdown"}
    analysis = report["error_analysis"]
    assert set(analysis) == {"root_cause", "impact_assessment", "recovery_timeline"}
    assert analysis["root_cause"]["cause"] == "resource" and analysis["recovery_timeline"]
    assert report["system_impact"]["affected_agents"] == ["agent_01"]
    assert report["recommendations"] and "out of memory" in report["markdown"]
    json.dumps(report)
    assert asyncio.run(system.escalation_system.get_escalation_report("T000000000000")) is None


def test_a_ticket_is_taken_and_resolved_once(system):
    desk = system.escalation_system
    ticket = asyncio.run(desk.create_escalation(error_of("high")))
    assert asyncio.run(desk.take_escalation(ticket, "ann")) is True
    assert asyncio.run(desk.get_statistics())["by_status"] == {"in_progress": 1}
    assert asyncio.run(desk.resolve_escalation(ticket, "corrected", "ann")) is True
    assert asyncio.run(desk.resolve_escalation(ticket, "corrected", "ann")) is False
    assert asyncio.run(desk.resolve_escalation("T000000000000", "x")) is False
    assert asyncio.run(desk.take_escalation(ticket, "bob")) is False
    statistics = asyncio.run(desk.get_statistics())
    assert statistics["total_escalations"] == 1 and statistics["pending_tickets"] == 0
    assert statistics["by_status"] == {"resolved": 1}


# Loop detection.

async def steps(detector, names, **more):
    for name in names:
        seen = await detector.record_step("agent_01", "read", {"path": name}, "the same", **more)
    return seen


@promises("Pattern Recognition")
@pytest.mark.parametrize("names, kind", [
    ("aaaa", "identical"), ("ababab", "alternating"), ("abcabcabc", "cycle"),
])
def test_pattern_recognition(system, names, kind):
    seen = asyncio.run(steps(system.loop_detector, names))
    assert seen["looping"] and seen["level"] == "critical" and seen["pattern"]["kind"] == kind
    patterns = asyncio.run(system.loop_detector.get_loop_patterns())
    assert [(p["agent_id"], p["kind"]) for p in patterns] == [("agent_01", kind)]
    assert asyncio.run(system.loop_detector.get_loop_patterns("agent_02")) == []


def test_error_cycles_are_recognised(system):
    error = ErrorContext(ErrorType.TIMEOUT_ERROR, agent_id="agent_01", error_message="slow")

    async def check():
        return [await system.loop_detector.check_for_loop(error) for _ in range(4)]

    assert asyncio.run(check()) == [False, False, False, True]


@pytest.mark.parametrize("pauses", [True, False])
@promises("Circuit Breaker")
def test_circuit_breaker(make, clock, pauses):
    """A loop pauses the agent; its pause ends by itself, or by a recovery that probes it."""
    detector = make({"loop_detection": {"enable_auto_pause": pauses}}).loop_detector
    asyncio.run(steps(detector, "aaaa"))
    assert asyncio.run(detector.is_agent_paused("agent_01")) is pauses
    assert asyncio.run(detector.is_agent_paused("agent_02")) is False
    clock.at += 301
    assert asyncio.run(detector.is_agent_paused("agent_01")) is False


def test_a_paused_agent_is_probed_by_one_recovery_and_goes_on_when_it_is_well(system, clock):
    asyncio.run(steps(system.loop_detector, "aaaa"))
    operation = Operation(0, None)
    assert not handle(system, TimeoutError("slow"), operation, task_id="t")["success"]
    assert operation.prompts == []
    clock.at += 61
    assert handle(system, ConnectionError("reset"), operation, task_id="t")["success"]
    assert not asyncio.run(system.loop_detector.is_agent_paused("agent_01"))


def test_a_person_can_pause_an_agent(system):
    detector = system.loop_detector
    assert asyncio.run(detector.pause_agent("agent_01", "maintenance", 600)) is True
    assert asyncio.run(detector.get_pause("agent_01"))["reason"] == "maintenance"
    assert asyncio.run(detector.reset_agent("agent_01")) is True
    assert asyncio.run(detector.reset_agent("agent_01")) is False
    assert asyncio.run(detector.get_pause("agent_01")) is None


@promises("Similarity Analysis")
@pytest.mark.parametrize("threshold, loops", [(0.65, True), (0.95, False)])
def test_similarity_analysis(make, threshold, loops):
    texts = [
        "find the quarterly report of the northern sales team",
        "look up the quarterly report of the northern sales group",
        "search the quarterly report of the northern sales staff",
        "fetch the quarterly report of the northern sales people",
        "locate the quarterly report of the northern sales unit",
        "obtain the quarterly report of the northern sales branch",
    ]
    detector = make({"loop_detection": {"similarity_threshold": threshold}}).loop_detector

    async def ask():
        for text in texts:
            seen = await detector.record_step("agent_01", "search", {"query": text}, "no results")
        return seen

    assert asyncio.run(ask())["looping"] is loops


@promises("Agent State Tracking")
def test_agent_state_tracking(system):
    async def states(names):
        return [
            (await system.loop_detector.record_state("agent_01", {"at": name}))["level"]
            for name in names
        ]

    assert asyncio.run(states("planxyz"))[-1] == "none"
    assert asyncio.run(states("ababab"))[-1] == "critical"


# History.

@promises("Versioned History")
def test_versioned_history(system):
    history, where = system.history_manager, ("agent_01", "task_01")

    async def record():
        return [
            await history.record_state(*where, {"n": 1}),
            await history.record_error(error_of("low", task_id="task_01")),
            await history.record_intervention(*where, "restart", {"n": 1}, {"n": 0}),
            await history.record_recovery(*where, {"strategy": "rollback"}),
        ]

    assert asyncio.run(record()) == ["v0001", "v0002", "v0003", "v0004"]
    heads = asyncio.run(history.get_version_history(*where))
    assert [head["entry_type"] for head in heads] == [
        "recovery", "intervention", "error", "state"]
    assert [head["parent_version"] for head in heads] == ["v0003", "v0002", "v0001", None]
    errors = asyncio.run(history.get_history("agent_01", entry_type="error"))
    assert [entry["version"] for entry in errors] == ["v0002"]
    assert asyncio.run(history.get_state(*where, "v0001")) == {"n": 1}
    state = asyncio.run(history.get_state(*where, "v0003"))
    assert state["before_state"] == {"n": 1} and state["diff"]["total_changes"] == 1


def test_handled_errors_and_their_recoveries_are_in_the_history(system):
    handle(system, ConnectionError("reset"), Operation(0, None))
    heads = asyncio.run(system.history_manager.get_version_history("agent_01", "task_01"))
    assert [head["entry_type"] for head in heads] == ["recovery", "error"]


@promises("Diff Generation")
def test_diff_generation(system):
    history, where = system.history_manager, ("agent_01", "task_01")
    asyncio.run(history.record_state(*where, {"a": 1, "b": [1, 2], "c": 0}))
    asyncio.run(history.record_state(*where, {"a": 2, "b": [1], "d": 0}))
    compared = asyncio.run(history.compare_versions(*where, "v0001", "v0002"))
    diff = compared["diff"]
    assert diff["changed"] == [{"path": "/a", "from": 1, "to": 2}]
    assert {entry["path"] for entry in diff["removed"]} == {"/b/1", "/c"}
    assert diff["added"] == [{"path": "/d", "value": 0}] and diff["total_changes"] == 4
    assert '-  "a": 1,' in diff["unified"]
    assert (compared["version1"]["version"], compared["version2"]["version"]) == (
        "v0001", "v0002")
    with pytest.raises(InvalidInput, match="v0009"):
        asyncio.run(history.compare_versions(*where, "v0001", "v0009"))


@promises("Intervention Timeline")
def test_intervention_timeline(system, clock):
    handle(system, MemoryError("full"))
    clock.at += 1
    history = system.history_manager
    asyncio.run(history.record_intervention("agent_01", "task_01", "manual_restart", 1, 2,
                                            {"by": "ann"}))
    timeline = asyncio.run(history.get_intervention_timeline("agent_01"))
    assert [entry["entry_type"] for entry in timeline] == ["error", "intervention"]
    assert timeline[0]["actor"] == "handle_error"
    assert timeline[1]["intervention_type"] == "manual_restart" and timeline[1]["has_before_after"]
    assert timeline[1]["metadata"]["by"] == "ann"


@promises("Compression Support", "Storage Optimization")
@pytest.mark.parametrize("section, kind", [("rollback", "snapshot"), ("history", "version")])
def test_compression_support(make, section, kind):
    sizes = []
    for compressed in (True, False):
        datastore = MemoryDatastore()
        system = make({section: {"compression_enabled": compressed}}, datastore)
        state = {"log": "the same line\n" * 500}
        if section == "rollback":
            asyncio.run(system.rollback_system.create_snapshot("agent_01", "t", state))
        else:
            asyncio.run(system.history_manager.record_state("agent_01", "t", state))
        ((_, text),) = datastore.list("synthralos.%s." % kind)
        assert (".gzip." in text) is compressed
        sizes.append(len(text))
    assert sizes[0] < sizes[1] / 10


# The orchestrator.

@promises("Strategy Selection", "Auto-Retry", "Rollback", "Escalation")
def test_strategy_selection(system):
    """Of transient errors, of an error that comes back though it was cured, and of critical ones.
    """
    assert handle(system, ConnectionError("reset"), Operation(0, None))["strategy"] == "auto_retry"
    state, restored = {"rate": 1}, []
    asyncio.run(system.rollback_system.create_snapshot("agent_01", "task_01", state))
    handle(system, ConnectionError("again"), Operation(0, None))
    result = handle(system, ConnectionError("and again"), Operation(0, None), restored.append)
    assert result["strategy"] == "rollback" and result["success"] and restored == [state]
    assert handle(system, MemoryError("full"), Operation(0, None))["strategy"] == "escalation"
    outcome = handle(system, ConnectionError("x"), Operation(0, None), task_id="other",
                   recovery_attempts=["auto_retry"] * 3)
    assert outcome["strategy"] == "escalation"


def test_a_loop_selects_the_circuit_breaker(system):
    """For infinite loops or stuck agents."""
    result = handle(system, RuntimeError("x"), Operation(0, None), error_type="INFINITE_LOOP")
    assert result["strategy"] == "circuit_breaker" and result["escalated"]
    assert asyncio.run(system.loop_detector.is_agent_paused("agent_01"))


@promises("Multi-Phase Recovery")
def test_multi_phase_recovery(system):
    """Assessment, strategy selection, execution, validation, completion."""
    phases = ["assessment", "strategy_selection", "execution"]
    result = handle(system, ConnectionError("reset"), Operation(0, None))
    assert result["phases"] == phases + ["validation", "completion"]
    assert result["phase"] == "completion"
    result = handle(system, ConnectionError("reset by peer"), Operation(9, OSError("x")))
    assert result["phases"] == phases + ["failure"] and result["phase"] == "failure"


@promises("Hybrid Approaches", "Hybrid")
def test_hybrid_approaches(system):
    """Rollback, then another try, then a person."""
    restored = []
    asyncio.run(system.rollback_system.create_snapshot("agent_01", "task_01", {"rate": 1}))
    result = handle(system, RuntimeError("bad"), Operation(0, None), restored.append,
                    strategy="hybrid")
    assert result["success"] and result["strategies_tried"] == ["rollback", "auto_retry"]
    assert restored == [{"rate": 1}]
    result = handle(system, RuntimeError("bad"), Operation(9, OSError("x")), strategy="HYBRID",
                    task_id="without_snapshot")
    assert result["strategies_tried"] == ["rollback", "auto_retry", "escalation"]
    assert result["ticket"]


@promises("Recovery Validation")
def test_recovery_validation(system, make, clock):
    """A recovery has to hold for the stability window: without a new error, and without a pause."""
    result = handle(system, ConnectionError("reset"), Operation(0, None), stability_window=30)
    assert result["success"] and result["validation"]["is_valid"]
    assert {check["check"] for check in result["validation"]["checks_performed"]} == {
        "recovery_success", "no_new_error", "agent_not_paused"}
    assert result["duration_seconds"] >= 30

    async def relapse(seconds):
        clock.at += seconds
        if seconds == 30:
            await unstable.history_manager.record_error(error_of("low", task_id="task_01"))

    unstable = ErrorHandlingSystem(sleep=relapse, now=clock)
    result = handle(unstable, ConnectionError("reset"), Operation(0, None), stability_window=30)
    assert not result["success"] and result["escalated"] and result["ticket"]
    assert not result["validation"]["is_valid"]


@promises("Manual")
def test_manual(system):
    """Queued for a person, and nothing is called."""
    operation = Operation(0, None)
    result = handle(system, ConnectionError("reset"), operation, strategy="Manual")
    assert not result["success"] and result["ticket"] and operation.prompts == []
    (ticket,) = asyncio.run(system.escalation_system.get_escalations("open"))
    assert ticket["ticket"] == result["ticket"] and ticket["level"] == "human_intervention"


# Performance.

@promises("Asynchronous Operations")
def test_asynchronous_operations(system):
    """Whatever the document awaits, and whatever else touches a store, is a coroutine function."""
    synchronous = {"register_notification_callback"}
    for component in (system, system.auto_retry, system.rollback_system, system.escalation_system,
                      system.loop_detector, system.history_manager, system.recovery_orchestrator):
        for name, method in inspect.getmembers(component, inspect.ismethod):
            is_counter = component is system.auto_retry and name == "get_statistics"
            if not name.startswith("_") and name not in synchronous and not is_counter:
                assert inspect.iscoroutinefunction(method), name


@promises("Concurrent Processing")
def test_concurrent_processing(clock):
    """Twenty errors wait at the same time, not one after the other."""
    waiting, most = set(), []

    async def sleep(seconds):
        waiting.add(asyncio.current_task())
        most.append(len(waiting))
        for _ in range(50):
            await asyncio.sleep(0)
        waiting.discard(asyncio.current_task())

    async def handle_all():
        system = ErrorHandlingSystem(sleep=sleep, now=clock)
        return await asyncio.gather(*(
            system.handle_error(
                ConnectionError("reset"), {"agent_id": "agent_%d" % n}, Operation(1, OSError("x"))
            )
            for n in range(20)
        ))

    results = asyncio.run(handle_all())
    assert all(result["success"] for result in results) and max(most) == 20


@promises("Resource Monitoring")
def test_resource_monitoring(system):
    before = health_of(system)["resources"]
    asyncio.run(system.history_manager.record_state("agent_01", "t", {"text": "x" * 1000}))
    after = health_of(system)["resources"]
    assert after["memory_bytes"] > 1_000_000
    assert after["stored_values"] > before["stored_values"] == 0
    assert after["stored_bytes"] > before["stored_bytes"] == 0


# Names.

@pytest.mark.parametrize("name", re.findall(r"^- `([A-Z_]+)` - ", TEXT.split(
    "### Error Types")[1].split("### Severity")[0], re.M))
def test_an_error_type(system, name):
    kind = getattr(ErrorType, name)
    assert kind.value == name.lower() and ErrorType(name) is ErrorType(name.lower()) is kind
    for spelling in (name, name.lower(), kind):
        error = RuntimeError("it went wrong")
        result = handle(system, error, error_type=spelling, strategy="manual", agent_id=name)
        assert result["error_type"] == kind.value
    assert len(ErrorType) == 9


@pytest.mark.parametrize("name", re.findall(r"^- `([A-Z]+)` - ", TEXT.split(
    "### Severity Levels")[1].split("## Recovery")[0], re.M))
def test_a_severity(system, name):
    """LOW: auto-retry; MEDIUM: may be cured; HIGH and CRITICAL: escalated."""
    severity = getattr(Severity, name)
    assert severity.value == name.lower() and Severity(name) is severity and len(Severity) == 4
    for spelling in (name, name.lower(), severity):
        result = handle(system, RuntimeError("x"), Operation(0, None), severity=spelling,
                        agent_id=name)
        assert result["severity"] == severity.value
        assert result["escalated"] is (name in ("HIGH", "CRITICAL"))
        asyncio.run(system.loop_detector.reset_agent(name))


@pytest.mark.parametrize("title", re.findall(r"^\d\. \*\*(.*)\*\* - ", TEXT.split(
    "## Recovery Strategies")[1].split("## Performance")[0], re.M))
def test_a_strategy(system, title):
    strategy = RecoveryStrategy(title)
    assert len(RecoveryStrategy) == 6
    for spelling in (title, strategy.value, strategy.value.upper(), strategy):
        result = handle(system, RuntimeError("x"), Operation(0, None), strategy=spelling)
        assert result["strategy"] == strategy.value
        asyncio.run(system.loop_detector.reset_agent("agent_01"))


@promises("High Memory Usage", "Slow Recovery Operations", "False Loop Detection")
def test_what_troubleshooting_advises_can_be_set():
    advice = TEXT.split("### Common Issues")[1].split("### Logging")[0]
    names = re.findall(r"`(\w+)`", advice)
    assert len(names) == 7
    every = {name for entries in KEYS.values() for name in entries}
    assert set(names) <= every
    for words in ("compression", "retention"):
        assert words in advice.lower() and any(words in name for name in every)


def test_max_iterations_and_the_time_window_have_the_effect_that_is_advised(make, clock):
    """Many steps, hardly one of them new, are a loop beyond max_iterations within the window."""
    def looping(**limits):
        limits = dict(limits, enable_auto_pause=False)
        detector, choice = make({"loop_detection": limits}).loop_detector, random.Random(3).choice

        async def work():
            for _ in range(40):
                clock.at += 5
                seen = await detector.record_step("agent_01", "tool_" + choice("abc"), {}, "ok")
            return seen

        kinds = {pattern["kind"] for pattern in asyncio.run(work())["patterns"]}
        return "rate" in kinds

    assert looping(max_iterations=20, time_window_seconds=300)
    assert not looping(max_iterations=90, time_window_seconds=300)
    assert not looping(max_iterations=20, time_window_seconds=60)


def test_every_bold_promise_has_a_test():
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.M | re.S)
    bold = set(re.findall(r"\*\*([^*\n]+)\*\*", prose)) - {"Note"}
    assert bold == set(PROMISES)
    assert all(callable(globals()[name]) for name in PROMISES.values())


def test_the_code_of_the_document_is_python():
    """A block that is not run as a whole would hide an error of syntax."""
    for code in code_blocks("003"):
        if code.language == "python" and not code.text.startswith("'"):
            compile(textwrap.dedent(code.text), code.id, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
