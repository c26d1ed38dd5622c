"""An LLM provider on loopback, fast enough not to affect the figures (0.2 ms a call).

A process of its own: `python -m benchmarks.server` prints its base URL and serves until its
standard input ends. It speaks OpenAI's wire format. The first part of the path says how it answers:
`/healthy/...` 200, `/limited/...` 429, `/limited-30/...` 429 with `Retry-After: 30`.
"""
import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys

DEV = pathlib.Path(__file__).resolve().parent.parent

ANSWER = "hello"
HEALTHY, LIMITED, LIMITED_30 = "/healthy/v1", "/limited/v1", "/limited-30/v1"
CHAT = "/chat/completions"


def _answer(status, reason, body, headers=""):
    text = json.dumps(body).encode()
    head = "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
    return (head % (status, reason, len(text), headers)).encode() + text


_GOOD = _answer(200, "OK", {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "bench",
    "choices": [{
        "index": 0,
        "message": {"role": "assistant", "content": ANSWER},
        "finish_reason": "stop",
    }],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
})
_ERROR = {
    "error": {
        "message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded",
        "param": None,
    }
}
_ANSWERS = {
    b"healthy": _GOOD,
    b"limited": _answer(429, "Too Many Requests", _ERROR),
    b"limited-30": _answer(429, "Too Many Requests", _ERROR, "Retry-After: 30\r\n"),
}


class _Connection(asyncio.Protocol):
    """Keeps the connection; asyncio itself switches Nagle's algorithm off."""

    def connection_made(self, transport):
        self._transport, self._received = transport, b""

    def data_received(self, data):
        self._received += data
        while True:
            head, separator, rest = self._received.partition(b"\r\n\r\n")
            length = _length(head)
            if not separator or len(rest) < length:
                return
            self._received = rest[length:]
            kind = head.split(b" ", 2)[1].split(b"/", 2)[1]
            self._transport.write(_ANSWERS[kind])


def _length(head):
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def _serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    print("http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def running():
    """Yield the base URL of a server that runs until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, PYTHONPATH=str(DEV)),
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


if __name__ == "__main__":
    asyncio.run(_serve())
