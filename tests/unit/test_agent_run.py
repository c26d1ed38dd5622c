import pytest

from synthralos.calls import agent_run
from synthralos.calls.agent_platforms import protocol
from synthralos.calls.agent_platforms.agent_failures import agent_failure, cancelled
from synthralos.calls.agent_platforms.protocol import (
    AgentRequest,
    Capabilities,
    Handle,
    Question,
    RunState,
)
from synthralos.calls.http import CallError
from synthralos.config.platforms import AgentEndpoint
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import make_failure

from .agent_servers import lost, platform

HANDLE = Handle("langgraph", "p", "bot", {"thread": "t", "run": "r"})
ALL = Capabilities(True, True, True, True, True)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.at, self.sleeps = 0.0, []

    def now(self):
        return self.at

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.at += seconds


class Scripted:
    """A platform whose calls return what a script says; the last of a list stays."""

    def __init__(self, start, joins=(), cancel=None, capabilities=ALL):
        self._start, self._joins, self._cancel = start, list(joins), cancel
        self.capabilities, self.calls = capabilities, []

    def handle_for(self, request):
        chosen = Handle("langgraph", "p", "bot", {"thread": "t"})
        return chosen if self.capabilities.chooses_run_id else None

    def start(self, request, seconds):
        return self._play("start", self._start, seconds)

    def join(self, handle, seconds):
        step = self._joins.pop(0) if len(self._joins) > 1 else self._joins[0]
        return self._play("join", step, seconds)

    def cancel(self, handle, seconds):
        return self._play("cancel", self._cancel, seconds)

    def _play(self, name, step, seconds):
        self.calls.append((name, seconds))
        if isinstance(step, Exception):
            raise step
        return step


def state(status, **more):
    return RunState(status, HANDLE, **more)


def run(scripted, monkeypatch, seconds=60.0, schema=None, time=None):
    time = time or Time()
    monkeypatch.setattr(agent_run, "connect", lambda client, entry: scripted)
    endpoint = AgentEndpoint(platform("langgraph"), "bot")
    request = AgentRequest("bot", "q", "k", schema=schema)
    clock = agent_run.Clock(time.now, time.sleep)
    return agent_run.run_agent(None, endpoint, request, agent_run.Patience(seconds), clock)


def failing(scripted, monkeypatch, **more):
    with pytest.raises(CallError) as failed:
        run(scripted, monkeypatch, **more)
    return failed.value.failure


RUNNING, UNKNOWN = state("running"), state("unknown")
COMPLETED_RUN = state("completed", output="42", metadata={"usage": 5})


def test_a_run_is_asked_for_until_it_ends(monkeypatch):
    scripted, time = Scripted(RUNNING, [RUNNING] * 20 + [COMPLETED_RUN]), Time()
    result = run(scripted, monkeypatch, seconds=300.0, time=time)
    assert result == {"output": "42", "execution_id": "r", "metadata": {"usage": 5},
                      "latency_ms": int(time.at * 1000)}
    assert time.sleeps == sorted(time.sleeps)
    assert time.sleeps[0] == agent_run.FIRST_POLL_SECONDS
    assert time.sleeps[-1] == agent_run.MAX_POLL_SECONDS


def test_what_is_answered_at_once_is_not_asked_for(monkeypatch):
    scripted = Scripted(COMPLETED_RUN)
    assert run(scripted, monkeypatch)["output"] == "42"
    assert [name for name, _ in scripted.calls] == ["start"]


@pytest.mark.parametrize("output, schema, cause", [
    (None, None, "blank_output"), (" ", None, "blank_output"),
    ("x", {"type": "object"}, "schema_mismatch"),
    ("Agent stopped due to max iterations.", None, "infinite_loop"),
])
def test_an_output_that_is_not_accepted_is_no_answer(monkeypatch, output, schema, cause):
    scripted = Scripted(state("completed", output=output))
    assert failing(scripted, monkeypatch, schema=schema).cause == cause


def test_a_failed_run_is_its_failure(monkeypatch):
    failure = make_failure("agent_failed", "it broke")
    scripted = Scripted(RUNNING, [state("failed", failure=failure)])
    assert failing(scripted, monkeypatch) == failure


def test_a_run_that_takes_too_long_is_cancelled_before_the_limit(monkeypatch):
    scripted, time = Scripted(RUNNING, [RUNNING], state("failed", failure=cancelled())), Time()
    failure = failing(scripted, monkeypatch, time=time, seconds=60.0)
    assert failure.cause == "agent_timeout" and "the run was cancelled" in failure.message
    assert failure.type == "timeout" and not failure.policy.counts_for_breaker
    assert failure.policy.may_have_taken_effect
    name, seconds = scripted.calls[-1]
    assert name == "cancel" and 0 < seconds <= agent_run.MAX_CANCEL_SECONDS
    assert time.at <= 60.0


def test_what_completes_while_it_is_cancelled_is_an_answer(monkeypatch):
    scripted = Scripted(RUNNING, [RUNNING] * 18 + [COMPLETED_RUN], RUNNING)
    assert run(scripted, monkeypatch)["output"] == "42"


@pytest.mark.parametrize("cancel", [RUNNING, lost(), CallError(make_failure("server_error"))])
def test_a_cancellation_that_is_not_confirmed_is_said(monkeypatch, cancel):
    failure = failing(Scripted(RUNNING, [RUNNING], cancel), monkeypatch)
    assert failure.cause == "timeout" and "may still be live" in failure.message


def test_a_platform_that_cannot_cancel_uses_the_whole_limit(monkeypatch):
    time, capabilities = Time(), Capabilities(joins=True)
    scripted = Scripted(RUNNING, [RUNNING], capabilities=capabilities)
    assert failing(scripted, monkeypatch, time=time).cause == "timeout"
    assert time.at == 60.0 and "cancel" not in [name for name, _ in scripted.calls]


def test_what_is_between_us_and_the_run_does_not_end_it(monkeypatch):
    joins = [lost(), CallError(make_failure("server_error")), CallError(make_failure("network")),
             UNKNOWN, UNKNOWN, RUNNING, UNKNOWN, COMPLETED_RUN]
    scripted = Scripted(RUNNING, joins)
    assert run(scripted, monkeypatch)["output"] == "42"
    assert [name for name, _ in scripted.calls].count("start") == 1


def test_a_credential_that_expires_while_the_run_works_is_the_failure(monkeypatch):
    scripted = Scripted(RUNNING, [CallError(make_failure("authentication"))])
    assert failing(scripted, monkeypatch).cause == "authentication"


def test_a_run_that_its_platform_has_lost_is_of_unknown_effect(monkeypatch):
    time = Time()
    failure = failing(Scripted(RUNNING, [UNKNOWN]), monkeypatch, time=time, seconds=300.0)
    assert failure.cause == "server_error" and failure.policy.may_have_taken_effect
    assert agent_run.LOST_SECONDS <= time.at < 1.1 * agent_run.LOST_SECONDS


@pytest.mark.parametrize("cause", agent_run.LOST_REPLIES)
def test_a_start_whose_reply_is_lost_is_found_by_the_ids_that_were_chosen(monkeypatch, cause):
    scripted = Scripted(lost(cause), [UNKNOWN, RUNNING, COMPLETED_RUN])
    assert run(scripted, monkeypatch)["output"] == "42"
    name, seconds = scripted.calls[0]
    assert seconds <= agent_run.CALL_SECONDS


def test_a_start_that_never_arrived_is_its_own_failure(monkeypatch):
    failure = failing(Scripted(lost(), [UNKNOWN], UNKNOWN), monkeypatch)
    assert (failure.cause, failure.message) == ("timeout", "no reply")


def test_after_an_error_a_run_is_looked_for_only_shortly(monkeypatch):
    time, error = Time(), make_failure("server_error", "it crashed", 500)
    failure = failing(Scripted(CallError(error), [UNKNOWN]), monkeypatch, time=time)
    assert failure == error and time.at < 2 * agent_run.MISSING_SECONDS_AFTER_ERROR
    assert run(Scripted(CallError(error), [RUNNING, COMPLETED_RUN]), monkeypatch)["output"] == "42"


@pytest.mark.parametrize("cause", ["authentication", "bad_request", "not_found", "rate_limit"])
def test_a_start_that_was_refused_is_not_looked_for(monkeypatch, cause):
    scripted = Scripted(lost(cause), [COMPLETED_RUN])
    assert failing(scripted, monkeypatch).cause == cause
    assert [name for name, _ in scripted.calls] == ["start"]


def test_a_start_that_was_never_sent_is_not_looked_for(monkeypatch):
    unsent = make_failure("network", "refused", evidence={"sent": False})
    scripted = Scripted(CallError(unsent), [COMPLETED_RUN])
    assert failing(scripted, monkeypatch) == unsent


def test_where_no_id_can_be_chosen_a_lost_reply_is_lost(monkeypatch):
    capabilities = Capabilities(joins=True, cancels=True)
    assert failing(Scripted(lost(), capabilities=capabilities), monkeypatch).cause == "timeout"


def test_a_question_is_for_a_person(monkeypatch):
    asking = state("asking", question=Question("Delete {{ all }}?"))
    failure = failing(Scripted(RUNNING, [asking]), monkeypatch)
    assert failure.cause == "input_required" and "Delete {{ all }}?" in failure.message
    # Another platform would ask again, or go on unasked.
    assert not failure.policy.retry_same_target and not failure.policy.retry_other_target


# What agents report.


@pytest.mark.parametrize("report, cause, spoken", [
    ("rate limit exceeded at the model", "rate_limit", None),
    ({"error": {"code": "insufficient_quota"}}, "quota", None),
    ({"error": "GraphRecursionError", "message": "x"}, "infinite_loop", None),
    ("the request timed out", "agent_failed", "timeout"),
    ("Invalid API key", "agent_failed", "authentication"),
    ("connection refused", "agent_failed", "network"),
    ("503 Service Unavailable", "agent_failed", "server_error"),
    (None, "agent_failed", None), ([], "agent_failed", None), (5, "agent_failed", None),
    ("it broke", "agent_failed", None),
])
def test_an_agent_s_own_trouble_is_not_its_platform_s(report, cause, spoken):
    failure = agent_failure(report, 200)
    assert (failure.cause, failure.evidence.get("spoken_cause")) == (cause, spoken)
    assert not failure.policy.counts_for_breaker and failure.policy.scope != "host"
    assert failure.policy.may_have_taken_effect or failure.evidence["ran"]


# Handles.


def test_a_handle_survives_storage_whatever_its_ids_look_like():
    handle = Handle("a2a", "p", "bot", {"task": "a/b#c ../== {{ x }}", "context": "x" * 4096})
    assert Handle.from_dict(handle.as_dict()) == handle
    assert handle.with_ids(run="r").ids["run"] == "r" and "run" not in handle.ids


@pytest.mark.parametrize("data", [
    None, 5, "x", {}, {"ids": {}}, {"api": "a", "platform": "p", "agent": "b", "ids": {"t": ""}},
    {"api": "a", "platform": "p", "agent": "b", "ids": {"t": "x" * 4097}},
    {"api": "a", "platform": "p", "ids": {"t": "x"}}, {"api": 5, "platform": "p", "agent": "b",
                                                       "ids": {"t": "x"}},
])
def test_what_is_no_handle_is_refused(data):
    with pytest.raises(InvalidInput) as refused:
        Handle.from_dict(data)
    assert refused.value.field == "handle"


def test_progress_is_one_harmless_line():
    line = protocol.progress_line("step 1\n{{ 7*7 }}\x1b[2J" + "x" * 1000)
    assert "\n" not in line and "{{" not in line and "\x1b" not in line
    assert len(line) <= protocol.MAX_PROGRESS_CHARS and protocol.progress_line(5) == ""
