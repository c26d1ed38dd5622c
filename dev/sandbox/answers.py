"""Answers (status, headers, body), and exchanges, which say how a call is answered."""
import http.client
import json
from dataclasses import dataclass, field
from typing import Callable, Optional

from sandbox import hints


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `Content-Length` is added when it is sent."""

    status: int
    body: bytes = b""
    headers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Exchange:
    """A call as the wire that it reached understands it.

    :ivar target: what scripts and the record call it.
    :ivar render: step -> Answer, for every step that is an answer.
    :ivar refusal: the answer to an invalid request; it consumes no step.
    :ivar scripted: whether scripts apply to it.
    """

    target: str
    render: Callable
    refusal: Optional[Answer] = None
    scripted: bool = True


def answer(status, body, headers=None):
    """Build an Answer; str and bytes are sent as they are, anything else as JSON.

    JSON is written in ASCII, so that lone surrogates and the like arrive unchanged.
    """
    if isinstance(body, bytes):
        kind, data = "application/octet-stream", body
    elif isinstance(body, str):
        kind, data = "text/plain; charset=utf-8", body.encode("utf-8", "surrogatepass")
    else:
        kind, data = "application/json", json.dumps(body).encode("ascii")
    all_headers = {"Content-Type": kind}
    for name, value in (headers or {}).items():
        if name.lower() == "content-type":
            del all_headers["Content-Type"]
        all_headers[name] = value
    return Answer(status, data, all_headers)


def rendered(step, good, bad, refuse):
    """Return the Answer to `step` in the format of a wire.

    :param good: step -> body of a good answer.
    :param bad: (status, message) -> body of an error of which only the status is known.
    :param refuse: step -> (status, body) for the refusals that have a constructor of their own.
    """
    code = step.get("code", 200)
    if step.name == "status" and "body" not in step.fields and (code >= 400 or step.get("error")):
        message = step.get("error") or http.client.responses.get(code, "Error")
        return answer(code, bad(code, message), step.get("headers"))
    if step.name in ("ok", "blank", "invalid", "no_finish_reason", "status"):
        body = step.fields["body"] if "body" in step.fields else good(step)
        return answer(code, body, step.get("headers"))
    code, body = refuse(step)
    return answer(code, body, hints.headers(step))


def tokens(text):
    """Return the number of tokens of `text`: one for four characters, rounded up."""
    return -(-len(text) // 4)


def as_text(value):
    """Return text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def prompt_of(messages):
    """Return the text of the last user message, its text parts joined."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return content_text(message.get("content"))
    return ""


def content_text(content):
    """Return the text of a message's content, a string or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
