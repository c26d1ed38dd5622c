import os
import time

import pytest
from fixtures.otlp_receiver import Receiver
from fixtures.waiting import limit_under_test

from synthralos.calls import http, trace_exporter
from synthralos.calls.trace_exporter import Tracing
from synthralos.core.errors import InvalidInput
from synthralos.core.redaction import Redactor
from synthralos.telemetry import tracing

OWN = "5f0c000000000000000000a1"


@pytest.fixture
def receiver():
    pytest.importorskip("opentelemetry.proto")
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(autouse=True)
def marks(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def tracing_of(receiver, **entry):
    patient = {"endpoint": receiver.url, "timeout": trace_exporter.MAX_TIMEOUT_SECONDS}
    return Tracing.from_config(dict(patient, **entry))


def send(tracing_config, secrets=()):
    client = http.Client(lambda connection, fresh: (connection.secret, {}))
    tracer = tracing.Tracer("call_llm", OWN, time.time)
    with tracing.use_tracer(tracer):
        tracing.configure(1.0)
        tracing.join_run("5f0c000000000000000000aa")
        with tracing.span("chat hunter22", {"gen_ai.request.model": "hunter22"}):
            pass
        tracer.finish(None, {}, ended=True)
        return trace_exporter.export(client, tracing_config, tracer, Redactor(secrets))


def test_sends_spans_with_the_token_and_the_name(receiver):
    tracing_config = tracing_of(
        receiver, token="t0ken-for-it", headers={"X-Scope": "team"}, service_name="ours"
    )
    assert send(tracing_config)
    assert receiver.headers[0]["authorization"] == "Bearer t0ken-for-it"
    assert receiver.headers[0]["x-scope"] == "team"
    assert receiver.headers[0]["content-type"] == "application/json"
    # The collector is not part of the trace.
    assert "traceparent" not in receiver.headers[0]
    assert {span.service for span in receiver.spans()} == {"ours"}
    assert len(receiver.spans()) == 3


def test_a_defect_of_ours_leaves_its_traceback_without_secrets(receiver, monkeypatch, capsys):
    def broken(*arguments):
        raise KeyError("hunter22")

    monkeypatch.setattr("synthralos.telemetry.otlp_json.request", broken)
    assert send(tracing_of(receiver), ["hunter22"]) is False
    output = capsys.readouterr()
    assert "Traceback" in output.err and "KeyError" in output.err and "in broken" in output.err
    assert "hunter22" not in output.err and "cause=KeyError" in output.out


def test_the_endpoint_may_have_the_path(receiver):
    assert send(tracing_of(receiver, endpoint=receiver.url + "/v1/traces"))


def test_no_secret_leaves(receiver):
    assert send(tracing_of(receiver), ["hunter22"])
    assert "hunter22" not in receiver.text and receiver.spans()


@pytest.mark.parametrize("status", (400, 404, 429, 500, 503))
def test_after_a_failure_the_host_leaves_it_alone_for_a_minute(receiver, marks, status, capsys):
    receiver.status = status
    tracing_config = tracing_of(receiver)
    assert not send(tracing_config)
    assert "traces_not_sent cause=status_%d pause_seconds=60" % status in capsys.readouterr().out
    receiver.status = 200
    assert not send(tracing_config) and len(receiver.headers) == 1
    assert capsys.readouterr().out == ""
    mark, = marks.iterdir()
    os.utime(mark, (time.time() - 61,) * 2)
    assert send(tracing_config) and len(receiver.headers) == 2


def test_another_collector_is_not_affected(receiver):
    other = Receiver()
    try:
        other.status = 500
        assert not send(tracing_of(other))
        assert send(tracing_of(receiver))
    finally:
        other.close()


@pytest.mark.parametrize("cause, silent", (("timeout", True), ("network", False)))
def test_a_collector_that_is_away_raises_nothing(receiver, cause, silent, capsys):
    receiver.silent = silent
    tracing_config = tracing_of(receiver, timeout=limit_under_test(0.3))
    if not silent:
        tracing_config = Tracing.from_config({"endpoint": "http://127.0.0.1:9"})
    assert not send(tracing_config)
    assert "traces_not_sent cause=%s " % cause in capsys.readouterr().out


def test_a_missing_credential_raises_nothing(receiver):
    def missing(connection, fresh):
        raise InvalidInput("config headers_from", "k", "is not in the datastore", "Set it")

    tracer = tracing.Tracer("x", OWN, time.time)
    tracer.finish(None, {})
    assert not trace_exporter.export(http.Client(missing), tracing_of(receiver), tracer, Redactor())


def test_a_mark_that_cannot_be_made_or_is_somebody_elses_counts_for_nothing(
        receiver, marks, monkeypatch):
    receiver.status = 500
    tracing_config = tracing_of(receiver)
    (marks / "target").write_text("precious")
    os.symlink(marks / "target", trace_exporter._cooldown_file(tracing_config))
    assert not send(tracing_config)
    assert (marks / "target").read_text() == "precious"
    os.unlink(trace_exporter._cooldown_file(tracing_config))
    assert not send(tracing_config)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert not trace_exporter._in_cooldown(trace_exporter._cooldown_file(tracing_config))


@pytest.mark.parametrize("entry, field", (
    ({"endpoint": "collector:4318"}, "tracing.endpoint"),
    ({"endpoint": "http://c", "timeout": limit_under_test(11)}, "tracing.timeout"),
    ({"endpoint": "http://c", "timeout": "1"}, "tracing.timeout"),
    ({"endpoint": "http://c", "sample_ratio": 1.1}, "tracing.sample_ratio"),
    ({"endpoint": "http://c", "sample_ratio": True}, "tracing.sample_ratio"),
))
def test_what_is_configured_wrongly_is_refused(entry, field):
    with pytest.raises(InvalidInput) as refused:
        Tracing.from_config(entry)
    assert refused.value.field == field


def test_without_an_endpoint_there_is_no_tracing():
    assert Tracing.from_config({}) is None
    assert Tracing.from_config({"endpoint": ""}) is None


def test_defaults():
    tracing_config = Tracing.from_config({"endpoint": "http://c:4318"})
    assert (
        tracing_config.sample_ratio,
        tracing_config.service_name,
        tracing_config.connection.timeout,
    ) == (
        1.0,
        "synthralos",
        1.0,
    )
