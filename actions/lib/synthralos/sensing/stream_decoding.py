"""Decodes a stream as it arrives: what a server compresses unasked, and other charsets than UTF-8.

A sensor asks for plain UTF-8. A server or proxy that sends something else must not look like a
stream without events, so whatever cannot be read raises an error that says what it is.
"""

import codecs
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

# As many bytes decide which charset it is; an event is longer.
PROBE_BYTES = 4
MAX_CHUNK_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW, _ZLIB_WINDOW, _RAW_WINDOW = 31, 15, -15
_CHARSET = re.compile(r"(?i)charset=[\"']?([\w.:-]+)")
_GZIP, _DEFLATE, _PLAIN = ("gzip", "x-gzip"), ("deflate",), ("identity", "")


class UnreadableStream(Exception):
    """A stream is compressed or encoded in a way that nobody here can read."""


class StreamDecoder:
    """Bytes of a response in, bytes of UTF-8 out.

    :param headers: of the response, with names in lower case.
    :ivar charset: the declared one if its line ends are those of ASCII, else UTF-8: texts that are
        not valid UTF-8 are in it.
    :raises UnreadableStream: the response is compressed or encoded in a way that cannot be read.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.charset = "utf-8"
        declared = _CHARSET.search(headers.get("content-type", ""))
        self._wide_charset: Optional[str] = None
        if declared is not None:
            self._set_charset(declared.group(1))
        encodings = [
            name.strip().lower() for name in headers.get("content-encoding", "").split(",")
        ]
        unknown = [name for name in encodings if name not in _GZIP + _DEFLATE + _PLAIN]
        if unknown:
            raise _unreadable("it is compressed (%s)" % ", ".join(unknown[:3])[:40])
        self._inflaters: list[_Inflater] = [
            _Inflater(name in _GZIP) for name in reversed(encodings) if name not in _PLAIN
        ]
        self._start = b""
        self._decode: Optional[Callable[[bytes], bytes]] = None

    def _set_charset(self, name: str) -> None:
        try:
            charset = codecs.lookup(name).name
            is_ascii = "\r\n:da".encode(charset) == b"\r\n:da"
        except (LookupError, UnicodeError, TypeError, ValueError) as error:
            raise _unreadable("its charset is unknown (%s)" % name[:40]) from error
        if is_ascii:
            self.charset = charset
        elif not charset.startswith(("utf-16", "utf-32")):
            # These two show in the first bytes, whatever is declared.
            self._wide_charset = charset

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what these bytes contain, in chunks of a bounded size.

        :raises UnreadableStream: it is not what the headers say.
        """
        chunks: Iterable[bytes] = [data]
        for inflater in self._inflaters:
            chunks = inflater.inflate_all(chunks)
        for chunk in chunks:
            yield from self._decode_plain(chunk)

    def _decode_plain(self, chunk: bytes) -> Iterator[bytes]:
        if self._decode is None:
            self._start += chunk
            if len(self._start) < PROBE_BYTES:
                return
            chunk, self._start = self._start, b""
            if chunk.startswith(_GZIP_MAGIC):
                # A proxy has compressed it without saying so.
                inflater = _Inflater(is_gzip=True)
                self._inflaters.append(inflater)
                for inflated in inflater.inflate_all([chunk]):
                    yield from self._decode_plain(inflated)
                return
            self._decode = self._decoder_for(chunk)
        yield self._decode(chunk)

    def _decoder_for(self, start: bytes) -> Callable[[bytes], bytes]:
        """Return the function that turns bytes into those of UTF-8, by the first of them."""
        detected = json.detect_encoding(start[:PROBE_BYTES])
        charset = detected if not detected.startswith("utf-8") else self._wide_charset
        if charset is None:
            return bytes
        decoder: Any = codecs.getincrementaldecoder(charset)("replace")
        return lambda data: decoder.decode(data).encode("utf-8", "replace")


class _Inflater:
    """Decompresses a stream of gzip or deflate, as far as it is one."""

    def __init__(self, is_gzip: bool) -> None:
        self._is_gzip, self._is_plain, self._start = is_gzip, False, b""
        self._inflate: Any = None

    def inflate_all(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the decompressed bytes of `chunks`.

        :raises UnreadableStream: they are damaged.
        """
        for chunk in chunks:
            if self._inflate is None and not self._is_plain:
                self._start += chunk
                if len(self._start) < len(_GZIP_MAGIC):
                    continue
                chunk, self._start = self._start, b""
                self._begin(chunk)
            if self._is_plain:
                yield chunk
            else:
                yield from self._inflate_chunk(chunk)

    def _begin(self, start: bytes) -> None:
        is_zlib = start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
        if self._is_gzip and not start.startswith(_GZIP_MAGIC):
            # A proxy has decompressed it, and left the header.
            self._is_plain = True
        elif self._is_gzip:
            self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        else:
            self._inflate = zlib.decompressobj(_ZLIB_WINDOW if is_zlib else _RAW_WINDOW)

    def _inflate_chunk(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            try:
                inflated = self._inflate.decompress(chunk, MAX_CHUNK_BYTES)
            except zlib.error as error:
                raise _unreadable("it could not be decompressed") from error
            if inflated:
                yield inflated
            chunk = self._inflate.unconsumed_tail
            if self._inflate.eof:
                # Each flush may be a stream of its own.
                chunk = self._inflate.unused_data
                if not chunk:
                    self._inflate = None
                    return
                self._begin(chunk)


def _unreadable(reason: str) -> UnreadableStream:
    return UnreadableStream("the stream cannot be read: %s" % reason)
