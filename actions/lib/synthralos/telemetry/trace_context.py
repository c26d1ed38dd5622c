"""W3C trace context, and ids that every process of a run derives alike.

Each action of a run is a separate process. The trace id is a hash of the run's execution id, and so
is the id of the run's own span, so that processes agree without storing anything. If the caller of
a run passed a `traceparent`, the case carries it. https://www.w3.org/TR/trace-context/
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
_TRACESTATE = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,511}\Z")
_SAMPLED = 1


@dataclass(frozen=True)
class TraceContext:
    """The position of a run in a trace: the trace, and the span of the caller.

    :ivar trace_id: 32 hexadecimal digits.
    :ivar parent_id: 16 hexadecimal digits, or None if the run begins the trace.
    :ivar sampled: the caller's decision; None if there is none yet.
    :ivar state: the caller's `tracestate`, or None.
    """

    trace_id: str
    parent_id: Optional[str] = None
    sampled: Optional[bool] = None
    state: Optional[str] = None

    @classmethod
    def of_run(cls, run: str) -> "TraceContext":
        """Return the context of a run whose caller passed none."""
        return cls(_derive_id("trace", run)[:32])

    @classmethod
    def parsed(cls, traceparent: object, state: object = None) -> "Optional[TraceContext]":
        """Return the context of a caller's `traceparent`; None if it is not valid."""
        match = _TRACEPARENT.match(traceparent) if isinstance(traceparent, str) else None
        if match is None:
            return None
        version, trace_id, parent_id, flags, more = match.groups()
        if version == "ff" or (version == "00" and more) or not (
            int(trace_id, 16) and int(parent_id, 16)
        ):
            return None
        valid_state = state if isinstance(state, str) and _TRACESTATE.match(state) else None
        return cls(trace_id, parent_id, bool(int(flags, 16) & _SAMPLED), valid_state)

    def headers(
        self, span_id: Optional[str] = None, sampled: Optional[bool] = None
    ) -> dict[str, str]:
        """Return the HTTP headers for a call under `span_id`; without it, the caller's own."""
        flags = _SAMPLED if (self.sampled if sampled is None else sampled) else 0
        traceparent = "00-%s-%s-%02x" % (self.trace_id, span_id or self.parent_id, flags)
        return dict(
            {"traceparent": traceparent}, **({"tracestate": self.state} if self.state else {})
        )


def span_id(*parts: object) -> str:
    """Return 16 hexadecimal digits, the same for the same parts."""
    return _derive_id("span", *parts)[:16]


def sampled(trace_id: str, sample_ratio: float) -> bool:
    """Return whether a trace is among the `sample_ratio`, 0 to 1, that is recorded.

    Decided by the last 8 bytes of its id, as in the TraceIdRatioBased sampler of OpenTelemetry's
    Python SDK, so that all its users decide alike.
    """
    return int(trace_id[-16:], 16) < round(sample_ratio * 2 ** 64)


def extract_from_parameters(parameters: Mapping[str, Any]) -> Optional[dict[str, str]]:
    """Return the trace context in the parameters of a run, as {traceparent, tracestate}, or None.

    It is looked for in `context`, in `original_request` and in the headers of the latter.
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


def _derive_id(*parts: object) -> str:
    text = "\0".join(("synthralos",) + tuple(str(part) for part in parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
