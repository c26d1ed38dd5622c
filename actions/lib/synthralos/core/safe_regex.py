"""Regular expressions of the configuration: checked for validity and for their worst-case cost.

A backtracking matcher can take minutes over a short text, and redacted text often comes from an
attacker. So a pattern is rejected if the number of steps that it may take from one position of a
text has no bound, or a high one. The pattern alone decides, never a stopwatch.
"""

# re creates its constants at import, where pylint does not see them.
# pylint: disable=no-member

import re
import sys
from collections.abc import Iterable
from typing import Any, Optional

from synthralos.core.errors import InvalidInput

if sys.version_info >= (3, 11):
    from re import _constants as ops
    from re import _parser as parser
else:
    import sre_constants as ops
    import sre_parse as parser

MAX_PATTERN_CHARS = 500
MAX_STEPS = 2000
_BOUND_HINT = "Give each repeat but the last a bound, such as {1,64}, and do not nest repeats"
# Characters beyond ASCII, by the classes that a pattern can distinguish.
_NON_ASCII = frozenset(["digit", "letter", "space", "sign"])
_DIGITS = frozenset("0123456789") | {"digit"}
_SPACES = frozenset(" \t\n\r\f\v") | {"space"}
_WORDS = _DIGITS | {"letter", "_"} | frozenset(map(chr, range(65, 91))) | frozenset(
    map(chr, range(97, 123)))
_ALL = frozenset(map(chr, range(128))) | _NON_ASCII
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT)
_UNBOUNDED = int(ops.MAXREPEAT)
# An item of a parsed pattern: (operation, argument).
_Item = tuple[Any, Any]
# The characters that may come at a position; None if they are not known.
_Characters = Optional[frozenset[str]]


class _UnboundedPattern(Exception):
    """The cost has no bound, or the pattern has an unknown part. The message says which."""


def compile_bounded(path: str, pattern: Any) -> "re.Pattern[str]":
    """Compile `pattern`.

    :param path: of the configuration entry that holds it.
    :raises InvalidInput: it is not valid, matches the empty text, or may take more than MAX_STEPS
        steps; names `path`.
    """
    if not isinstance(pattern, str) or not pattern or len(pattern) > MAX_PATTERN_CHARS:
        hint = "Give 1 to %d characters" % MAX_PATTERN_CHARS
        raise InvalidInput(path, pattern, "is not a valid regular expression", hint)
    try:
        compiled = re.compile(pattern)
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        hint = "Use the syntax of Python's re: %s" % error
        raise InvalidInput(path, pattern, "is not a valid regular expression", hint) from error
    if compiled.search("") is not None or tree.getwidth()[0] == 0:
        raise InvalidInput(
            path, pattern, "matches the empty text", "Make it match at least one character"
        )
    try:
        steps, _ = _cost(tree.data, 1, None, bool(compiled.flags & re.IGNORECASE))
    except _UnboundedPattern as error:
        raise InvalidInput(path, pattern, "may never end: %s" % error, _BOUND_HINT) from error
    if steps > MAX_STEPS:
        reason = "may take %d steps at each position of a text, more than %d" % (steps, MAX_STEPS)
        raise InvalidInput(
            path, pattern, reason, "Give its repeats smaller bounds, or name what follows them"
        )
    return compiled


def _cost(
    items: list[_Item], after: int, follows: _Characters, fold: bool
) -> tuple[int, _Characters]:
    """Return (steps, characters): the maximum number of steps that matching `items` may take from
    one position, and the characters with which a match may begin, or None if they are not known.

    :param after: the steps of what comes after `items`.
    :param follows: the characters that may come after them; None if they are not known, or if
        nothing has to come.
    :param fold: whether case is ignored.
    """
    # Then the match of `items` is the whole match, and nothing is tried again.
    last = follows is None and after == 1
    for op, argument in reversed(items):
        if op in _REPEATS:
            after, follows = _repeat_cost(argument, after, follows, fold, last)
        elif op is ops.SUBPATTERN:
            after, follows = _cost(
                list(argument[3]), after, follows, fold or _ignores_case(argument)
            )
        elif op is ops.BRANCH:
            branches = [_cost(list(branch), after, follows, fold) for branch in argument[1]]
            after = sum(steps for steps, _ in branches)
            follows = _union(characters for _, characters in branches)
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            inside, _ = _cost(list(argument[1]), 1, _ALL, fold)
            after, follows = after + inside, None
        elif op is ops.AT:
            after, follows = after + 1, None
        else:
            after, follows = after + 1, _characters(op, argument, fold)
        last = False
    return after, follows


def _repeat_cost(
    argument: Any, after: int, follows: _Characters, fold: bool, last: bool
) -> tuple[int, _Characters]:
    minimum, maximum, body = int(argument[0]), int(argument[1]), list(argument[2])
    single = None
    if len(body) == 1 and _is_single(body[0]):
        op, body_argument = body[0]
        single = _characters(op, body_argument, fold)
    if last and single is not None:
        # Whatever it consumes, it has matched: no position of the text is visited twice.
        return after + 1, single if minimum else None
    if maximum == _UNBOUNDED:
        raise _UnboundedPattern("an unbounded repeat has something after it, or inside it")
    if single is not None:
        if minimum == maximum:
            steps = maximum + after
        elif _are_disjoint(single, follows):
            # It can end at one position only: what comes after fails at once at the others.
            steps = maximum + (maximum - minimum) + after
        else:
            steps = maximum + (maximum - minimum + 1) * after
        return steps, single if minimum else None
    return _rounds_cost(body, minimum, maximum, after, follows, fold)


def _rounds_cost(
    body: list[_Item], minimum: int, maximum: int, after: int, follows: _Characters, fold: bool
) -> tuple[int, _Characters]:
    """Return `_cost` of a body repeated `minimum` to `maximum` times, from the last round back."""
    steps, begins = after, follows
    for rounds_left in range(maximum):
        inside, first = _cost(body, steps, begins, fold)
        optional = rounds_left < maximum - minimum
        steps = inside + after if optional else inside
        begins = _union([first, follows]) if optional else first
        if steps > MAX_STEPS:
            break
    return steps, begins


def _are_disjoint(characters: frozenset[str], follows: _Characters) -> bool:
    return follows is not None and not characters & follows


def _union(sets: Iterable[_Characters]) -> _Characters:
    union: frozenset[str] = frozenset()
    for characters in sets:
        if characters is None:
            return None
        union |= characters
    return union


def _ignores_case(argument: Any) -> bool:
    return bool(argument[1] & re.IGNORECASE)


def _is_single(item: _Item) -> bool:
    return item[0] in (ops.LITERAL, ops.NOT_LITERAL, ops.IN, ops.ANY)


def _characters(op: Any, argument: Any, fold: bool) -> frozenset[str]:
    """Return the characters that a single item may match.

    :raises _UnboundedPattern: the item is not understood.
    """
    if op is ops.LITERAL:
        characters = _characters_of_range(argument, argument)
    elif op is ops.NOT_LITERAL:
        characters = _ALL - (
            _characters_of_range(argument, argument) if argument < 128 else frozenset()
        )
    elif op is ops.ANY:
        characters = _ALL
    elif op is ops.IN:
        characters = _characters_of_set(argument)
    else:
        raise _UnboundedPattern("%s is not understood" % str(op).lower())
    if fold:
        characters |= {c.swapcase() for c in characters if len(c) == 1}
    return characters


def _characters_of_set(members: list[_Item]) -> frozenset[str]:
    characters: frozenset[str] = frozenset()
    negated = False
    for op, part in members:
        if op is ops.NEGATE:
            negated = True
        elif op is ops.LITERAL:
            characters |= _characters_of_range(part, part)
        elif op is ops.RANGE:
            characters |= _characters_of_range(*part)
        else:
            characters |= _CATEGORIES[part]
    if not negated:
        return characters
    has_category = any(op is ops.CATEGORY for op, _ in members)
    # Excluding one letter does not exclude the others of its class.
    return (_ALL - characters) | (frozenset() if has_category else _NON_ASCII)


def _characters_of_range(first: int, last: int) -> frozenset[str]:
    ascii_part = frozenset(map(chr, range(first, min(last, 127) + 1)))
    return ascii_part | (_NON_ASCII if last > 127 else frozenset())


_CATEGORIES = {
    ops.CATEGORY_DIGIT: _DIGITS,
    ops.CATEGORY_NOT_DIGIT: _ALL - _DIGITS,
    ops.CATEGORY_SPACE: _SPACES,
    ops.CATEGORY_NOT_SPACE: _ALL - _SPACES,
    ops.CATEGORY_WORD: _WORDS,
    ops.CATEGORY_NOT_WORD: _ALL - _WORDS,
}
