"""The little of PromQL that a check needs: the opposite of a query for failed nodes."""

import re
from collections.abc import Iterator
from typing import Any, Optional

from synthralos.core.errors import InvalidInput

MAX_QUERY_CHARS = 2000

_OPPOSITES = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_QUOTES = "\"'`"
# A token outside of strings and brackets: a word, a number, an operator, or any other character.
_TOKEN = re.compile(r"[A-Za-z_:][\w:]*|[=!<>]=|[\d.][\w.]*(?:(?<=[eE])[+-]\d+)?|\S")
# What drops series besides a comparison.
_FILTERS = ("absent", "absent_over_time", "and", "unless")
# What binds as loosely as the comparison, or more so: then it is not the last step of the query.
_LOOSE_WORDS = ("and", "or", "unless", "bool", "on", "ignoring", "atan2")


def require_query(path: str, value: Any) -> str:
    """Return `value` if it can be a PromQL query.

    :raises InvalidInput: it is blank, too long or not a string.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_QUERY_CHARS:
        hint = "Write PromQL, such as up == 0, of at most %d characters" % MAX_QUERY_CHARS
        raise InvalidInput(path, value, "is not a valid query", hint)
    return value


def opposite_of(query: str) -> Optional[str]:
    """Return the query with the opposite comparison: `up == 0` becomes `up != 0`.

    The series that a query for failed nodes leaves out either say that the node is healthy, or do
    not exist. The opposite query returns the former only.

    :returns: None unless the query is an expression that is compared with a number, at its end.
    """
    tokens = list(_top_level_tokens(query))
    if len(tokens) == 1 and tokens[0][0].startswith("(") and tokens[0][0].endswith(")"):
        return opposite_of(tokens[0][0][1:-1])
    sign = ""
    if len(tokens) > 2 and tokens[-2][0] in "+-" and tokens[-3][0] in _OPPOSITES:
        sign = tokens.pop(-2)[0]
    if len(tokens) < 3 or tokens[-2][0] not in _OPPOSITES or not _is_number(tokens[-1][0]):
        return None
    words = [text.lower() for text, _ in tokens[:-2]]
    if any(word in _LOOSE_WORDS or word in _OPPOSITES or word == "#" for word in words):
        return None
    operator, start = tokens[-2]
    return "%s %s %s%s" % (query[:start].strip(), _OPPOSITES[operator], sign, tokens[-1][0])


def tells_healthy_apart(query: str) -> bool:
    """Return whether a query can leave out the series of what is not healthy.

    It cannot without a comparison, or with one that returns 0 and 1 instead (`bool`): then its
    samples exist whatever their values are.
    """
    tokens = list(_tokens(query))
    if any(text.lower() == "bool" for text, _ in _top_level_tokens(query)):
        return False
    return any(text in _OPPOSITES or text.lower() in _FILTERS for text in tokens)


def _tokens(query: str) -> Iterator[str]:
    """Yield the tokens of a query at any depth, without those of its selectors and strings."""
    for text, _ in _top_level_tokens(query):
        if text[0] == "(":
            yield from _tokens(text[1:-1])
        elif text[0] not in _PAIRS and text[0] not in _QUOTES:
            yield text


def _top_level_tokens(query: str) -> Iterator[tuple[str, int]]:
    """Yield (token, index) outside of strings and brackets; a bracketed part is one token."""
    index = 0
    while index < len(query):
        character = query[index]
        if character.isspace():
            index += 1
            continue
        if character in _PAIRS or character in _QUOTES:
            end = _end_of(query, index)
            yield query[index:end], index
            index = end
            continue
        match = _TOKEN.match(query, index)
        text = match.group(0) if match else character
        yield text, index
        index += len(text)


def _end_of(query: str, start: int) -> int:
    """Return the index after the string or the bracket that begins at `start`."""
    expected: list[str] = []
    index = start
    while index < len(query):
        character = query[index]
        if character in _QUOTES:
            index = _end_of_string(query, index)
        else:
            if character in _PAIRS:
                expected.append(_PAIRS[character])
            elif expected and character == expected[-1]:
                expected.pop()
            index += 1
        if not expected:
            return index
    return len(query)


def _end_of_string(query: str, start: int) -> int:
    quote, index = query[start], start + 1
    while index < len(query) and query[index] != quote:
        # A backslash escapes nothing between backticks.
        index += 2 if query[index] == "\\" and quote != "`" else 1
    return min(index + 1, len(query))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # A comparison with NaN is false either way, and Python reads more words as numbers.
    return text[0].isdigit() or text[0] == "."
