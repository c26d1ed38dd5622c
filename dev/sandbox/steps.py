"""The steps of a script: what the sandbox does with one call.

A step has a name that means the same for every wire (`rate_limit`, `context_length`); the called
wire adds the status and body that such a service really sends. Instead of a step, a script may
contain a function that takes the recorded call and returns a step, or None for `ok()`.
"""
from dataclasses import dataclass, field

# Steps that answer without an error, whatever the answer contains.
GOOD = ("ok", "blank", "invalid", "no_finish_reason")
HINTS = ("seconds", "ms", "date", "body")


@dataclass(frozen=True)
class Step:
    """One step: the constructor's name, and its arguments where they differ from the default."""

    name: str
    fields: dict = field(default_factory=dict)

    def get(self, name, default=None):
        return self.fields.get(name, default)


def ok(text=None, body=None, finish_reason=None, headers=None):
    """A good answer.

    :param text: what the model, agent or upstream says, sent verbatim; default: an echo. A platform
        also takes an object here, as the agent's output.
    :param body: the whole body instead: an object is sent as JSON, str and bytes as they are.
    :param finish_reason: in OpenAI's words (`stop`, `length`, `content_filter`); Anthropic's wire
        translates them.
    """
    return _step("ok", text=text, body=body, finish_reason=finish_reason, headers=headers)


def down(nodes=(), label="instance"):
    """A Prometheus that has a sample for each of these nodes; elsewhere a good answer.

    :param nodes: a list of names; label: of the sample, that holds a name.
    """
    if isinstance(nodes, str):
        raise ValueError(f"nodes must be a list (got {nodes!r})")
    return Step("ok", {"down": list(nodes), "label": label})


def blank():
    """A good answer with empty text."""
    return Step("blank", {"text": ""})


def invalid(output="This is not what was asked for."):
    """A good answer that holds `output`, which no expected schema matches."""
    return Step("invalid", {"text": output})


def no_finish_reason():
    """An answer that never says it is finished: no finish reason; a run still running."""
    return Step("no_finish_reason")


def status(code, headers=None, body=None, error=None):
    """An answer with the HTTP status `code`.

    :param body: the whole body, as for `ok`; default: the wire's own form of an error.
    :param error: the message in it; default: the status' usual phrase.
    """
    if not isinstance(code, int) or not 200 <= code <= 599:
        raise ValueError(f"code must be between 200 and 599 (got {code!r})")
    return _step("status", code=code, headers=headers, body=body, error=error)


def rate_limit(retry_after=30, hint="seconds"):
    """429, too many requests.

    :param retry_after: seconds until the next call is welcome, any text to be sent as it is in
        `Retry-After`, or None for no hint.
    :param hint: where it is sent: `seconds` or `date` in `Retry-After`, `ms` in `retry-after-ms`,
        `body` as `retryDelay` in the error.
    """
    return _hinted("rate_limit", retry_after, hint)


def overloaded(retry_after=None, hint="seconds"):
    """No capacity left: 529 at Anthropic, 503 elsewhere. Hints as in `rate_limit`."""
    return _hinted("overloaded", retry_after, hint)


def quota():
    """The account's quota is used up; waiting does not help."""
    return Step("quota")


def unauthorized():
    """401: the token or key is not, or no longer, valid."""
    return Step("unauthorized")


def model_not_found():
    """404: no such model."""
    return Step("model_not_found")


def context_length():
    """The prompt is longer than the model's context window."""
    return Step("context_length")


def content_policy():
    """The request was refused by a content filter."""
    return Step("content_policy")


def agent_failed(error="The agent gave up after 3 attempts", status=200):
    """The agent failed, though the platform works: `status` "failed" in a 200, or in a 500."""
    if status not in (200, 500):
        raise ValueError(f"status must be 200 or 500 (got {status!r})")
    return Step("agent_failed", {"error": error, "status": status})


def delay(seconds, then=None):
    """Silence for `seconds`, then the step `then`; default: `ok()`."""
    if not isinstance(seconds, (int, float)) or seconds < 0:
        raise ValueError(f"seconds must be 0 or more (got {seconds!r})")
    return Step("delay", {"seconds": seconds, "then": checked(then or ok())})


def cut(then=None):
    """Half the body of the step `then` under the full Content-Length; default: `ok()`."""
    return Step("cut", {"then": checked(then or ok())})


def reset():
    """The connection is reset; nothing is answered."""
    return Step("reset")


def malformed():
    """200, with JSON that ends in the middle and a matching Content-Length."""
    return Step("malformed")


def checked(item):
    """Return `item` if it is a step or a function that returns one.

    :raises TypeError: for anything else.
    """
    if any(item is constructor for constructor in CONSTRUCTORS.values()):
        raise TypeError(f"use {item.__name__}(), not {item.__name__}")
    if isinstance(item, Step) or callable(item):
        return item
    raise TypeError(f"{item!r} is not a step: use the constructors of sandbox.steps")


def resolved(item, call):
    """Return the step that `item` yields for `call`."""
    while not isinstance(item, Step):
        item = ok() if item is None else checked(item)(call)
    return item


def _step(name, **fields):
    return Step(name, {key: value for key, value in fields.items() if value is not None})


def _hinted(name, retry_after, hint):
    if hint not in HINTS:
        raise ValueError(f"hint must be one of {', '.join(HINTS)} (got {hint!r})")
    if retry_after is None:
        return Step(name)
    return Step(name, {"retry_after": retry_after, "hint": hint})


CONSTRUCTORS = {
    constructor.__name__: constructor
    for constructor in (
        ok, down, blank, invalid, no_finish_reason, status, rate_limit, overloaded, quota,
        unauthorized, model_not_found, context_length, content_policy, agent_failed, delay, cut,
        reset, malformed,
    )
}
