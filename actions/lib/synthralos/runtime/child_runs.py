"""The executions that the tasks of a workflow have started: its recoveries and its questions."""

from collections.abc import Collection
from typing import Any, Optional

from synthralos.core.timestamps import parse_iso
from synthralos.runtime.environment import Environment
from synthralos.storage.inquiries import question_id
from synthralos.storage.stackstorm_api import StackStormError

# StackStorm's action that asks a person: the execution is an inquiry.
ASK = "core.ask"
# In the result of an inquiry that was ended because its answer does not matter any more.
WITHDRAWN = "withdrawn"
_ATTRIBUTES = "id,status,result,action.ref,start_timestamp"


def latest_child(env: Environment, run: str, refs: Collection[str]) -> dict[str, Any]:
    """Return the newest execution of one of these actions that `run` has started, or {}.

    :returns: {id, status, result, action, start_timestamp}.
    :raises StackStormError: StackStorm's API is unavailable, or there is none.
    """
    if env.api is None:
        raise StackStormError("there is no StackStorm API to read the task's result from")
    rows: list[dict[str, Any]] = env.api.children(run, _ATTRIBUTES)
    children = [row for row in rows if (row.get("action") or {}).get("ref") in refs]
    return max(
        children, key=lambda row: parse_iso(row["start_timestamp"]) or 0.0, default={}
    )


def inquiries_of(env: Environment, run: str) -> list[dict[str, Any]]:
    """Return the inquiries that `run` has opened, the oldest first, at most a page.

    :returns: [{id, status, result, action, start_timestamp}].
    :raises StackStormError: StackStorm's API is unavailable, or there is none.
    """
    if env.api is None:
        raise StackStormError("there is no StackStorm API to read the answer from")
    rows = env.api.executions(_ATTRIBUTES, parent=run, action=ASK, sort_asc="true")
    return sorted(rows, key=lambda row: parse_iso(row["start_timestamp"]) or 0.0)


def is_withdrawn(inquiry: dict[str, Any]) -> bool:
    """Return whether a question was ended because what it was about was over."""
    return (inquiry.get("result") or {}).get(WITHDRAWN) is True


def next_question_id(env: Environment, run: str) -> str:
    """Return what an answer to the question names that `run` is about to ask.

    That of its first question if StackStorm's API is unavailable: an answer to another question is
    rejected with the right id.
    """
    return question_id(run, 1 + _inquiry_count(env, run))


def last_question_id(env: Environment, run: str) -> str:
    """Return what an answer to the question names that `run` has asked last."""
    return question_id(run, max(1, _inquiry_count(env, run)))


def _inquiry_count(env: Environment, run: str) -> int:
    try:
        return len(inquiries_of(env, run))
    except StackStormError:
        return 0


def answer_of(inquiry: dict[str, Any], name: str) -> Optional[bool]:
    """Return a person's answer to an inquiry, or None if it ended without one.

    :param name: the property that was asked for.
    """
    response = (inquiry.get("result") or {}).get("response")
    answer = response.get(name) if isinstance(response, dict) else None
    return answer if isinstance(answer, bool) else None
