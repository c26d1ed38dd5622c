"""The retry hint of a `rate_limit` or `overloaded` step, in the places where services put it."""
import email.utils
import time


def headers(step):
    """Return the headers with the step's hint; a date is relative to now."""
    retry_after, hint = step.get("retry_after"), step.get("hint")
    if retry_after is None or hint == "body":
        return {}
    if isinstance(retry_after, str):
        return {"Retry-After": retry_after}
    if hint == "ms":
        return {"retry-after-ms": str(round(retry_after * 1000))}
    if hint == "date":
        return {"Retry-After": email.utils.formatdate(time.time() + retry_after, usegmt=True)}
    return {"Retry-After": "%g" % retry_after}


def details(step):
    """Return further fields of the error object: Google's RetryInfo, or {}."""
    if step.get("hint") != "body":
        return {}
    retry_after = step.get("retry_after")
    retry_after = retry_after if isinstance(retry_after, str) else "%gs" % retry_after
    kind = "type.googleapis.com/google.rpc.RetryInfo"
    return {"details": [{"@type": kind, "retryDelay": retry_after}]}
