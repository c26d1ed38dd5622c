"""The messages that agent frameworks return as the output of an agent that ran into a limit.

They are constants of those frameworks. Only an output that consists of nothing else counts: an
answer may quote or explain such a message.
"""

from typing import Any

from synthralos.core.lazy_pattern import LazyPattern

_LIMIT = r"[`'(]?\d+[`')]?"
_MESSAGES = (
    r"agent stopped due to (?:an? )?(?:max(?:imum)? iterations?|max(?:imum)? (?:steps?|turns?)|"
    r"iteration limit|time limit|(?:iteration|time) (?:limit )?or (?:time|iteration) limit)",
    r"sorry, need more steps to process this request",
    r"recursion limit of %s reached without hitting a stop condition(?:\. you can increase the "
    r"limit by setting the `?recursion_limit`? config key)?"
    r"(?:\.? for troubleshooting, visit: \S+)?",
    r"(?:terminated: |agent )?reached (?:the )?max(?:imum)?(?: number of)? "
    r"(?:iterations|steps|turns)(?: %s)?",
    r"max(?:imum)?(?: number of)? (?:iterations|steps|turns)(?: (?:of )?%s)? "
    r"(?:reached|exceeded)(?:! either something went wrong, or you can increase the max iterations "
    r"with `\.run\(\.\., max_iterations=\.\.\.\)`(?: or use `early_stopping_method='generate'` to "
    r"generate a final response instead)?)?",
    r"max(?:imum)? number of messages %s reached, current message count: \d+",
    r"max(?:imum)? number of llm calls limit of %s exceeded",
    r"the next request would exceed the request_limit of %s",
)
# As an exception is printed, with the class and its module before the message.
_EXCEPTION = r"(?:[a-z_][\w.]*(?:error|exceeded|exception): )?"
_OUTPUT = LazyPattern(
    r"(?a)%s(?:%s)[.!]?" % (_EXCEPTION, "|".join(_MESSAGES).replace("%s", _LIMIT))
)
_MAX_CHARS = 500


def is_limit_message(output: Any) -> bool:
    """Return whether the whole output of an agent is such a message, in any case and spacing."""
    if not isinstance(output, str) or len(output) > _MAX_CHARS:
        return False
    return _OUTPUT.fullmatch(" ".join(output.lower().split())) is not None
