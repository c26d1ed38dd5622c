"""What a person is asked before actions run: which, on which nodes, and with which parameters."""

from collections.abc import Iterable, Mapping
from typing import Any

from synthralos.core.sanitize import sanitize_line
from synthralos.escalation import approval_notices
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.runtime.environment import Environment
from synthralos.storage import inquiries

MAX_QUESTION_CHARS = 4000
SUBJECT = "infrastructure"
MAX_PARAMETER_CHARS = 1000
# Of the words about actions that there is no room for.
MAX_REST_CHARS = 200


def record(
    env: Environment,
    config: InfrastructureConfig,
    case: Mapping[str, Any],
    assignments: Iterable[Mapping[str, Any]],
) -> None:
    """Store the question, for approval.list and approval.answer, and tell people that it waits.

    :param assignments: of a plan, that require approval.
    """
    if case["run"]:
        texts = [_describe(env, config, assignment) for assignment in assignments]
        question = sanitize_line(_join(texts), env.redactor, MAX_QUESTION_CHARS)
        inquiries.record_inquiry(env.store, case["run"], None, question)
        approval_notices.tell(env, case["run"], case["workflow"], SUBJECT, question)


def settle(env: Environment, case: Mapping[str, Any]) -> None:
    """Tell those who keep open what is asked that nobody is asked any more."""
    approval_notices.settle(env, case["run"], case["workflow"], SUBJECT)


def _join(texts: list[str]) -> str:
    """Return the texts as one, with the number of those that there is no room for."""
    total, included = 0, 0
    for text in texts:
        total += len(text) + 2
        if included and total > MAX_QUESTION_CHARS - MAX_REST_CHARS:
            break
        included += 1
    joined, remaining = "; ".join(texts[:included]), len(texts) - included
    if remaining:
        joined = "%d actions, of which %d are not shown here but in `asking` of the run's last " \
            "task: %s" % (len(texts), remaining, joined)
    return joined


def _describe(
    env: Environment, config: InfrastructureConfig, assignment: Mapping[str, Any]
) -> str:
    crew = config.crew(assignment["crew"])
    action, parameters = assignment.get("action"), assignment.get("parameters")
    if action is None and crew is not None and crew.action is not None:
        action = crew.action
        parameters = dict(crew.parameters)
        if crew.node_parameter is not None:
            parameters[crew.node_parameter] = assignment["node"]
    if action is None:
        return "%s: %s is notified" % (assignment["node"], assignment["crew"])
    values = [
        "%s=%s" % (name, sanitize_line(value, env.redactor, MAX_PARAMETER_CHARS))
        for name, value in sorted((parameters or {}).items())
    ]
    return "%s: %s (%s)%s" % (
        assignment["node"], action, assignment["crew"],
        " with " + ", ".join(values) if values else "",
    )
