"""The documents that this pack was written from, and which test runs which of their code blocks.

    BLOCK = block("003", 58)

    @covers("003", 58)
    def test_basic_usage():
        exec(compile(BLOCK.text, BLOCK.id, "exec"), {...})

`test_coverage.py` fails for a block that no test covers. A block is named by its document and the
line of its opening fence, counted from 1.
"""
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

FOLDER = pathlib.Path(__file__).resolve().parent / "documents"
DOCUMENTS = ("000", "001", "002", "003", "004")
# (document, line): the names of the tests that run the block.
COVERED: dict[tuple[str, int], list[str]] = {}
_FENCE = re.compile(r"```(\w*)\s*\Z")
_HEADING = re.compile(r"#+ (.*\S)\s*\Z")
_Test = TypeVar("_Test", bound=Callable[..., object])


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :ivar document: such as "003".
    :ivar line: of the opening fence, from 1.
    :ivar language: as the fence names it, or "".
    :ivar text: the lines between the fences.
    :ivar heading: the last heading above it.
    """

    document: str
    line: int
    language: str
    text: str
    heading: str = ""

    @property
    def id(self) -> str:
        return ("%s:%d %s" % (self.document, self.line, self.heading)).strip()


def text_of(document: str) -> str:
    """The whole document, such as "003"."""
    return (FOLDER / (document + ".md")).read_text(encoding="utf-8")


def code_blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, in order. ValueError for a fence that is never closed."""
    blocks, heading, opened = [], "", None
    lines = text_of(document).split("\n")
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if opened is not None and fence and not fence.group(1):
            start, language = opened
            text = "\n".join(lines[start:number - 1]) + "\n"
            blocks.append(Block(document, start, language, text, heading))
            opened = None
        elif opened is None and fence:
            opened = (number, fence.group(1))
        elif opened is None and _HEADING.match(line):
            heading = line.lstrip("#").strip()
    if opened is not None:
        raise ValueError("%s: the fence of line %d is never closed" % (document, opened[0]))
    return blocks


def block(document: str, line: int) -> Block:
    """The block whose opening fence stands in that line. ValueError when none does."""
    blocks = code_blocks(document)
    for candidate in blocks:
        if candidate.line == line:
            return candidate
    lines = ", ".join(str(candidate.line) for candidate in blocks)
    raise ValueError("%s has no block at line %d; it has some at %s" % (document, line, lines))


def covers(document: str, *lines: int) -> Callable[[_Test], _Test]:
    """Decorates a test: it runs the blocks of the document at these lines.

    ValueError when there is no such block, or what is decorated is no test.
    """
    for line in lines:
        block(document, line)

    def register(test: _Test) -> _Test:
        if not test.__name__.startswith("test_"):
            raise ValueError("%s is no test: pytest would not run it" % test.__name__)
        for line in lines:
            name = "%s.%s" % (test.__module__, test.__name__)
            COVERED.setdefault((document, line), []).append(name)
        return test

    return register
