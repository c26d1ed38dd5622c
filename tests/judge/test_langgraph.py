"""Agents on a real LangGraph Server, `langgraph dev`, in an environment of its own (`make judges`).
"""
import threading

import pytest
import requests
from fixtures.agent_servers import KEY, Agent, client, langgraph
from fixtures.waiting import let_pass, limit_under_test, until

from synthralos.calls.agent_platforms import connect
from synthralos.calls.agent_platforms.protocol import Checkpoint, NoCheckpoint, Question


@pytest.fixture(scope="module")
def entry(tmp_path_factory, effects):
    with langgraph(tmp_path_factory.mktemp("langgraph"), effects) as base_url:
        yield {"api": "langgraph", "base_url": base_url, "token": KEY}


@pytest.fixture
def agent(entry):
    return Agent(entry, "agent")


def lines(effects, line):
    return effects.read_text().split("\n").count(line)


def ended(platform, state):
    """The state of a run when it runs no more."""

    def poll():
        now = platform.join(state.handle, 60.0)
        return None if now.status == "running" else now

    return until(poll, "the run ends")


def test_an_agent_that_answers_has_recovered(agent):
    result = agent.run("say hello {{ 7*7 }} <% ctx() %>")
    assert result["output"] == "1: hello {{ 7*7 }} <% ctx() %>"
    assert result["execution_id"]


def test_content_in_parts_is_read_as_text(agent):
    assert agent.run("parts all of it")["output"] == "all of it"


def test_the_output_may_be_the_whole_state(entry):
    output = Agent(dict(entry, output="state"), "agent").run("say x")["output"]
    assert [message["type"] for message in output["messages"]] == ["human", "ai"]


@pytest.mark.parametrize("query, cause, words", [
    ("raise it broke", "agent_failed", "it broke"),
    ("raise the tool weather failed", "tool_failure", "the tool weather failed"),
    ("raise Rate limit reached for gpt-4", "rate_limit", "Rate limit reached"),
    ("raise {{ 7*7 }} <% ctx() %>", "agent_failed", "{{ 7*7 }} <% ctx() %>"),
    ("blank", "blank_output", "blank"),
    ("ask May I pay?", "input_required", "May I pay?"),
])
def test_each_end_without_an_answer_has_its_cause(agent, query, cause, words):
    failure = agent.failure(query)
    assert failure.cause == cause and words in failure.message


def test_a_limit_of_steps_is_a_loop(entry):
    failure = Agent(entry, "steps").failure("x", config={"maxIterations": 2})
    assert failure.cause == "infinite_loop"


@pytest.mark.parametrize("name", ["nobody", "6f0d1c5e-0a0b-4d0e-9d5f-2a4c1c5f7b31"])
def test_an_agent_that_the_server_does_not_know_is_not_found(entry, name):
    assert Agent(entry, name).failure("say x").cause == "not_found"


@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_the_key_it_is_the_credential(entry, token):
    stranger = Agent(dict(entry, token=token), "agent")
    assert stranger.failure("say x").cause == "authentication"
    result = connect(client(), stranger.platform).check(None, 60.0)
    assert not result.passed and "token" in result.hint


def test_a_run_that_hangs_is_cancelled_and_leaves_no_effect(agent, effects):
    failure = agent.failure("sleep 60 late", seconds=limit_under_test(4.0))
    assert failure.cause == "agent_timeout" and "was cancelled" in failure.message
    let_pass(1.0)
    assert lines(effects, "late") == 0


def test_what_somebody_cancelled_has_no_question(agent):
    platform = connect(client(), agent.platform)
    state = platform.start(agent.request("sleep 60 never"), 60.0)
    assert state.status == "running"
    platform.cancel(state.handle, 60.0)
    state = ended(platform, state)
    assert (state.status, state.failure.cause, state.question) == ("failed", "cancelled", None)


def test_one_key_starts_one_run_however_often_it_is_started(agent, effects, entry):
    request, outputs = agent.request("sleep 3 once"), []
    threads = [
        threading.Thread(
            target=lambda: outputs.append(
                agent.run("sleep 3 once", request.idempotency_key)["output"]
            )
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["slept"] * 3 and lines(effects, "once") == 1
    handle = connect(client(), agent.platform).handle_for(request)
    runs = requests.get(
        "%s/threads/%s/runs" % (entry["base_url"], handle.ids["thread"]),
        headers={"x-api-key": KEY}, proxies={"http": None}, timeout=60,
    ).json()
    assert len(runs) == 1


def test_a_run_is_found_by_its_key_alone(agent):
    platform, request = connect(client(), agent.platform), agent.request("say found")
    handle = platform.handle_for(request)
    assert platform.join(handle, 60.0).status == "unknown"
    started = platform.start(request, 60.0)
    state = ended(platform, started)
    assert platform.join(handle, 60.0) == state and state.output == "1: found"


def test_what_failed_is_started_anew_and_its_messages_stay_behind(agent):
    platform, request = connect(client(), agent.platform), agent.request("raise once")
    first = ended(platform, platform.start(request, 60.0))
    again = agent.request("say again", request.idempotency_key)
    second = ended(platform, platform.start(again, 60.0))
    assert first.status == "failed" and second.output == "1: again"
    assert first.handle.ids["thread"] != second.handle.ids["thread"]
    assert platform.join(platform.handle_for(request), 60.0) == second


def test_a_checkpoint_is_continued_and_each_node_runs_once(entry, effects):
    steps = Agent(entry, "steps")
    platform, request = connect(client(), steps.platform), steps.request("tour-1")
    state = ended(platform, platform.start(request, 60.0))
    failures = 0
    while state.status == "failed":
        failures += 1
        assert "the tool weather failed" in state.failure.message
        state = ended(platform, platform.resume(request, Checkpoint(state.handle), 60.0))
    assert (failures, state.output) == (2, "n5")
    counts = [lines(effects, "%s tour-1" % node) for node in ("n1", "n2", "n3", "n4", "n5")]
    assert counts == [1, 1, 1, 3, 1]


def test_without_a_checkpoint_there_is_nothing_to_continue(agent):
    platform, request = connect(client(), agent.platform), agent.request("say done")
    state = ended(platform, platform.start(request, 60.0))
    with pytest.raises(NoCheckpoint):
        platform.resume(request, Checkpoint(state.handle), 60.0)


def test_a_question_is_answered_once_and_no_other_one_by_mistake(agent):
    platform, request = connect(client(), agent.platform), agent.request("ask {{ pay }}?")
    state = ended(platform, platform.start(request, 60.0))
    assert (state.status, state.question.text) == ("asking", "{{ pay }}?")
    other = Question("another", id="0" * 32)
    assert platform.answer(state.handle, other, "no", "k", 60.0) == state
    assert platform.resume(request, Checkpoint(state.handle), 60.0).question == state.question
    continued = platform.answer(state.handle, state.question, "yes {{ x }}", "k", 60.0)
    assert ended(platform, continued).output == "told: yes {{ x }}"


def test_a_node_that_asks_the_same_once_more_has_asked_another_question(agent):
    platform, request = connect(client(), agent.platform), agent.request("insist Pay?")
    first = ended(platform, platform.start(request, 60.0))
    second = ended(platform, platform.answer(first.handle, first.question, "maybe", "k1", 60.0))
    assert (second.status, second.question.text) == ("asking", "Pay?")
    assert second.question != first.question
    again = platform.answer(second.handle, first.question, "yes, of the first", "k1", 60.0)
    assert again.question == second.question, "the answer was to the first"
    assert ended(platform, first).question == second.question, "whichever run is asked for"
    last = ended(platform, platform.answer(second.handle, second.question, "yes", "k2", 60.0))
    assert last.output == "told: yes"


def test_what_another_agent_has_left_is_not_continued(entry, effects):
    steps, other = Agent(entry, "steps"), Agent(entry, "agent")
    platform, request = connect(client(), steps.platform), steps.request("tour-2")
    state = ended(platform, platform.start(request, 60.0))
    assert state.status == "failed"
    with pytest.raises(NoCheckpoint, match="another agent"):
        platform.resume(other.request("tour-2"), Checkpoint(state.handle), 60.0)
    assert lines(effects, "n4 tour-2") == 1


def test_a_corrected_state_is_what_the_run_goes_on_with(entry, effects):
    steps = Agent(entry, "steps")
    platform, request = connect(client(), steps.platform), steps.request("tour-3")
    state = ended(platform, platform.start(request, 60.0))
    values = {"messages": [{"role": "ai", "content": "corrected"}]}
    thread = "%s/threads/%s/state" % (entry["base_url"], state.handle.ids["thread"])
    before = requests.get(thread, headers={"x-api-key": KEY}, timeout=60).json()
    checkpoint = Checkpoint(
        state.handle, before["checkpoint"]["checkpoint_id"], values, as_node="n3"
    )
    state = ended(platform, platform.resume(request, checkpoint, 60.0))
    after = requests.get(thread, headers={"x-api-key": KEY}, timeout=60).json()
    assert "corrected" in [message["content"] for message in after["values"]["messages"]]
    assert lines(effects, "n4 tour-3") == 2 and lines(effects, "n3 tour-3") == 1


@pytest.mark.parametrize("query, answer, output, payments", [
    ("pay 12", "yes", "paid from 12", 1),
    ("pay 13", "no", "A person refused this tool call.", 0),
    ("pay 14", "not before {{ noon }}", "not before {{ noon }}", 0),
    ("ask_person How?", "like {{ this }}", "like {{ this }}", 0),
    ("pay 15; pay 16", "yes", "paid from 15 | paid from 16", 2),
])
@pytest.mark.parametrize("graph", ["tools", "tools_one_by_one"])
def test_a_person_approves_the_tools_of_a_langchain_agent(
    entry, effects, graph, query, answer, output, payments
):
    agent = Agent(entry, graph)
    platform, request = connect(client(), agent.platform), agent.request(query)
    before = effects.read_text().count("paid from")
    state, questions = ended(platform, platform.start(request, 60.0)), []
    while state.status == "asking":
        questions.append(state.question.text)
        state = ended(
            platform, platform.answer(state.handle, state.question, answer, "k", 60.0)
        )
    assert output in state.output
    assert effects.read_text().count("paid from") - before == payments
    assert len(questions) == (1 if graph == "tools" else query.count(";") + 1)
    assert query.split(" ")[0] in questions[0] and query.split(" ")[1].rstrip(";") in questions[0]


def test_the_check_costs_nothing_and_says_that_it_works(agent):
    result = connect(client(), agent.platform).check("agent", 60.0)
    assert result.passed and result.is_up
