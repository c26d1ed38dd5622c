"""The content of turns, as Amazon Bedrock's Converse takes it."""

from typing import Any

from synthralos.calls.llm_wires.conversation import (
    Audio,
    Call,
    File,
    Image,
    Part,
    Result,
    Text,
    Turn,
)
from synthralos.calls.llm_wires.wire import CannotCarry
from synthralos.core.lazy_pattern import LazyPattern

NAME, REASONING = "bedrock", "reasoningContent"
_IMAGE_FORMATS = {
    "image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp",
}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_DOCUMENT_FORMATS = {
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    _OFFICE + "wordprocessingml.document": "docx",
    _OFFICE + "spreadsheetml.sheet": "xlsx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
# What names of documents may not contain, or not twice in a row.
_NOT_IN_NAMES = LazyPattern(r"[^A-Za-z0-9()\[\] -]+|(?<=\s)\s+")
_MAX_NAME = 200
# The API refuses a result without content.
_NO_OUTPUT = "(no output)"
_SEE_DOCUMENT = "See the document."


def blocks_of(turn: Turn) -> list[dict[str, Any]]:
    """Return the content of a turn.

    :raises CannotCarry: the API does not take a part of it.
    """
    calls = turn.calls
    thoughts = calls[0].thoughts(NAME) if calls else []
    blocks: list[dict[str, Any]] = [{REASONING: thought} for thought in thoughts]
    blocks += [_block(part, number) for number, part in enumerate(turn.parts)]
    if any("document" in block for block in blocks) and not any(
        "text" in block for block in blocks
    ):
        # The API takes no document without words.
        blocks.append({"text": _SEE_DOCUMENT})
    return blocks


def _block(part: Part, number: int) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Image):
        return _image(part)
    if isinstance(part, File):
        return _document(part, number)
    if isinstance(part, Audio):
        return {"audio": {"format": part.format, "source": {"bytes": part.data}}}
    if isinstance(part, Call):
        return {
            "toolUse": {"toolUseId": part.id, "name": part.name, "input": part.arguments}
        }
    return _result(part)


def _image(image: Image) -> dict[str, Any]:
    data = image.data
    if data is None:
        raise CannotCarry(image.path, "the API takes pictures as data only")
    if data.type not in _IMAGE_FORMATS:
        raise CannotCarry(image.path, "the API takes no pictures of type %s" % data.type)
    return {"image": {"format": _IMAGE_FORMATS[data.type], "source": {"bytes": data.data}}}


def _document(file: File, number: int) -> dict[str, Any]:
    if file.data is None:
        raise CannotCarry(file.path, "the file is stored at another provider")
    if file.data.type not in _DOCUMENT_FORMATS:
        raise CannotCarry(file.path, "the API takes no files of type %s" % file.data.type)
    name = _NOT_IN_NAMES.sub("-", file.filename or "")[:_MAX_NAME].strip()
    document = {
        "format": _DOCUMENT_FORMATS[file.data.type],
        "name": name or "document %d" % (number + 1),
        "source": {"bytes": file.data.data},
    }
    return {"document": document}


def _result(result: Result) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for part in result.parts:
        content.append({"text": part.text} if isinstance(part, Text) else _image(part))
    return {
        "toolResult": {"toolUseId": result.id, "content": content or [{"text": _NO_OUTPUT}]}
    }
