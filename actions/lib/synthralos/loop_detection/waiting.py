"""Whether the output of a step says that the agent waits: for a job, a command or a person.

It is judged by the output alone, never by the action's name: a status such as `running` or
`IN_PROGRESS`, a flag such as `done: false`, or a short text such as "no new output". Such an output
may be repeated without being a loop, and in it, the time that has passed is nothing new.
"""

import re
from typing import Any

from synthralos.core import bounded_json


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STATUS_KEYS = _words("phase stage state status")
_TEXT_KEYS = _words("content observation output result stdout text")
_DONE_KEYS = _words("complete completed done finished is_complete is_done is_finished ready")
_BUSY_KEYS = _words("in_progress is_pending is_running pending queued running waiting")
_TIME_WORDS = _words(
    "age duration elapsed eta latency minutes ms runtime seconds secs time took uptime waited"
)
_STATES = (
    "awaiting|busy|creating|deploying|downloading|executing|incomplete|"
    "initiali[sz]ing|installing|loading|pending|preparing|processing|provisioning|pulling|queued|"
    "restarting|running|scheduled|starting|stopping|updating|uploading|waiting|working|"
    "in[ _-]?progress|not[ _-](?:yet[ _-])?(?:ready|done|finished|complete)"
)
# "up and running" waits for nothing, nor does "not running" or "processing failed".
_STATUS = re.compile(
    r"(?:(?!not|no|never|up|failed)[a-z]+[ _-]){0,2}(?:%s)"
    r"(?:[.!]{0,3}| (?:for|since|in|at)\b.{0,40}| ?\(.{0,40}\))" % _STATES
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TEXT = re.compile(
    r"\bno (?:new|further|additional) (?:output|data|messages|events)\b|"
    r"\b(?:still|currently) (?:%s)\b|"
    r"\b(?:still|is|are) not (?:yet )?(?:ready|done|finished|completed?|available)\b|"
    r"\b(?:build|command|deployment|download|execution|export|import|job|pipeline|process|run|task|"
    r"tests?|training|upload) (?:is|are) (?:%s)\b|"
    r"\b(?:status|state|phase)\b\W{1,4}(?:%s)\b|"
    r"\bnot (?:ready|done|finished|completed?) yet\b|\bwait(?:ing)? longer\b|\bwaiting for\b|"
    r"\bplease wait\b" % (_STATES, _STATES, _STATES)
)
_MAX_TEXT_CHARS = 500
_DURATION = re.compile(
    r"(?<![\w.])(?:\d+(?:[.,]\d+)?\s?"
    r"(?:ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)(?![a-z])\s?)+"
    r"|(?<![\w:])\d+:[0-5]\d(?::[0-5]\d)?(?![\w:])"
)


def says_waiting(step_input: Any, output: Any) -> bool:
    """Return whether `output`, a JSON value, says that the agent waits.

    Nothing for an answer to a blank input counts as well: the agent looked whether there is news.
    """
    if isinstance(output, str):
        return _is_waiting_text(output) if output.strip() else _is_blank(step_input)
    level = [output]
    for _ in range(bounded_json.MAX_DEPTH):
        following: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                if any(_is_waiting_field(snake_case(key), item) for key, item in value.items()):
                    return True
                following.extend(value.values())
            elif isinstance(value, (list, tuple)):
                following.extend(value)
        if not following:
            return False
        level = following
    return False


def without_durations(text: str) -> str:
    """Return a folded text with each duration and time of day replaced by the same mark."""
    return _DURATION.sub("<duration>", text)


def is_time_counter(key: str) -> bool:
    """Return whether a key, in snake_case, names the time that something has taken or will take."""
    return not _TIME_WORDS.isdisjoint(key.split("_"))


def snake_case(key: Any) -> str:
    """Return a key as snake_case, from camelCase or kebab-case."""
    return _CAMEL.sub("_", str(key)).lower().replace("-", "_")


def _is_waiting_field(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return key in (_BUSY_KEYS if value else _DONE_KEYS)
    if not isinstance(value, str):
        return False
    if not _STATUS_KEYS.isdisjoint(key.split("_")):
        state = " ".join(_CAMEL.sub(" ", value[:_MAX_TEXT_CHARS]).lower().split())
        return _STATUS.fullmatch(state) is not None
    return key in _TEXT_KEYS and _is_waiting_text(value)


def _is_waiting_text(text: str) -> bool:
    if len(text) > _MAX_TEXT_CHARS:
        return False
    folded = " ".join(text.lower().split())
    return _STATUS.fullmatch(folded) is not None or _TEXT.search(folded) is not None


def _is_blank(value: Any) -> bool:
    """Return whether an input asks for nothing: no value, or only blank ones."""
    if isinstance(value, dict):
        return all(_is_blank(item) for item in value.values())
    return value is None or value == [] or (isinstance(value, str) and not value.strip())
