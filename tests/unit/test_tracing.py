import threading
import time

import pytest
from fixtures.otlp_receiver import CLIENT, INTERNAL, parsed

from synthralos.calls.http import CallError
from synthralos.core import failures
from synthralos.telemetry import otlp_json, tracing

OWN, RUN = "5f0c000000000000000000a1", "5f0c000000000000000000aa"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-%s"


class Clock:
    def __init__(self):
        self.at = 1_700_000_000.0

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tracer(clock):
    with tracing.use_tracer(tracing.Tracer("call_llm", OWN, clock, clock)) as current:
        tracing.configure(1.0)
        yield current


def sent(tracer):
    return {span.name: span for span in parsed(otlp_json.request(tracer, "synthralos"))}


def test_without_a_tracer_a_span_only_yields():
    with tracing.span("planner", {"x": 1}) as span:
        span.set({"y": 2})
    assert tracing.headers() == {} and tracing.propagation_headers() is None
    tracing.set_attributes({"z": 3})


def test_spans_stand_below_each_other_and_the_run_above_them(tracer, clock):
    tracing.join_run(RUN, None, "llm_retry", clock.at - 20, {"gen_ai.agent.id": "a"})
    clock.at += 1
    with tracing.span_attributes(attempt=2, hint=None), tracing.span("outer"):
        clock.at += 1
        with tracing.span("chat gpt-4", {"gen_ai.request.model": "gpt-4"}, tracing.CLIENT):
            clock.at += 2
    tracer.finish(None, {"synthralos.attempts": 2}, ended=True)
    spans = sent(tracer)
    assert set(spans) == {"outer", "chat gpt-4", "call_llm", "llm_retry"}
    run, action, outer, call = (
        spans[name] for name in ("llm_retry", "call_llm", "outer", "chat gpt-4"))
    assert [run.parent_id, action.parent_id, outer.parent_id, call.parent_id] == [
        "", run.span_id, action.span_id, outer.span_id]
    assert len({span.trace_id for span in spans.values()}) == 1
    assert (call.kind, outer.kind) == (CLIENT, INTERNAL)
    assert (call.ended - call.began, outer.ended - outer.began) == (2 * 10 ** 9, 3 * 10 ** 9)
    assert run.began == (1_700_000_000 - 20) * 10 ** 9 and run.ended == action.ended
    assert call.attributes == {"synthralos.attempt": 2, "gen_ai.request.model": "gpt-4"}
    assert run.attributes == {
        "synthralos.run": RUN, "synthralos.workflow": "llm_retry", "gen_ai.agent.id": "a",
        "synthralos.attempts": 2}
    assert action.attributes["synthralos.execution"] == OWN
    assert not any(span.error for span in spans.values())


def test_the_actions_of_a_run_agree_without_knowing_each_other(clock):
    spans = []
    for own in (OWN, OWN[:-1] + "2"):
        with tracing.use_tracer(tracing.Tracer("x", own, clock, clock)) as tracer:
            tracing.configure(1.0)
            tracing.join_run(RUN)
            with tracing.span("call"):
                pass
            tracer.finish(None, {})
            spans += parsed(otlp_json.request(tracer, "s"))
    assert len({span.trace_id for span in spans}) == 1
    assert len({span.span_id for span in spans}) == 4
    actions = [span for span in spans if span.name == "x"]
    assert len({span.parent_id for span in actions}) == 1


def test_an_action_alone_is_the_root(tracer):
    tracer.finish("refused", {}, ended=True, run_error="refused")
    assert len(tracer.spans) == 1
    span = sent(tracer)["call_llm"]
    assert (span.parent_id, span.error, span.attributes["error.type"]) == ("", True, "refused")
    assert not tracer.worth_sending()


@pytest.mark.parametrize("error, kind", (
    (CallError(failures.make_failure("rate_limit", "slow down, please")), "rate_limit"),
    (ValueError("text of a caller"), "ValueError"),
))
def test_what_leaves_the_block_ends_the_span(tracer, error, kind):
    with pytest.raises(type(error)), tracing.span("call"):
        raise error
    tracer.finish(None, {})
    span = sent(tracer)["call"]
    assert span.error and span.attributes == {"error.type": kind}
    assert "please" not in str(otlp_json.request(tracer, "s"))


def test_no_text_of_a_caller_is_told(tracer):
    with tracing.span("say hello; drop\n", {"a": "two words", "b": "gpt-4", "c": ["x y", "stop"],
                                           "d": float("nan"), "e": 2 ** 70, "f": None,
                                           "g": True, "h": 0.5, "i": {}}):
        pass
    tracer.finish(None, {})
    span = sent(tracer)["say hello_ drop_"]
    assert span.attributes == {"b": "gpt-4", "c": ["stop"], "g": True, "h": 0.5}


@pytest.mark.parametrize("flags, share, records", (("01", 0.0, True), ("00", 1.0, False)))
def test_the_callers_decision_stands_over_ours(tracer, flags, share, records):
    tracing.configure(share)
    tracing.join_run(RUN, {"traceparent": PARENT % flags, "tracestate": "a=b"})
    with tracing.span("call", kind=tracing.CLIENT):
        assert tracing.headers()["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
        assert tracing.headers()["traceparent"].endswith(flags)
        assert tracing.headers()["tracestate"] == "a=b"
    tracer.finish(None, {}, ended=True)
    assert tracer.worth_sending() is records
    span = sent(tracer)["call"]
    assert (span.trace_id, span.state) == ("0af7651916cd43dd8448eb211c80319c", "a=b")
    assert tracer.spans[-1].parent_id == "b7ad6b7169203331"


def test_what_is_not_sampled_says_so_and_is_not_sent(tracer):
    tracing.configure(0.0)
    tracing.join_run(RUN)
    with tracing.span("call", kind=tracing.CLIENT):
        assert tracing.headers()["traceparent"].endswith("-00")
    tracer.finish(None, {}, ended=True)
    assert not tracer.worth_sending()


def test_who_makes_no_spans_hands_on_what_it_was_given(clock):
    with tracing.use_tracer(tracing.Tracer("x", OWN, clock)):
        with tracing.span("call", kind=tracing.CLIENT):
            assert tracing.headers() == {}
        tracing.join_run(RUN, {"traceparent": PARENT % "01"})
        with tracing.span("call", kind=tracing.CLIENT):
            assert tracing.headers() == {"traceparent": PARENT % "01"}
        assert tracing.propagation_headers() == {"traceparent": PARENT % "01"}


def test_only_a_call_takes_the_trace_along(tracer):
    assert tracing.headers() == {}
    with tracing.span("inside"):
        assert tracing.headers() == {}


def test_an_actions_spans_are_bounded(tracer):
    for _ in range(tracing.MAX_SPANS + 3):
        with tracing.span("x"):
            pass
    tracer.finish(None, {})
    assert (len(tracer.spans), tracer.dropped_spans) == (tracing.MAX_SPANS + 1, 3)
    assert tracer.action.attributes["synthralos.spans_lost"] == 3


def test_tracers_of_two_threads_at_once_do_not_mix():
    both, tracers = threading.Barrier(2, timeout=60), [
        tracing.Tracer(name, name, time.time) for name in ("one", "two")
    ]

    def work(tracer):
        with tracing.use_tracer(tracer):
            both.wait()
            with tracing.span("of " + tracer.execution_id):
                both.wait()

    threads = [threading.Thread(target=work, args=(tracer,)) for tracer in tracers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [[span.name for span in tracer.spans] for tracer in tracers] == [["of one"], ["of two"]]
