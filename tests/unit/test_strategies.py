import pytest

from synthralos.core.errors import InvalidInput
from synthralos.recovery.strategies import (
    ADJUSTMENTS,
    DURATIONS,
    Assessment,
    choose_strategy,
    severity_of,
)


def chosen(cause="timeout", severity="medium", **facts):
    return choose_strategy(Assessment(cause, severity, **facts)).strategy


def test_what_the_table_of_the_original_says():
    assert chosen(looping=True) == "circuit_breaker"
    assert chosen("infinite_loop", "critical") == "circuit_breaker"
    assert chosen(severity="critical") == "escalation"
    assert chosen(severity="high") == "escalation"
    assert chosen(critical=True) == "escalation"
    assert chosen(attempts=3) == "escalation"
    assert chosen(has_snapshot=True, retry_count=2) == "rollback"
    assert chosen(has_snapshot=True, retry_count=1) == "auto_retry"
    assert chosen() == "auto_retry"
    assert chosen(retry_count=3, attempts=1) == "hybrid"
    assert chosen("configuration", attempts=1) == "hybrid"
    assert chosen("configuration") == "escalation"


@pytest.mark.parametrize("rate, strategy", [(1.0, "auto_retry"), (0.3, "auto_retry"),
                                            (0.29, "escalation")])
def test_what_seldom_succeeds_is_not_retried(rate, strategy):
    assert chosen(success_rate=rate) == strategy


def test_durations_and_probabilities_are_reported():
    choice_info = choose_strategy(
        Assessment("timeout", "low", has_snapshot=True, retry_count=2)
    ).as_dict()
    assert choice_info == {
        "strategy": "rollback", "strategies": ["rollback", "auto_retry"], "priority": 6,
        "estimated_duration": 90, "success_probability": 0.8,
    }
    durations = {"auto_retry": 30, "rollback": 60, "escalation": 300, "circuit_breaker": 10,
                 "hybrid": 120, "manual": 1800}
    assert durations == DURATIONS


@pytest.mark.parametrize("name", sorted(DURATIONS))
def test_any_strategy_can_be_asked_for(name):
    choice = choose_strategy(Assessment("timeout", "critical", looping=True), name)
    assert choice.strategy == name
    assert choice.strategies == (
        ["rollback", "auto_retry", "escalation"] if name == "hybrid" else [name]
    )


def test_another_name_is_refused():
    with pytest.raises(InvalidInput, match="auto_retry"):
        choose_strategy(Assessment("timeout", "low"), "pray")


@pytest.mark.parametrize("cause, severity", [
    ("infinite_loop", "critical"), ("resource", "high"), ("agent_failed", "high"),
    ("timeout", "medium"), ("network", "medium"), ("configuration", "medium"),
    ("schema_mismatch", "low"), ("tool_failure", "low"), ("unknown", "low"),
])
def test_severity_of_an_error_that_nobody_rated(cause, severity):
    assert severity_of(cause) == severity


def test_the_prompt_is_adjusted_step_by_step():
    assert ADJUSTMENTS == (
        "add_context", "rephrase", "simplify_query", "change_approach", "add_examples",
        "increase_specificity",
    )
