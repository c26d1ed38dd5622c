"""The stored form of states: canonical JSON, encoded as text whose checksum reveals any change.

Canonical means sorted keys, no spaces, ASCII only: equal states have equal text and so equal
checksums, and a lone surrogate or a NUL survives as an escape. The encoded text is
`<format>.<gzip or plain>.<SHA-256 of the canonical text>.<base64>`.
"""

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from typing import Any

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput

FORMAT_VERSION = "1"
GZIP, PLAIN = "gzip", "plain"
# StackStorm's documents are limited to 16 MB, and a call to the datastore to two seconds.
MAX_ENCODED_BYTES = 8 * 1024 * 1024
MAX_DECODED_BYTES = 64 * 1024 * 1024
_WITH_GZIP_HEADER = 31


class CorruptState(ValueError):
    """Encoded text that does not contain the state it was made from. The message says why."""


def canonical_json(field: str, value: Any) -> str:
    """Return the canonical JSON of `value`.

    :raises InvalidInput: it is not a JSON value, or nested too deeply; the error names `field`.
    """
    if bounded_json.exceeds_depth(value):
        hint = "Use at most %d levels, or store deeper ones as text" % bounded_json.MAX_DEPTH
        raise InvalidInput(field, None, "is nested too deeply", hint)
    try:
        return _dumps(value)
    except (ValueError, TypeError) as error:
        # NaN, infinities, integers of more digits than Python writes (4300), other types.
        raise InvalidInput(
            field, None, "is not JSON (%s)" % error, "Use finite numbers, and text for the rest"
        ) from error


def checksum(text: str) -> str:
    """Return the SHA-256, in hexadecimal, of canonical text."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def encode_state(field: str, content: Any, compress: bool = True) -> str:
    """Return the encoded text of `content`; equal content has equal text.

    :raises InvalidInput: it is too large; the error names `field`.
    """
    data = _dumps(content).encode("ascii")
    # With the current time gzip would produce different text for the same state.
    body = gzip.compress(data, 6, mtime=0) if compress else data
    method = GZIP if compress else PLAIN
    text = ".".join((FORMAT_VERSION, method, hashlib.sha256(data).hexdigest(), _base64(body)))
    if len(text) > MAX_ENCODED_BYTES or len(data) > MAX_DECODED_BYTES:
        reason = "is too large: %d bytes, %d encoded" % (len(data), len(text))
        hint = "At most %d encoded bytes are stored; store less, or a reference" % MAX_ENCODED_BYTES
        raise InvalidInput(field, None, reason, hint)
    return text


def decode_state(text: str, verify: bool = True) -> Any:
    """Return the content of encoded text.

    :param verify: whether the checksum must match; otherwise damage may go unnoticed.
    :raises CorruptState: the text is not what `encode_state` returned, or has another format.
    """
    parts = text.split(".", 3)
    if len(parts) != 4 or parts[1] not in (GZIP, PLAIN):
        raise CorruptState("it is not an encoded state")
    version, method, digest, body = parts
    if version != FORMAT_VERSION:
        raise CorruptState(
            "its format is %s, but this version of the pack reads %s"
            % (version[:12], FORMAT_VERSION)
        )
    data = _decompress(method, body)
    if verify and hashlib.sha256(data).hexdigest() != digest:
        raise CorruptState("its checksum does not match")
    try:
        return json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise CorruptState("it does not contain JSON") from error


def _dumps(value: Any) -> str:
    return json.dumps(
        value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decompress(method: str, body: str) -> bytes:
    try:
        data = base64.b64decode(body, validate=True)
        if method == PLAIN:
            return data
        decompressor = zlib.decompressobj(_WITH_GZIP_HEADER)
        data = decompressor.decompress(data, MAX_DECODED_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise CorruptState("it cannot be decompressed") from error
    if not decompressor.eof or decompressor.unused_data:
        raise CorruptState("it is truncated, or has trailing data")
    return data
