"""What a program says of an error: its type, its severity, where it happened.

The names of the Supervisor Agent's error handling are the values of the enumerations here; each is
accepted in any case (`TIMEOUT_ERROR`, `timeout_error`), and the pack's own failure types too.
"""
import asyncio
import enum
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Optional, TypeVar, Union

from synthralos.core import causes, failures
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.core.identifiers import require_identifier
from synthralos.recovery import strategies
from synthralos.recovery.error_case import ReportedError

UNKNOWN = "unknown"
MESSAGE_CHARACTERS = 2000
STACK_CHARACTERS = 8000
# By class, the first that fits; the text of any other is read.
CAUSES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((asyncio.TimeoutError, TimeoutError), "timeout"),
    ((ConnectionError,), "network"),
    ((MemoryError, PermissionError), "resource"),
    ((KeyError,), "configuration"),
    ((ValueError,), "schema_mismatch"),
)


class _Name(str, enum.Enum):
    """A name that is read in any case, with spaces or hyphens for its underscores."""

    @classmethod
    def _missing_(cls, value: object) -> Any:
        name = str(value).strip().lower().replace("-", "_").replace(" ", "_")
        return next((member for member in cls if member.value == name), None)

    def __str__(self) -> str:
        return str(self.value)


class ErrorType(_Name):
    """The nine types of errors."""

    AGENT_FAILURE = "agent_failure"
    TOOL_FAILURE = "tool_failure"
    COMMUNICATION_ERROR = "communication_error"
    TIMEOUT_ERROR = "timeout_error"
    VALIDATION_ERROR = "validation_error"
    INFINITE_LOOP = "infinite_loop"
    RESOURCE_ERROR = "resource_error"
    CONFIGURATION_ERROR = "configuration_error"
    UNKNOWN_ERROR = "unknown_error"


class Severity(_Name):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class EscalationLevel(_Name):
    """Who has to see to a ticket; tickets.LEVELS, in rising order."""

    AUTO_RECOVERY = "auto_recovery"
    SUPERVISOR_REVIEW = "supervisor_review"
    HUMAN_INTERVENTION = "human_intervention"
    CRITICAL_ALERT = "critical_alert"


class RecoveryStrategy(_Name):
    AUTO_RETRY = "auto_retry"
    ROLLBACK = "rollback"
    ESCALATION = "escalation"
    CIRCUIT_BREAKER = "circuit_breaker"
    HYBRID = "hybrid"
    MANUAL = "manual"


_Member = TypeVar("_Member", bound=_Name)
# The error type of a cause that no alias names.
_TYPES = {
    "timeout": ErrorType.TIMEOUT_ERROR,
    "request_timeout": ErrorType.TIMEOUT_ERROR,
    "network": ErrorType.COMMUNICATION_ERROR,
    "server_error": ErrorType.COMMUNICATION_ERROR,
    "overloaded": ErrorType.COMMUNICATION_ERROR,
    "truncated_stream": ErrorType.COMMUNICATION_ERROR,
    "rate_limit": ErrorType.COMMUNICATION_ERROR,
    "schema_mismatch": ErrorType.VALIDATION_ERROR,
    "malformed_answer": ErrorType.VALIDATION_ERROR,
    "blank_output": ErrorType.VALIDATION_ERROR,
    "invalid_output": ErrorType.VALIDATION_ERROR,
    "authentication": ErrorType.CONFIGURATION_ERROR,
    "permission": ErrorType.CONFIGURATION_ERROR,
    "model_not_found": ErrorType.CONFIGURATION_ERROR,
    "unsupported_parameter": ErrorType.CONFIGURATION_ERROR,
    "unsupported_content": ErrorType.CONFIGURATION_ERROR,
    "wrong_address": ErrorType.CONFIGURATION_ERROR,
    "request_too_large": ErrorType.RESOURCE_ERROR,
    "output_limit": ErrorType.VALIDATION_ERROR,
    "configuration": ErrorType.CONFIGURATION_ERROR,
    "quota": ErrorType.RESOURCE_ERROR,
    "model_quota": ErrorType.RESOURCE_ERROR,
    "budget": ErrorType.RESOURCE_ERROR,
    "resource": ErrorType.RESOURCE_ERROR,
    "infinite_loop": ErrorType.INFINITE_LOOP,
    "tool_failure": ErrorType.TOOL_FAILURE,
    "agent_failed": ErrorType.AGENT_FAILURE,
}


def member(kind: type[_Member], name: str, value: object) -> _Member:
    """The member of an enumeration that `value` names in any case. InvalidInput when it names none.

    :param name: of the field, for the refusal.
    """
    try:
        return kind(value)
    except ValueError as error:
        way_out = "Use one of " + ", ".join(value_member.value for value_member in kind)
        raise InvalidInput(name, value, "is unknown", way_out) from error


def type_of_cause(cause: str) -> ErrorType:
    """The ErrorType of one of causes.CAUSES."""
    return _TYPES.get(cause, ErrorType.UNKNOWN_ERROR)


@dataclass
class ErrorContext:
    """One error, as the systems exchange it.

    :ivar error_type: an ErrorType, or its name in any case.
    :ivar severity: a Severity, or its name in any case; by default that of the error's type.
    :ivar timestamp: seconds since the epoch.
    :ivar context_data: what else its reporter knows, JSON values.
    :ivar retry_count: errors like this one before it.
    :ivar recovery_attempts: what was tried already, each a mapping or a text.
    :ivar cause: one of causes.CAUSES; by default derived from the type and the message.

    InvalidInput for a name that is none of the above, or an agent_id or task_id that is no name.
    """

    error_type: Union[ErrorType, str] = ErrorType.UNKNOWN_ERROR
    severity: Union[Severity, str, None] = None
    agent_id: str = UNKNOWN
    task_id: str = UNKNOWN
    error_message: str = ""
    stack_trace: str = ""
    context_data: dict[str, Any] = field(default_factory=dict)
    retry_count: int = 0
    recovery_attempts: list[Any] = field(default_factory=list)
    timestamp: float = field(default_factory=time.time)
    error_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    cause: Optional[str] = None

    def __post_init__(self) -> None:
        self.error_type = member(ErrorType, "error_type", self.error_type)
        require_identifier("agent_id", self.agent_id)
        require_identifier("task_id", self.task_id)
        self.error_message = str(self.error_message)[:MESSAGE_CHARACTERS]
        if self.cause is None:
            self.cause = self._derived_cause()
        if self.severity is None:
            self.severity = strategies.severity_of(self.cause)
        self.severity = member(Severity, "severity", self.severity)

    @property
    def failure(self) -> Failure:
        """The error as the pack's workflows classify it."""
        cause = str(self.cause)
        kind = causes.CAUSES[cause].type
        if self.error_type != type_of_cause(cause):
            kind, _ = _resolve_type(self.error_type)
        return failures.make_failure(cause, self.error_message, type=kind)

    def reported(self) -> ReportedError:
        state = self.context_data.get("state")
        return ReportedError(
            agent_id=self.agent_id,
            task_id=self.task_id,
            type=str(self.error_type),
            message=self.error_message,
            details={"exception": self.context_data.get("exception")},
            severity=str(self.severity),
            recovery_attempts=len(self.recovery_attempts),
            retry_count=self.retry_count,
            state=state if isinstance(state, dict) else {},
        )

    def _derived_cause(self) -> str:
        kind, cause = _resolve_type(self.error_type)
        if cause is None:
            of_type = kind if self.error_type != ErrorType.UNKNOWN_ERROR else None
            cause = failures.from_text(self.error_message, of_type).cause
            if self.error_type == ErrorType.TOOL_FAILURE:
                cause = "tool_failure"
        return str(cause)


def context_of(
    error: BaseException, context: Mapping[str, Any], timestamp: float
) -> ErrorContext:
    """The ErrorContext of an exception.

    :param context: agent_id and task_id (`unknown` when missing); perhaps error_type, severity,
        retry_count, recovery_attempts and state.
    """
    failure = _failure_of(error, context.get("error_type"))
    count = context.get("retry_count")
    attempts = context.get("recovery_attempts")
    is_list = isinstance(attempts, Sequence) and not isinstance(attempts, str)
    return ErrorContext(
        error_type=_stated_type(context.get("error_type")) or type_of_cause(failure.cause),
        severity=context.get("severity"),
        agent_id=context.get("agent_id") or UNKNOWN,
        task_id=context.get("task_id") or UNKNOWN,
        error_message=str(error),
        stack_trace="".join(
            traceback.format_exception(type(error), error, error.__traceback__)
        )[-STACK_CHARACTERS:],
        context_data=dict(context, exception=type(error).__name__),
        retry_count=count if isinstance(count, int) and not isinstance(count, bool) else 0,
        recovery_attempts=list(attempts or ()) if is_list else [],
        timestamp=timestamp,
        cause=failure.cause,
    )


def context_from(value: Union[ErrorContext, Mapping[str, Any]]) -> ErrorContext:
    """An ErrorContext, or one made of a mapping with its fields. InvalidInput for anything else."""
    if isinstance(value, ErrorContext):
        return value
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - {entry.name for entry in fields(ErrorContext)})
        if not unknown:
            return ErrorContext(**value)
        raise InvalidInput(
            "error_context." + str(unknown[0]), None, "is not a field of ErrorContext",
            "Put what else is known into context_data",
        )
    raise InvalidInput("error_context", value, "is not an ErrorContext", "Pass one, or its fields")


def _resolve_type(error_type: Union[ErrorType, str]) -> tuple[str, Optional[str]]:
    """Return the failure type of one of the ErrorTypes, and the cause it implies, or None."""
    resolved = causes.resolve_type(str(error_type))
    assert resolved is not None, "each ErrorType is one of causes.TYPES or ALIASES"
    return resolved


def _stated_type(value: object) -> Optional[ErrorType]:
    """The ErrorType that a caller named; None where none was, or a failure type of the pack."""
    if value is None or _is_failure_type(value):
        return None
    return member(ErrorType, "error_type", value)


def _is_failure_type(value: object) -> bool:
    name = str(value).strip().lower()
    return name in causes.TYPES and name != ErrorType.TOOL_FAILURE.value


def _failure_of(error: BaseException, stated: object) -> Failure:
    words = "%s %s" % (type(error).__name__, error)
    failure: Failure
    if stated is not None and _is_failure_type(stated):
        failure = failures.from_text(words, str(stated).strip().lower())
        return failure
    if stated is not None:
        kind = member(ErrorType, "error_type", stated)
        return ErrorContext(error_type=kind, error_message=str(error)).failure
    cause = next((cause for classes, cause in CAUSES if isinstance(error, classes)), None)
    failure = failures.from_text(words) if cause is None else failures.make_failure(cause, error)
    return failure
