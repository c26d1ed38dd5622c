"""Runs the TypeScript of the documents: awaited calls of literals, as it stands there.

    Script(block.text).run(call, names)

is all that they use: `const x = await f({...});`, `await a.b.f({...});`, `console.log(x.y);`, a
literal alone, and comments. Anything else raises SyntaxError, so that no line is passed over.
"""
import re
from collections.abc import Callable, Mapping
from typing import Any, Optional

_TOKEN = re.compile(
    r"(?P<space>\s+|//[^\n]*)|(?P<string>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`)"
    r"|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_$][\w$]*)|(?P<mark>[{}\[\]():,;.=])"
)
_WORDS = {"true": True, "false": False, "null": None}
_ESCAPES = {"n": "\n", "t": "\t"}
Call = Callable[[str, dict[str, Any]], Any]


class Script:
    """:param text: the block."""

    def __init__(self, text: str):
        self._tokens = _tokens(text)
        self._at = 0
        self._call: Optional[Call] = None
        self._names: dict[str, Any] = {}

    def run(self, call: Optional[Call] = None, names: Optional[Mapping[str, Any]] = None) -> Any:
        """Runs it and returns the literal that it is, or what `console.log` printed, as a list.

        :param call: (dotted name, argument) -> result; it is given {} where there is no argument.
        :param names: what stands for a text that the document leaves open: {"clf...": an id}.
        """
        self._at, self._call, self._texts = 0, call, dict(names or {})
        self._names, printed = {}, []
        if self._is("{"):
            literal = self._value()
            self._end()
            return literal
        while self._at < len(self._tokens):
            if self._is("const"):
                self._next("const")
                name = self._word()
                self._next("=")
                self._names[name] = self._value()
            elif self._is("console"):
                for part in ("console", ".", "log", "("):
                    self._next(part)
                printed.append(self._value())
                self._next(")")
            else:
                self._value()
            self._next(";")
        return printed

    def _value(self) -> Any:
        kind, text = self._tokens[self._at]
        if text == "await":
            return self._awaited()
        if text == "{":
            return self._object()
        if text == "[":
            return self._items("[", "]", self._value)
        if kind == "string":
            self._at += 1
            plain = _unquoted(text)
            return self._texts.get(plain, plain)
        if kind == "number":
            self._at += 1
            return float(text) if "." in text else int(text)
        if text in _WORDS:
            self._at += 1
            return _WORDS[text]
        return self._member()

    def _member(self) -> Any:
        """`x` or `x.y`: of what is not there, KeyError, where JavaScript would give undefined."""
        value = self._names[self._word()]
        while self._is("."):
            self._next(".")
            value = value[self._word()]
        return value

    def _awaited(self) -> Any:
        self._next("await")
        name = self._word()
        while self._is("."):
            self._next(".")
            name += "." + self._word()
        self._next("(")
        argument = {} if self._is(")") else self._value()
        self._next(")")
        if self._call is None:
            raise SyntaxError("nobody takes the call of %s" % name)
        return self._call(name, argument)

    def _object(self) -> dict[str, Any]:
        return dict(self._items("{", "}", self._entry))

    def _entry(self) -> tuple[str, Any]:
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind not in ("word", "string"):
            raise SyntaxError("%r is no key" % text)
        self._next(":")
        return text if kind == "word" else _unquoted(text), self._value()

    def _items(self, opening: str, closing: str, item: Callable[[], Any]) -> list[Any]:
        self._next(opening)
        items = []
        while not self._is(closing):
            items.append(item())
            if not self._is(closing):
                self._next(",")
        self._next(closing)
        return items

    def _is(self, text: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at][1] == text

    def _next(self, text: str) -> None:
        if not self._is(text):
            raise SyntaxError("%r is expected, not %r" % (text, self._tokens[self._at:][:3]))
        self._at += 1

    def _word(self) -> str:
        kind, text = self._tokens[self._at]
        if kind != "word":
            raise SyntaxError("%r is no name" % text)
        self._at += 1
        return text

    def _end(self) -> None:
        if self._at < len(self._tokens):
            raise SyntaxError("%r follows the literal" % self._tokens[self._at][1])


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SyntaxError("%r is not understood" % text[at:at + 20])
        at = match.end()
        if match.lastgroup and match.lastgroup != "space":
            tokens.append((match.lastgroup, match.group()))
    return tokens


def _unquoted(text: str) -> str:
    body = text[1:-1]
    if text[0] == "`" and "${" in body:
        raise SyntaxError("%r is no plain text" % text)
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(1)), body)
