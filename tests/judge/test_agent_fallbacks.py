"""Whole runs of agent_recovery before real servers: LangGraph, then A2A, then OpenAI's Responses.

The agent falls over from one kind of platform to another, is continued from its checkpoint, and
asks a person.
"""
import base64
import contextlib

import pytest
from fixtures import PACK
from fixtures.agent_servers import KEY, langgraph, python_server
from fixtures.waiting import PATIENCE_SECONDS, limit_under_test, until

from st2local import St2Local

FAILED = {"agent_id": "bot", "failure_type": "error"}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory, effects):
    """{name of a platform: base URL}."""
    folder = tmp_path_factory.mktemp
    with contextlib.ExitStack() as servers:
        graphs = servers.enter_context(langgraph(folder("langgraph"), effects))
        desk = servers.enter_context(python_server("a2a", "a2a_server.py", folder("a2a")))
        yield {"graphs": graphs, "desk": desk}


@pytest.fixture
def config(addresses, judge):
    return {
        "platforms": [
            {"name": "graphs", "api": "langgraph", "base_url": addresses["graphs"], "token": KEY},
            {"name": "desk", "api": "a2a", "base_url": addresses["desk"], "token": KEY},
            {"name": "models", "api": "openai_responses", "base_url": judge.url + "/v1",
             "token": "k"},
        ],
        "agents": {"bot": {"platform": "graphs", "agent": "agent", "fallbacks": [
            {"platform": "desk"}, {"platform": "models", "agent": "gpt-4o"}]}},
        "backoff": {"strategy": "immediate"},
    }


@pytest.fixture
def recover(config, tmp_path):
    """recover(query) -> (status, output) of a run with `config`.

    recover.start(query) -> (St2Local, handle), while it goes on.
    """
    runs = []

    def start(query, **parameters):
        runs.append(St2Local(PACK, config, tmp_path / str(len(runs))))
        plan = {"steps": [{"action": "retry_execution"}]}
        # StackStorm renders what it finds in parameters; this it cannot read.
        sealed = "base64:" + base64.b64encode(query.encode()).decode()
        parameters = dict(
            dict(FAILED, original_query=sealed, context={"repairPlan": plan}, retry_delay=0),
            **parameters)
        return runs[-1], runs[-1].start("synthralos.agent_recovery", parameters)

    def run(query, **parameters):
        execution = start(query, **parameters)[1].wait(PATIENCE_SECONDS)
        return execution["status"], execution["result"]["output"]

    run.start = start
    yield run
    for local in runs:
        local.close()


def approvals(local):
    return local.run("synthralos.approval.list")["result"]["result"]["approvals"]


def attempts(output):
    return [(entry["target"], entry.get("cause")) for entry in output["trail"]
            if "attempt" in entry]


def test_an_agent_that_works_is_asked_where_it_runs_first(recover):
    status, output = recover("say hello {{ 7*7 }}")
    assert status == "succeeded" and output["recovery_result"]["output"] == "1: hello {{ 7*7 }}"
    assert attempts(output) == [("platform:graphs", None)]


def test_what_fails_half_way_is_continued_and_each_node_runs_once(recover, config, effects):
    config["agents"]["bot"] = {"platform": "graphs", "agent": "steps"}
    status, output = recover("tour-7", context={})
    assert status == "succeeded" and output["recovery_result"]["output"] == "n5"
    lines = effects.read_text().split("\n")
    nodes = ("n1", "n2", "n3", "n4", "n5")
    assert [lines.count("%s tour-7" % node) for node in nodes] == [1, 1, 1, 3, 1]
    steps = [entry["step"] for entry in output["trail"]]
    assert steps == ["retry_execution", "resume_checkpoint", "resume_checkpoint"]


@pytest.mark.parametrize("platform, query, answer, output", [
    ("graphs", "ask May I {{ x }}?", {"approved": True}, "told: yes"),
    ("graphs", "ask May I?", {"approved": False}, "told: no"),
    ("graphs", "ask How?", {"answer": "base64:e3sgeCB9fSA8JSB5ICU+"}, "told: {{ x }} <% y %>"),
    ("desk", "ask May I {{ x }}?", {"answer": "say {well}"}, "{well}\nend"),
    ("desk", "auth Log in at the bank", {"approved": True}, "\nend"),
])
def test_a_question_is_answered_and_the_same_run_goes_on(
    recover, config, platform, query, answer, output
):
    config["agents"]["bot"] = {"platform": platform}
    if platform == "graphs":
        config["agents"]["bot"]["agent"] = "agent"
    local, handle = recover.start(query)
    (approval,) = until(lambda: approvals(local), "the question is listed")
    assert approval["takes_text"] == query.startswith("ask") and "{{" not in approval["question"]
    run = local.run("synthralos.approval.answer", dict(answer, execution_id=handle.id))
    assert run["status"] == "succeeded", run["result"]
    execution = handle.wait(PATIENCE_SECONDS)
    assert execution["status"] == "succeeded", execution["result"]
    assert execution["result"]["output"]["recovery_result"]["output"] == output
    assert execution["result"]["output"]["attempts"] == 1


@pytest.mark.parametrize("platform", ["graphs", "desk"])
def test_an_authorization_refused_or_a_question_unanswered_asks_nobody_else(
    recover, config, platform
):
    config["agents"]["bot"]["platform"] = platform
    config["agents"]["bot"]["fallbacks"] = [{"platform": "models", "agent": "gpt-4o"}]
    local, handle = recover.start("auth Log in" if platform == "desk" else "ask May I?")
    until(lambda: approvals(local), "the question is listed")
    if platform == "desk":
        answer = {"execution_id": handle.id, "approved": False}
        local.run("synthralos.approval.answer", answer)
    else:
        (approval,) = approvals(local)
        local.set_status(approval["inquiry"], "timeout")
    execution = handle.wait(PATIENCE_SECONDS)
    output = execution["result"]["output"]
    assert execution["status"] == "failed" and output["ticket"]
    assert attempts(output) == [("platform:" + platform, "input_required")]


def test_without_a_key_the_next_platform_answers(recover, config):
    config["platforms"][0]["token"] = "wrong"
    status, output = recover("say hello")
    assert status == "succeeded" and output["recovery_result"]["output"].startswith("hello")
    assert attempts(output) == [("platform:graphs", "authentication"), ("platform:desk", None)]


def test_an_agent_that_raises_on_all_of_them_ends_with_a_ticket(recover, config):
    del config["agents"]["bot"]["fallbacks"][1]
    status, output = recover("raise it broke", max_retries=0)
    assert status == "failed" and output["ticket"]
    assert attempts(output) == [("platform:graphs", "agent_failed"),
                                ("platform:desk", "agent_failed")]


def test_an_unsafe_agent_that_ran_is_repeated_nowhere(recover, config):
    config["agents"]["bot"]["unsafe_to_repeat"] = True
    status, output = recover("raise Rate limit reached for gpt-4")
    assert status == "failed" and attempts(output) == [("platform:graphs", "rate_limit")]


def test_a_run_that_takes_too_long_is_cancelled_before_another_platform_is_asked(
    recover, config, effects
):
    config["platforms"][0]["run_seconds"] = limit_under_test(3)
    status, output = recover("sleep 60 late-line")
    assert attempts(output)[0] == ("platform:graphs", "agent_timeout")
    assert "was cancelled" in output["trail"][0]["message"]
    assert "late-line" not in effects.read_text()
