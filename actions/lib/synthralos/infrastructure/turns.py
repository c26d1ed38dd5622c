"""Waiting for other runs that act on the same nodes, so that two never work against each other."""

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.workloads import workload_of
from synthralos.runtime.environment import Environment
from synthralos.storage import repair_turns
from synthralos.storage.repair_turns import Turn
from synthralos.storage.stackstorm_api import StackStormError, has_ended
from synthralos.telemetry import run_log

POLL_SECONDS, MAX_POLL_SECONDS = 5, 60
# Another run is just joining the queue, and its id is not known yet; or StackStorm is unavailable,
# so that a run of unknown status may act.
UNKNOWN_RUN = "unknown"


def is_action(config: InfrastructureConfig, assignment: Mapping[str, Any]) -> bool:
    """Return whether an assignment of a plan runs an action, rather than notifying people."""
    if assignment.get("action") is not None:
        return True
    crew = config.crew(assignment["crew"])
    return crew is not None and crew.action is not None


def wait_for(env: Environment, case: dict[str, Any], nodes: Iterable[str]) -> Optional[str]:
    """Take this run's turn to act on `nodes`.

    A run that needs further nodes later takes another turn, at the end of the queue, so that no two
    runs wait for each other.

    :param case: of the run; its `turn` is {key, nodes, executions} once it is in the queue, and
        `polls` counts how often in a row it had to wait.
    :returns: None if the run may act now; else the id of the run that is waited for, or
        UNKNOWN_RUN.
    """
    workloads = frozenset(map(workload_of, nodes))
    if not workloads or env.api is None or not env.run:
        return None
    try:
        blocker = _blocker_of(env, case, workloads)
    except StackStormError:
        blocker = UNKNOWN_RUN
    case["polls"] = 0 if blocker is None else case["polls"] + 1
    return blocker


def _blocker_of(
    env: Environment, case: dict[str, Any], workloads: frozenset[str]
) -> Optional[str]:
    if case["turn"] is not None and not workloads <= set(case["turn"]["nodes"]):
        leave(env, case)
    if case["turn"] is None:
        turn = repair_turns.queue_up(env.store, env.now, case["run"], workloads)
        if turn is None and env.store.unavailable_reason is not None:
            run_log.emit("turn_not_taken", reason="datastore")
            return None
        if turn is None:
            return UNKNOWN_RUN
        _note(case, turn)
    for other in repair_turns.turns_before(env.store, _turn_of(case)):
        if _acts(env, other):
            return other.run
    return None


def _acts(env: Environment, turn: Turn) -> bool:
    """Return whether a run, or an action that it has started, may still act."""
    if not turn.has_left and not has_ended(env.api, turn.run):
        return True
    return any(not has_ended(env.api, execution) for execution in turn.executions)


def _turn_of(case: Mapping[str, Any]) -> Turn:
    turn = case["turn"]
    return Turn(turn["key"], case["run"], frozenset(turn["nodes"]), tuple(turn["executions"]))


def _note(case: dict[str, Any], turn: Turn) -> None:
    case["turn"] = {
        "key": turn.key, "nodes": sorted(turn.nodes), "executions": list(turn.executions),
    }


def note_execution(env: Environment, case: dict[str, Any], execution: str) -> None:
    """Note an execution of an action that this run has started.

    It does not end with the run: if the run is killed, others wait for the execution.
    """
    if case.get("turn") is not None:
        _note(case, repair_turns.add_execution(env.store, _turn_of(case), execution))


def poll_seconds(case: Mapping[str, Any]) -> int:
    """Return how long to wait until asking again: doubled each time, up to MAX_POLL_SECONDS."""
    seconds: int = POLL_SECONDS * 2 ** min(max(case["polls"] - 1, 0), 10)
    return min(seconds, MAX_POLL_SECONDS)


def leave(env: Environment, case: dict[str, Any]) -> None:
    """Let the runs act that wait for this one, once the actions that it has started have ended."""
    def is_running(execution: str) -> bool:
        try:
            return env.api is not None and not has_ended(env.api, execution)
        except StackStormError:
            return True

    if case.get("turn") is not None:
        repair_turns.leave(env.store, case["run"], is_running)
        case["turn"] = None
