"""What a failed execution is run again with: never a text that StackStorm would not show or render.
"""
import pytest

from synthralos.automation import failure_intake, outcomes, retry_run
from synthralos.automation.config import AutomationConfig
from synthralos.core.errors import InvalidInput
from synthralos.core.sealing import unseal
from synthralos.storage import last_queries, tickets

from .conftest import StartingApi

RUN = "5f0c000000000000000000aa"
MASKED = "********"
ACTION = "acme.ask_agent"


def failed(ref=ACTION, **parameters):
    return {
        "id": RUN, "status": "failed", "action": {"ref": ref, "parameters": {}}, "context": {},
        "parameters": parameters, "start_timestamp": "2026-01-31T12:00:00Z",
        "result": {"stderr": "timeout"},
    }


def config_of(**failed_action):
    return AutomationConfig.from_config(
        {"mode": "act", "failed_actions": {ACTION: failed_action} if failed_action else {}})


AGENT = {"workflow": "agent_recovery", "agent_id": "a", "query_from": "prompt"}


@pytest.mark.parametrize("failed_action, parameters, field", [
    (AGENT, {"prompt": MASKED}, "prompt"),
    (dict(AGENT, query_from=None), {"query": MASKED, "other": "x"}, "query"),
    ({"workflow": "llm_retry"}, {"model": "gpt-4", "prompt": MASKED}, "prompt"),
    ({"workflow": "llm_retry"}, {"model": "gpt-4", "prompt": "x", "messages": MASKED}, "messages"),
    ({"workflow": "reroute_request"}, {"endpoint": "/v1", "body": MASKED}, "body"),
])
def test_a_secret_request_is_sent_nowhere_and_its_ticket_names_the_parameter(
        make_env, failed_action, parameters, field):
    api = StartingApi()
    api.execution = lambda run, attributes: failed(**parameters)
    env = make_env(api=api)
    # The last query of that agent is another one.
    last_queries.save_query(env.store, "a", "Delete everything")
    result = failure_intake.receive_execution(
        env, config_of(**failed_action), {"execution_id": RUN})
    assert result["outcome"] == outcomes.SECRET_REQUEST and api.started == []
    details = tickets.get(env.store, result["ticket"])["details"]
    assert details["field"] == field and "secret" in details["hint"]
    with pytest.raises(InvalidInput, match="secret parameter"):
        retry_run.retry(env, config_of(**failed_action), failed(**parameters))
    assert api.started == []


def test_a_secret_beside_the_request_does_no_harm(make_env):
    incident = failure_intake.incident_of(
        make_env(), config_of(**AGENT), failed(prompt="6 x 7?", token=MASKED))
    assert incident.blocked is None and incident.request["original_query"] == "6 x 7?"


def own(name="llm_retry", **parameters):
    return failed("synthralos." + name, **parameters)


class RerunningApi(StartingApi):
    def re_run(self, execution_id, parameters):
        self.started.append((execution_id, parameters))
        return "5f0c000000000000000000bb"


HOSTILE = "{{ config_context.token }} <% ctx() %>"


def test_a_run_of_the_pack_is_run_again_with_its_text_sealed(make_env):
    api = RerunningApi()
    execution = own(
        original_request={"model": "gpt-4", "prompt": HOSTILE}, failure_reason="base64:eA==",
        fallback_models=["gpt-4o"], timeout=60)
    env = make_env(api=api)
    assert retry_run.retry(env, config_of(), execution) == {
        "run": "5f0c000000000000000000bb", "workflow": "llm_retry"}
    ((run, parameters),) = api.started
    assert run == RUN and set(parameters) == {"original_request", "failure_reason", "case"}
    assert parameters["original_request"] == {} and parameters["failure_reason"] == "@case"
    request = unseal(parameters["case"], env.store)["request"]
    assert request["original_request"]["prompt"] == HOSTILE and request["failure_reason"] == "x"


@pytest.mark.parametrize("parameters, field", [
    ({"original_request": {"messages": [{"content": MASKED}]}}, "original_request"),
    ({"failure_reason": MASKED}, "failure_reason"),
    ({"fallback_models": [HOSTILE]}, "fallback_models"),
])
def test_what_cannot_be_run_again_is_named(make_env, parameters, field):
    api = RerunningApi()
    inputs = dict({"original_request": {"model": "gpt-4", "prompt": "x"}}, **parameters)
    with pytest.raises(InvalidInput) as raised:
        retry_run.retry(make_env(api=api), config_of(), own(**inputs))
    assert raised.value.field == field and api.started == []
