"""A step of an agent as a signature, without its text.

Three hashes of its input tell how similar two steps are: `exact`, of everything except fields of
the individual call (request ids, attempt numbers, thoughts); `signature`, which also treats
timestamps as equal; and `shape`, which also treats free text as equal except for its numbers and
ids, so that paraphrases can be compared by their words.

Identifiers in an input are compared: another id requests another thing, however random it is. In an
output, uuids, hexadecimal ids and long numbers are equal, for they are new each time that something
is created.
"""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

from synthralos.core import bounded_json
from synthralos.loop_detection import waiting
from synthralos.loop_detection.waiting import snake_case

# A text or a number in a JSON value.
Leaf = Union[str, float]
# A JSON value without what says nothing: an object is a tuple of (key, value), in order.
Folded = Union[Leaf, None, list["Folded"], tuple[tuple[str, "Folded"], ...]]
# The same as JSON, each text and number as a text.
Canonical = Union[str, bool, None, list["Canonical"]]
# (action, signature of the input, signature of the output or None if that is unknown).
Outcome = tuple[str, str, Optional[str]]


def word_set(text: str) -> frozenset[str]:
    """The words of `text`, separated by spaces, as a frozenset."""
    return frozenset(text.split())


# Keys that belong to an individual call and say nothing about what it requested.
_CALL_KEYS = word_set(
    "attempt attempts call_id client_request_id client_token conversation_id correlation_id"
    " created_at execution_id idempotency_key idempotency_token iteration message_id nonce now"
    " request_id request_token retries retry retry_count run_id seq session_id span_id timestamp"
    " tool_call_id trace_id trace_parent traceparent ts updated_at x_request_id"
)
# So do these, except where they are the only keys: then the tool is one for notes.
_THOUGHT_KEYS = word_set("explanation rationale reasoning thought thoughts")
_IGNORED_OUTPUT_KEYS = _CALL_KEYS | _THOUGHT_KEYS | word_set(
    "duration duration_ms duration_seconds elapsed elapsed_ms latency latency_ms time took"
)
# An empty list under one of these keys is not an empty result.
_ERROR_KEYS = word_set(
    "conflicts errors exceptions failed failures invalid issues messages missing problems rejected"
    " skipped violations warnings"
)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[t ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:z|[+-]\d\d:?\d\d)?(?![0-9a-z])", re.ASCII
)
_ID = re.compile(
    r"(?<![0-9a-z])(?:"
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}"
    r"|(?=[a-z]*[0-9])(?=[0-9]*[a-z])[0-9a-z]{12,}"
    r"|[0-9]{9,}"
    r")(?![0-9a-z])"
)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_WORD = re.compile(r"[^\W_]+")
_MAX_INTEGER = 10**9
# Numbers that may be the seconds since the epoch, or milli-, micro- or nanoseconds: 2001 to 2039.
_EPOCH = (10**9, 22 * 10**8)
_EPOCH_UNITS = (1, 10**3, 10**6, 10**9)
# Scripts without spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff\uac00-\ud7af]+")
_STOP_WORDS = word_set(
    "a about am an and any are as at be been but by can could did do does find for from get give"
    " had has have how i in is it its just let me my now of on or our out please s shall should"
    " show so some t tell that the their them then there these they this those to up us want was"
    " we were what when where which who why will with would you your"
)
_MAX_TEXT_CHARS = 20_000
# Words stored per text. Broder (1997): the share of common ones among the smallest hashes of the
# union estimates Jaccard's index; its error is about 1 / sqrt(32), and up to 32 words it is exact.
_SKETCH_SIZE = 32


@dataclass(frozen=True)
class Step:
    """A step of an agent, without its text. All but `at`, `action` and `progress` are hashes.

    :ivar at: seconds since the epoch.
    :ivar words: a sketch of the words in the input's free text, see `_sketch`.
    :ivar output: None if it is unknown; `output_shape` and `output_words` as for the input.
    :ivar bare: whether neither input nor output is known, so that steps cannot be distinguished.
    :ivar waiting: None, or if the output says that the agent waits (waiting.py), what it says, with
        its ids and without the time that has passed.
    """

    at: float
    action: str
    signature: str
    exact: str
    shape: str
    words: tuple[str, ...] = ()
    output: Optional[str] = None
    output_shape: Optional[str] = None
    output_words: tuple[str, ...] = ()
    progress: Optional[float] = None
    bare: bool = False
    waiting: Optional[str] = None

    @property
    def outcome(self) -> Outcome:
        """The action, its input and its output: two steps with the same outcome are identical."""
        return self.action, self.signature, self.output


def build_step(
    timestamp: float,
    action: str,
    step_input: Any = None,
    output: Any = None,
    progress: Optional[float] = None,
    compare_ids: bool = True,
) -> Step:
    """The Step in which the agent did `action` with `step_input` and got `output`.

    :param timestamp: seconds since the epoch.
    :param step_input: a JSON value.
    :param output: a JSON value, or None if it is unknown.
    :param compare_ids: whether another id in the input requests another thing; False for the input
        of an event, such as an error, whose ids may be new each time.
    """
    as_signature, as_shape = _as_signature, _as_shape
    if not compare_ids:
        as_signature, as_shape = _as_output_signature, _as_output_shape
    normalized_input = _normalize(step_input, _ignored_keys(step_input).__contains__)
    signature = _fingerprint(normalized_input, as_signature)
    output_signature: Optional[str] = None
    output_shape: Optional[str] = None
    output_words: tuple[str, ...] = ()
    waits_for: Optional[str] = None
    if output is not None:
        normalized_output = _normalize(output, _IGNORED_OUTPUT_KEYS.__contains__)
        output_signature = _fingerprint(normalized_output, _as_output_signature)
        output_shape = _fingerprint(normalized_output, _as_output_shape)
        output_words = _sketch(normalized_output)
        if waiting.says_waiting(step_input, output):
            lasting = _normalize(output, _is_ignored_while_waiting)
            output_signature = _fingerprint(lasting, _as_waiting_signature)
            waits_for = _fingerprint(lasting, _as_waiting)
        if _is_empty_result(output):
            # Empty pages: then other numbers in the input are not progress.
            output_signature = output_shape = short_hash("nothing")
            signature = _fingerprint(normalized_input, _without_numbers)
    return Step(
        at=timestamp,
        action=action,
        signature=signature,
        exact=_fingerprint(normalized_input, _verbatim),
        shape=_fingerprint(normalized_input, as_shape),
        words=_sketch(normalized_input),
        output=output_signature,
        output_shape=output_shape,
        output_words=output_words,
        progress=progress,
        bare=output is None and step_input in (None, {}, [], ""),
        waiting=waits_for,
    )


def jaccard(first: Iterable[str], second: Iterable[str]) -> float:
    """0 to 1: the share of common words of two sketches (Jaccard's index); 1 if both are empty."""
    union = sorted(set(first) | set(second))[:_SKETCH_SIZE]
    if not union:
        return 1.0
    return len(set(union) & set(first) & set(second)) / len(union)


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _ignored_keys(step_input: Any) -> frozenset[str]:
    """The keys of an input that say nothing about what was requested."""
    keys = _CALL_KEYS | _THOUGHT_KEYS
    only_such_keys = isinstance(step_input, dict) and all(
        snake_case(key) in keys for key in step_input
    )
    return _CALL_KEYS if only_such_keys else keys


def _is_ignored_while_waiting(key: str) -> bool:
    return key in _IGNORED_OUTPUT_KEYS or waiting.is_time_counter(key)


def _normalize(value: Any, is_ignored: Callable[[str], bool], depth: int = 0) -> Folded:
    """`value` with its texts folded and without the fields whose key `is_ignored`.

    An object becomes a tuple of (key, value) in an order that does not depend on the input's.
    """
    if isinstance(value, dict):
        if depth >= bounded_json.MAX_DEPTH:
            return "(deep)"
        items = [
            (_folded_text(str(key)), _normalize(item, is_ignored, depth + 1))
            for key, item in value.items()
            if not is_ignored(snake_case(key))
        ]
        if len({key for key, _ in items}) == len(items):
            return tuple(sorted(items, key=lambda item: item[0]))
        return tuple(sorted(items, key=lambda item: (item[0], _fingerprint(item[1], _verbatim))))
    if isinstance(value, (list, tuple)):
        if depth >= bounded_json.MAX_DEPTH:
            return "(deep)"
        return [_normalize(item, is_ignored, depth + 1) for item in value]
    return _folded_text(value) if isinstance(value, str) else value


def _fingerprint(folded: Folded, leaf: Callable[[Leaf], str]) -> str:
    """The hash of a folded value, with every text and number as `leaf` returns it."""
    return short_hash(json.dumps(_canonical(folded, leaf), separators=(",", ":")))


def _canonical(folded: Folded, leaf: Callable[[Leaf], str]) -> Canonical:
    if isinstance(folded, tuple):
        return ["object", [[key, _canonical(item, leaf)] for key, item in folded]]
    if isinstance(folded, list):
        return [_canonical(item, leaf) for item in folded]
    if folded is None or isinstance(folded, bool):
        return folded
    return ("t:" if isinstance(folded, str) else "n:") + leaf(folded)


def _verbatim(leaf: Leaf) -> str:
    return leaf if isinstance(leaf, str) else _number(leaf)


def _as_signature(leaf: Leaf) -> str:
    if not isinstance(leaf, str):
        return "#" if _is_epoch(leaf) else _number(leaf)
    if leaf.isascii() and leaf.isdigit() and len(leaf) <= 19 and _is_epoch(int(leaf)):
        return "<time>"
    return leaf if len(leaf) < 8 else _TIME.sub("<time>", leaf)


def _is_epoch(number: float) -> bool:
    return any(_EPOCH[0] * unit <= number < _EPOCH[1] * unit for unit in _EPOCH_UNITS)


def _as_output_signature(leaf: Leaf) -> str:
    if not isinstance(leaf, str):
        return "#" if abs(leaf) >= _MAX_INTEGER else _number(leaf)
    return _without_ids(leaf, "<time>", "<id>")


def _as_output_shape(leaf: Leaf) -> str:
    return _shape(leaf, _as_output_signature(leaf))


def _as_waiting_signature(leaf: Leaf) -> str:
    return waiting.without_durations(_as_output_signature(leaf))


def _as_waiting(leaf: Leaf) -> str:
    return waiting.without_durations(_as_signature(leaf))


def _without_numbers(leaf: Leaf) -> str:
    if not isinstance(leaf, str) or leaf.isdigit():
        return "#"
    return _as_signature(leaf)


def _as_shape(leaf: Leaf) -> str:
    signature = _as_signature(leaf)
    if not isinstance(leaf, str) or not _is_text(leaf):
        return signature
    return "%s %s" % (_shape(leaf, signature), " ".join(_ID.findall(signature)))


def _shape(leaf: Leaf, signature: str) -> str:
    """The shape of a leaf: its signature, or of free text its numbers."""
    if not isinstance(leaf, str) or not _is_text(leaf):
        return signature
    return "<text %s>" % " ".join(_NUMBER.findall(signature))


def _without_ids(text: str, time: str, name: str) -> str:
    # Ids and times are longer and contain a digit; most texts do not.
    if len(text) < 8 or _NUMBER.search(text) is None:
        return text
    return _ID.sub(name, _TIME.sub(time, text))


def _number(number: float) -> str:
    if isinstance(number, float) and math.isfinite(number) and number.is_integer():
        number = int(number)
    # Hexadecimal: Python refuses the decimal digits of a very large integer.
    return format(number, "x") if isinstance(number, int) else repr(number)


def _folded_text(text: str) -> str:
    """`text` without differences of case, width and white space; the rest of long text as hash."""
    remainder = text[_MAX_TEXT_CHARS:]
    text = text[:_MAX_TEXT_CHARS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = " ".join(text.casefold().split())
    return "%s %s" % (text, short_hash(remainder)) if remainder else text


def _is_text(folded: str) -> bool:
    return " " in folded or _UNSPACED.search(folded) is not None


def _sketch(folded: Folded) -> tuple[str, ...]:
    """The _SKETCH_SIZE smallest hashes of the words in a folded value's free texts, in order."""
    words: set[str] = set()
    _collect(folded, words)
    return tuple(sorted(short_hash(word)[:8] for word in words)[:_SKETCH_SIZE])


def _collect(folded: Folded, words: set[str]) -> None:
    if isinstance(folded, tuple):
        for _, item in folded:
            _collect(item, words)
    elif isinstance(folded, list):
        for item in folded:
            _collect(item, words)
    elif isinstance(folded, str) and _is_text(folded):
        for word in set(_WORD.findall(_without_ids(folded, " ", " "))):
            if _UNSPACED.search(word):
                words.update(word[n:n + 2] for n in range(max(1, len(word) - 1)))
            elif word not in _STOP_WORDS:
                words.add(_stem(word))


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "s"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _is_empty_result(output: Any) -> bool:
    """Whether the output contains an empty list, and no list that is not empty.

    An empty list under one of _ERROR_KEYS does not count.
    """
    level, empty = [output], False
    for _ in range(bounded_json.MAX_DEPTH):
        following = []
        for value in level:
            if isinstance(value, (list, tuple)):
                if value:
                    return False
                empty = True
            elif isinstance(value, dict):
                following += [
                    item for key, item in value.items() if snake_case(key) not in _ERROR_KEYS
                ]
        if not following:
            return empty
        level = following
    return False
