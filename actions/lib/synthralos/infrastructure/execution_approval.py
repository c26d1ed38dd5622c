"""Asks a person to approve the assignments of a run, and takes the answer."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from synthralos.infrastructure import approval_question, silences, turns
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.infrastructure_repair import Result
from synthralos.infrastructure.outcome import summarize_names
from synthralos.infrastructure.runbooks import REQUIRED
from synthralos.runtime import child_runs, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.storage import incidents

# The task that asks, as in `next_task`; it leads back to the state EXECUTION.
ASK_TASK = "ask"
# Answers; OVER: the alert that the run was started for ended before.
APPROVED, REFUSED, UNANSWERED, OVER = "approved", "refused", "unanswered", "over"
# What the person is shown of an assignment.
_QUESTION_FIELDS = ("node", "crew", "runbook", "step", "action", "parameters")


def requires_approval(case: Mapping[str, Any], assignment: Mapping[str, Any]) -> bool:
    """Return whether a person must approve the assignment: as configured, or as the run says."""
    return bool(assignment["requires_approval"]) or case.get("approval") == REQUIRED


def ask(
    env: Environment,
    case: dict[str, Any],
    config: InfrastructureConfig,
    unapproved: list[dict[str, Any]],
    entries: list[dict[str, Any]],
) -> Result:
    """Return the result after which a person is asked to approve the assignments.

    :param entries: of what was assigned before.
    """
    # Nobody waits for a person because another run does; afterwards much may have happened.
    turns.leave(env, case)
    silences.end(env, case["run"], case)
    case["look_first"] = [assignment["node"] for assignment in unapproved]
    case["asked_at"], case["done"] = env.now(), entries
    case["asked_about"] = {
        assignment["node"]: _digest(config, assignment) for assignment in unapproved
    }
    case["progress"]["cursor"] += 1
    approval_question.record(env, config, case, unapproved)
    return {
        "summary": "a person is asked for approval: %s" % summarize_names(
            [assignment["crew"] for assignment in unapproved]
        ),
        "next_task": ASK_TASK,
        "assignments": entries,
        "asking": _describe(unapproved),
        "next": workflow_run.next_step(env, case),
    }


def has_changed(
    config: InfrastructureConfig, case: Mapping[str, Any], assignment: Mapping[str, Any]
) -> bool:
    """Return whether the crew of an assignment would run something else now than when the person
    was asked about it.
    """
    digest = case["asked_about"].get(assignment["node"])
    return digest is not None and digest != _digest(config, assignment)


def _digest(config: InfrastructureConfig, assignment: Mapping[str, Any]) -> str:
    """Return a digest of what the crew of an assignment would run; a step of a runbook has its own.
    """
    crew = config.crew(assignment["crew"])
    content = None if crew is None else [crew.action, crew.node_parameter, crew.parameters]
    text = json.dumps([assignment["crew"], content], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _describe(unapproved: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: assignment[name] for name in _QUESTION_FIELDS if assignment.get(name) is not None}
        for assignment in unapproved
    ]


def read_answer(env: Environment, case: dict[str, Any]) -> str:
    """Return APPROVED, REFUSED, UNANSWERED or OVER; nobody is asked any more.

    The time that it took does not count against the run's deadline.

    :raises StackStormError: StackStorm's API is unavailable, or there is none.
    """
    case["deadline"] += max(0.0, env.now() - case["asked_at"])
    case["asked_at"] = None
    approval_question.settle(env, case)
    inquiry = child_runs.latest_child(env, case["run"], (child_runs.ASK,))
    answer = child_runs.answer_of(inquiry, "approved")
    if answer is False:
        return REFUSED
    if child_runs.is_withdrawn(inquiry) or incidents.is_close_scheduled(env.store, case["run"]):
        return OVER
    return UNANSWERED if answer is None else APPROVED
