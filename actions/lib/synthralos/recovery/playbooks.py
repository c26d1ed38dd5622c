"""Plans for every failure, made without an LLM: what broke may be the LLM."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from synthralos.recovery.repair_actions import REPAIR_ACTIONS, RESUME_CHECKPOINT

if TYPE_CHECKING:
    from synthralos.recovery.repair_plan import PlanStep, RepairPlan

SECONDS_PER_STEP = 5
CONFIDENCE_BY_CAUSE = 0.7
CONFIDENCE_BY_TYPE = 0.6

BY_TYPE: dict[str, tuple[str, ...]] = {
    "timeout": ("reduce_max_iterations", "simplify_query", "increase_timeout"),
    "error": ("retry_execution", "simplify_approach", "change_approach"),
    "invalid_output": ("regenerate_output", "add_validation", "increase_specificity"),
    "tool_failure": ("retry_tool", "use_alternative_tool", "change_approach"),
    "llm_error": ("retry_with_backoff", "switch_provider", "switch_model"),
    "unknown": ("retry_execution", "simplify_approach", "rephrase"),
}
BY_CAUSE: dict[str, tuple[str, ...]] = {
    "timeout": BY_TYPE["timeout"],
    "network": ("retry_with_backoff", "switch_provider", "retry_execution"),
    "server_error": ("retry_with_backoff", "switch_provider", "simplify_approach"),
    "overloaded": ("retry_with_backoff", "switch_model", "switch_provider"),
    "truncated_stream": ("regenerate_output", "simplify_query", "switch_model"),
    "malformed_answer": ("regenerate_output", "add_validation", "switch_model"),
    "conflict": ("retry_with_backoff", "retry_execution"),
    "idempotency_key_reused": ("retry_execution",),
    "rate_limit": ("retry_with_backoff", "switch_provider", "switch_model"),
    "quota": ("switch_provider", "switch_model"),
    "model_quota": ("switch_model", "switch_provider"),
    "authentication": ("switch_provider", "retry_execution"),
    "permission": ("switch_provider", "switch_model"),
    "model_not_found": ("switch_model", "switch_provider"),
    "context_length": ("simplify_query", "switch_model", "reduce_max_iterations"),
    "output_limit": ("simplify_query", "switch_model"),
    "unsupported_parameter": ("switch_model", "switch_provider"),
    "unsupported_content": ("switch_model", "switch_provider"),
    "wrong_address": ("switch_provider", "retry_execution"),
    "request_too_large": ("simplify_query", "switch_provider"),
    "content_policy": ("rephrase", "change_approach"),
    "bad_request": ("rephrase", "simplify_approach"),
    "not_found": ("retry_execution", "simplify_approach"),
    "blank_output": ("regenerate_output", "increase_specificity", "switch_model"),
    "schema_mismatch": ("add_validation", "add_examples", "regenerate_output"),
    "invalid_output": BY_TYPE["invalid_output"],
    "agent_failed": BY_TYPE["error"],
    "tool_failure": BY_TYPE["tool_failure"],
    "resource": ("reduce_max_iterations", "simplify_query", "simplify_approach"),
    "configuration": ("switch_provider", "retry_execution"),
    "infinite_loop": ("change_approach", "reduce_max_iterations", "simplify_approach"),
    "cancelled": ("retry_execution",),
}
# After these the run may be continued where it stopped; after a wrong output it would end with the
# same one.
RESUMABLE_CAUSES = (
    "timeout", "agent_timeout", "request_timeout", "network", "rate_limit", "overloaded",
    "server_error", "conflict", "agent_failed", "tool_failure", "resource", "quota", "model_quota",
    "authentication", "unknown",
)


def plan(failure: Mapping[str, Any], plan_id: str, can_resume: bool = False) -> "RepairPlan":
    """The playbook's plan for a failure.

    :param failure: as Failure.as_dict has it.
    :param can_resume: whether a platform of the agent can continue a run that failed.
    """
    cause = failure["cause"]
    names = BY_CAUSE.get(cause) or BY_TYPE[failure["type"]]
    if cause == failure["type"] or cause not in BY_CAUSE:
        names = BY_TYPE[failure["type"]]
    if can_resume and cause in RESUMABLE_CAUSES:
        names = (RESUME_CHECKPOINT, *names)
    steps: list[PlanStep] = [
        {
            "action": name,
            "description": REPAIR_ACTIONS[name].description,
            "expected_outcome": REPAIR_ACTIONS[name].expected_outcome,
            "priority": priority,
            "parameters": {},
        }
        for priority, name in enumerate(names, 1)
    ]
    return {
        "plan_id": plan_id,
        "failure_type": failure["type"],
        "root_cause": _root_cause(failure),
        "steps": steps,
        "estimated_time": SECONDS_PER_STEP * len(steps),
        "confidence": CONFIDENCE_BY_CAUSE if cause in BY_CAUSE else CONFIDENCE_BY_TYPE,
        "source": "playbook",
    }


def _root_cause(failure: Mapping[str, Any]) -> str:
    cause_text: str = failure["cause"].replace("_", " ")
    return "%s: %s" % (cause_text, failure["message"]) if failure.get("message") else cause_text
