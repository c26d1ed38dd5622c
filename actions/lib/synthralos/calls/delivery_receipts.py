"""Whether a receiver has accepted what was posted to it, where its HTTP status says so.

Webhooks answer 200 to what they did not deliver: with `{"ok": false}`, with a word such as
`no_team`, with a page to log in at. What says nothing of a failure counts as accepted.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Optional

from synthralos.calls.http import Response
from synthralos.core import bounded_json, failures
from synthralos.core.failures import Failure, make_failure

# More of a response is not read: receipts are short.
MAX_CHARS = 20_000
_PAGE = re.compile(r"(?i)\s*(?:<!doctype html|<html|<head|<body|<\?xml[^>]*>\s*<!doctype html)")
_FLAGS = ("ok", "success", "succeeded", "accepted", "delivered")
_ERRORS = ("error", "errors", "error_message", "errorMessage")
_STATES = ("status", "result", "state", "outcome")
_CODES = ("errcode", "error_code", "errorCode")
_MESSAGES = ("msg", "message", "errmsg", "error_msg")
# How the words of a failure begin.
_FAILED = re.compile(
    r"(?i)\s*(?:err|fail|invalid|reject|refus|den(?:y|ied)|unauth|forbid|throttl|not[ _]|no_|"
    r"missing|malformed|unknown|expired|disabled|inactive|unsupported|too[ _]|bad[ _]|rate)"
)
_FAILED_ANYWHERE = re.compile(
    r"(?i)\b(?:(?<!no )(?<!0 )(?<!without )errors?|fail(?:ed|ure)|invalid|rejected|refused|denied|"
    r"unauthori[sz]ed|forbidden|not (?:delivered|accepted|found|sent)|could not|cannot)\b"
)


def refusal_of(
    response: Response, accepted_texts: Optional[Collection[str]] = None
) -> Optional[Failure]:
    """Return why a receiver did not accept a post that it answered with a status of success.

    :param accepted_texts: if the response is plain text, all that means success, in lower case;
        None if only texts that speak of a failure mean one.
    :returns: None if it accepted it. The message of the failure may contain any text.
    """
    text = response.text[:MAX_CHARS].strip("\ufeff \t\r\n")
    if not text:
        return None
    if _PAGE.match(text):
        message = "a web page answered, such as one to log in at"
        return make_failure("wrong_address", message, response.status)
    try:
        body = bounded_json.loads(text)
    except ValueError:
        body = text
    if isinstance(body, str):
        return _refusal_in_text(body, accepted_texts)
    entries = body if isinstance(body, list) else [body]
    refused = [entry for entry in entries if isinstance(entry, dict) and _is_refusal(entry)]
    return _failure_of(refused[0]) if refused else None


def _refusal_in_text(
    text: str, accepted_texts: Optional[Collection[str]]
) -> Optional[Failure]:
    if accepted_texts is not None:
        is_refusal = text.strip().lower() not in accepted_texts
    else:
        is_refusal = bool(_FAILED.match(text) or _FAILED_ANYWHERE.search(text))
    return _failure_of(text) if is_refusal else None


def _is_refusal(body: Mapping[str, Any]) -> bool:
    """Return whether the outermost names of an object say that it was not accepted.

    Deeper ones may be an echo of what was posted.
    """
    if any(_is_false(body.get(name)) for name in _FLAGS) or any(map(body.get, _ERRORS)):
        return True
    for name in _STATES:
        value = body.get(name)
        code = _number(value)
        if (isinstance(value, str) and _FAILED.match(value)) or (code is not None and code >= 400):
            return True
    if any(_number(body.get(name)) not in (None, 0) for name in _CODES):
        return True
    code = _number(body.get("code"))
    has_message = any(body.get(name) for name in _MESSAGES)
    return code is not None and has_message and code not in (0, 1) and not 200 <= code < 300


def _is_false(value: Any) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


def _number(value: Any) -> Optional[int]:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    is_digits = isinstance(value, str) and re.match(r"-?[0-9]{1,9}\Z", value.strip())
    return int(value) if is_digits else None


def _failure_of(value: Any) -> Failure:
    """Return the failure that a refusal describes; a request that is wrong if it says nothing."""
    cause = failures.cause_of(value)
    if cause is None and isinstance(value, str):
        cause = failures.from_text(value).cause
    return make_failure("bad_request" if cause is None or cause == "unknown" else cause, value)
