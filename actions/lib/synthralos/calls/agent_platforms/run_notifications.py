"""What servers of agents post when a run has changed: the ids of the run, and nothing else.

Anybody who may post can write anything, and StackStorm keeps no raw body by which a signature could
be checked. So a notification is only a reason to ask the platform.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from synthralos.calls.agent_platforms import a2a_task
from synthralos.calls.agent_platforms.protocol import RUNNING, Handle, is_id
from synthralos.core.errors import InvalidInput

# Events of A2A: in 1.0 under a name, in 0.3 with a kind.
_A2A_UPDATES = ("statusUpdate", "artifactUpdate", "status-update", "artifact-update")
_OF_RESPONSES = "response."
MAX_NAMES_SHOWN = 8


@dataclass(frozen=True)
class RunNotification:
    """A notification about a run.

    :ivar api: of the platform that posts such notifications.
    :ivar ids: of the run, as in a Handle; empty where it is about something else than a run.
    :ivar is_over: whether the run has ended or asks something, as the notification says.
    """

    api: str
    ids: dict[str, str] = field(default_factory=dict)
    is_over: bool = True


def read_notification(body: Any) -> RunNotification:
    """Return the RunNotification in the body of a webhook.

    It is the run of a LangGraph Server, a task or an event of A2A 1.0 or 0.3, or an event of
    OpenAI.

    :raises InvalidInput: it is none of these.
    """
    if isinstance(body, Mapping):
        for read in (_of_langgraph, _of_a2a, _of_openai):
            notification = read(body)
            if notification is not None:
                return notification
    # Its values may be anything, at any depth.
    shape = list(body)[:MAX_NAMES_SHOWN] if isinstance(body, Mapping) else type(body).__name__
    raise InvalidInput(
        "body", shape, "is not a notification about a run of an agent",
        "Have a LangGraph Server, an A2A server or OpenAI post here, as docs/webhooks.md says",
    )


def _of_langgraph(body: Mapping[str, Any]) -> Optional[RunNotification]:
    thread, run = _uuid(body.get("thread_id")), _uuid(body.get("run_id"))
    if thread is None or run is None:
        return None
    return RunNotification("langgraph", {"thread": thread, "run": run})


def _of_a2a(body: Mapping[str, Any]) -> Optional[RunNotification]:
    task = body.get("task") if isinstance(body.get("task"), dict) else body
    if isinstance(task, Mapping) and isinstance(task.get("status"), dict) and "id" in task:
        return _of_task(task.get("id"), task["status"])
    for name in _A2A_UPDATES:
        update = body if body.get("kind") == name else body.get(name)
        if isinstance(update, Mapping) and "taskId" in update:
            return _of_task(update.get("taskId"), update.get("status"))
    message = body.get("message") if isinstance(body.get("message"), dict) else body
    if isinstance(message, Mapping) and "messageId" in message:
        # An answer without a task.
        return RunNotification("a2a")
    return None


def _of_task(task_id: Any, status: Any) -> Optional[RunNotification]:
    if not _is_segment(task_id):
        return None
    if not isinstance(status, dict) or not isinstance(status.get("state"), str):
        # A part of an answer is followed by the end of its task.
        return RunNotification("a2a", {"task": task_id}, is_over=False)
    state = a2a_task.state_of({"id": task_id, "status": status}, Handle("a2a", "", "", {}))
    is_over = state is None or state.status != RUNNING
    return RunNotification("a2a", {"task": task_id}, is_over)


def _of_openai(body: Mapping[str, Any]) -> Optional[RunNotification]:
    event, data = body.get("type"), body.get("data")
    if not isinstance(event, str) or not isinstance(data, Mapping):
        return None
    if not event.startswith(_OF_RESPONSES):
        # A batch, a fine-tuning job.
        return RunNotification("openai_responses")
    if not _is_segment(data.get("id")):
        return None
    return RunNotification("openai_responses", {"response": data["id"]})


def _is_segment(value: Any) -> bool:
    """Return whether an id names something below a path: these two name the path itself."""
    return is_id(value) and value not in (".", "..")


def _uuid(value: Any) -> Optional[str]:
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None
