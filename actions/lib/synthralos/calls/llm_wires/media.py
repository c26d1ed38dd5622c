"""Pictures, files and audio as data: URLs."""

import base64
import binascii
from typing import Any, NamedTuple, Optional

from synthralos.core.errors import InvalidInput
from synthralos.core.lazy_pattern import LazyPattern

_DATA_URL = LazyPattern(
    r"(?i)data:([a-z0-9.+-]+/[a-z0-9.+-]+)(?:;[a-z-]+=[^;,]*)*;base64,"
)
_ADDRESS = LazyPattern(r"(?i)https?://[^\s/?#]+[^\s]*\Z")
_SAME_TYPES = {"image/jpg": "image/jpeg", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}


class Media(NamedTuple):
    """The content of a data: URL.

    :ivar type: its media type, in lower case and without parameters.
    :ivar data: in base64.
    """

    type: str
    data: str

    @property
    def text(self) -> Optional[str]:
        """The content as text, or None if it is none."""
        if not self.type.startswith("text/") and self.type != "application/json":
            return None
        try:
            return base64.b64decode(self.data).decode("utf-8")
        except ValueError:
            return None


def parse_data_url(url: str) -> Optional[Media]:
    """Return the content of a data: URL in base64, or None if `url` is anything else."""
    match = _DATA_URL.match(url)
    if match is None:
        return None
    media_type = match.group(1).lower()
    return Media(_SAME_TYPES.get(media_type, media_type), url[match.end():])


def require_data_url(url: str, path: str) -> Media:
    """Return the content of a data: URL.

    :raises InvalidInput: it is not one, or not base64.
    """
    content = parse_data_url(url)
    if content is None:
        raise InvalidInput(
            path, url, "is not a data: URL in base64", "Write data:<media type>;base64,<data>"
        )
    require_base64(content.data, path)
    return content


def require_base64(data: str, path: str) -> None:
    """Raise InvalidInput unless `data` is base64, and not empty."""
    try:
        is_valid = bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        is_valid = False
    if not is_valid:
        raise InvalidInput(
            path, data, "is not base64", "Encode the bytes in base64, with padding, on one line"
        )


def normalize_image_url(url: Any, path: str) -> str:
    """Return the URL of a picture: data:, with a usual media type, http: or https:.

    :raises InvalidInput: it is none of these.
    """
    if isinstance(url, str) and _ADDRESS.match(url):
        return url
    if isinstance(url, str) and url[:5].lower() == "data:":
        picture = require_data_url(url, path)
        if picture.type.startswith("image/"):
            return "data:%s;base64,%s" % picture
    raise InvalidInput(
        path, url, "is not the address of a picture",
        "Give an http(s) address, or data:image/png;base64,...",
    )


def filename_of(url: str) -> str:
    """Return a name for the file in a data: URL, such as `file.pdf`."""
    content = parse_data_url(url)
    extension = content.type.partition("/")[2] if content is not None else ""
    return "file.%s" % ({"plain": "txt"}.get(extension, extension) or "bin")
