"""Spans as OTLP/JSON, the body of a POST to a collector's /v1/traces.

The OpenTelemetry SDK is not used: importing it with its OTLP exporter takes 50 to 60 ms and 7 MiB
in every action's process, its exporter speaks protobuf only, and its ids are random.
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

import re
from collections.abc import Mapping
from typing import Optional, TypedDict

from synthralos.core.identifiers import is_safe_word
from synthralos.telemetry.tracing import AttributeValue, Span, Tracer

_KINDS = {"internal": 1, "client": 3}
_ERROR = 2
MAX_NAME_CHARS = 200
_UNFIT_IN_NAME = re.compile(r"[^A-Za-z0-9._:/@+ -]+")


class AnyValue(TypedDict, total=False):
    """The value of an attribute: exactly one of these. 64-bit numbers are text in JSON."""

    boolValue: bool
    intValue: str
    doubleValue: float
    stringValue: str
    arrayValue: "ArrayValue"


class ArrayValue(TypedDict):
    """The values of a list."""

    values: list[AnyValue]


class KeyValue(TypedDict):
    """An attribute."""

    key: str
    value: AnyValue


def request(tracer: Tracer, service_name: str) -> dict[str, object]:
    """Return an ExportTraceServiceRequest with the tracer's spans, as a JSON value."""
    trace_id = tracer.context.trace_id
    spans = [_span(trace_id, span, tracer.context.state) for span in tracer.spans]
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes({"service.name": service_name})},
                "scopeSpans": [{"scope": {"name": "synthralos"}, "spans": spans}],
            }
        ]
    }


def _span(trace_id: str, span: Span, state: Optional[str]) -> dict[str, object]:
    attributes = dict(span.attributes)
    if span.error:
        attributes["error.type"] = span.error
    encoded: dict[str, object] = {
        "traceId": trace_id,
        "spanId": span.span_id,
        "name": _UNFIT_IN_NAME.sub("_", span.name)[:MAX_NAME_CHARS],
        "kind": _KINDS[span.kind],
        # 64-bit numbers are text in JSON.
        "startTimeUnixNano": _nanoseconds(span.began),
        "endTimeUnixNano": _nanoseconds(span.ended),
        "attributes": _attributes(attributes),
        "status": {"code": _ERROR} if span.error else {},
    }
    if span.parent_id:
        encoded["parentSpanId"] = span.parent_id
    if state:
        encoded["traceState"] = state
    return encoded


def _nanoseconds(seconds: float) -> str:
    return "%d" % (round(seconds * 1_000_000) * 1000)


def _attributes(attributes: Mapping[str, AttributeValue]) -> list[KeyValue]:
    """Encode attributes; text that is not a name could be a caller's, and is left out."""
    encoded_attributes: list[KeyValue] = []
    for name, value in attributes.items():
        encoded = _value(value)
        if encoded is not None:
            encoded_attributes.append({"key": name, "value": encoded})
    return encoded_attributes


def _value(value: AttributeValue) -> Optional[AnyValue]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if abs(value) < 2 ** 63 else None
    if isinstance(value, float):
        return {"doubleValue": value} if value - value == 0 else None
    if isinstance(value, str):
        return {"stringValue": value} if is_safe_word(value) else None
    if isinstance(value, (list, tuple)):
        members = [_value(member) for member in value[:20]]
        return {"arrayValue": {"values": [member for member in members if member is not None]}}
    return None
