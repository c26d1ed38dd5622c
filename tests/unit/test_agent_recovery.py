
import pytest
from fixtures.waiting import limit_under_test

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.calls import agent_run
from synthralos.calls.http import CallError
from synthralos.core.causes import CAUSES, TYPES
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import make_failure
from synthralos.core.sealing import unseal
from synthralos.recovery import agent_recovery

PARAMETERS = {"agent_id": "bot", "failure_type": "timeout", "original_query": "do it"}


def failure_of(failure_type="unknown", **details):
    return agent_recovery.failure_of({"failure_type": failure_type, "failure_details": details})


def analysed(env, **more):
    result = agent_recovery.analyse(env, dict(PARAMETERS, **more), env.now())
    return result, unseal(result["next"]["carry"], env.store)


@pytest.mark.parametrize("type_", TYPES)
def test_the_type_is_the_callers(type_):
    if type_ != "unknown":
        assert failure_of(type_, message="connection lost").type == type_


@pytest.mark.parametrize("name", ["message", "error", "reason", "code", "error_type", "errorType"])
def test_the_cause_is_in_the_details(name):
    assert failure_of("error", **{name: "Rate limit exceeded"}).cause == "rate_limit"


@pytest.mark.parametrize("name", ["status_code", "status", "code"])
@pytest.mark.parametrize("status, cause", [(503, "server_error"), (429, "rate_limit"),
                                           (401, "authentication"), (504, "timeout")])
def test_a_status_names_the_cause_where_words_do_not(name, status, cause):
    assert failure_of("error", message="oops", **{name: status}).cause == cause
    assert failure_of("error", error={"message": "oops", name: status}).cause == cause


def test_a_status_in_words_does_not_hide_one_in_numbers():
    assert failure_of("error", message="oops", status="failed", code=429).cause == "rate_limit"


@pytest.mark.parametrize("status", [200, True, None, 700])
def test_what_is_no_error_status_says_nothing(status):
    assert failure_of("error", message="oops", status=status).cause == "agent_failed"


def test_without_details_the_type_gives_the_cause():
    assert failure_of("timeout").cause == "timeout"
    assert (failure_of().type, failure_of().cause) == ("unknown", "unknown")


@pytest.mark.parametrize("type_", ["unknown", "unknown_error"])
def test_of_an_unknown_type_the_words_tell_type_and_cause(type_):
    failure = failure_of(type_, message="Request timeout")
    assert (failure.type, failure.cause) == ("timeout", "timeout")


def test_an_alias_brings_its_cause():
    failure = failure_of("communication_error", message="lost")
    assert (failure.type, failure.cause) == ("llm_error", "network")


def test_an_error_may_be_an_object():
    assert failure_of("error", error={"message": "Rate limit exceeded"}).cause == "rate_limit"


@hypothesis.given(st.sampled_from(TYPES), st.dictionaries(
    st.sampled_from(["message", "error", "status", "status_code", "code", "x"]),
    st.none() | st.integers() | st.floats() | st.text(st.characters()) | st.lists(st.text())))
def test_any_details_are_classified(type_, details):
    failure = failure_of(type_, **details)
    assert failure.cause in CAUSES and failure.type in TYPES


# The analysis.


def test_the_analysis_carries_the_case(make_env, clock):
    result, case = analysed(make_env(), failure_details={"message": "timed out"})
    assert result["failure"]["cause"] == "timeout" and result["next"]["cursor"] == 0
    assert case["agent"]["query"] == "do it" and case["agent"]["agent_type"] == "simple"
    assert case["deadline"] == clock.at + 290 and case["run"] == "5f0c"
    assert case["rules"]["max_retries"] == 3 and case["rules"]["base_delay"] == 5.0


@pytest.mark.parametrize(
    "more, field",
    [
        ({"agent_id": "a b"}, "agent_id"), ({"agent_id": None}, "agent_id"),
        ({"failure_type": "odd"}, "failure_type"), ({"original_query": " "}, "original_query"),
        ({"original_query": 5}, "original_query"), ({"context": []}, "context"),
        ({"failure_details": "x"}, "failure_details"),
        ({"context": {"expected_schema": {"type": 5}}}, "context.expected_schema"),
        ({"context": {"agentConfig": "x"}}, "context.agentConfig"),
        ({"max_retries": 11}, "max_retries"), ({"max_retries": -1}, "max_retries"),
        ({"max_retries": True}, "max_retries"), ({"max_retries": 2.5}, "max_retries"),
        ({"retry_delay": 301}, "retry_delay"), ({"timeout": limit_under_test(4)}, "timeout"),
        ({"timeout": 86401}, "timeout"), ({"timeout": "x"}, "timeout"),
    ],
)
def test_a_refusal_names_its_field(make_env, more, field):
    with pytest.raises(InvalidInput) as refused:
        analysed(make_env(), **more)
    assert refused.value.field == field


def test_without_a_platform_the_configuration_is_named(make_env):
    with pytest.raises(InvalidInput) as refused:
        analysed(make_env({}))
    assert refused.value.field == "config.platforms"


def test_the_configuration_of_an_agent_comes_before_what_the_caller_says(make_env):
    config = {"platforms": [{"base_url": "http://h"}],
              "agents": {"bot": {"agent_type": "react", "config": {"model": "configured"}}}}
    _, case = analysed(make_env(config), context={
        "agentType": "simple", "agentConfig": {"model": "callers", "more": 1}})
    assert case["agent"]["agent_type"] == "react"
    assert case["agent"]["config"] == {"model": "configured", "more": 1}


def test_similar_failures_are_shown(make_env, store, clock):
    from synthralos.storage import history

    for cause in ("timeout", "network"):
        clock.forward(1)
        history.append_entry(store, "bot", clock(), {"event": "failed", "cause": cause, "run": "r"})
    result, _ = analysed(make_env())
    assert [entry["cause"] for entry in result["similar_recent_failures"]] == ["timeout"]


# The plan and the rounds.


def test_a_plan_in_the_context_is_used(make_env):
    env = make_env()
    _, case = analysed(env, context={"repairPlan": {"steps": [{"action": "switch_model"}]}})
    result = agent_recovery.plan_repair(env, case)
    assert result["plan"]["source"] == "context"
    assert [step["action"] for step in case["plan"]["steps"]] == ["switch_model"]


def test_attempt_n_applies_step_n_to_the_original_request(make_env, monkeypatch):
    env = make_env()
    _, case = analysed(env, max_retries=3, retry_delay=0, context={"repairPlan": {"steps": [
        {"action": "rephrase", "parameters": {"text": "one"}},
        {"action": "rephrase", "parameters": {"text": "two"}, "priority": 5}]}})
    agent_recovery.plan_repair(env, case)
    queries, keys = [], []
    answer = {"output": "x", "execution_id": "e", "metadata": {}, "latency_ms": 1}

    def call(client, endpoint, request, *more):
        queries.append(request.query)
        keys.append(request.idempotency_key)
        if len(queries) < 3:
            raise CallError(make_failure("agent_failed", "no"))
        return dict(answer)

    monkeypatch.setattr(agent_run, "run_agent", call)
    ok, result = agent_recovery.run_round(env, case)
    assert not ok and result["next"]["cursor"] == 1
    case = unseal(result["next"]["carry"], env.store)
    ok, result = agent_recovery.run_round(env, case)
    assert ok and result["success"] is True
    assert queries == ["do it\n\none", "do it\n\ntwo", "do it\n\none"]
    assert len(set(keys)) == 3, "each failure is known, so each attempt is a new start"
    assert (result["attempts"], result["retry_count"]) == (3, 2)
    assert [entry["step"] for entry in result["trail"]] == ["rephrase"] * 3
    assert result["recovery_result"]["output"] == "x"


def test_the_same_request_after_a_lost_reply_has_the_same_key_at_every_platform(
    make_env, monkeypatch
):
    env = make_env()
    _, case = analysed(env, context={"repairPlan": {"steps": [{"action": "retry_execution"}]}})
    agent_recovery.plan_repair(env, case)
    keys = []

    def call(client, endpoint, request, *more):
        keys.append((endpoint.platform.name, request.idempotency_key))
        raise CallError(make_failure("timeout", "no answer"))

    monkeypatch.setattr(agent_run, "run_agent", call)
    agent_recovery.run_round(env, case)
    assert [name for name, _ in keys] == ["synthralos", "standby"]
    assert len({key for _, key in keys}) == 1


def test_a_dry_run_calls_nothing_and_says_what_it_would_do(make_env):
    env = make_env()
    _, case = analysed(env, dry_run=True)
    ok, result = agent_recovery.run_round(env, case)
    assert ok and result["dry_run"] is True and result["attempts"] == 0
    assert result["targets"] == {"platform:synthralos": "closed", "platform:standby": "closed"}
    assert result["waits"] == [5.0, 10.0, 20.0]


def test_alone_there_is_no_retry(make_env):
    case = agent_recovery.standalone_case(
        make_env(), {"agent_id": "bot", "original_query": "x"}, 1.7e9
    )
    assert case["rules"]["max_retries"] == 0 and case["failure"]["type"] == "unknown"
