"""The agents that are at work for the pack's runs, as `health.get` lists them."""

from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.core.sanitize import sanitize_line
from synthralos.core.timestamps import to_iso
from synthralos.storage import agent_runs

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

MAX_PROGRESS_CHARS = 200


class RunningAgent(TypedDict):
    """A run of an agent whose end no run of the pack has seen yet.

    `seconds` since its start; `run`, the execution that started it; `progress`, what its platform
    said of it when it was last asked, or an empty text.
    """

    agent_id: str
    target: str
    run: str
    since: str
    seconds: int
    progress: str


def running_agents(
    env: "Environment", store: Any, agent_id: Optional[str] = None
) -> list[RunningAgent]:
    """Return the agents that are at work, the oldest first, without asking their platforms. Those
    that nobody can ask for, because the reply to their start is awaited or lost, are left out.

    :param store: a datastore with their records; `env` has what may not be shown.
    :param agent_id: only the runs of this agent.
    """
    now = env.now()
    running = sorted(
        agent_runs.undelivered(store, agent_id), key=lambda agent_run: agent_run.started_at
    )
    return [
        {
            "agent_id": agent_run.agent_id,
            "target": agent_run.target,
            "run": agent_run.started_by,
            "since": to_iso(agent_run.started_at),
            "seconds": max(0, int(now - agent_run.started_at)),
            "progress": sanitize_line(agent_run.progress, env.redactor, MAX_PROGRESS_CHARS),
        }
        for agent_run in running
        if agent_run.handle is not None
    ]
