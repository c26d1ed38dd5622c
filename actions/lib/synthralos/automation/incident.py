"""A reported incident, and the run that would handle it."""

from dataclasses import dataclass, field
from typing import Any, Optional

from synthralos.core.failures import Failure


@dataclass(frozen=True)
class Incident:
    """A reported incident and the run that would handle it.

    :ivar id: text that is the same for every report of the incident.
    :ivar since: when it began, in ISO 8601; a later time under the same id means that the incident
        has recurred.
    :ivar subject: the name of the agent or node; runs are counted per subject.
    :ivar workflow: the workflow to start, or None if no workflow fits.
    :ivar parameters: parameters of the run: numbers, enums and names only.
    :ivar request: the text of the run's request, which is sealed.
    :ivar failure: {type, cause, severity}.
    :ivar summary: one line for people.
    :ivar blocked: the reason why no run may start in any case, one of outcomes.REASONS, or None.
    :ivar work: the same for incidents whose runs would do the same by a runbook, or None.
    :ivar is_state: True for a state of the subject: any run of that subject covers it, and it has a
        ticket of its own. False for a single failed request.
    :ivar runbook: the name of the runbook that its run would follow, or None.
    :ivar runbook_mode: the mode that the configuration sets for that runbook, or None.
    """

    id: str
    since: str
    subject: str
    workflow: Optional[str]
    parameters: dict[str, Any]
    request: dict[str, Any]
    failure: dict[str, Any]
    summary: str
    blocked: Optional[str] = None
    work: Optional[str] = None
    is_state: bool = True
    details: dict[str, Any] = field(default_factory=dict)
    runbook: Optional[str] = None
    runbook_mode: Optional[str] = None


def failure_fields(failure: Failure) -> dict[str, Any]:
    """Return the {type, cause, severity} of an Incident's failure."""
    return {"type": failure.type, "cause": failure.cause, "severity": failure.severity}
