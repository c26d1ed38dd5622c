"""Action steps: what is allowed, what StackStorm is given, and what comes back."""
import base64

import pytest
from fixtures.waiting import limit_under_test

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import action_step
from synthralos.storage.stackstorm_api import ExecutionNotFound, StackStormError

pytest.importorskip("synthralos.orchestration.config")
CONFIG = {"orchestration": {"allowed_actions": ["acme.do", "synthralos.llm_retry"]}}
STEP = {"name": "s", "action": "acme.do", "timeout": limit_under_test(30), "max_retries": 0,
        "retry_delay": 0, "schema": None}
OURS = {"pack": "synthralos", "runner_type": "orquesta"}
MARKED = "{{ config_context.x }} {% if %} {# #} <% ctx() %>"


class StackStorm:
    """An API whose executions end as the test says; `ends` is one ending for each that starts."""

    def __init__(self, *ends):
        self.ends, self.started, self.cancelled, self.polls = list(ends), [], [], 0

    def action(self, ref):
        return {"pack": "acme", "runner_type": "python-script"} if ref == "acme.do" else OURS

    def start(self, ref, parameters):
        self.started.append((ref, parameters))
        if isinstance(self.ends[0], Exception):
            raise self.ends.pop(0)
        return "5f0c%020d" % len(self.started)

    def execution(self, execution_id, attributes=None):
        self.polls += 1
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(end, Exception):
            raise end
        return end

    def cancel(self, execution_id):
        self.cancelled.append(execution_id)
        return True


def ended(status="succeeded", **result):
    return {"status": status, "result": result}


@pytest.fixture
def run(make_env, clock):
    def run(api, parameters=None, **more):
        env = make_env(config=CONFIG, api=api)
        case = {"deadline": clock.at + 600, "run": "5f0c"}
        step = dict(STEP, **more)
        return action_step.run(env, case, step, parameters or {}, "run step", sleep=clock.forward)

    return run


@pytest.mark.parametrize("result, output", [
    ({"result": {"a": 1}, "stdout": ""}, {"a": 1}),
    ({"output": {"a": 1}, "errors": []}, {"a": 1}),
    ({"stdout": "six", "failed": False}, {"stdout": "six", "failed": False}),
])
def test_the_output_of_each_kind_of_runner(run, result, output):
    outcome = run(StackStorm(ended(**result)))
    assert outcome.error is None and outcome.output == output and outcome.attempts == 1
    assert outcome.log_fields["execution_id"]


@pytest.mark.parametrize("ref, why", [
    ("core.local", "is not allowed"), ("acme.other", "is not allowed"),
])
def test_what_is_not_allowed_is_not_started(run, ref, why):
    api = StackStorm(ended())
    with pytest.raises(InvalidInput, match=why):
        run(api, action=ref)
    assert api.started == []


def test_an_action_that_is_not_there(run):
    api = StackStorm(ended())
    api.action = lambda ref: None
    with pytest.raises(InvalidInput, match="does not exist in this StackStorm"):
        run(api)


def test_nothing_that_stackstorm_is_given_is_a_template(run):
    api = StackStorm(ended())
    parameters = {"cmd": MARKED, "deep": [{"k": MARKED}, "plain }} text"], "n": 1, "{{ key }}": "v"}
    outcome = run(api, parameters)
    sent = api.started[0][1]
    broken = "{ { config_context.x } } { % if % } { # # } < % ctx() % >"
    assert sent == {"cmd": broken, "deep": [{"k": broken}, "plain }} text"], "n": 1,
                    "{ { key } }": "v"}
    assert outcome.log_fields["note"] == "template marks were broken by spaces in: cmd, deep"


def test_a_workflow_of_ours_is_given_text_that_it_decodes(run):
    api = StackStorm(ended())
    outcome = run(api, {"original_request": {"prompt": MARKED, "model": "m"}},
               action="synthralos.llm_retry")
    sent = api.started[0][1]["original_request"]
    assert sent["model"] == "m"
    assert base64.b64decode(sent["prompt"][len("base64:"):]).decode() == MARKED
    assert "were sent encoded in: original_request" in outcome.log_fields["note"]


def test_a_python_action_of_ours_is_like_any_other(run):
    api = StackStorm(ended())
    api.action = lambda ref: dict(OURS, runner_type="python-script")
    run(api, {"q": MARKED}, action="synthralos.llm_retry")
    assert "base64" not in api.started[0][1]["q"]


@pytest.mark.parametrize("result, reason", [
    ({"result": {"error": {"message": "no disk"}}}, "no disk"),
    ({"result": {"summary": "it broke"}}, "it broke"),
    ({"error": "no virtualenv"}, "no virtualenv"),
    ({"stderr": "line 1\nline 2"}, "line 1 line 2"),
    ({"errors": [{"message": "task x"}]}, "task x"),
])
def test_a_failed_action_says_why(run, result, reason):
    outcome = run(StackStorm(ended("failed", **result)))
    assert outcome.error["cause"] == "action_failed" and reason in outcome.error["message"]


def test_a_failed_action_is_tried_again_and_again(run):
    api = StackStorm(ended("failed"), ended("failed"), ended(result=7))
    outcome = run(api, max_retries=2, retry_delay=3)
    assert outcome.output == 7 and outcome.attempts == 3 and len(api.started) == 3


def test_an_output_that_does_not_match_is_a_failed_attempt(run):
    schema = {"type": "object", "required": ["n"]}
    api = StackStorm(ended(result={}), ended(result={"n": 1}))
    assert run(api, max_retries=1, schema=schema).output == {"n": 1}
    outcome = run(StackStorm(ended(result={})), schema=schema)
    assert outcome.error["cause"] == "schema_mismatch"


def test_an_action_that_is_not_over_in_time_is_cancelled(run):
    api = StackStorm({"status": "running"})
    outcome = run(api, timeout=limit_under_test(5))
    assert outcome.error["cause"] == "timeout" and len(api.cancelled) == 1 and api.polls >= 10


def test_a_moment_without_the_api_ends_nothing(run):
    api = StackStorm({"status": "running"}, StackStormError("away"), ended(result=1))
    assert run(api).output == 1 and api.cancelled == []


def test_what_may_have_been_started_is_not_started_again(run):
    api = StackStorm(StackStormError("away"), ended())
    outcome = run(api, max_retries=3)
    assert outcome.error["cause"] == "unknown" and len(api.started) == 1


def test_what_stackstorm_refused_is_tried_again(run):
    refused = StackStormError("StackStorm's API answered (503)")
    refused.refused = True
    api = StackStorm(refused, ended(result=1))
    assert run(api, max_retries=1).output == 1 and len(api.started) == 2


def test_an_execution_that_is_gone(run):
    with pytest.raises(ExecutionNotFound):
        run(StackStorm({"status": "running"}, ExecutionNotFound("gone")))
