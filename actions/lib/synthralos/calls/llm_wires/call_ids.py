"""Ids of tool calls that a wire accepts: most differ in their alphabet and their length."""

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from synthralos.calls.llm_wires.chat_messages import Message
from synthralos.core.lazy_pattern import LazyPattern


class IdRule(NamedTuple):
    """Which ids a wire accepts.

    :ivar pattern: of the whole id.
    :ivar prefix, digits: the form of an id that stands in for one that it does not accept.
    """

    pattern: LazyPattern
    prefix: str = "call_"
    digits: int = 32


WORD_64 = IdRule(LazyPattern(r"[A-Za-z0-9_-]{1,64}\Z"))
ANY_40 = IdRule(LazyPattern(r"(?s).{1,40}\Z"))
ANY_64 = IdRule(LazyPattern(r"(?s).{1,64}\Z"))
NINE_ALPHANUMERIC = IdRule(LazyPattern(r"[A-Za-z0-9]{9}\Z"), prefix="", digits=9)


def fit(messages: Sequence[Message], rule: IdRule) -> dict[tuple[int, str], str]:
    """Return {(index of the assistant's message, id of its call): the id to send}.

    Ids that the wire accepts stay; the others, and those that an earlier turn has, get a digest
    instead, which is the same in each run. All of them differ.
    """
    calls = [
        (index, call["id"])
        for index, message in enumerate(messages)
        for call in message.get("tool_calls") or ()
    ]
    fitted: dict[tuple[int, str], str] = {}
    used_ids: set[str] = set()
    for key in calls:
        if key[1] not in used_ids and rule.pattern.match(key[1]):
            fitted[key] = key[1]
            used_ids.add(key[1])
    for number, key in enumerate(calls):
        if key not in fitted:
            fitted[key] = _digest(key[1], number, rule, used_ids)
            used_ids.add(fitted[key])
    return fitted


def new_id() -> str:
    """Return an id for a call that a provider returned without one."""
    return "call_" + os.urandom(16).hex()


def _digest(call_id: str, number: int, rule: IdRule, used_ids: set[str]) -> str:
    while True:
        text = "%d %s" % (number, call_id)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        candidate = rule.prefix + digest[:rule.digits]
        if candidate not in used_ids:
            return candidate
        number += 1000
