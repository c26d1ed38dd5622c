"""The JSON value in the text of a model or an agent.

Reasoning in `<think>`, `<thinking>` or `<reasoning>` is no part of an answer, nor is anything
before a closing tag of these that has no opening one. Tags and code fences inside a value belong to
it. In the rest, a value is either the whole text (then of any type), or an object or array with
words around it. A fragment of a broken or truncated object or array is not a value.
"""

import json
import math
import re
from collections import deque
from typing import Any, Callable, NamedTuple, Optional

from synthralos.core import bounded_json
from synthralos.core.lazy_pattern import LazyPattern

MAX_OUTPUT_BYTES = 1024 * 1024
# The last values of a text; validating more of them would take too long.
MAX_VALUES = 100
# Each search for the end of a value that is never closed reads the rest of the text.
_MAX_REREAD_CHARS = 4 * MAX_OUTPUT_BYTES
_BLANK = " \t\r\n\ufeff"
_TAG_TEXT = r"(?i)<(/?)(think|thinking|reasoning)(?:\s[^<>]{0,200})?>"
_TAG = LazyPattern(_TAG_TEXT)
_MARK = LazyPattern(_TAG_TEXT + r"|[{\[]")
# An opening bracket that begins a value, or an attempt at one, and not `{name}` or `[link](...)`.
_VALUE = LazyPattern(
    r"""\{\s*(?:["'}]|[A-Za-z_$][\w$]*\s*:)"""
    r"""|\[\s*(?:["'{\[\]\d-]|(?:true|false|null|NaN|Infinity|None|True|False)\b)"""
)
_TEXT = r'"[^"\\]*(?:\\.[^"\\]*)*'
_FIRST_KEY = LazyPattern(r"(?s)\{\s*" + _TEXT + r'"\s*:')
_TOKEN = LazyPattern("(?s)" + _TEXT + r'(?:"|\\?\Z)|[{}\[\]]')
_LONE_TEXT = LazyPattern(r"(?s)\s*(?:`{3,}\w*\s*)?" + _TEXT + r'"\s*(?:`{3,}\s*)?\Z')
_FENCES = ("```", "~~~")
_LANGUAGE = LazyPattern(r"\A[^\S\n]*[A-Za-z][\w+.-]*")


class NoJson(ValueError):
    """The text contains no JSON value, or more than one."""


def extract(text: str, is_valid: Optional[Callable[[Any], bool]] = None) -> Any:
    """Return the one JSON value in `text`.

    :param is_valid: chooses among several values: the last one for which it returns true.
    :raises NoJson: no value is valid, or without `is_valid`, there is not exactly one.
    """
    values = find_values(text)
    if is_valid is None:
        if len(values) != 1:
            raise NoJson("contains %s JSON value" % ("more than one" if values else "no"))
        return values[0]
    for value in reversed(values):
        if is_valid(value):
            return value
    raise NoJson("contains no valid JSON value")


def parse_whole(text: str) -> Any:
    """Return the JSON value that `text` is, apart from reasoning and a code fence around it.

    :raises NoJson: it contains anything else.
    """
    if _exceeds_size(text):
        raise NoJson("is larger than %d bytes" % MAX_OUTPUT_BYTES)
    try:
        return _parse(text)
    except ValueError:
        return _parse_answer(_scan(text).answer)


def find_values(text: str) -> list[Any]:
    """Return the JSON values in `text`, in order: the last MAX_VALUES of them.

    A text of more than MAX_OUTPUT_BYTES is not searched: it has to be a JSON value as it stands.
    """
    try:
        return [_parse(text)]
    except ValueError:
        if _exceeds_size(text):
            return []
    scan = _scan(text)
    try:
        return [_parse_answer(scan.answer)]
    except NoJson:
        return scan.values


def is_json(text: str) -> bool:
    """Return whether `text` is a JSON value as it stands, without reasoning or a fence."""
    try:
        _parse(text)
    except ValueError:
        return False
    return True


class _Scan(NamedTuple):
    """What a text contains: `answer` is all of it but the reasoning."""

    values: list[Any]
    answer: str


def _exceeds_size(text: str) -> bool:
    # Most texts are short, and no character has more than four bytes.
    if 4 * len(text) <= MAX_OUTPUT_BYTES:
        return False
    return len(text.encode("utf-8", "surrogatepass")) > MAX_OUTPUT_BYTES


def _parse(text: str) -> Any:
    """Return the JSON value that `text` is.

    :raises ValueError: it is not one.
    """
    stripped = text.strip(_BLANK)
    try:
        value = _DECODER.decode(stripped)
    except RecursionError as error:
        raise NoJson("is nested too deeply") from error
    if bounded_json.exceeds_depth(value):
        raise NoJson("is nested too deeply")
    return value


def _parse_answer(answer: str) -> Any:
    """Return the JSON value that an answer without its reasoning is; it may be in a fence.

    :raises NoJson: it contains anything else.
    """
    answer = answer.strip(_BLANK)
    forms = [answer]
    if answer[:3] in _FENCES and answer[:3] == answer[-3:]:
        inside = answer.strip(answer[0])
        # "```true```" has no language.
        forms = [inside, _LANGUAGE.sub("", inside, count=1)]
    for form in forms:
        try:
            return _parse(form)
        except ValueError:
            pass
    raise NoJson("is not a JSON value")


def _scan(text: str) -> _Scan:
    """Find the values and the reasoning in `text`, from its beginning to its end."""
    closings = {
        tag.group(2).lower(): tag.start() for tag in _TAG.finditer(text) if tag.group(1)
    }
    values: deque[Any] = deque(maxlen=MAX_VALUES)
    parts: list[str] = []
    part_start, reread_chars = 0, 0
    position = _after_lone_text(text, 0)
    while True:
        mark = _MARK.search(text, position)
        if mark is None:
            break
        if mark.group(2) is None:
            value, end = _value_at(text, mark.start())
            values.extend(value)
            if end is None:
                reread_chars += len(text) - mark.start()
                end = _after_unclosed(text, mark.start())
            if reread_chars > _MAX_REREAD_CHARS:
                # The last value is unknown.
                values.clear()
                end = len(text)
            position = end
            continue
        if mark.group(1):
            values.clear()
            parts.clear()
            part_start = mark.end()
        else:
            parts.append(text[part_start:mark.start()])
            part_start = _reasoning_end(text, mark, closings)
        position = _after_lone_text(text, part_start)
    parts.append(text[part_start:])
    return _Scan(list(values), "\n".join(parts))


def _reasoning_end(text: str, opening: re.Match[str], closings: dict[str, int]) -> int:
    """Return where the reasoning ends; without a closing tag, only the tag itself is dropped.

    :param closings: {name: where its last closing tag begins}.
    """
    name = opening.group(2).lower()
    if closings.get(name, -1) < opening.end():
        return opening.end()
    for tag in _TAG.finditer(text, opening.end()):
        if tag.group(1) and tag.group(2).lower() == name:
            return tag.end()
    return opening.end()


def _after_lone_text(text: str, position: int) -> int:
    """Return the end of `text` if only a JSON text follows, for tags in it belong to it."""
    return len(text) if _LONE_TEXT.match(text, position) else position


def _value_at(text: str, start: int) -> tuple[list[Any], Optional[int]]:
    """Return ([the value at an opening bracket] or [], where to continue).

    The end is None if it is a value that is never closed.
    """
    if _VALUE.match(text, start) is None:
        return [], start + 1
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return [], _closing_end(text, start)
    return ([] if bounded_json.exceeds_depth(value) else [value]), end


def _closing_end(text: str, start: int) -> Optional[int]:
    """Return where the brackets that open at `start` are closed, or None."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        bracket = token.group()
        if bracket in ("{", "["):
            depth += 1
        elif bracket in ("}", "]"):
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _after_unclosed(text: str, start: int) -> int:
    """Return where to continue after a value that is never closed.

    What follows a truncated value is a part of it, unless reasoning ends there. A syntax error
    before the end shows that it was none, like the interval in "[0, 1) holds"; so does a quotation
    mark without a key, like that in 'write "{" first'.
    """
    if text[start] == "{" and _FIRST_KEY.match(text, start) is None:
        return start + 1
    tag = _TAG.search(text, start)
    end = len(text) if tag is None else tag.start()
    try:
        _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if error.pos < end and text[error.pos] != '"':
            return error.pos
    except (ValueError, RecursionError):
        pass
    return end


def _reject_constant(word: str) -> Any:
    raise NoJson("%s is not JSON" % word)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NoJson("a number is too large")
    return value


def _finite_int(digits: str) -> int:
    # More digits than those of the largest float; checked first, for int() takes long on many.
    if len(digits) > 310:
        raise NoJson("a number is too large")
    value = int(digits)
    _finite_float(digits)
    return value


_DECODER = json.JSONDecoder(
    parse_constant=_reject_constant, parse_float=_finite_float, parse_int=_finite_int
)
