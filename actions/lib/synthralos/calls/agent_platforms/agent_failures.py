"""Failures of agents: what an agent reports about itself, while its platform works."""

from typing import Any, Optional

from synthralos.core import evidence, failures
from synthralos.core.failures import Failure

# Causes that are the agent's own matter, or its model's, whatever platform it runs on. The others
# would be taken for the platform's: where an agent's tool timed out, or its model's key is not
# valid, neither the platform's host nor its credential is at fault.
_OF_AGENTS = frozenset((
    "rate_limit", "quota", "model_quota", "context_length", "content_policy", "model_not_found",
    "output_limit", "invalid_output", "schema_mismatch", "tool_failure", "resource",
    "infinite_loop",
))


def agent_failure(report: Any, status: Optional[int] = None, default: str = "") -> Failure:
    """Return the failure of an agent that ended as failed.

    :param report: what it says about that: a JSON value or a text.
    :param status: of HTTP, mostly a success.
    :param default: the message, if the report has none.
    :returns: of the cause that the report names, if it is one of agents, with `ran` in its
        evidence; else `agent_failed`, with the cause that it names as `spoken_cause`.
    """
    clues = evidence.read(report)
    message = clues.message or default or "the agent failed"
    spoken = failures.cause_of(clues)
    if spoken in _OF_AGENTS:
        failure = failures.make_failure(str(spoken), message, status)
        return failures.with_evidence(failure, ran=True)
    failure = failures.make_failure("agent_failed", message, status)
    return failure if spoken is None else failures.with_evidence(failure, spoken_cause=spoken)


def cancelled(message: str = "the run was cancelled at the platform") -> Failure:
    """Return the failure of a run that somebody cancelled."""
    return failures.make_failure("cancelled", message)
