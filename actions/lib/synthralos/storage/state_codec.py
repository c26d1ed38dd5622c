"""States as the datastore keeps them: canonical JSON, packed into text that betrays any change.

Canonical means sorted keys, no spaces, ASCII only: equal states have equal text and so equal
checksums, and a lone surrogate or a NUL survives as an escape. Packed text is
`<format>.<gzip or plain>.<SHA-256 of the canonical text>.<base64>`.
"""

import base64
import binascii
import gzip
import hashlib
import json
import zlib

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput

FORMAT_VERSION = "1"
GZIP, PLAIN = "gzip", "plain"
# StackStorm's documents end at 16 MB, and a call to the datastore at two seconds.
MAX_ENCODED_BYTES = 8 * 1024 * 1024
MAX_DECODED_BYTES = 64 * 1024 * 1024
_WITH_GZIP_HEADER = 31


class CorruptState(ValueError):
    """Packed text that does not hold what was packed. The message says why."""


def canonical_json(field, value):
    """The canonical JSON of `value`. InvalidInput, naming `field`, when it is no JSON value."""
    if bounded_json.exceeds_depth(value):
        way_out = "Keep it within %d levels, or store the depth as text" % bounded_json.MAX_DEPTH
        raise InvalidInput(field, None, "is nested too deeply", way_out)
    try:
        return _dumps(value)
    except (ValueError, TypeError) as error:
        # NaN, infinities, integers beyond what Python writes (4300 digits), no JSON at all.
        raise InvalidInput(
            field, None, "is no JSON (%s)" % error, "Give finite numbers, and the rest as text"
        ) from error


def checksum(text):
    """SHA-256, in hexadecimal, of canonical text."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def encode_state(field, content, compress=True):
    """The packed text of `content`, the same at every time. InvalidInput when it is too large."""
    data = _dumps(content).encode("ascii")
    # Without a time of its own gzip would make different text of the same state.
    body = gzip.compress(data, 6, mtime=0) if compress else data
    how = GZIP if compress else PLAIN
    text = ".".join((FORMAT_VERSION, how, hashlib.sha256(data).hexdigest(), _base64(body)))
    if len(text) > MAX_ENCODED_BYTES or len(data) > MAX_DECODED_BYTES:
        why = "is too large: %d bytes packed, of %d" % (len(text), len(data))
        way_out = "At most %d bytes packed are kept; store less, or a reference" % MAX_ENCODED_BYTES
        raise InvalidInput(field, None, why, way_out)
    return text


def decode_state(text, verify=True):
    """The content of packed text.

    :param verify: whether the checksum must hold; without it damage may pass unseen.
    :raises Corrupt: the text is not what `encode_state` made, or is of another format.
    """
    parts = text.split(".", 3)
    if len(parts) != 4 or parts[1] not in (GZIP, PLAIN):
        raise CorruptState("it is no packed state")
    version, how, digest, body = parts
    if version != FORMAT_VERSION:
        raise CorruptState("its format is %s, and this version of the pack reads %s"
                      % (version[:12], FORMAT_VERSION))
    data = _opened(how, body)
    if verify and hashlib.sha256(data).hexdigest() != digest:
        raise CorruptState("its checksum does not match")
    try:
        return json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise CorruptState("it holds no JSON") from error


def _dumps(value):
    return json.dumps(
        value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")
    )


def _base64(data):
    return base64.b64encode(data).decode("ascii")


def _opened(how, body):
    try:
        data = base64.b64decode(body, validate=True)
        if how == PLAIN:
            return data
        unpacker = zlib.decompressobj(_WITH_GZIP_HEADER)
        data = unpacker.decompress(data, MAX_DECODED_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise CorruptState("it cannot be unpacked") from error
    if not unpacker.eof or unpacker.unused_data:
        raise CorruptState("it is cut, or more was added")
    return data
