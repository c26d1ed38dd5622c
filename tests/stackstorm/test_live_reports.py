"""Traces and reports of runs on a live StackStorm."""
import pytest
from fixtures.otlp_receiver import Receiver

from sandbox import agent_failed, ok, rate_limit
from synthralos.calls import trace_exporter

AGENT = {"agent_id": "agent_123", "failure_type": "error", "original_query": "precious",
         "context": {"repairPlan": {"steps": [{"action": "retry_execution"}]}}, "retry_delay": 0}


@pytest.fixture
def receiver(st2, box):
    pytest.importorskip("opentelemetry.proto")
    collector = Receiver()
    # StackStorm's action runners may have found another collector away at this port.
    entry = {"endpoint": collector.url, "timeout": trace_exporter.MAX_TIMEOUT_SECONDS}
    st2.call("PUT", "/configs/synthralos", json=dict(box.pack_config(), tracing=entry))
    try:
        yield collector
    finally:
        st2.call("PUT", "/configs/synthralos", json=box.pack_config())
        collector.close()


def test_one_trace_of_a_run_with_a_span_for_each_attempt(st2, box, receiver):
    box.script("platform", [agent_failed(), ok(text="42")])
    run, output = st2.run("agent_recovery", **AGENT)
    assert output["success"] and output["attempts"] == 2
    [root] = receiver.named("agent_recovery")
    assert root.attributes["synthralos.run"] == run["id"] and not root.error
    spans = {span.span_id: span for span in receiver.spans()}
    assert {span.trace_id for span in spans.values()} == {root.trace_id}
    tasks = [span for span in spans.values() if span.parent_id == root.span_id]
    assert {span.attributes["synthralos.execution"] for span in tasks} == {
        child["id"] for child in st2.children(run)}
    failed, good = sorted(receiver.named("invoke_agent agent_123"), key=lambda span: span.began)
    assert (failed.error, good.error) == (True, False)
    assert {spans[span.parent_id].name for span in (failed, good)} == {"execute_recovery"}
    # Who was called was told of the same trace, below the attempt.
    sent = [call.headers["traceparent"].split("-") for call in box.calls_to("platform")]
    assert [parts[1:3] for parts in sent] == [
        [root.trace_id, failed.span_id], [root.trace_id, good.span_id]]
    assert "precious" not in receiver.text


def rendered(st2, **parameters):
    execution, _ = st2.run("report.render", **parameters)
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["result"]["body"]


def test_the_report_of_a_run(st2, box):
    box.script("platform", [agent_failed(), ok(text="42")])
    run, _ = st2.run("agent_recovery", **AGENT)
    page = rendered(st2, execution_id=run["id"])
    assert page.startswith("<!DOCTYPE html>") and run["id"] in page and "precious" not in page
    text = rendered(st2, execution_id=run["id"], format="markdown")
    assert text.startswith("# agent\\_recovery of agent\\_123\n") and "- Attempts: 2" in text
    for heading in ("Timeline", "What was tried", "The plan", "Executions"):
        assert "\n## %s\n" % heading in text


def test_the_report_of_a_run_within_a_run_and_of_its_ticket(st2, box):
    box.script("platform", [agent_failed()], forever=True)
    box.script("llm:openai/gpt-4", [rate_limit(retry_after=30)], forever=True)
    error = {"type": "timeout_error", "message": "no answer in 60 s"}
    run, output = st2.run("handle_error", agent_id="agent_123", task_id="t", error=error,
                          max_retries=1, original_query="q")
    assert output["escalated"] and output["ticket"]
    text = rendered(st2, execution_id=run["id"], format="markdown")
    assert "| recover\\_agent | 1 | platform:" in text and "## The plan of recover\\_agent" in text
    assert output["ticket"] in text
    assert output["ticket"] in rendered(st2, ticket_id=output["ticket"])
    assert output["ticket"] in rendered(st2, days=1, format="markdown")
