"""The parts of a message's content, as OpenAI has them: texts, pictures, files and audio."""

from collections.abc import Iterable
from typing import Any, Callable

from synthralos.calls.llm_wires import media
from synthralos.core.errors import InvalidInput

_DETAILS = ("auto", "low", "high", "original")
_AUDIO_FORMATS = ("wav", "mp3")


def read_part(raw: Any, allowed: tuple[str, ...], path: str) -> dict[str, Any]:
    """Return a part of a content, {type, <type>: ...}.

    :param allowed: the types that the message may have.
    :raises InvalidInput: it is not valid; names the field.
    """
    kind = raw.get("type") if isinstance(raw, dict) else None
    if kind not in allowed:
        raise InvalidInput(
            path + ".type", kind, "is not a part of this message", "Use " + " or ".join(allowed)
        )
    for name in raw:
        if name not in ("type", kind):
            raise InvalidInput(
                "%s.%s" % (path, name), raw[name], "is not a field of a part of type %s" % kind,
                "Its fields are type and %s" % kind,
            )
    value = _READERS[kind](raw.get(kind), "%s.%s" % (path, kind))
    return {"type": kind, kind: value}


def require_text(value: Any, path: str) -> str:
    """Return `value` if it is text.

    :raises InvalidInput: it is not.
    """
    if not isinstance(value, str):
        reason = "is missing" if value is None else "must be text"
        raise InvalidInput(path, value, reason, "Give it as text")
    return value


def _image(value: Any, path: str) -> dict[str, Any]:
    image = {"url": value} if isinstance(value, str) else _object(value, ("url", "detail"), path)
    url = media.normalize_image_url(image.get("url"), path + ".url")
    if image.get("detail") is None:
        return {"url": url}
    return {"url": url, "detail": _one_of(image["detail"], _DETAILS, path + ".detail")}


def _file(value: Any, path: str) -> dict[str, Any]:
    file = _object(value, ("file_data", "file_id", "filename"), path)
    fields = {
        name: require_text(content, "%s.%s" % (path, name))
        for name, content in file.items() if content is not None
    }
    if ("file_data" in fields) == ("file_id" in fields):
        raise InvalidInput(
            path, sorted(fields), "must have file_data or file_id, and not both",
            "Give the file as file_data: data:application/pdf;base64,...",
        )
    if "file_data" in fields:
        media.require_data_url(fields["file_data"], path + ".file_data")
    return fields


def _audio(value: Any, path: str) -> dict[str, Any]:
    audio = _object(value, ("data", "format"), path)
    data = require_text(audio.get("data"), path + ".data")
    media.require_base64(data, path + ".data")
    return {"data": data, "format": _one_of(audio.get("format"), _AUDIO_FORMATS, path + ".format")}


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "text": require_text,
    "refusal": require_text,
    "image_url": _image,
    "file": _file,
    "input_audio": _audio,
}


def _object(value: Any, names: Iterable[str], path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(path, value, "is not an object", "Its fields are " + ", ".join(names))
    for name in value:
        if name not in names:
            raise InvalidInput(
                "%s.%s" % (path, name), value[name], "is not a known field",
                "The fields are " + ", ".join(names),
            )
    return value


def _one_of(value: Any, allowed: tuple[str, ...], path: str) -> str:
    if value not in allowed:
        raise InvalidInput(path, value, "is not valid", "Use one of " + ", ".join(allowed))
    return str(value)
