"""Regular expressions that are compiled at their first use.

Compiling the expressions that read failures takes longer than most actions need for their work, and
most actions never meet a failure.
"""

import re
from collections.abc import Iterator
from re import Match, Pattern
from typing import Any, Callable, Optional, Union


class LazyPattern:
    """The methods of a compiled expression.

    :param pattern: with its flags inside, as in `(?i)`.
    """

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._pattern: Optional[Pattern[str]] = None

    def _compiled(self) -> Pattern[str]:
        if self._pattern is None:
            self._pattern = re.compile(self._text)
        return self._pattern

    def match(self, text: str, start: int = 0) -> Optional[Match[str]]:
        return self._compiled().match(text, start)

    def search(self, text: str, start: int = 0) -> Optional[Match[str]]:
        return self._compiled().search(text, start)

    def fullmatch(self, text: str) -> Optional[Match[str]]:
        return self._compiled().fullmatch(text)

    def finditer(self, text: str, start: int = 0) -> Iterator[Match[str]]:
        return self._compiled().finditer(text, start)

    def findall(self, text: str) -> list[Any]:
        return self._compiled().findall(text)

    def sub(
        self, replacement: Union[str, Callable[[Match[str]], str]], text: str, count: int = 0
    ) -> str:
        return self._compiled().sub(replacement, text, count)
