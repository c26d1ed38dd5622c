"""W3C trace context, and ids that every process of a run works out alike.

Each action of a run is a process of its own. Its trace id is a hash of the run's execution id, the
id of the run's own span too, so that they agree without anything stored. Of a run whose caller gave
a `traceparent` the case carries it. https://www.w3.org/TR/trace-context/
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Optional

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
_TRACESTATE = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,511}\Z")
_SAMPLED = 1


@dataclass(frozen=True)
class TraceContext:
    """Where a run stands: its trace, and the span of its caller above it.

    :ivar trace_id: 32 hexadecimal digits; parent_id: 16, or None where the run begins the trace.
    :ivar sampled: what the caller decided; None where nobody has yet.
    :ivar state: the caller's `tracestate`, or None.
    """

    trace_id: str
    parent_id: Optional[str] = None
    sampled: Optional[bool] = None
    state: Optional[str] = None

    @classmethod
    def of_run(cls, run):
        """The context of a run that nobody gave one."""
        return cls(_derive_id("trace", run)[:32])

    @classmethod
    def parsed(cls, traceparent, state=None):
        """The context that a caller's `traceparent` names; None when it is none."""
        match = _TRACEPARENT.match(traceparent) if isinstance(traceparent, str) else None
        if match is None:
            return None
        version, trace_id, parent_id, flags, more = match.groups()
        if version == "ff" or (version == "00" and more) or not (
            int(trace_id, 16) and int(parent_id, 16)
        ):
            return None
        state = state if isinstance(state, str) and _TRACESTATE.match(state) else None
        return cls(trace_id, parent_id, bool(int(flags, 16) & _SAMPLED), state)

    def headers(self, span_id=None, sampled=None):
        """The HTTP headers for a call below `span_id`; without one, as the caller gave them."""
        flags = _SAMPLED if (self.sampled if sampled is None else sampled) else 0
        traceparent = "00-%s-%s-%02x" % (self.trace_id, span_id or self.parent_id, flags)
        return dict(
            {"traceparent": traceparent}, **({"tracestate": self.state} if self.state else {})
        )


def span_id(*parts):
    """16 hexadecimal digits, the same for the same parts."""
    return _derive_id("span", *parts)[:16]


def sampled(trace_id, sample_ratio):
    """Whether a trace is among the `sample_ratio`, 0 to 1, that is recorded.

    By the last 8 bytes of its id, as the TraceIdRatioBased sampler of OpenTelemetry's Python SDK:
    whoever decides so, decides alike.
    """
    return int(trace_id[-16:], 16) < round(sample_ratio * 2 ** 64)


def extract_from_parameters(parameters):
    """The trace context that the parameters of a run bring, as {traceparent, tracestate}, or None.

    In `context`, in `original_request`, or among the headers of that.
    """
    request = parameters.get("original_request")
    candidates = [parameters.get("context"), request]
    candidates.append(request.get("headers") if isinstance(request, dict) else None)
    for candidate in candidates:
        if isinstance(candidate, dict):
            lower_case = {str(name).lower(): value for name, value in candidate.items()}
            context = TraceContext.parsed(
                lower_case.get("traceparent"), lower_case.get("tracestate")
            )
            if context is not None:
                return context.headers()
    return None


def _derive_id(*parts):
    text = "\0".join(("synthralos",) + tuple(str(part) for part in parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
