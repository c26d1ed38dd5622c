"""What the state of a LangGraph thread says, and what a graph is told in its `config`."""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.calls.agent_platforms.langgraph_questions import Interrupt, question_text
from synthralos.calls.agent_platforms.protocol import ASKING, Handle, Question, RunState
from synthralos.calls.llm_wires.chat_messages import text_of

# Of messages: in LangChain's words, and in OpenAI's.
_AGENTS = ("ai", "assistant")
_USERS = ("human", "user")
# What the server itself keeps in `configurable`.
_RESERVED = ("thread_id", "run_id", "checkpoint_id", "checkpoint_ns", "assistant_id", "graph_id")


def graph_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the graph finds in its `config`; a limit of iterations is LangGraph's own."""
    own = dict(config)
    limit = own.pop("maxIterations", None)
    configurable = {
        name: value
        for name, value in own.items()
        if name not in _RESERVED and not name.startswith(("__", "langgraph_"))
    }
    result: dict[str, Any] = {"configurable": configurable}
    if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
        result["recursion_limit"] = limit
    return result


def interrupts(state: Mapping[str, Any]) -> list[Interrupt]:
    """Return the questions that are open on a thread."""
    return [
        Interrupt.from_json(interrupt)
        for task in _tasks(state)
        if isinstance(task.get("interrupts"), list)
        for interrupt in task["interrupts"]
        if isinstance(interrupt, dict)
    ]


def errors_of(state: Mapping[str, Any]) -> list[Any]:
    """Return [{error}] of the tasks of a thread that failed."""
    return [{"error": task["error"]} for task in _tasks(state) if task.get("error")]


def output_of(state: Mapping[str, Any], kind: str) -> Any:
    """Return the answer of a graph: the text of its last message, or its whole state.

    :param kind: one of config.platforms.OUTPUTS; a graph without messages answers with its state.
    """
    values = state.get("values")
    messages = values.get("messages") if isinstance(values, dict) else None
    if kind == "state" or not isinstance(messages, list):
        return values or None
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("type", message.get("role")) in _AGENTS:
            return text_of(message.get("content"))
    return None


def query_of(values: Any, input_key: str) -> Optional[str]:
    """Return what a user asked: the last text of a user in the input or the state of a graph.

    :param values: in any form that graphs accept; input_key: of config.platforms.Platform.
    :returns: None if there is no such text.
    """
    if input_key != "messages" or not isinstance(values, Mapping):
        query = values.get(input_key) if isinstance(values, Mapping) else values
        return query if isinstance(query, str) and query.strip() else None
    messages = values.get("messages")
    for message in reversed(messages if isinstance(messages, list) else [messages]):
        text = _text_of_user(message)
        if text.strip():
            return text
    return None


def _text_of_user(message: Any) -> str:
    """Return the text of a message of a user; an empty one of any other message."""
    if isinstance(message, str):
        return message
    if isinstance(message, list) and len(message) == 2:
        role, content = message
    elif isinstance(message, Mapping):
        role, content = message.get("role") or message.get("type"), message.get("content")
    else:
        return ""
    return text_of(content) if role in _USERS else ""


def asking(handle: Handle, state: Mapping[str, Any]) -> RunState:
    """Return the RunState of a thread that has a question open.

    :param handle: of the newest run on it, which is the one that asks.
    """
    first = interrupts(state)[0]
    question = Question(question_text(first.value), id=first.id, run=handle.ids.get("run", ""))
    return RunState(ASKING, handle, question=question)


def _tasks(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    tasks = state.get("tasks")
    return [task for task in (tasks if isinstance(tasks, list) else ()) if isinstance(task, dict)]
