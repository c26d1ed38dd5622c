"""The checkpoints that failed runs of an agent have left, and which step of the plan an attempt is.

Attempt n applies step n of the plan, starting over after the last. The step resume_checkpoint is
apart: it is applied whenever the last run at the target has left a checkpoint worth continuing
from, and then takes the turn of no other step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Optional

from synthralos.calls.agent_platforms import capabilities_of
from synthralos.calls.agent_platforms.protocol import Handle
from synthralos.calls.relations import Target
from synthralos.config.platforms import AgentEndpoint
from synthralos.core.errors import InvalidInput
from synthralos.recovery.playbooks import RESUMABLE_CAUSES
from synthralos.recovery.repair_actions import RESUME_CHECKPOINT
from synthralos.storage.agent_runs import AgentRun

if TYPE_CHECKING:
    from synthralos.recovery.repair_plan import PlanStep
    from synthralos.runtime.workflow_run import Case

# A run that is continued from the same checkpoint, and fails each time, gets another repair.
MAX_RESUMES = 2


@dataclass(frozen=True)
class LeftCheckpoint:
    """Where the last run of the agent at a target has stopped.

    :ivar handle: of that run, as Handle.as_dict returns it.
    :ivar cause: why it failed.
    :ivar resumes: how many runs in a row were continued and failed again.
    """

    handle: dict[str, Any]
    cause: str
    resumes: int = 0

    @property
    def is_worth_resuming(self) -> bool:
        """Whether the step resume_checkpoint continues from it."""
        return self.cause in RESUMABLE_CAUSES and self.resumes < MAX_RESUMES


def of_target(case: Mapping[str, Any], target: str) -> Optional[LeftCheckpoint]:
    """Return what the last run at a target has left, or None."""
    row = case.get("checkpoints", {}).get(target)
    return None if row is None else LeftCheckpoint(**row)


def record_failure(
    case: "Case", target: Target, handle: Optional[Handle], cause: str, resumed: bool
) -> None:
    """Remember where a run stopped; nothing where its platform keeps no checkpoints.

    :param resumed: whether it was itself continued from a checkpoint.
    """
    rows = case.setdefault("checkpoints", {})
    if handle is None or not can_resume([target]):
        rows.pop(target.name, None)
        return
    before = of_target(case, target.name)
    resumes = before.resumes + 1 if resumed and before is not None else 0
    rows[target.name] = asdict(LeftCheckpoint(handle.as_dict(), cause, resumes))


def add_reported(
    case: "Case", targets: Iterable[Target], handle: Optional[Handle], cause: str
) -> None:
    """Remember the run whose failure was reported, at the target that it ran at."""
    for target in targets:
        endpoint = target.endpoint
        assert isinstance(endpoint, AgentEndpoint)
        if handle is not None and (handle.agent, handle.platform) == (
            endpoint.agent, endpoint.platform.name
        ):
            record_failure(case, target, handle, cause, resumed=False)


def add_recorded(case: "Case", targets: Iterable[Target], record: AgentRun) -> None:
    """Remember the run that an earlier run of the workflow left, for the same request."""
    target = next((target for target in targets if target.name == record.target), None)
    if target is not None and record.failed_with is not None:
        handle = Handle.restore(record.handle)
        record_failure(case, target, handle, record.failed_with, resumed=False)


def can_resume(targets: Iterable[Target]) -> bool:
    """Return whether a run that failed can be continued at one of the targets."""
    endpoints = [target.endpoint for target in targets]
    return any(
        capabilities_of(endpoint.platform.api).resumes_checkpoint
        for endpoint in endpoints
        if isinstance(endpoint, AgentEndpoint)
    )


def reported_handle(
    context: Mapping[str, Any], endpoints: Iterable[AgentEndpoint], field: str = "context.handle"
) -> Optional[Handle]:
    """Return the handle of a run of an agent, as the entry `handle` of `context` gives it, or None.

    :param field: what errors call it.
    :raises InvalidInput: it is none, or not one of this agent at one of its platforms.
    """
    if context.get("handle") is None:
        return None
    try:
        handle = Handle.from_dict(context["handle"])
    except InvalidInput as error:
        hint = "Give api, platform, agent and ids, as the platform's webhook intake does"
        raise InvalidInput(field, context["handle"], error.reason, hint) from error
    own_endpoints = list(endpoints)
    at_platform = [
        endpoint
        for endpoint in own_endpoints
        if (endpoint.platform.name, endpoint.platform.api) == (handle.platform, handle.api)
    ]
    if not at_platform:
        names = sorted({endpoint.platform.name for endpoint in own_endpoints})
        raise InvalidInput(
            field + ".platform", handle.platform, "is not where this agent runs",
            "Its platforms are: " + (", ".join(names) or "none"),
        )
    agents = [endpoint.agent for endpoint in at_platform]
    if handle.agent not in agents:
        raise InvalidInput(
            field + ".agent", handle.agent, "is not what this agent is called there",
            "Give " + " or ".join(agents),
        )
    required = capabilities_of(handle.api).checkpoint_id
    if required and required not in handle.ids:
        raise InvalidInput(
            field + ".ids", sorted(handle.ids), "has no %s" % required,
            "Give the id of the %s that the run left" % required,
        )
    return handle


def step_of_attempt(case: "Case", target: str, attempt_number: int) -> "PlanStep":
    """Return the step of the plan for an attempt; the same one as often as it is asked for."""
    steps: list[PlanStep] = case["plan"]["steps"]
    chosen: dict[str, int] = case.setdefault("chosen_steps", {})
    number = str(attempt_number)
    if number not in chosen:
        checkpoint = of_target(case, target)
        resumes = checkpoint is not None and checkpoint.is_worth_resuming
        chosen[number] = _choose(steps, chosen, resumes)
    return steps[chosen[number]]


def _choose(steps: "list[PlanStep]", chosen: Mapping[str, int], resumes: bool) -> int:
    resume = [n for n, step in enumerate(steps) if step["action"] == RESUME_CHECKPOINT]
    other_steps = [n for n in range(len(steps)) if n not in resume]
    if not other_steps or (resume and resumes):
        return resume[0]
    turns = sum(1 for index in chosen.values() if index not in resume)
    return other_steps[turns % len(other_steps)]
