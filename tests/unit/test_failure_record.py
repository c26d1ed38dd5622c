import pytest

from synthralos.core.sealing import unseal
from synthralos.recovery import agent_recovery, handle_error, llm_retry, reroute_request
from synthralos.runtime import failure_record
from synthralos.storage import history, tickets
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.stackstorm_api import StackStormError

from .conftest import http_answer

PARAMETERS = {"agent_id": "bot", "failure_type": "timeout", "original_query": "do it"}
WORKFLOWS = {
    module.WORKFLOW: module for module in (agent_recovery, handle_error, llm_retry, reroute_request)
}
ERROR = {"cause": "server_error", "message": "HTTP 503"}


def a_case(env, **more):
    analysis = agent_recovery.analyse(env, PARAMETERS, env.now())
    return dict(unseal(analysis["next"]["carry"], env.store), **more)


def written(env, case, parameters=PARAMETERS, workflow="agent_recovery"):
    complete = failure_record.complete_case(case)
    subject = WORKFLOWS[workflow].subject(complete, parameters)
    return failure_record.log_failed_run(env, workflow, subject, case)


def test_a_run_that_gave_up_tells_its_error_and_reason(make_env, store, api):
    env = make_env(api=api)
    case = a_case(env, gave_up={"reason": "max_retries, 3, is used up", "error": ERROR,
                                "again_at": None})
    case["progress"].update(attempts=4, trail=[{"attempt": 1, "target": "platform:x", "ok": False}])
    result = written(env, case)
    assert result["success"] is False and result["error"]["cause"] == "server_error"
    assert result["error"]["reason"] == "max_retries, 3, is used up"
    assert (result["attempts"], result["retry_count"], len(result["trail"])) == (4, 3, 1)
    assert tickets.get(store, result["ticket"])["subject"] == "bot"
    assert history.recent_entries(store, "bot")[0]["record"] == result["record"]
    assert result["trigger"] == "synthralos.recovery_failed"
    trigger, payload = api.fired[-1]
    assert payload["subject"] == "bot" and payload["ticket"] == result["ticket"]
    assert "do it" not in str(payload)


def test_a_refusal_is_told(make_env):
    refused = {"cause": "refused", "message": "agent_id: is missing. Give it."}
    result = written(make_env(), {"refused": refused}, {"agent_id": "{{ x }}"})
    assert result["error"]["cause"] == "refused" and "is missing" in result["error"]["reason"]
    assert result["attempts"] == 0 and result["trail"] == [] and "unknown" in result["summary"]


def test_a_refusal_in_the_middle_of_a_run_is_told(make_env):
    env = make_env()
    result = written(env, a_case(env, refused={"cause": "refused", "message": "no"}))
    assert result["error"]["cause"] == "refused" and "bot" in result["summary"]


def test_a_first_task_that_left_nothing_is_told(make_env):
    result = written(make_env(), None)
    assert result["error"]["cause"] == "unknown" and "without a result" in result["error"]["reason"]
    assert "bot" in result["summary"] and result["ticket"]


def test_an_attempt_that_crashed_is_told(make_env):
    env = make_env()
    result = written(env, a_case(env))
    assert "crashed" in result["error"]["reason"]


@pytest.mark.parametrize(
    "workflow, parameters, subject",
    [
        ("agent_recovery", {"agent_id": "bot"}, "bot"), ("agent_recovery", {}, "unknown"),
        ("agent_recovery", {"agent_id": "{{ x }}"}, "unknown"),
        ("llm_retry", {"original_request": {"model": "gpt-4"}}, "gpt-4"),
        ("llm_retry", {"original_request": "x"}, "unknown"),
        ("llm_retry", {"original_request": {"model": ["x"]}}, "unknown"),
        ("reroute_request", {"original_request": {"provider": "openai"}}, "openai"),
    ],
)
def test_without_a_case_only_a_name_is_taken_for_the_subject(
    make_env, store, workflow, parameters, subject
):
    result = written(make_env(), None, parameters, workflow)
    assert tickets.get(store, result["ticket"])["subject"] == subject


def test_the_same_problem_adds_to_its_ticket(make_env, clock):
    first = written(make_env(), None)
    clock.forward(1)
    second = written(make_env(), None)
    assert (first["ticket"], first["occurrences"]) == (second["ticket"], 1)
    assert second["occurrences"] == 2


def test_a_routing_failure_is_told(make_env, store):
    env = make_env()
    request = {"endpoint": "/x"}
    analysis = reroute_request.analyse(
        env, {"original_request": request, "failure_reason": "down"}, env.now())
    result = written(env, unseal(analysis["next"]["carry"], store), {}, "reroute_request")
    assert "route:openai/us" in result["summary"]


WEBHOOK = {"failure_webhook": "/webhooks/x"}


@pytest.mark.parametrize("status, webhook_result", [(200, "taken"), (404, "not taken: not_found"),
                                          (500, "not taken: server_error")])
def test_the_webhook_is_told(make_env, serve, status, webhook_result):
    server = serve(http_answer(status))
    env = make_env({"platforms": [dict(WEBHOOK, base_url=server.url)]})
    assert written(env, None)["webhook"] == webhook_result
    assert server.requests[0].startswith("POST /webhooks/x ")


class AwayApi:
    def fire(self, trigger, payload):
        raise StackStormError("StackStorm's API is away")


@pytest.mark.parametrize("credential", [{}, {"token": "literal-token"}, {"token_from": "a_key"},
                                        {"headers_from": "a_key"}])
def test_nothing_that_is_away_keeps_the_record_from_being_told(make_env, datastore, credential):
    datastore.away = True
    config = {"platforms": [dict(WEBHOOK, base_url="http://127.0.0.1:1", **credential)]}
    result = written(make_env(config, AwayApi(), store=BestEffortDatastore(datastore)), None)
    assert (result["ticket"], result["record"]) == (None, None)
    assert result["trigger"].startswith("not fired") and result["webhook"].startswith("not taken")


def test_a_secret_is_not_written_down(make_env, store):
    env = make_env({"platforms": [{"base_url": "http://h", "token": "very-secret"}]})
    error = {"cause": "unknown", "message": "token very-secret was refused"}
    case = a_case(env, gave_up={"reason": "very-secret", "error": error, "again_at": None})
    written(env, case)
    assert "very-secret" not in str(store.list("synthralos."))
