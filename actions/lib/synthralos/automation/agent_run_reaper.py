"""Cancels the runs of agents that nobody waits for any more.

A run of agent_recovery that was cancelled, or whose process died, leaves its agent working at the
platform. Its record names all runs that wait for it; once all of them have ended, it is cancelled.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from synthralos.calls import agent_platforms
from synthralos.calls.agent_platforms.protocol import RUNNING, Handle
from synthralos.calls.http import CallError
from synthralos.core.timestamps import parse_iso
from synthralos.storage import agent_runs
from synthralos.storage.agent_runs import AgentRun
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

# A run that failed may be run again, and then joins the agent: so long that takes. One that a
# person cancelled is over at once.
REJOIN_SECONDS = 30
CALL_SECONDS = 10.0
MAX_CANCELLED_AT_ONCE = 20


def cancel_left_behind(env: "Environment") -> list[dict[str, Any]]:
    """Cancel the runs of agents for which nobody waits.

    :returns: [{run, agent_id, target, confirmed}]; `confirmed` is false where the agent may still
        be working: it is cancelled again by the next reaper.
    :raises StackStormError: StackStorm is unavailable, so that nobody knows who waits.
    """
    cancelled: list[dict[str, Any]] = []
    for agent_run in agent_runs.undelivered(env.store):
        if len(cancelled) >= MAX_CANCELLED_AT_ONCE:
            break
        if agent_run.handle is None or _is_waited_for(env, agent_run):
            # Where the reply to the start was lost, nobody can ask for the run. Its record stays:
            # a re-run repeats the start under the same key.
            continue
        confirmed = _cancel(env, agent_run)
        if confirmed:
            agent_runs.forget(env.store, agent_run)
        cancelled.append({
            "run": agent_run.started_by,
            "agent_id": agent_run.agent_id,
            "target": agent_run.target,
            "confirmed": confirmed,
        })
    return cancelled


def _is_waited_for(env: "Environment", agent_run: AgentRun) -> bool:
    runs = agent_runs.waiters(env.store, agent_run) or [agent_run.started_by]
    return any(_waits(env, run) for run in runs)


def _waits(env: "Environment", run: str) -> bool:
    api: Any = env.api
    try:
        execution: Mapping[str, Any] = api.execution(run, "status,end_timestamp")
    except ExecutionNotFound:
        return False
    status = execution.get("status")
    if status not in ENDED:
        return True
    if status == "canceled":
        return False
    ended_at = parse_iso(execution.get("end_timestamp"))
    return ended_at is not None and env.now() - ended_at < REJOIN_SECONDS


def _cancel(env: "Environment", agent_run: AgentRun) -> bool:
    """Cancel a run at its platform; return whether it can have no further effect."""
    handle = Handle.restore(agent_run.handle)
    if handle is None:
        # Somebody edited the record.
        return True
    platform = next((p for p in env.settings.platforms if p.name == handle.platform), None)
    if platform is None or not agent_platforms.capabilities_of(platform.api).cancels:
        return True
    api = agent_platforms.connect(env.client, platform)
    try:
        state = api.cancel(handle, CALL_SECONDS)
    except CallError:
        return False
    return state.status != RUNNING
