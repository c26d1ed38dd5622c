"""A step of an agent as a signature, never as text.

Three forms of its input tell how alike two steps are: `exact`, everything but what belongs to one
call (request ids, attempt numbers, thoughts); `signature`, in which uuids, hexadecimal ids, long
numbers and points in time are alike too; and `shape`, in which free text is alike as well and only
its numbers count, so that paraphrases can be compared by their words.
"""

import hashlib
import json
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Optional

from synthralos.core import bounded_json


def word_set(text):
    return frozenset(text.split())


# What belongs to one call and says nothing about what was asked.
_OF_THE_CALL = word_set(
    "attempt attempts call_id conversation_id correlation_id created_at execution_id"
    " idempotency_key iteration message_id nonce now request_id retries retry retry_count run_id"
    " seq session_id span_id timestamp tool_call_id trace_id ts updated_at"
)
# So do these, but where nothing else stands beside them they are what was asked: a tool for notes.
_THOUGHTS = word_set("explanation rationale reasoning thought thoughts")
_OF_THE_ANSWER = _OF_THE_CALL | _THOUGHTS | word_set(
    "duration duration_ms duration_seconds elapsed elapsed_ms latency latency_ms time took"
)
# An empty list under one of these is good news.
_TROUBLES = word_set(
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
# Of scripts that set no spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff\uac00-\ud7af]+")
_STOP_WORDS = word_set(
    "a about am an and any are as at be been but by can could did do does find for from get give"
    " had has have how i in is it its just let me my now of on or our out please s shall should"
    " show so some t tell that the their them then there these they this those to up us want was"
    " we were what when where which who why will with would you your"
)
_READ_CHARACTERS = 20_000
# Words kept of a text. Broder (1997): the share of common ones among the least hashes of the union
# estimates Jaccard's index; its error is about 1 / sqrt(32), and texts up to 32 words are exact.
_SKETCH = 32


@dataclass(frozen=True)
class Step:
    """One step of an agent, without its text. All but `at`, `progress` and names are hashes.

    :ivar at: seconds since the epoch.
    :ivar words: a sketch of the words in the input's free text, see `_sketch`.
    :ivar output: None when none was told; `output_shape` and `output_words` as for the input.
    :ivar bare: whether neither input nor output was told, so that nothing tells steps apart.
    """

    at: float
    action: str
    signature: str
    exact: str
    shape: str
    words: tuple = ()
    output: Optional[str] = None
    output_shape: Optional[str] = None
    output_words: tuple = ()
    progress: Optional[float] = None
    bare: bool = False

    @property
    def outcome(self):
        """What makes two steps the same: what was done, and what came of it."""
        return self.action, self.signature, self.output


def build_step(timestamp, action, step_input=None, output=None, progress=None):
    """The Step in which the agent did `action` with `step_input` and got `output`.

    :param step_input: a JSON value; output: a JSON value, or None when it is not known.
    """
    asked = _normalize(step_input, _ignored_keys(step_input))
    signature = _fingerprint(asked, _as_signature)
    form, output_shape, output_words = None, None, ()
    if output is not None:
        got = _normalize(output, _OF_THE_ANSWER)
        form, output_shape = _fingerprint(got, _as_signature), _fingerprint(got, _as_shape)
        output_words = _sketch(got)
        if _is_empty_result(output):
            # Page after page of nothing: then other numbers in the input are no news.
            form = output_shape = short_hash("nothing")
            signature = _fingerprint(asked, _without_numbers)
    return Step(
        at=timestamp,
        action=action,
        signature=signature,
        exact=_fingerprint(asked, _verbatim),
        shape=_fingerprint(asked, _as_shape),
        words=_sketch(asked),
        output=form,
        output_shape=output_shape,
        output_words=output_words,
        progress=progress,
        bare=output is None and step_input in (None, {}, [], ""),
    )


def jaccard(one, other):
    """0 to 1: the part of common words of two sketches (Jaccard's index); 1 where none has any."""
    union = sorted(set(one) | set(other))[:_SKETCH]
    if not union:
        return 1.0
    return len(set(union) & set(one) & set(other)) / len(union)


def short_hash(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _ignored_keys(given):
    """The keys of an input that say nothing about what was asked."""
    both = _OF_THE_CALL | _THOUGHTS
    alone = isinstance(given, dict) and all(_key(key) in both for key in given)
    return _OF_THE_CALL if alone else both


def _normalize(value, dropped, depth=0):
    """`value` with its texts folded and without the dropped keys; an object is a tuple of (key,
    value) in an order of its own.
    """
    if isinstance(value, dict):
        if depth >= bounded_json.MAX_DEPTH:
            return "(deep)"
        items = [
            (_folded_text(str(key)), _normalize(item, dropped, depth + 1))
            for key, item in value.items()
            if _key(key) not in dropped
        ]
        if len({key for key, _ in items}) == len(items):
            return tuple(sorted(items, key=lambda item: item[0]))
        return tuple(sorted(items, key=lambda item: (item[0], _fingerprint(item[1], _verbatim))))
    if isinstance(value, (list, tuple)):
        if depth >= bounded_json.MAX_DEPTH:
            return "(deep)"
        return [_normalize(item, dropped, depth + 1) for item in value]
    return _folded_text(value) if isinstance(value, str) else value


def _fingerprint(folded, leaf):
    """The hash of a folded value, with every text and number as `leaf` has it."""
    return short_hash(json.dumps(_canonical(folded, leaf), separators=(",", ":")))


def _canonical(folded, leaf):
    if isinstance(folded, tuple):
        return ["object", [[key, _canonical(item, leaf)] for key, item in folded]]
    if isinstance(folded, list):
        return [_canonical(item, leaf) for item in folded]
    if folded is None or isinstance(folded, bool):
        return folded
    return ("t:" if isinstance(folded, str) else "n:") + leaf(folded)


def _verbatim(leaf):
    return leaf if isinstance(leaf, str) else _number(leaf)


def _as_signature(leaf):
    if not isinstance(leaf, str):
        return "#" if abs(leaf) >= _MAX_INTEGER else _number(leaf)
    return _without_ids(leaf, "<time>", "<id>")


def _without_numbers(leaf):
    if not isinstance(leaf, str) or leaf.isdigit():
        return "#"
    return _as_signature(leaf)


def _as_shape(leaf):
    told = _as_signature(leaf)
    if not isinstance(leaf, str) or not _is_text(leaf):
        return told
    return "<text %s>" % " ".join(_NUMBER.findall(told))


def _without_ids(text, time, name):
    # Neither is shorter, or without a digit, and most texts are.
    if len(text) < 8 or _NUMBER.search(text) is None:
        return text
    return _ID.sub(name, _TIME.sub(time, text))


def _number(number):
    if isinstance(number, float) and math.isfinite(number) and number.is_integer():
        number = int(number)
    # Hexadecimal: Python refuses the decimal digits of a very large integer.
    return format(number, "x") if isinstance(number, int) else repr(number)


def _key(key):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(key)).lower().replace("-", "_")


def _folded_text(text):
    """Without differences of case, of width and of white space; very long text by its hash."""
    rest = text[_READ_CHARACTERS:]
    text = text[:_READ_CHARACTERS]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = " ".join(text.casefold().split())
    return "%s %s" % (text, short_hash(rest)) if rest else text


def _is_text(folded):
    return " " in folded or _UNSPACED.search(folded) is not None


def _sketch(folded):
    """The _SKETCH least hashes of the words in the free texts of a folded value, in order."""
    words = set()
    _collect(folded, words)
    return tuple(sorted(short_hash(word)[:8] for word in words)[:_SKETCH])


def _collect(folded, words):
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


def _stem(word):
    for ending in ("ing", "ed", "s"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _is_empty_result(output):
    """Whether the answer is about an empty list: it holds one, and none that is not empty. That
    there are no _TROUBLES is no such answer.
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
                following += [item for key, item in value.items() if _key(key) not in _TROUBLES]
        if not following:
            return empty
        level = following
    return False
