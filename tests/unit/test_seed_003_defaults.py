"""What the Supervisor Agent's error handling promised: its names, defaults, rules and formulas.

Each stands here with the value that its documentation or its program had. Where this pack has
another one, the docstring says which the original had, and why it is not kept. How each works is
tested beside its module.
"""
import asyncio
import pathlib

import pytest
import yaml

from synthralos.calls import backoff
from synthralos.config.settings import STRATEGIES, Retry, Settings
from synthralos.core import causes
from synthralos.escalation import priority
from synthralos.escalation.config import EscalationConfig
from synthralos.inprocess import errors
from synthralos.inprocess.error_handling import ErrorHandlingSystem
from synthralos.loop_detection import detector, patterns
from synthralos.loop_detection.detector import LoopDetectionConfig
from synthralos.recovery import strategies
from synthralos.recovery.strategies import Assessment
from synthralos.storage import (
    history,
    pauses,
    run_summaries,
    snapshots,
    state_codec,
    tickets,
    versions,
)
from synthralos.storage.snapshots import SnapshotConfig
from synthralos.storage.versions import HistoryConfig

ACTIONS = pathlib.Path(__file__).resolve().parents[2] / "actions"
START = 1_700_000_000.0


def read(section, entry=None):
    """What a program makes of a section of the configuration."""
    settings = Settings.from_config({} if entry is None else {section: entry})
    if section == "retry":
        return settings.retry
    if section == "rollback":
        return snapshots.snapshot_config(settings)
    if section == "history":
        return versions.history_config(settings)
    if section == "loop_detection":
        return LoopDetectionConfig.from_config(settings.loop_detection)
    return EscalationConfig.from_config(settings.escalation)


# Configuration.

@pytest.mark.parametrize("section, name, value", [
    ("retry", "max_retries", 3),
    ("retry", "base_delay", 1.0),
    ("retry", "backoff_multiplier", 2.0),
    ("retry", "max_delay", 30.0),
    ("retry", "adaptive_learning", True),
    ("retry", "success_rate_threshold", 0.3),
    ("rollback", "max_snapshots", 10),
    ("rollback", "cleanup_after_hours", 24),
    ("rollback", "compression_enabled", True),
    ("rollback", "verification_enabled", True),
    ("rollback", "backup_to_remote", False),
    ("escalation", "max_auto_recovery_attempts", 5),
    ("escalation", "escalation_timeout", 300),
    ("escalation", "critical_error_types", ("infinite_loop", "resource_error")),
    ("loop_detection", "max_iterations", 50),
    ("loop_detection", "time_window_seconds", 300),
    ("loop_detection", "max_pattern_length", 20),
    ("loop_detection", "enable_auto_pause", True),
    ("history", "max_versions", 100),
    ("history", "retention_days", 30),
    ("history", "compression_enabled", True),
])
def test_defaults_that_are_kept(section, name, value):
    assert getattr(read(section), name) == value


@pytest.mark.parametrize("section, name, value", [
    ("retry", "max_retries", 5), ("retry", "base_delay", 2.0), ("retry", "max_delay", 60.0),
    ("retry", "backoff_multiplier", 1.5), ("retry", "adaptive_learning", False),
    ("retry", "success_rate_threshold", 0.5),
    ("rollback", "max_snapshots", 20), ("rollback", "cleanup_after_hours", 48),
    ("rollback", "compression_enabled", False), ("rollback", "verification_enabled", False),
    ("rollback", "backup_to_remote", True),
    ("escalation", "max_auto_recovery_attempts", 4), ("escalation", "escalation_timeout", 600),
    ("loop_detection", "max_iterations", 100), ("loop_detection", "similarity_threshold", 0.9),
    ("loop_detection", "time_window_seconds", 600), ("loop_detection", "enable_auto_pause", False),
    ("history", "max_versions", 200), ("history", "retention_days", 60),
    ("history", "compression_enabled", False),
])
def test_an_entry_that_says_one_thing_keeps_the_other_defaults(section, name, value):
    """The original replaced a whole section by a partial one, and its components then crashed on
    the first missing name.
    """
    plain, config = vars(read(section)), vars(read(section, {name: value}))
    assert config[name] == value != plain[name]
    assert {k: v for k, v in config.items() if k != name} == {
        k: v for k, v in plain.items() if k != name}


def test_channels_are_merged_below_their_entry_too():
    """email on, slack and webhook off; who switches one on has not switched the others off."""
    assert EscalationConfig().on == ("mail",)
    config = read("escalation", {"notification_channels": {"slack": True, "email": None}})
    assert config.on == ("mail", "slack")
    assert read("escalation", {"notification_channels": {"email": False}}).on == ()


def test_supervisor_review_after_is_its_auto_escalate_after_failures():
    """3 in the original's program; its documentation does not name it. It never exceeds
    max_auto_recovery_attempts, or a level would be passed over.
    """
    assert EscalationConfig().supervisor_review_after == 3
    assert read("escalation", {"max_auto_recovery_attempts": 2}).supervisor_review_after == 2


def test_the_similarity_threshold_is_a_little_higher():
    """0.8 in the original. Its formula is kept, 0.6 for the same kind and 0.4 for the words, but
    words are compared as a set here: with 0.8 half of them in common would do, with 0.85 it takes
    five of eight.
    """
    assert LoopDetectionConfig().similarity_threshold == 0.85


def test_the_breaker_s_timeout_is_when_a_probe_may_go():
    """Its circuit_breaker_timeout, 60 s, un-paused an agent that nobody had tried. Here a recovery
    may try it after 60 s, and when none does or it fails, the pause ends after 300 s.
    """
    limits = LoopDetectionConfig()
    assert (limits.probe_seconds, limits.pause_seconds) == (60, 300)
    assert pauses.DEFAULT_SECONDS == 300


@pytest.mark.parametrize("section, name", [
    ("rollback", "max_total_snapshots"),
    ("rollback", "storage_path"),
    ("history", "auto_cleanup_hours"),
    ("history", "cache_size"),
    ("history", "diff_algorithm"),
    ("escalation", "priority_weights"),
    ("escalation", "escalation_rules"),
    ("loop_detection", "min_pattern_length"),
    ("loop_detection", "circuit_breaker_threshold"),
    ("loop_detection", "circuit_breaker_timeout"),
    ("loop_detection", "action_history_size"),
    ("loop_detection", "enable_pattern_learning"),
])
def test_entries_that_are_gone_are_not_in_the_schema(section, name):
    """Most had no effect there. Of those that had: storage_path, the datastore is the storage;
    min_pattern_length, cycles of one and two steps are loops too; circuit_breaker_timeout and
    priority_weights, see those tests; diff_algorithm, a difference is told by value and by line. A
    limit for all snapshots, which was never kept, would let one agent push out another's.
    """
    schema = yaml.safe_load((ACTIONS.parent / "config.schema.yaml").read_text(encoding="utf-8"))
    assert name not in schema[section]["properties"]
    assert schema[section]["additionalProperties"] is False


# Error types and severities.

NINE = ("agent_failure", "tool_failure", "communication_error", "timeout_error",
        "validation_error", "infinite_loop", "resource_error", "configuration_error",
        "unknown_error")


def cause_of(name):
    kind, cause = causes.resolve_type(name)
    return cause or causes.CAUSE_OF_TYPE[kind]


def test_the_nine_error_types_and_four_severities():
    assert all(causes.resolve_type(name) for name in NINE)
    assert all(causes.resolve_type(name.upper()) for name in NINE)
    assert causes.SEVERITIES == ("low", "medium", "high", "critical")
    assert len({cause_of(name) for name in NINE}) == len(NINE)


@pytest.mark.parametrize("name, severity", [
    ("infinite_loop", "critical"), ("resource_error", "high"), ("agent_failure", "high"),
    ("timeout_error", "medium"), ("communication_error", "medium"),
    ("configuration_error", "medium"), ("validation_error", "low"), ("tool_failure", "low"),
    ("unknown_error", "low"),
])
def test_the_severity_of_each_type(name, severity):
    """As its table has it. Where it noticed the loop itself it said high; a loop is one thing here,
    and critical.
    """
    assert strategies.severity_of(cause_of(name)) == severity


@pytest.mark.parametrize("error, name", [
    (TimeoutError(), "timeout_error"), (ConnectionError(), "communication_error"),
    (ConnectionResetError(), "communication_error"), (ValueError(), "validation_error"),
    (KeyError(), "configuration_error"), (MemoryError(), "resource_error"),
    (PermissionError(), "resource_error"),
])
def test_the_type_of_an_exception(error, name):
    """In this order. What is none of them was unknown_error; here its text is read."""
    cause = next(cause for kinds, cause in errors.CAUSES if isinstance(error, kinds))
    assert cause == cause_of(name)
    assert not any(isinstance(RuntimeError(), kinds) for kinds, _ in errors.CAUSES)


# Retries.

def test_the_back_off_types():
    assert set(STRATEGIES) == {"exponential", "linear", "fixed", "immediate", "adaptive"}


@pytest.mark.parametrize("name, strategy", [
    ("timeout_error", "exponential"), ("communication_error", "exponential"),
    ("validation_error", "linear"), ("unknown_error", "linear"), ("tool_failure", "adaptive"),
    ("agent_failure", "adaptive"), ("resource_error", "linear"),
])
def test_the_back_off_of_each_type(name, strategy):
    assert strategies.backoff_of(cause_of(name)) == strategy


@pytest.mark.parametrize("strategy, rate, delays", [
    ("exponential", 1.0, [1, 2, 4, 8, 16, 30]), ("linear", 1.0, [1, 2, 3, 4, 5, 6]),
    ("fixed", 1.0, [1] * 6), ("immediate", 1.0, [0] * 6), ("adaptive", 1.0, [1, 2, 3, 4, 5, 6]),
    ("adaptive", 0.5, [1.5, 3, 4.5, 6, 7.5, 9]), ("adaptive", 0.0, [2, 4, 6, 8, 10, 12]),
])
def test_the_delays_before_jitter(strategy, rate, delays):
    """Its attempts count from 0, ours from 1. Jitter, which it had none of, keeps a base delay that
    somebody set within a quarter: those that fail together must not come back together.
    """
    retry = Retry()
    rule = (retry.base_delay, retry.max_delay, rate, retry.backoff_multiplier)
    assert [backoff.full_delay(strategy, n, *rule) for n in range(1, 7)] == delays
    assert backoff.JITTER == 0.25


@pytest.mark.parametrize("facts, can", [
    ({}, True), ({"retry_count": 2}, True), ({"retry_count": 3}, False),
    ({"cause": "infinite_loop"}, False), ({"cause": "configuration"}, False),
    ({"cause": "permission"}, False), ({"success_rate": 0.3}, True),
    ({"success_rate": 0.29}, False),
])
def test_what_is_retried(facts, can):
    assert Assessment(**dict({"cause": "timeout", "severity": "low"}, **facts)).can_retry is can


def test_a_success_rate_takes_ten_runs():
    """The original's rate was a constant, 0.7, so that its threshold never did anything."""
    failed = [{"at": START, "outcome": "failed", "failure_type": "timeout"}] * 10
    assert run_summaries.success_rate(failed[:9], START, "timeout") == 1.0
    assert run_summaries.success_rate(failed, START, "timeout") == 0.0
    assert run_summaries.success_rate(failed, START, "error") == 1.0


def test_each_attempt_adjusts_the_prompt_by_one_thing_more():
    """The original's: 1 add_context; 2 rephrase, simplify; 3 change_approach, add_examples; then
    add_context again; increase_specificity never came. All six are here, one more each time, so
    that it can be told which of them helped.
    """
    assert set(strategies.ADJUSTMENTS) == {
        "add_context", "rephrase", "simplify_query", "change_approach", "add_examples",
        "increase_specificity"}
    assert strategies.ADJUSTMENTS[:3] == ("add_context", "rephrase", "simplify_query")


# Strategies.

@pytest.mark.parametrize("facts, strategy, todo, urgency, probability", [
    ({"looping": True}, "circuit_breaker", ["circuit_breaker", "escalation"], 10, 0.9),
    ({"severity": "critical"}, "escalation", ["escalation"], 8, 0.7),
    ({"severity": "high"}, "escalation", ["escalation"], 8, 0.7),
    ({"attempts": 3}, "escalation", ["escalation"], 8, 0.7),
    ({"has_snapshot": True, "retry_count": 2}, "rollback", ["rollback", "auto_retry"], 6, 0.8),
    ({"has_snapshot": True, "retry_count": 1}, "auto_retry", ["auto_retry"], 3, 0.6),
    ({}, "auto_retry", ["auto_retry"], 3, 0.6),
    ({"attempts": 1, "retry_count": 3}, "hybrid", ["rollback", "auto_retry", "escalation"], 5,
     0.65),
    ({"retry_count": 3}, "escalation", ["escalation"], 2, 0.5),
    # The first that fits, in this order.
    ({"looping": True, "severity": "critical", "attempts": 3}, "circuit_breaker",
     ["circuit_breaker", "escalation"], 10, 0.9),
    ({"attempts": 3, "has_snapshot": True, "retry_count": 2}, "escalation", ["escalation"], 8, 0.7),
])
def test_which_strategy_with_which_priority_and_probability(
    facts, strategy, todo, urgency, probability
):
    """A loop is escalated too: the original un-paused the agent and called that recovered. Loops
    are found by their pattern or reported as such, and either way stopped.
    """
    choice = strategies.choose_strategy(
        Assessment(**dict({"cause": "timeout", "severity": "low"}, **facts))
    )
    assert (choice.strategy, choice.strategies) == (strategy, todo)
    assert (choice.priority, choice.probability) == (urgency, probability)


def test_a_plan_takes_as_long_as_its_strategies():
    """Seconds: retry 30, rollback 60, escalation 300, breaker 10, hybrid 120, manual 1800."""
    assert strategies.DURATIONS == {
        "auto_retry": 30, "rollback": 60, "escalation": 300, "circuit_breaker": 10, "hybrid": 120,
        "manual": 1800}
    snapshot = Assessment("timeout", "low", has_snapshot=True, retry_count=2)
    assert strategies.choose_strategy(snapshot).duration == 90


# Escalation.

def test_the_levels_and_what_a_ticket_can_be():
    """`none` is no ticket. A ticket is open, not pending, until somebody takes it; nothing here
    ends it but a person, so it neither fails nor is cancelled.
    """
    assert tickets.LEVELS == (
        "auto_recovery", "supervisor_review", "human_intervention", "critical_alert")
    assert tickets.STATUSES == ("open", "in_progress", "resolved")


@pytest.mark.parametrize("changes, level", [
    ({"cause": "infinite_loop"}, "critical_alert"), ({"cause": "resource"}, "critical_alert"),
    ({"cause": "agent_failed"}, "auto_recovery"), ({"occurrences": 5}, "human_intervention"),
    ({"occurrences": 3}, "supervisor_review"), ({"severity": "critical"}, "critical_alert"),
    ({"severity": "high"}, "supervisor_review"), ({"severity": "medium"}, "auto_recovery"),
    ({"severity": "low"}, "auto_recovery"),
    ({"severity": "critical", "occurrences": 5}, "critical_alert"),
])
def test_the_level_of_a_ticket(changes, level):
    """The highest that any rule gives; the first one won in the original, so that a critical error
    became less urgent when it failed five times. agent_failure was critical in its program and not
    in its documentation: nearly every ticket would be.
    """
    facts = {"type": "error", "cause": "timeout", "severity": "low", "occurrences": 1}
    assert priority.level_of(EscalationConfig(), dict(facts, **changes)) == level


def test_priority_is_a_formula_of_its_own():
    """The original: int(0.4 severity + 0.3 x 5 + 0.3 criticality + 2 failed attempts), severities
    1, 3, 7, 10: five failures of low severity, 12, came before a first critical one, 6, and nothing
    came near its 100. What it weighs is kept, severity first; the parts add up to 100.
    """
    def of(severity, occurrences, attempts, impact=5):
        return priority.priority_of(EscalationConfig(), {
            "type": "error", "cause": "timeout", "severity": severity, "occurrences": occurrences,
            "attempts": attempts, "impact": impact, "subject": "bot"})

    assert of("low", 5, 5) < of("critical", 1, 1)
    assert [of(name, 1, 1) for name in causes.SEVERITIES] == [8, 21, 34, 48]
    assert of("low", 1, 0, 0) == 0


# Snapshots and history.

def test_a_snapshot_as_it_had_it_and_what_is_better(store, clock):
    """Ids were <agent>_<task>_<time>, which two agents could share; the task is in the head here.
    The checksum was one of the state as json.dumps writes it with default=str, so that what is no
    JSON came back as other text; it is refused here, and the checksum is of canonical JSON.
    """
    state = {"b": 1, "a": [1.5, None]}
    head = snapshots.create(store, SnapshotConfig(), clock(), "trainer_01", "model_training", state)
    assert set(head) >= {"snapshot_id", "agent_id", "task_id", "metadata", "checksum", "size_bytes"}
    assert head["checksum"] == state_codec.checksum('{"a":[1.5,null],"b":1}')
    assert len(head["checksum"]) == 64


def test_a_version_as_it_had_it(store, clock):
    """v0001 counts for agent and task, over all kinds. record_state gave a uuid back, though its
    documentation compared v0001 with v0002: it is the version here.
    """
    records = [
        versions.record(store, HistoryConfig(), clock.at + n, "agent_01", "task_01", {}, kind)[
            "version"
        ]
        for n, kind in enumerate(("state", "error", "intervention", "recovery"))
    ]
    assert records == ["v0001", "v0002", "v0003", "v0004"]
    assert set(versions.KINDS) == {"state", "error", "intervention", "recovery"}
    assert history.TTL_SECONDS == HistoryConfig().seconds == 30 * 24 * 3600


@pytest.mark.parametrize("action", ["snapshot.list", "history.list", "history.timeline"])
def test_a_list_shows_fifty(action):
    """Newest first. The timeline alone is told from the beginning: it is read as a story."""
    spec = yaml.safe_load((ACTIONS / (action + ".yaml")).read_text(encoding="utf-8"))
    assert spec["parameters"]["limit"]["default"] == 50


# Loops.

def steps_until_a_loop(block):
    limits = LoopDetectionConfig()
    steps = [detector.build_step(START, *step) for step in block * 60]
    for n in range(1, len(steps) + 1):
        if any(
            pattern.level == detector.CRITICAL for pattern in detector.detect(steps[:n], limits)
        ):
            return n
    return None


@pytest.mark.parametrize("letters, steps, originals", [
    ("a", 4, 5), ("ab", 6, 6), ("abc", 9, 45), ("abcdefghij", 30, None),
])
def test_after_how_many_steps_a_loop_is_one(letters, steps, originals):
    """The original's (`originals`, None for never) went by 50 // length repetitions of a cycle.
    Three whole cycles are one here, four steps that are the same, and never less.
    """
    block = [("read", {"path": letter}, "the same") for letter in letters]
    assert steps_until_a_loop(block) == steps <= (originals or steps)


def test_the_same_kind_of_error_with_other_words_is_no_loop():
    """Five errors of one type in a row were one in the original, whatever they said."""
    block = [("error", {"type": "timeout", "message": text}) for text in (
        "no answer from the mail server", "the disk of host seven is slow",
        "login page took too long", "a lock on table invoices was not given", "upstream is late")]
    steps = [detector.build_step(START, *step) for step in block]
    assert detector.detect(steps, LoopDetectionConfig()) == []


def test_the_weights_of_similarity():
    first, second = (
        detector.build_step(START, "error", {"message": text})
        for text in ("red green", "tall short")
    )
    assert patterns.similarity(first, second) == pytest.approx(0.6)
    assert patterns.similarity(first, first) == pytest.approx(1.0)


# Programs.

def test_the_health_of_a_program_s_system():
    """Its subsystems and counters under their names; `escalations` counts here."""
    health = asyncio.run(ErrorHandlingSystem().get_system_health())
    assert set(health["stats"]) == {
        "total_errors", "successful_recoveries", "failed_recoveries", "escalations"}
    assert set(health["subsystem_status"]) == {
        "auto_retry", "rollback_system", "escalation_system", "loop_detector", "history_manager",
        "recovery_orchestrator"}
    assert health["active_errors"] == 0
