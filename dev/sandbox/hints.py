"""When to call again: the hint of a `rate_limit` or `overloaded` step, where services put it."""
import email.utils
import time


def headers(step):
    """The headers that carry the step's hint; a date is counted from now."""
    told, hint = step.get("retry_after"), step.get("hint")
    if told is None or hint == "body":
        return {}
    if isinstance(told, str):
        return {"Retry-After": told}
    if hint == "ms":
        return {"retry-after-ms": str(round(told * 1000))}
    if hint == "date":
        return {"Retry-After": email.utils.formatdate(time.time() + told, usegmt=True)}
    return {"Retry-After": "%g" % told}


def details(step):
    """What the error object carries besides: Google's RetryInfo, or nothing."""
    if step.get("hint") != "body":
        return {}
    told = step.get("retry_after")
    told = told if isinstance(told, str) else "%gs" % told
    kind = "type.googleapis.com/google.rpc.RetryInfo"
    return {"details": [{"@type": kind, "retryDelay": told}]}
