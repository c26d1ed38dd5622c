"""Regular expressions of the configuration: whether they are any, and what they may cost.

A backtracking matcher can take minutes over a short text, and what is redacted is often the text
of somebody who wishes us ill. So a pattern is refused when the steps that it may take from one
place of a text have no bound, or a high one. What decides is the pattern, never a stopwatch.
"""

# re makes its constants when it is imported, where pylint does not see them.
# pylint: disable=no-member

import re

from synthralos.core.errors import InvalidInput

try:
    from re import _constants as ops
    from re import _parser as parser
except ImportError:  # Python 3.10 and older
    import sre_constants as ops
    import sre_parse as parser

MAX_PATTERN_CHARS = 500
MAX_STEPS = 2000
_BOUND = "Give each repeat but the last a bound, such as {1,64}, and nest none of another"
# Characters beyond ASCII, by what a pattern can tell of them.
_ELSEWHERE = frozenset(["digit", "letter", "space", "sign"])
_DIGITS = frozenset("0123456789") | {"digit"}
_SPACES = frozenset(" \t\n\r\f\v") | {"space"}
_WORDS = _DIGITS | {"letter", "_"} | frozenset(map(chr, range(65, 91))) | frozenset(
    map(chr, range(97, 123)))
_ALL = frozenset(map(chr, range(128))) | _ELSEWHERE
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT)
_UNBOUNDED = int(ops.MAXREPEAT)


class _UnboundedPattern(Exception):
    """The pattern has no bound, or a part that need not be bounded. The message says which."""


def compile_bounded(where, pattern):
    """The compiled `pattern`. InvalidInput, naming `where`, when it is none or may cost too much."""
    if not isinstance(pattern, str) or not pattern or len(pattern) > MAX_PATTERN_CHARS:
        way_out = "Give 1 to %d characters" % MAX_PATTERN_CHARS
        raise InvalidInput(where, pattern, "is no regular expression", way_out)
    try:
        found = re.compile(pattern)
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        way_out = "Write it as Python's re has it: %s" % error
        raise InvalidInput(where, pattern, "is no regular expression", way_out) from error
    if found.search("") is not None or tree.getwidth()[0] == 0:
        raise InvalidInput(
            where, pattern, "matches where there is nothing", "Have it match something"
        )
    try:
        steps, _ = _cost(list(tree), 1, None, bool(found.flags & re.IGNORECASE))
    except _UnboundedPattern as error:
        raise InvalidInput(where, pattern, "may take for ever: %s" % error, _BOUND) from error
    if steps > MAX_STEPS:
        why = "may take %d steps at each place of a text, more than %d" % (steps, MAX_STEPS)
        raise InvalidInput(
            where, pattern, why, "Bound its repeats more closely, or name what follows"
        )
    return found


def _cost(items, after, follows, fold):
    """(steps, characters): how many steps matching `items` may take from one place, at most, and
    the characters with which a match may begin, None when that is not known.

    :param after: the steps of what comes after `items`.
    :param follows: the characters that may come after them; None when they are not known, or when
        nothing has to come.
    :param fold: whether case makes no difference.
    """
    # Then what they match is the whole match, and nothing is tried again.
    last = follows is None and after == 1
    for op, given in reversed(items):
        if op in _REPEATS:
            after, follows = _of_repeat(given, after, follows, fold, last)
        elif op is ops.SUBPATTERN:
            after, follows = _cost(list(given[3]), after, follows, fold or _folds(given))
        elif op is ops.BRANCH:
            ways = [_cost(list(way), after, follows, fold) for way in given[1]]
            after = sum(steps for steps, _ in ways)
            follows = _union(characters for _, characters in ways)
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            inside, _ = _cost(list(given[1]), 1, _ALL, fold)
            after, follows = after + inside, None
        elif op is ops.AT:
            after, follows = after + 1, None
        else:
            after, follows = after + 1, _characters(op, given, fold)
        last = False
    return after, follows


def _of_repeat(given, after, follows, fold, last):
    least, most, body = given
    body = list(body)
    single = _characters(*body[0], fold) if len(body) == 1 and _is_single(body[0]) else None
    if last and single is not None:
        # Whatever it takes, it has matched: no place of the text is looked at twice.
        return after + 1, single if least else None
    if most == _UNBOUNDED:
        raise _UnboundedPattern("a repeat without bound has something after it, or within it")
    if single is not None:
        if least == most:
            steps = most + after
        elif _apart(single, follows):
            # It can end in one place only: what comes after fails at once at the others.
            steps = most + (most - least) + after
        else:
            steps = most + (most - least + 1) * after
        return steps, single if least else None
    return _in_rounds(body, least, most, after, follows, fold)


def _in_rounds(body, least, most, after, follows, fold):
    """As `_cost`, of a body that comes `least` to `most` times: round after round, the last first.
    """
    steps, begins = after, follows
    for left in range(most):
        inside, first = _cost(body, steps, begins, fold)
        optional = left < most - least
        steps = inside + after if optional else inside
        begins = _union([first, follows]) if optional else first
        if steps > MAX_STEPS:
            break
    return steps, begins


def _apart(characters, follows):
    return follows is not None and not characters & follows


def _union(found):
    found = list(found)
    return None if None in found else frozenset().union(*found)


def _folds(given):
    return bool(given[1] & re.IGNORECASE)


def _is_single(item):
    return item[0] in (ops.LITERAL, ops.NOT_LITERAL, ops.IN, ops.ANY)


def _characters(op, given, fold):
    """The characters that one item may be. _Costly when it is none that can be told."""
    if op is ops.LITERAL:
        found = _of_range(given, given)
    elif op is ops.NOT_LITERAL:
        found = _ALL - (_of_range(given, given) if given < 128 else frozenset())
    elif op is ops.ANY:
        found = _ALL
    elif op is ops.IN:
        found = _of_set(given)
    else:
        raise _UnboundedPattern("%s is not understood" % str(op).lower())
    if fold:
        found |= {c.swapcase() for c in found if len(c) == 1}
    return frozenset(found)


def _of_set(given):
    found, negated = set(), False
    for op, part in given:
        if op is ops.NEGATE:
            negated = True
        elif op is ops.LITERAL:
            found |= _of_range(part, part)
        elif op is ops.RANGE:
            found |= _of_range(*part)
        else:
            found |= _CATEGORIES[part]
    if not negated:
        return frozenset(found)
    whole = {part for op, part in given if op is ops.CATEGORY}
    # A letter that is left out leaves the others of its kind.
    kept = set() if whole else _ELSEWHERE
    return (_ALL - found) | frozenset(kept)


def _of_range(first, last):
    ascii_part = frozenset(map(chr, range(first, min(last, 127) + 1)))
    return ascii_part | (_ELSEWHERE if last > 127 else frozenset())


_CATEGORIES = {
    ops.CATEGORY_DIGIT: _DIGITS,
    ops.CATEGORY_NOT_DIGIT: _ALL - _DIGITS,
    ops.CATEGORY_SPACE: _SPACES,
    ops.CATEGORY_NOT_SPACE: _ALL - _SPACES,
    ops.CATEGORY_WORD: _WORDS,
    ops.CATEGORY_NOT_WORD: _ALL - _WORDS,
}
