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

from synthralos import jsontext
from synthralos.refusals import Refused

FORMAT = "1"
GZIP, PLAIN = "gzip", "plain"
# StackStorm's documents end at 16 MB, and a call to the datastore at two seconds.
LARGEST_PACKED = 8 * 1024 * 1024
LARGEST_OPENED = 64 * 1024 * 1024
_WITH_GZIP_HEADER = 31


class Corrupt(ValueError):
    """Packed text that does not hold what was packed. The message says why."""


def canonical(field, value):
    """The canonical JSON of `value`. Refused, naming `field`, when it is no JSON value."""
    if jsontext.too_deep(value):
        way_out = "Keep it within %d levels, or store the depth as text" % jsontext.DEEPEST
        raise Refused(field, None, "is nested too deeply", way_out)
    try:
        return _dumps(value)
    except (ValueError, TypeError) as error:
        # NaN, infinities, integers beyond what Python writes (4300 digits), no JSON at all.
        raise Refused(
            field, None, "is no JSON (%s)" % error, "Give finite numbers, and the rest as text"
        ) from error


def checksum(text):
    """SHA-256, in hexadecimal, of canonical text."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def packed(field, content, compress=True):
    """The packed text of `content`, the same at every time. Refused when it is too large."""
    data = _dumps(content).encode("ascii")
    # Without a time of its own gzip would make different text of the same state.
    body = gzip.compress(data, 6, mtime=0) if compress else data
    how = GZIP if compress else PLAIN
    text = ".".join((FORMAT, how, hashlib.sha256(data).hexdigest(), _base64(body)))
    if len(text) > LARGEST_PACKED or len(data) > LARGEST_OPENED:
        why = "is too large: %d bytes packed, of %d" % (len(text), len(data))
        way_out = "At most %d bytes packed are kept; store less, or a reference" % LARGEST_PACKED
        raise Refused(field, None, why, way_out)
    return text


def unpacked(text, verify=True):
    """The content of packed text.

    :param verify: whether the checksum must hold; without it damage may pass unseen.
    :raises Corrupt: the text is not what `packed` made, or is of another format.
    """
    parts = text.split(".", 3)
    if len(parts) != 4 or parts[1] not in (GZIP, PLAIN):
        raise Corrupt("it is no packed state")
    version, how, digest, body = parts
    if version != FORMAT:
        raise Corrupt("its format is %s, and this version of the pack reads %s"
                      % (version[:12], FORMAT))
    data = _opened(how, body)
    if verify and hashlib.sha256(data).hexdigest() != digest:
        raise Corrupt("its checksum does not match")
    try:
        return json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise Corrupt("it holds no JSON") from error


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
        data = unpacker.decompress(data, LARGEST_OPENED)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise Corrupt("it cannot be unpacked") from error
    if not unpacker.eof or unpacker.unused_data:
        raise Corrupt("it is cut, or more was added")
    return data
