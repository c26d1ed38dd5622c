import hypothesis
import pytest
from hypothesis import strategies

from synthralos.telemetry import trace_context
from synthralos.telemetry.trace_context import TraceContext

RUN = "5f0c000000000000000000aa"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def theirs(headers):
    """The span context that OpenTelemetry reads out of the headers, or None."""
    propagation = pytest.importorskip("opentelemetry.trace.propagation.tracecontext")
    from opentelemetry import trace

    extracted = propagation.TraceContextTextMapPropagator().extract(headers)
    span_context = trace.get_current_span(extracted).get_span_context()
    return span_context if span_context.is_valid else None


def test_every_process_of_a_run_finds_the_same_trace():
    assert TraceContext.of_run(RUN) == TraceContext.of_run(RUN)
    assert TraceContext.of_run(RUN).trace_id != TraceContext.of_run(RUN[:-1] + "b").trace_id
    assert trace_context.span_id(RUN, "run") != trace_context.span_id(RUN, "action")


@pytest.mark.parametrize("sampled", (True, False))
def test_opentelemetry_reads_the_headers(sampled):
    context = TraceContext.of_run(RUN)
    span = trace_context.span_id(RUN, "run")
    span_context = theirs(context.headers(span, sampled))
    assert "%032x" % span_context.trace_id == context.trace_id
    assert "%016x" % span_context.span_id == span
    assert span_context.trace_flags.sampled is sampled


def test_a_given_context_is_handed_on_with_its_state():
    context = TraceContext.parsed(PARENT, "congo=t61rcWkgMzE")
    assert context.headers() == {"traceparent": PARENT, "tracestate": "congo=t61rcWkgMzE"}
    span_context = theirs(context.headers("00f067aa0ba902b7"))
    assert "%032x" % span_context.trace_id == context.trace_id
    assert span_context.trace_state.get("congo") == "t61rcWkgMzE"


@pytest.mark.parametrize("header", (
    None, 7, "", "x" + PARENT, PARENT + "\n", PARENT.upper(), PARENT + "-more",
    "ff" + PARENT[2:], "00-" + "0" * 32 + PARENT[35:], PARENT[:36] + "0" * 16 + "-01",
    PARENT[:-1], "{{ x }}",
))
def test_what_is_no_traceparent_is_passed_over(header):
    assert TraceContext.parsed(header) is None
    if isinstance(header, str) and header and header == header.strip().lower():
        assert theirs({"traceparent": header}) is None


def test_a_later_version_may_say_more():
    later = "cc" + PARENT[2:] + "-what-comes"
    assert TraceContext.parsed(later).trace_id == "%032x" % theirs({"traceparent": later}).trace_id


@pytest.mark.parametrize("state", ("a=b\nX: y", "", "é=1", "a" * 600, 7))
def test_a_state_that_no_header_carries_is_left_out(state):
    assert TraceContext.parsed(PARENT, state).state is None


@hypothesis.given(strategies.text("0123456789abcdef", min_size=32, max_size=32),
       strategies.floats(0, 1, allow_nan=False))
def test_it_samples_as_opentelemetry_does(trace_id, share):
    sampling = pytest.importorskip("opentelemetry.sdk.trace.sampling")
    header = sampling.TraceIdRatioBased(share).should_sample(None, int(trace_id, 16), "x")
    assert trace_context.sampled(trace_id, share) is header.decision.is_sampled()


@pytest.mark.parametrize("parameters", (
    {"context": {"traceparent": PARENT}},
    {"original_request": {"traceparent": PARENT}},
    {"original_request": {"headers": {"TraceParent": PARENT}}},
    {"context": {"traceparent": "none"}, "original_request": {"headers": {"traceparent": PARENT}}},
))
def test_where_a_caller_may_give_it(parameters):
    assert trace_context.extract_from_parameters(parameters) == {"traceparent": PARENT}


@pytest.mark.parametrize("parameters", ({}, {"context": "x", "original_request": ["traceparent"]}))
def test_nobody_gave_any(parameters):
    assert trace_context.extract_from_parameters(parameters) is None
