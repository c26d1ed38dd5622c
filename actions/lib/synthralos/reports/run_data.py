"""Loads the data of a run for a report: executions, attempts, plan and costs."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from synthralos.core.errors import InvalidInput
from synthralos.core.json_safe import object_or_empty
from synthralos.core.sealing import unseal
from synthralos.core.timestamps import parse_iso
from synthralos.storage import run_summaries
from synthralos.storage.stackstorm_api import ENDED

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment
    from synthralos.storage.run_summaries import RunFacts
    from synthralos.storage.stackstorm_api import Row
    from synthralos.telemetry.llm_pricing import CallRow

ATTRIBUTES = "action.ref,action.runner_type,status,start_timestamp,end_timestamp,parameters," \
    "context,result"
PACK = "synthralos."
MAX_DEPTH, MAX_EXECUTIONS = 4, 300
# Between the clocks of StackStorm's hosts and that of the host that wrote the summary.
CLOCK_SKEW_SECONDS = 300


@dataclass
class Node:
    """An execution.

    :ivar started_at, ended_at: seconds since the epoch; ended_at is now while it is running.
    :ivar output: its output, or {}.
    :ivar result: the result of an action, or {}.
    """

    id: str
    action: str
    task: str
    status: str
    started_at: float
    ended_at: float
    is_over: bool
    parameters: dict[str, Any]
    output: dict[str, Any]
    result: dict[str, Any]
    children: "list[Node]" = field(default_factory=list)
    is_workflow: bool = False


@dataclass
class AttemptGroup:
    """The attempts of one run.

    :ivar node: the execution of the run.
    :ivar trail, plan: from the output of the run, or from its newest case.
    """

    node: Node
    trail: list[dict[str, Any]]
    plan: Optional[dict[str, Any]]
    calls: "list[CallRow]"

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return [entry for entry in self.trail if "attempt" in entry]


@dataclass
class RunData:
    """The data of a run.

    :ivar attempt_groups: the attempts of the run itself, then of each sub-run with attempts.
    :ivar case: the content of the newest case, or {}.
    :ivar summary: the entry of run_summaries, or {}.
    :ivar cut: whether executions are missing because there are too many.
    """

    top: Node
    attempt_groups: list[AttemptGroup]
    case: dict[str, Any]
    summary: "RunFacts"
    cut: bool

    @property
    def workflow(self) -> str:
        return self.top.action[len(PACK):]


def load_run(env: "Environment", execution: "Row") -> RunData:
    """Load the data of an execution.

    :param execution: an execution of StackStorm, with ATTRIBUTES.
    :raises InvalidInput: the execution does not belong to this pack.
    :raises StackStormError: StackStorm's API is unavailable.
    """
    ref = (execution.get("action") or {}).get("ref") or ""
    if not ref.startswith(PACK):
        hint = "Use the id of a run of synthralos"
        raise InvalidInput("execution_id", execution["id"], "is a run of %s" % (ref or "?"), hint)
    budget = [MAX_EXECUTIONS]
    top = _load_tree(env, execution, budget, 0)
    case = _newest_case(env, top)
    inner = [node for node, _ in iter_executions(top) if node.is_workflow]
    summaries = _summaries(env, top, {node.id for node in [top] + inner})
    groups = [_attempt_group(top, case, summaries)]
    for node in inner:
        group = _attempt_group(node, _newest_case(env, node), summaries)
        groups += [group] if group.trail or group.calls else []
    return RunData(top, groups, case, summaries.get(top.id, {}), budget[0] <= 0)


def _attempt_group(
    node: Node, case: dict[str, Any], summaries: "dict[str, RunFacts]"
) -> AttemptGroup:
    trail = node.output.get("trail") or (case.get("progress") or {}).get("trail") or []
    plan = node.output.get("plan") or case.get("plan")
    return AttemptGroup(
        node,
        [entry for entry in trail if isinstance(entry, dict)],
        plan if isinstance(plan, dict) else None,
        summaries.get(node.id, {}).get("llm") or case.get("llm") or [],
    )


def iter_executions(node: Node, depth: int = 0) -> Iterator[tuple[Node, int]]:
    """Yield (execution, depth) of all descendants of `node`, in the order of their start."""
    for child in node.children:
        yield child, depth
        yield from iter_executions(child, depth + 1)


def _load_tree(env: "Environment", execution: "Row", budget: list[int], depth: int) -> Node:
    budget[0] -= 1
    node = _parse_execution(env, execution)
    if node.is_workflow and depth < MAX_DEPTH:
        for child in env.api.children(node.id, ATTRIBUTES):
            if budget[0] <= 0:
                break
            node.children.append(_load_tree(env, child, budget, depth + 1))
    return node


def _parse_execution(env: "Environment", execution: "Row") -> Node:
    action, result = execution.get("action") or {}, object_or_empty(execution.get("result"))
    result_body, output = object_or_empty(result.get("result")), result.get("output")
    started_at = parse_iso(execution.get("start_timestamp")) or env.now()
    status = execution.get("status") or "unknown"
    orquesta = (execution.get("context") or {}).get("orquesta") or {}
    task = orquesta.get("task_name") or (action.get("ref") or "").partition(".")[2]
    if orquesta.get("item_id") is not None:
        task += "[%s]" % orquesta["item_id"]
    return Node(
        id=execution["id"],
        action=action.get("ref") or "?",
        task=task,
        status=status,
        started_at=started_at,
        ended_at=max(started_at, parse_iso(execution.get("end_timestamp")) or env.now()),
        is_over=status in ENDED,
        parameters=execution.get("parameters") or {},
        output=output if isinstance(output, dict) else result_body,
        result=result_body,
        is_workflow=action.get("runner_type") == "orquesta",
    )


def _newest_case(env: "Environment", top: Node) -> dict[str, Any]:
    """Return the content of the newest case of the run's own tasks, or {}."""
    for child in reversed(top.children or [top]):
        following = object_or_empty(child.result.get("next"))
        for case in (
            child.result.get("carry"),
            following.get("carry"),
            child.parameters.get("case"),
        ):
            try:
                content = unseal(case, env.store) if case else None
            except InvalidInput:
                continue
            if isinstance(content, dict) and "progress" in content:
                return content
    return {}


def _summaries(
    env: "Environment", top: Node, run_ids: Collection[Optional[str]]
) -> "dict[str, RunFacts]":
    """Return {execution id: summary} of the runs that have a summary."""
    summaries: dict[str, RunFacts] = {}
    for summary in run_summaries.summaries_since(env.store, top.started_at - CLOCK_SKEW_SECONDS):
        if summary.get("run") in run_ids:
            summaries[summary["run"]] = summary
        if len(summaries) == len(run_ids):
            break
    return summaries
