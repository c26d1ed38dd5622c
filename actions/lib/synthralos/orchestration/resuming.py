"""Runs that resume themselves, if their definition has `auto_resume`.

A failed run plans its resume when it ends, waits in its workflow, and then starts the run that
resumes it. Cancelling it while it waits therefore ends the chain. The plan is a part of the stored
end of the run, see run_store.PlannedResume. A resume that a person starts begins a new chain.
"""

from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.orchestration.run_completion import WORKFLOW
from synthralos.orchestration.run_store import EndRecord, PlannedResume, RunRecord, RunStore

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

REF = "synthralos." + WORKFLOW
CANCELLED = ("canceling", "canceled")
_HINT = "Leave automatic out to resume the run now"


class View(TypedDict):
    """The part of orchestration.status about it; `next_at` is ISO 8601, or None if none is due."""

    max_resumes: int
    resume_delay: float
    resumes: int
    next_at: Optional[str]


def _planned_resume(end: Optional[EndRecord]) -> Optional[PlannedResume]:
    return None if end is None else end.get("resume")


def view(run_record: RunRecord, end: Optional[EndRecord], pending: bool) -> Optional[View]:
    """Return the View of a run, or None if its definition has no `auto_resume`.

    :param pending: whether a planned resume may still begin.
    """
    definition = run_record.get("definition")
    policy = definition.get("auto_resume") if definition else None
    if not policy:
        return None
    plan = end.get("resume") if end else None
    return {
        "max_resumes": policy["max_resumes"],
        "resume_delay": policy["resume_delay"],
        "resumes": run_record.get("resumes") or 0,
        "next_at": to_iso(plan["at"]) if plan and pending else None,
    }


def start(env: "Environment", run_id: str, status: str) -> str:
    """Start the planned resume of `run_id`, unless it has been resumed since then.

    :param status: StackStorm's status of the execution `run_id`.
    :returns: the id of the run that resumes it.
    :raises InvalidInput: no resume is planned, or the run is cancelled.
    """
    store = RunStore(env, run_id)
    run_record: RunRecord = store.definition() or {}
    plan = _planned_resume(store.ended())
    if plan is None:
        raise InvalidInput("automatic", True, "run %s has no planned resume" % run_id, _HINT)
    existing = store.resumed_by()
    if existing is not None:
        return existing
    if status in CANCELLED:
        raise InvalidInput("automatic", True, "run %s is cancelled" % run_id, _HINT)
    content = {"request": {"rules": {"resumes": plan["number"]}}}
    parameters: dict[str, Any] = {"resume_of": run_id, "case": sealing.seal(content)}
    if run_record.get("timeout"):
        parameters["timeout"] = run_record["timeout"]
    started: str = env.api.start(REF, parameters)
    return started
