"""What an A2A task says: its state, its answer, its question, in all versions and bindings."""

from collections.abc import Iterator, Mapping
from typing import Any, Optional

from synthralos.calls.agent_platforms.agent_failures import agent_failure, cancelled
from synthralos.calls.agent_platforms.protocol import (
    ASKING,
    AUTHORIZATION,
    COMPLETED,
    FAILED,
    INPUT,
    RUNNING,
    UNKNOWN,
    Handle,
    Question,
    RunState,
    is_id,
    progress_line,
)
from synthralos.core import failures
from synthralos.core.failures import Failure

_RUNNING = ("submitted", "working")
_QUESTIONS = {"input_required": INPUT, "auth_required": AUTHORIZATION}
# 0.3 spells it with one l over JSON-RPC, and with two over HTTP.
_CANCELLED = ("canceled", "cancelled")
_ENDS_WITHOUT_ANSWER = ("failed", "rejected") + _CANCELLED
# As the official SDKs join the parts of a message.
_BETWEEN_PARTS = "\n"


def state_of(result: Mapping[str, Any], handle: Handle) -> Optional[RunState]:
    """Return the RunState of a task, or of a message that is an answer without a task.

    :param result: of sending a message, or a task itself.
    :param handle: of the run so far; the ids of the task are added.
    :returns: None if it is neither.
    """
    task = result.get("task") if isinstance(result.get("task"), dict) else result
    message = result.get("message", result.get("msg"))
    if isinstance(task, dict) and isinstance(task.get("status"), dict):
        return _state_of_task(task, handle)
    if not isinstance(message, dict):
        message = result
    if _parts_of(message) is None:
        return None
    return RunState(COMPLETED, _with_ids(handle, context=message.get("contextId")),
                    output=_value_of(_parts_of(message)))


def has_message(task: Any, message_id: str) -> bool:
    """Return whether a task began with, or contains, the message of this id."""
    history = task.get("history") if isinstance(task, dict) else None
    return any(
        isinstance(message, dict) and message.get("messageId") == message_id
        for message in (history if isinstance(history, list) else ())
    )


def query_of(task: Mapping[str, Any]) -> Optional[str]:
    """Return the text of the message that began a task; None if its history does not say."""
    for message in _messages_of_user(task):
        text = _text_of(_parts_of(message))
        return text if text.strip() else None
    return None


def message_ids(task: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of the user's messages in the history of a task."""
    return tuple(str(message.get("messageId")) for message in _messages_of_user(task))


def metadata_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the user has stored with a task: of its first message, and of the task itself."""
    first = next(_messages_of_user(task), {})
    sources = [first.get("metadata"), task.get("metadata")]
    return {
        name: value
        for source in sources
        if isinstance(source, dict)
        for name, value in source.items()
    }


def _messages_of_user(task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    history = task.get("history")
    for message in history if isinstance(history, list) else ():
        # ROLE_USER, user.
        if isinstance(message, dict) and str(message.get("role")).lower() in ("role_user", "user"):
            yield message


def _state_of_task(task: Mapping[str, Any], handle: Handle) -> Optional[RunState]:
    if not is_id(task.get("id")):
        return None
    handle = _with_ids(handle, task=task["id"], context=task.get("contextId"))
    status = task["status"]
    # TASK_STATE_INPUT_REQUIRED, input-required.
    name = str(status.get("state")).lower().replace("-", "_")
    name = name[len("task_state_"):] if name.startswith("task_state_") else name
    message = status.get("message")
    message = message if isinstance(message, dict) else {}
    words = _text_of(_parts_of(message))
    if name in _RUNNING:
        return RunState(RUNNING, handle, progress=progress_line(words))
    if name in _QUESTIONS:
        # Without a message, the time tells a question from the next one of the same words.
        question_id = str(message.get("messageId") or status.get("timestamp") or "")
        question = Question(words, _QUESTIONS[name], question_id)
        return RunState(ASKING, handle, question=question)
    if name == "completed":
        return RunState(COMPLETED, handle, output=_answer(task, message))
    if name in _ENDS_WITHOUT_ANSWER:
        return RunState(FAILED, handle, failure=_failure(name, words))
    return RunState(UNKNOWN, handle)


def _failure(name: str, words: str) -> Failure:
    if name in _CANCELLED:
        return cancelled(words or "the task was cancelled at the platform")
    if name == "rejected":
        return failures.make_failure("content_policy", words or "the agent rejected the task", 200)
    return agent_failure(words, 200)


def _answer(task: Mapping[str, Any], message: Mapping[str, Any]) -> Any:
    """Return the answer of a completed task: its artifacts, else the message of its end. What is in
    its history was said while it worked.
    """
    artifacts = task.get("artifacts")
    parts = [
        part
        for artifact in (artifacts if isinstance(artifacts, list) else ())
        if isinstance(artifact, dict)
        for part in _parts_of(artifact) or ()
    ]
    return _value_of(parts or _parts_of(message))


def _parts_of(container: Mapping[str, Any]) -> Optional[list[Any]]:
    """Return the parts of a message or an artifact; 0.3 over HTTP calls those of a message
    `content`.
    """
    parts = container.get("parts", container.get("content"))
    return parts if isinstance(parts, list) else None


def _value_of(parts: Optional[list[Any]]) -> Any:
    """Return the text of parts; the value, or the list of values, where there is no text."""
    text = _text_of(parts)
    if text.strip():
        return text
    values = list(_values_of(parts))
    return (values[0] if len(values) == 1 else values) or None


def _text_of(parts: Optional[list[Any]]) -> str:
    texts = [part.get("text") for part in parts or () if isinstance(part, dict)]
    return _BETWEEN_PARTS.join(text for text in texts if isinstance(text, str))


def _values_of(parts: Optional[list[Any]]) -> Iterator[Any]:
    for part in parts or ():
        data = part.get("data") if isinstance(part, dict) else None
        # 0.3 over HTTP: {"data": {"data": {...}}}.
        if isinstance(data, dict) and set(data) == {"data"} and isinstance(data["data"], dict):
            data = data["data"]
        if data is not None:
            yield data
        elif isinstance(part, dict) and any(name in part for name in ("url", "file", "raw")):
            yield part


def _with_ids(handle: Handle, **ids: Any) -> Handle:
    return handle.with_ids(**{name: value for name, value in ids.items() if is_id(value)})
