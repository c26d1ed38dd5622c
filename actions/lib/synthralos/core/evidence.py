"""Evidence: everything that a failure says about itself, in whatever shape it comes.

Providers, gateways, proxies, SDKs and frameworks wrap errors in each other: an object in a list, a
JSON text in a message, the repr of a dict in the text of an exception, an error inside a 200. The
reader finds the names, statuses and messages at any depth and orders them innermost first, because
the innermost was written by whoever knows what went wrong.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from synthralos.core import bounded_json
from synthralos.core.lazy_pattern import LazyPattern

MAX_CHARS_READ = 20_000
MAX_DEPTH = 16
MAX_VALUES = 2_000
# JSON in a text in JSON in a text ...: OpenRouter before LiteLLM before a provider makes three.
MAX_EMBEDDED = 5


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Where errors have their names, statuses and messages. Compared in lower case without "_" and "-".
_NAME_KEYS = _words(
    "code type status reason errorcode errortype error name exception exceptiontype errorname "
    "class errorclass finishreason nativefinishreason stopreason blockreason quotaid subcode"
)
_STATUS_KEYS = _words("code status statuscode errorcode httpstatus httpcode type")
_MESSAGE_KEYS = _words(
    "message msg detail details error errors errordescription errormessage errormsg errmsg "
    "description "
    "raw text body response cause warning failurereason"
)
# What may stand beside the error in a body that is nothing but an error.
_ENVELOPE_KEYS = _words(
    "error errors message msg code status statuscode type detail details description object "
    "success ok requestid userid id traceid timestamp path param metadata provider event"
)
# Names more often than sentences.
_LABEL_KEYS = _words("code status reason type title")
# What stands beside an error and says nothing about it.
_SKIPPED_KEYS = _words(
    "links failedgeneration requestid docurl helpurl documentationurl url model object userid "
    "choices content toolcalls usage traceback stack request input query prompt messages"
)
_NAME = LazyPattern(r"^[A-Za-z_][A-Za-z0-9_.:#/ -]{1,100}\Z")
_HTML = LazyPattern(r"(?i)^\s*(?:<!doctype html|<html|<head|<title|<center|<h1)")
_TITLE = LazyPattern(r"(?is)<(title|h1|h2)[^>]*>(.*?)</\1>")
_TAG = LazyPattern(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>")
# "Error code: 429", "HTTP/1.1 503", "status_code=400", "(529)", "429 RESOURCE_EXHAUSTED".
_STATUS_IN_TEXT = LazyPattern(
    r"(?ix)"
    r"(?: \b (?: https?(?:/[0-9.]+)? | status (?:[ _-]?code)? | error[ _-]?code | code | error )"
    r"    [\"']? \s* [:=]? \s* [(\"']? ([45][0-9]{2}) \b"
    r"  | ^ [\s\[(\"']{0,3} ([45][0-9]{2}) (?=[\s\])\"':,]|\Z)"
    r"  | [(\[] ([45][0-9]{2}) [)\]]"
    r"  | \b ([45][0-9]{2}) \s+ (?: client | server ) \s+ error )"
)
# "openai.RateLimitError", "ThrottlingException", "RESOURCE_EXHAUSTED", "insufficient_quota".
_NAME_IN_TEXT = LazyPattern(
    r"(?<![A-Za-z0-9_])(?:[A-Za-z_]\w*\.)*"
    r"([A-Z][a-z0-9]+(?:[A-Z]+[a-z0-9]*)+|[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+)"
    r"(?![A-Za-z0-9_])"
)
# A pair in JSON or in the repr of a dict that cannot be parsed as a whole, such as a truncated one.
_PAIR = LazyPattern(
    r"[\"'](?P<key>[A-Za-z_]{2,30})\\?[\"']\s*:\s*"
    r"(?:\\?\"(?P<double>(?:[^\"\\]|\\.){0,2000})\\?(?:\"|\Z)"
    r"|'(?P<single>(?:[^'\\]|\\.){0,2000})(?:'|\Z)"
    r"|(?P<number>[0-9]{1,15})\b)"
)


@dataclass(frozen=True)
class Evidence:
    """What a failure says, innermost first.

    :ivar names: codes, types, reasons and names of exceptions, as they were spelled.
    :ivar statuses: HTTP statuses from 400 to 599.
    :ivar messages: sentences for people, each once.
    :ivar fields: (key in lower case without "_" and "-", text or number) of all other simple
        values, such as `param` or `retryDelay`.
    :ivar is_html: whether the whole is a page.
    """

    names: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    messages: tuple[str, ...] = ()
    fields: tuple[tuple[str, Any], ...] = ()
    is_html: bool = False

    @property
    def message(self) -> str:
        """The innermost message, or an empty text."""
        return self.messages[0] if self.messages else ""

    @property
    def text(self) -> str:
        """All messages, a line each."""
        return "\n".join(self.messages)

    def field(self, *keys: str) -> Optional[Any]:
        """Return the innermost value under one of `keys`, or None."""
        for key, value in self.fields:
            if key in keys:
                return value
        return None


def read(value: Any) -> Evidence:
    """Return the evidence in `value`: a JSON value, a text, bytes or an exception. What has been
    read is returned as it is.

    Never raises for what it reads. At most MAX_VALUES values are read, to a depth of MAX_DEPTH, and
    MAX_CHARS_READ characters of each text.
    """
    if isinstance(value, Evidence):
        return value
    reader = _Reader()
    if isinstance(value, BaseException):
        reader.read_exception(value)
    elif isinstance(value, (bytes, bytearray)):
        reader.read_text(bytes(value).decode("utf-8", "replace"), 0, 0)
    elif isinstance(value, (dict, list, tuple)):
        reader.read_value(value, 0, 0)
    elif value is not None:
        reader.read_text(str(value), 0, 0)
    return reader.evidence()


def is_error_body(body: Any) -> bool:
    """Return whether a JSON value is nothing but an error, as gateways return with a 200.

    It has an `error`, and beside it only what belongs to one: a code, a message, an id.
    """
    if isinstance(body, list):
        return len(body) == 1 and is_error_body(body[0])
    if not isinstance(body, dict):
        return False
    error = body.get("error")
    is_error = isinstance(error, dict) and bool(error)
    is_error = is_error or (isinstance(error, str) and bool(error.strip()))
    return is_error and all(
        normalize_key(key) in _ENVELOPE_KEYS or value in (None, "", [], {})
        for key, value in body.items()
    )


def normalize_key(key: Any) -> str:
    """Return `key` in lower case without "_" and "-", so that all spellings are equal."""
    return str(key).lower().replace("_", "").replace("-", "")


class _Reader:
    """Collects (depth, item); the deepest is the innermost, and of one depth the first."""

    def __init__(self) -> None:
        self._names: list[tuple[int, str]] = []
        self._statuses: list[tuple[int, int]] = []
        self._messages: list[tuple[int, str]] = []
        self._fields: list[tuple[int, tuple[str, Any]]] = []
        self._is_html = False
        self._values_left = MAX_VALUES

    def evidence(self) -> Evidence:
        return Evidence(
            names=_innermost_first(self._names),
            statuses=_innermost_first(self._statuses),
            messages=_innermost_first(self._messages),
            fields=_innermost_first(self._fields),
            is_html=self._is_html,
        )

    def read_exception(self, error: BaseException) -> None:
        """Read an exception and the chain behind it; causes are deeper than what they caused."""
        link: Optional[BaseException] = error
        for depth in range(MAX_DEPTH):
            if link is None:
                return
            self._names.append((depth, type(link).__name__))
            status = getattr(link, "status_code", None) or getattr(link, "code", None)
            self._read_status(status, depth)
            body = getattr(link, "body", None)
            if isinstance(body, (dict, list)):
                self.read_value(body, depth + 1, 0)
            self.read_text(str(link), depth, 0)
            link = link.__cause__ or link.__context__

    def read_value(
        self, value: Any, depth: int, embedded: int, reads_texts: bool = True
    ) -> None:
        """Read an object or a list.

        :param reads_texts: whether the texts of a list are messages.
        """
        if depth > MAX_DEPTH or self._values_left <= 0:
            return
        self._values_left -= 1
        if isinstance(value, Mapping):
            self._read_object(value, depth, embedded)
        elif isinstance(value, (list, tuple)):
            for item in value[:50]:
                if isinstance(item, str) and reads_texts:
                    self.read_text(item, depth + 1, embedded)
                elif not isinstance(item, str):
                    self.read_value(item, depth + 1, embedded, reads_texts)

    def _read_object(self, value: Mapping[Any, Any], depth: int, embedded: int) -> None:
        summary = _summary_of(value)
        for raw_key, item in list(value.items())[:200]:
            key = normalize_key(raw_key)
            if key in _SKIPPED_KEYS and not (isinstance(item, dict) and "error" in item):
                if key == "choices" and depth == 0:
                    self._read_choices(item, depth, embedded)
                continue
            if isinstance(item, (dict, list, tuple)):
                self.read_value(item, depth + 1, embedded, key in _MESSAGE_KEYS)
                continue
            if key in _STATUS_KEYS:
                self._read_status(item, depth)
            if isinstance(item, str):
                self._read_text_under(key, item, depth, embedded, summary)
            elif isinstance(item, (int, float)) and not isinstance(item, bool):
                self._fields.append((depth, (key, item)))

    def _read_choices(self, choices: Any, depth: int, embedded: int) -> None:
        """Read what a completion says about its end; its content is not an error."""
        for choice in choices[:5] if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                facts = {
                    name: choice[name]
                    for name in ("error", "finish_reason", "native_finish_reason")
                    if choice.get(name) is not None
                }
                self.read_value(facts, depth + 2, embedded)

    def _read_text_under(
        self, key: str, text: str, depth: int, embedded: int, summary: Optional[str]
    ) -> None:
        self._fields.append((depth, (key, text[:MAX_CHARS_READ])))
        if key in _NAME_KEYS and _NAME.match(text):
            self._names.append((depth, text))
        if key in _LABEL_KEYS and " " in text.strip():
            # xAI puts a sentence there, which says less than the error beside it.
            self.read_text(text, depth, embedded, rank=-1)
        elif key in _MESSAGE_KEYS:
            if summary is not None and key == "error":
                # {"error": "Unauthorized", "message": "Missing header"}: one sentence.
                self.read_text(summary, depth, embedded)
            elif summary is None or key not in ("message", "details"):
                self.read_text(text, depth, embedded)

    def _read_status(self, value: Any, depth: int) -> None:
        if isinstance(value, str) and re.match(r"^[45][0-9]{2}\Z", value.strip()):
            value = int(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 400 <= value < 600:
            self._statuses.append((depth, int(value)))

    def read_text(self, text: str, depth: int, embedded: int, rank: int = 0) -> None:
        """Read a message: its own words, and the JSON or repr that is embedded in it.

        :param rank: -1 for what comes after the other messages of its depth.
        """
        text = text[:MAX_CHARS_READ].strip().lstrip("\ufeff")
        if not text or text in ("null", "None", "[]", "{}"):
            return
        if _HTML.match(text):
            self._is_html = self._is_html or depth == 0
            text = _text_of_html(text)
        value, prefix, suffix = (None, text, "")
        if embedded < MAX_EMBEDDED:
            value, prefix, suffix = _embedded_value(text)
        if value is not None:
            self.read_value(value, depth + 1, embedded + 1)
        elif embedded < MAX_EMBEDDED and _looks_structured(text):
            self._read_pairs(text, depth + 1, embedded + 1)
        words = " ".join(part for part in (prefix.strip(" -:\n"), suffix.strip(" -:\n")) if part)
        self._read_words(words if value is not None else text, depth, rank)

    def _read_pairs(self, text: str, depth: int, embedded: int) -> None:
        """Read the pairs of an object that cannot be parsed, because it was truncated."""
        for index, match in enumerate(_PAIR.finditer(text)):
            if index > 100:
                return
            key = normalize_key(match.group("key"))
            if match.group("number"):
                number = int(match.group("number"))
                self._fields.append((depth, (key, number)))
                if key in _STATUS_KEYS:
                    self._read_status(number, depth)
                continue
            raw = match.group("double") or match.group("single") or ""
            content = raw.replace('\\"', '"').replace("\\'", "'").replace("\\n", "\n")
            if key in _STATUS_KEYS:
                self._read_status(content, depth)
            self._read_text_under(key, content, depth, embedded, None)

    def _read_words(self, words: str, depth: int, rank: int) -> None:
        if not words:
            return
        for match in _STATUS_IN_TEXT.finditer(words[:500]):
            self._read_status(next(group for group in match.groups() if group), depth)
        for match in _NAME_IN_TEXT.finditer(words[:2_000]):
            self._names.append((depth, match.group(1)))
        if re.search(r"[^\W\d_]", words):
            self._messages.append((2 * depth + rank, words))


def _innermost_first(items: list[tuple[int, Any]]) -> tuple[Any, ...]:
    ordered = [item for _, item in sorted(items, key=lambda pair: -pair[0])]
    return tuple(dict.fromkeys(ordered))


def _summary_of(value: Mapping[Any, Any]) -> Optional[str]:
    """Return "error: message" where an object has both as texts, else None."""
    error = value.get("error")
    details = value.get("message") or value.get("details")
    if isinstance(error, str) and isinstance(details, str) and error.strip() and details.strip():
        return details if error in details else "%s: %s" % (error, details)
    return None


def _text_of_html(text: str) -> str:
    # Its table of entities is large, and pages are rare.
    import html

    # Error pages repeat their title as a heading.
    titles = dict.fromkeys(
        " ".join(_TAG.sub(" ", match.group(2)).split()) for match in _TITLE.finditer(text)
    )
    words = html.unescape(" ".join(titles) if titles else _TAG.sub(" ", text))
    return " ".join(words.split())[:500]


def _looks_structured(text: str) -> bool:
    return re.search(r"[{\[]\s*\\?[\"'{]", text) is not None


def _embedded_value(text: str) -> tuple[Optional[Any], str, str]:
    """Return (value, prefix, suffix): the JSON or Python value in `text`, and what surrounds it.

    A JSON text that is itself a text is unwrapped. (None, text, "") if there is none.
    """
    for start in _starts(text):
        end = max(text.rfind("}"), text.rfind("]")) + 1
        candidate = text[start:end]
        value = _parse(candidate)
        if _has_object(value):
            return value, text[:start], text[end:]
    if text[:1] == '"':
        value = _parse(text)
        if isinstance(value, str) and value.strip():
            return [value], "", ""
    return None, text, ""


def _has_object(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, dict) and item for item in value)
    return isinstance(value, dict) and bool(value)


def _starts(text: str) -> Iterator[int]:
    """Yield the first places at which an object or a list may begin."""
    for index, match in enumerate(re.finditer(r"[{\[](?=\s*[\"'{\[])", text)):
        if index >= 3:
            return
        yield match.start()


def _parse(text: str) -> Optional[Any]:
    try:
        return bounded_json.loads(text)
    except ValueError:
        pass
    if "'" not in text:
        return None
    # An SDK prints the body of a response as Python prints a dict.
    import ast

    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return None if bounded_json.exceeds_depth(value) else value
