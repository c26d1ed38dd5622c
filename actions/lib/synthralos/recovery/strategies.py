"""Which strategy handles an error: the rules, as pure functions."""
from dataclasses import dataclass
from typing import Optional, TypedDict

from synthralos.core import causes
from synthralos.core.errors import InvalidInput

# Seconds that a strategy is expected to take.
DURATIONS = {
    "auto_retry": 30,
    "rollback": 60,
    "circuit_breaker": 10,
    "escalation": 300,
    "hybrid": 120,
    "manual": 1800,
}
HYBRID = ("rollback", "auto_retry", "escalation")
# Of an error as it is reported, before anything was tried.
SEVERITIES = {
    "infinite_loop": "critical",
    "resource": "high",
    "agent_failed": "high",
    "timeout": "medium",
    "network": "medium",
    "configuration": "medium",
    "schema_mismatch": "low",
    "tool_failure": "low",
    "unknown": "low",
}
NOT_RETRIED = ("infinite_loop", "configuration", "permission", "wrong_address")
ROLLBACK_AFTER = 2
ESCALATE_AFTER = 3
# By cause, else the last one.
BACKOFF_BY_CAUSE = {
    "timeout": "exponential",
    "network": "exponential",
    "rate_limit": "exponential",
    "overloaded": "exponential",
    "server_error": "exponential",
    "schema_mismatch": "linear",
    "unknown": "linear",
    "tool_failure": "adaptive",
    "agent_failed": "adaptive",
}
DEFAULT_BACKOFF = "linear"
# Attempt n adjusts the prompt by step n.
ADJUSTMENTS = (
    "add_context",
    "rephrase",
    "simplify_query",
    "change_approach",
    "add_examples",
    "increase_specificity",
)


@dataclass(frozen=True)
class Assessment:
    """What is known of an error when its strategy is chosen.

    :ivar attempts: recoveries of this error that failed before.
    :ivar retry_count: errors of this agent and task before this one.
    :ivar recovered_count: of these, the ones before its last recovery; they say nothing against
        another try.
    :ivar critical: whether it is of one of the configuration's critical_error_types.
    :ivar success_rate: of recoveries from this type of failure, 0 to 1.
    """

    cause: str
    severity: str
    looping: bool = False
    attempts: int = 0
    retry_count: int = 0
    has_snapshot: bool = False
    critical: bool = False
    success_rate: float = 1.0
    threshold: float = 0.3
    max_retries: int = 3
    recovered_count: int = 0

    @property
    def can_retry(self) -> bool:
        uncured = self.retry_count - self.recovered_count
        if self.cause in NOT_RETRIED or uncured >= self.max_retries:
            return False
        return self.success_rate >= self.threshold

    @property
    def should_escalate(self) -> bool:
        if self.critical or self.severity in ("high", "critical"):
            return True
        return self.attempts >= ESCALATE_AFTER


class ChoiceFields(TypedDict):
    """A Choice in a case and in results. `estimated_duration`: seconds."""

    strategy: str
    strategies: list[str]
    priority: int
    estimated_duration: int
    success_probability: float


@dataclass(frozen=True)
class Choice:
    """The strategy that was chosen for an error.

    :ivar strategy: its name.
    :ivar strategies: to carry out, in order, until one succeeds.
    :ivar priority: 1 to 10; duration: seconds; probability: of success, 0 to 1.
    """

    strategy: str
    strategies: list[str]
    priority: int
    probability: float

    @property
    def duration(self) -> int:
        return sum(DURATIONS[name] for name in self.strategies)

    def as_dict(self) -> ChoiceFields:
        return {
            "strategy": self.strategy,
            "strategies": self.strategies,
            "priority": self.priority,
            "estimated_duration": self.duration,
            "success_probability": self.probability,
        }


def choose_strategy(assessment: Assessment, requested: Optional[str] = None) -> Choice:
    """The strategy that is requested, else that of the first rule that fits."""
    if requested not in (None, "auto"):
        if requested not in DURATIONS:
            hint = "Use auto or one of " + ", ".join(DURATIONS)
            raise InvalidInput("strategy", requested, "is not a strategy", hint)
        strategies = list(HYBRID) if requested == "hybrid" else [requested]
        return Choice(requested, strategies, 5, 0.65 if requested == "hybrid" else 0.6)
    if assessment.looping or assessment.cause == "infinite_loop":
        return Choice("circuit_breaker", ["circuit_breaker", "escalation"], 10, 0.9)
    if assessment.should_escalate:
        return Choice("escalation", ["escalation"], 8, 0.7)
    if assessment.has_snapshot and assessment.retry_count >= ROLLBACK_AFTER:
        return Choice("rollback", ["rollback", "auto_retry"], 6, 0.8)
    if assessment.can_retry:
        return Choice("auto_retry", ["auto_retry"], 3, 0.6)
    if assessment.attempts:
        return Choice("hybrid", list(HYBRID), 5, 0.65)
    return Choice("escalation", ["escalation"], 2, 0.5)


def severity_of(cause: str) -> str:
    """The severity of an error that nobody rated."""
    return SEVERITIES.get(cause, causes.CAUSES[cause].severity)


def backoff_of(cause: Optional[str]) -> str:
    return BACKOFF_BY_CAUSE.get(cause or "unknown", DEFAULT_BACKOFF)
