"""The traces of whole runs, as a collector gets them."""

import pytest
from fixtures.otlp_receiver import CLIENT, Receiver
from fixtures.waiting import limit_under_test
from orchestrations import Orchestrated

from sandbox import ok, rate_limit, status
from synthralos.calls import trace_exporter

pytest.importorskip("opentelemetry.proto")

MODEL = {
    "original_request": {"prompt": "Say hello", "model": "gpt-4",
                         "parameters": {"temperature": 0.2, "max_tokens": 99}},
    "failure_reason": "Rate limit exceeded", "fallback_models": ["claude-3-haiku"],
}
AGENT = {"agent_id": "trainer_01", "failure_type": "timeout", "original_query": "precious query"}
ROUTED = {
    "original_request": {"endpoint": "/api/v1/precious", "model": "gpt-4"},
    "failure_reason": "Region unavailable", "fallback_regions": ["eu-west-1"],
}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def receiver(tmp_path, monkeypatch):
    # Where the mark of a collector that is away would stand.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    collector = Receiver()
    yield collector
    collector.close()


@pytest.fixture
def traced(world, receiver):
    world.config["tracing"] = {
        "endpoint": receiver.url,
        "timeout": trace_exporter.MAX_TIMEOUT_SECONDS,
    }
    return world


def tree(spans):
    """{name: [names of the spans below it]}, each span's in the order in which they began; every
    span but the roots has its parent there.
    """
    spans_by_id = {span.span_id: span for span in spans}
    assert len(spans_by_id) == len(spans), "an id was given twice"
    children = {}
    for span in sorted(spans, key=lambda span: span.began):
        assert span.began <= span.ended
        above = spans_by_id[span.parent_id].name if span.parent_id in spans_by_id else None
        children.setdefault(above, []).append(span.name)
    return children


def test_llm_retry(traced, receiver):
    traced.box.script("llm:openai/gpt-4", [rate_limit(30)])
    run, output = traced.run("llm_retry", **MODEL)
    assert output["success"]
    spans = receiver.spans()
    assert tree(spans) == {
        None: ["llm_retry"],
        "llm_retry": ["determine_retry_strategy", "call_llm"],
        "call_llm": ["chat gpt-4", "chat claude-3-haiku"],
    }
    assert len({span.trace_id for span in spans}) == 1
    failed, good = receiver.named("chat gpt-4") + receiver.named("chat claude-3-haiku")
    assert (failed.kind, failed.error, good.kind, good.error) == (CLIENT, True, CLIENT, False)
    attributes = failed.attributes
    assert (
        attributes["error.type"] == "rate_limit" and attributes["http.response.status_code"] == 429
    )
    assert (
        attributes["gen_ai.operation.name"] == "chat" and
        attributes["gen_ai.provider.name"] == "openai"
    )
    assert (
        attributes["gen_ai.request.temperature"] == 0.2 and
        attributes["gen_ai.request.max_tokens"] == 99
    )
    assert (attributes["synthralos.attempt"], attributes["synthralos.repeat"]) == (1, False)
    attributes = good.attributes
    usage = output["result"]["usage"]
    assert attributes["gen_ai.usage.input_tokens"] == usage["input_tokens"] > 0
    assert attributes["gen_ai.usage.output_tokens"] == usage["output_tokens"] > 0
    assert attributes["gen_ai.response.finish_reasons"] == [output["result"]["finish_reason"]]
    assert attributes["synthralos.target"] == "llm:anthropic/claude-3-haiku"
    assert attributes["server.address"] == "127.0.0.1"
    root, = receiver.named("llm_retry")
    assert root.attributes["synthralos.run"] == run["id"] and not root.error
    assert root.attributes["synthralos.attempts"] == 2
    assert "hello" not in receiver.text.lower()


def test_the_names_are_opentelemetrys(traced, receiver):
    semconv = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    from opentelemetry.semconv.attributes import (
        error_attributes,
        http_attributes,
        server_attributes,
        service_attributes,
    )

    traced.box.script("llm:openai/gpt-4", [rate_limit(30)])
    traced.run("llm_retry", **MODEL)
    traced.run("agent_recovery", **AGENT)
    traced.run("reroute_request", **ROUTED)
    standard_names = {
        value for module in
        (semconv, error_attributes, http_attributes, server_attributes, service_attributes)
        for name, value in vars(module).items() if name.isupper()
    }
    used = {name for span in receiver.spans() for name in span.attributes}
    assert {name for name in used if not name.startswith("synthralos.")} <= standard_names
    operations = {
        span.attributes["gen_ai.operation.name"] for span in receiver.spans()
        if "gen_ai.operation.name" in span.attributes
    }
    assert operations == {"chat", "invoke_agent"}
    assert operations <= {operation.value for operation in semconv.GenAiOperationNameValues}


def test_a_call_carries_its_span(traced, receiver):
    traced.run("llm_retry", **MODEL)
    traced.run("agent_recovery", **AGENT)
    traced.run("reroute_request", **ROUTED)
    calls = {call.headers["traceparent"].split("-")[2] for call in traced.box.calls}
    spans = {span.span_id for span in receiver.spans() if span.kind == CLIENT}
    assert len(calls) == 3 and calls == spans
    assert {"invoke_agent trainer_01", "POST"} <= {span.name for span in receiver.spans()}
    assert "precious" not in receiver.text


def test_a_run_that_cannot_recover(traced, receiver):
    traced.box.script("llm:*", [status(400)], forever=True)
    run, _ = traced.run("llm_retry", **MODEL)
    assert run["status"] == "failed"
    span_tree = tree(receiver.spans())
    assert span_tree[None] == ["llm_retry"]
    assert span_tree["llm_retry"] == ["determine_retry_strategy", "call_llm", "log_retry_failure"]
    root, = receiver.named("llm_retry")
    assert root.error and root.attributes["error.type"] == "bad_request"


def test_a_refused_run_has_a_trace(traced, receiver):
    run, _ = traced.run("llm_retry", **dict(MODEL, original_request={"model": "gpt-4"}))
    assert run["status"] == "failed"
    span_tree = tree(receiver.spans())
    assert span_tree == {None: ["llm_retry"],
                     "llm_retry": ["determine_retry_strategy", "log_retry_failure"]}
    assert receiver.named("llm_retry")[0].attributes["error.type"] == "refused"


def test_waits_and_rounds(traced, receiver):
    traced.config["backoff"] = {"strategy": "fixed"}
    traced.box.script("platform", [status(503), ok()])
    traced.run("agent_recovery", **dict(AGENT, retry_delay=1))
    span_tree = tree(receiver.spans())
    assert span_tree["agent_recovery"] == [
        "analyze_agent_failure", "generate_repair_plan", "execute_recovery", "execute_recovery"]
    first, second = sorted(receiver.named("invoke_agent trainer_01"), key=lambda span: span.began)
    assert (first.error, second.error) == (True, False)
    assert (first.attributes["synthralos.round"], second.attributes["synthralos.round"]) == (1, 2)
    assert second.attributes["synthralos.repeat"] is True
    waits = [span.attributes.get("synthralos.wait_seconds")
             for span in receiver.named("execute_recovery")]
    wait, = (seconds for seconds in waits if seconds is not None)
    assert wait >= 1 and second.began - first.ended > wait * 0.9e9


@pytest.mark.parametrize("run, parameters", (
    ("agent_recovery", dict(AGENT, context={"traceparent": PARENT, "tracestate": "a=b"})),
    ("reroute_request", dict(ROUTED, original_request=dict(
        ROUTED["original_request"], headers={"Traceparent": PARENT, "tracestate": "a=b"}))),
    ("llm_retry", dict(MODEL, original_request=dict(
        MODEL["original_request"], traceparent=PARENT, tracestate="a=b"))),
))
def test_a_run_joins_the_callers_trace(traced, receiver, run, parameters):
    traced.run(run, **parameters)
    spans = receiver.spans()
    assert {span.trace_id for span in spans} == {PARENT.split("-")[1]}
    root, = receiver.named(run)
    assert root.parent_id == PARENT.split("-")[2] and root.state == "a=b"
    headers = traced.box.calls[0].headers
    assert headers["traceparent"].split("-")[1] == PARENT.split("-")[1]
    assert headers["traceparent"] != PARENT
    assert headers["tracestate"] == "a=b"


def test_without_a_collector_only_a_callers_trace_goes_along(world):
    world.run("agent_recovery", **AGENT)
    world.run("agent_recovery", **dict(AGENT, context={"traceparent": PARENT}))
    traceparents = [call.headers.get("traceparent") for call in world.box.calls]
    assert traceparents == [None, PARENT]


def test_the_run_inside_a_run_is_part_of_its_trace(traced, receiver):
    run, _ = traced.run(
        "handle_error", agent_id="trainer_01", original_query="precious query",
        error={"type": "timeout_error", "message": "no answer in 60 s"},
    )
    assert run["status"] == "succeeded"
    span_tree = tree(receiver.spans())
    assert span_tree[None] == ["handle_error"]
    assert span_tree["handle_error"] == ["error.assess", "error.proceed"]
    assert span_tree["error.assess"][-1] == "agent_recovery"
    assert "execute_recovery" in span_tree["agent_recovery"]


def test_infrastructure_repair(traced, receiver):
    run, _ = traced.run("infrastructure_repair", nodes=["db-1"])
    span_tree = tree(receiver.spans())
    assert span_tree[None] == ["infrastructure_repair"]
    assert span_tree["infrastructure_repair"][0] == "repair.begin"
    assert span_tree["infrastructure_repair"][-1] in ("repair.finish", "log_infrastructure_failure")


def test_an_action_alone_is_its_own_trace(traced, receiver):
    traced.local.run("synthralos.call_llm", {"model": "gpt-4", "prompt": "Hello"})
    assert tree(receiver.spans()) == {None: ["call_llm"], "call_llm": ["chat gpt-4"]}
    traced.local.run("synthralos.ticket.list", {})
    assert len(receiver.bodies) == 1


def test_a_black_hole_costs_a_run_one_time_out(traced, receiver, tmp_path):
    receiver.silent = True
    traced.config["tracing"]["timeout"] = limit_under_test(0.5)
    run, output = traced.run("llm_retry", **MODEL)
    assert output["success"]
    assert len(receiver.headers) == 1
    lines = [line for child in traced.local.executions(parent=run["id"])
            for line in child["result"]["stdout"].splitlines()]
    assert len([line for line in lines if line.startswith("traces_not_sent cause=timeout ")]) == 1


def test_a_wrong_entry_ends_no_run(world):
    world.config["tracing"] = {"endpoint": "nowhere"}
    world.config["logs"] = {"file": "relative"}
    run, output = world.run("llm_retry", **MODEL)
    assert output["success"]
    child = world.local.executions(parent=run["id"])[0]
    for field in ("tracing.endpoint", "logs.file"):
        assert "configuration_ignored field=%s " % field in child["result"]["stdout"]


def test_each_line_of_a_run_says_whose_it_is(world):
    run, _ = world.run("agent_recovery", **AGENT)
    lines = [line for child in world.local.executions(parent=run["id"])
             for line in child["result"]["stdout"].splitlines()]
    assert lines and all(line.endswith(" run=%s agent=trainer_01" % run["id"]) for line in lines)


def test_an_orchestration_and_what_it_starts(traced, receiver):
    traced.config["orchestration"] = {"allowed_actions": ["synthralos.agent_recovery"]}
    flow = Orchestrated(traced)
    flow.define([{"name": "inner", "role": "Inner"}], name="child")
    flow.define([
        {"name": "think", "role": "Outer"},
        {"name": "recover", "action": "synthralos.agent_recovery", "parameters": AGENT},
        {"name": "below", "orchestration": "child", "depends_on": ["think", "recover"]},
    ])
    run, output = flow.run()
    assert run["status"] == "succeeded", output
    runs = {"orchestration.run", "agent_recovery"}
    of_runs = [span for span in receiver.spans() if span.name in runs]
    spans = [span for span in receiver.spans() if span.trace_id == of_runs[0].trace_id]
    span_tree = tree(spans)
    assert span_tree[None] == ["orchestration.run"]
    assert sorted(span.name for span in of_runs) == [
        "agent_recovery", "orchestration.run", "orchestration.run"]
    for name in ("execute synthralos.agent_recovery", "agent_recovery"):
        assert name in span_tree["orchestration.step"] + span_tree["orchestration.wave"]
    assert "orchestration.run" in span_tree["orchestration.next_wave"]
    assert (span_tree["orchestration.step"] + span_tree["orchestration.wave"]).count(
        "chat gpt-4o"
    ) == 2
    tops = [span for span in of_runs if not span.parent_id]
    assert [span.attributes["synthralos.run"] for span in tops] == [run["id"]]
