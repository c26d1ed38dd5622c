"""Repair plans: their shape, and the check that every plan from outside goes through."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional, Protocol, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.recovery.repair_actions import REPAIR_ACTIONS, ParameterSpec

MAX_STEPS = 10
# camelCase, as the platform writes it -> ours. Its times are milliseconds.
_RENAMED = {
    "planId": "plan_id",
    "failureType": "failure_type",
    "rootCause": "root_cause",
    "estimatedTime": "estimated_time",
    "expectedOutcome": "expected_outcome",
}
_DROPPED = ("generatedAt",)


class PlanStep(TypedDict):
    """A step of a repair plan: one of REPAIR_ACTIONS, with its parameters. A lower `priority` comes
    first.
    """

    action: str
    description: str
    expected_outcome: str
    priority: int
    parameters: dict[str, Any]


class RepairPlan(TypedDict):
    """What is tried to repair a failed agent, in order. `estimated_time`: seconds; `confidence`: 0
    to 1; `source`: who made it: context, llm or playbook.
    """

    plan_id: str
    failure_type: str
    root_cause: str
    steps: list[PlanStep]
    estimated_time: float
    confidence: float
    source: str


class _Step(Protocol):
    """A step that pydantic has checked."""

    action: str
    description: str
    expected_outcome: str
    priority: int
    parameters: dict[str, Any]


class _Plan(Protocol):
    """A plan that pydantic has checked."""

    plan_id: str
    root_cause: str
    steps: Sequence[_Step]
    estimated_time: float
    confidence: float


def validate_plan(
    raw_plan: object,
    failure: Mapping[str, Any],
    plan_id: str,
    source: str,
    field: str = "context.repairPlan",
) -> RepairPlan:
    """Validate a plan that a caller or an LLM proposes.

    :param raw_plan: JSON, in snake_case or camelCase.
    :raises InvalidInput: for the first error: an unknown action, a parameter that the action does
        not have or that is out of range, no step or more than MAX_STEPS.
    """
    import pydantic

    if not isinstance(raw_plan, dict):
        raise InvalidInput(field, raw_plan, "is not an object", "Give {steps: [{action, ...}]}")
    plan = _normalize_keys(raw_plan, field)
    raw_steps = plan.get("steps")
    if not isinstance(raw_steps, list):
        raise InvalidInput(
            field + ".steps", raw_steps, "is not a list", "Plans are {steps: [{action, ...}]}"
        )
    plan["steps"] = [
        _normalize_keys(step, "%s.steps[%d]" % (field, index)) if isinstance(step, dict) else step
        for index, step in enumerate(raw_steps)
    ]
    try:
        parsed = _plan_model()(**plan)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = ".".join([field] + [str(part) for part in first["loc"]])
        raise InvalidInput(
            path, first.get("input"), first["msg"], "Plans are {steps: [{action, ...}]}"
        ) from error
    steps = [
        _step(step, "%s.steps[%d]" % (field, index), index)
        for index, step in enumerate(parsed.steps)
    ]
    return {
        "plan_id": parsed.plan_id if is_name(parsed.plan_id) else plan_id,
        "failure_type": failure["type"],
        "root_cause": parsed.root_cause or failure["message"],
        "steps": sorted(steps, key=lambda step: step["priority"]),
        "estimated_time": parsed.estimated_time,
        "confidence": parsed.confidence,
        "source": source,
    }


def _plan_model() -> "Callable[..., _Plan]":
    """The pydantic models, made when they are first needed: importing pydantic takes 0.1 s."""
    import pydantic

    class Step(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        action: str
        description: str = pydantic.Field("", max_length=2000)
        expected_outcome: str = pydantic.Field("", max_length=2000)
        priority: int = pydantic.Field(0, ge=0, le=1000)
        parameters: dict[str, Any] = {}

    class Plan(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        plan_id: str = ""
        failure_type: str = ""
        root_cause: str = pydantic.Field("", max_length=4000)
        steps: list[Step] = pydantic.Field(min_length=1, max_length=MAX_STEPS)
        estimated_time: float = pydantic.Field(5.0, ge=0, le=86400)
        confidence: float = pydantic.Field(0.7, ge=0, le=1)
        source: str = ""

    return Plan


def _normalize_keys(raw: Mapping[str, Any], field: str) -> dict[str, Any]:
    """`raw` in snake_case and seconds; both spellings at once are refused."""
    plan: dict[str, Any] = {}
    for name, value in raw.items():
        if name in _DROPPED:
            continue
        own_name = _RENAMED.get(name, name)
        if own_name in plan:
            raise InvalidInput(
                "%s.%s" % (field, name), value, "is a duplicate", "Give %s once" % own_name
            )
        if name == "estimatedTime" and isinstance(value, (int, float)):
            # Beyond that it is out of bounds anyway, and an integer too large for a float.
            value = min(value, 10**12) / 1000.0
        plan[own_name] = value
    return plan


def _step(step: "_Step", field: str, position: int) -> PlanStep:
    action = REPAIR_ACTIONS.get(step.action)
    if action is None:
        raise InvalidInput(
            field + ".action",
            step.action,
            "is not a repair action",
            "Known actions: " + ", ".join(REPAIR_ACTIONS),
        )
    for name, value in step.parameters.items():
        spec = action.parameters.get(name)
        if spec is None:
            parameter_names = ", ".join(action.parameters) or "none"
            raise InvalidInput(
                "%s.parameters.%s" % (field, name),
                value,
                "%s has no such parameter" % step.action,
                "Its parameters: " + parameter_names,
            )
        problem = _parameter_error(value, spec)
        if problem:
            raise InvalidInput(
                "%s.parameters.%s" % (field, name),
                value,
                problem,
                "Give one that is, or leave it out",
            )
    return {
        "action": step.action,
        "description": step.description or action.description,
        "expected_outcome": step.expected_outcome or action.expected_outcome,
        "priority": step.priority or position + 1,
        "parameters": step.parameters,
    }


def _parameter_error(value: Any, spec: ParameterSpec) -> Optional[str]:
    minimum, maximum = spec.minimum, spec.maximum
    if spec.kind == "integer":
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        is_valid = is_integer and minimum <= value <= maximum
        return None if is_valid else "is not a whole number from %d to %d" % (minimum, maximum)
    if spec.kind == "name":
        return None if is_name(value, maximum) else "is not a name"
    if spec.kind == "object":
        is_valid = isinstance(value, dict) and len(json.dumps(value)) <= maximum
        return None if is_valid else "is not an object of at most %d bytes as JSON" % maximum
    is_valid = isinstance(value, str) and 0 < len(value) <= maximum
    return None if is_valid else "is not text of 1 to %d characters" % maximum
