"""Agents behind real A2A servers: the official SDK in 1.x and 0.3, and fasta2a (`make judges`)."""
import contextlib

import pytest
import requests
from fixtures.agent_servers import KEY, Agent, aimock, client, free_port, python_server
from fixtures.waiting import limit_under_test, until

from synthralos.calls.agent_platforms import connect
from synthralos.calls.agent_platforms.protocol import AUTHORIZATION, INPUT, Handle, Question

#: name: (environment, script and arguments, entries of the platform)
SERVERS = {
    "1.0 JSON-RPC": ("a2a", "a2a_server.py", {}),
    "1.0 HTTP+JSON": ("a2a", "a2a_server.py", {"binding": "HTTP+JSON"}),
    "0.3 JSON-RPC of 1.x": ("a2a", "a2a_server.py", {"protocol_version": "0.3"}),
    "0.3 HTTP+JSON of 1.x": (
        "a2a", "a2a_server.py",
        {"protocol_version": "0.3", "binding": "HTTP+JSON", "agent_path": "/rest"}),
    "0.3 JSON-RPC": ("a2a-0.3", "a2a_03_server.py", {}),
    "0.3 HTTP+JSON": ("a2a-0.3", "a2a_03_server.py rest", {}),
    "fasta2a": ("fasta2a", "fasta2a_server.py", {}),
}
SDK_SERVERS = [name for name in SERVERS if name != "fasta2a"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """running(environment, script) -> base URL of a server that runs as long as the module."""
    urls = {}
    with contextlib.ExitStack() as servers:

        def start(environment, script):
            if (environment, script) not in urls:
                folder = tmp_path_factory.mktemp("a2a")
                server = python_server(environment, script, folder)
                urls[environment, script] = servers.enter_context(server)
            return urls[environment, script]

        yield start


@pytest.fixture
def server(request, running):
    """The entry of a platform that is called by SERVERS[param]."""
    environment, script, entries = SERVERS[request.param]
    base_url = running(environment, script)
    return dict(entries, api="a2a", name="desk", base_url=base_url, token=KEY)


every_server = pytest.mark.parametrize("server", SERVERS, indirect=True)
every_sdk_server = pytest.mark.parametrize("server", SDK_SERVERS, indirect=True)
new_servers = pytest.mark.parametrize(
    "server", ["1.0 JSON-RPC", "1.0 HTTP+JSON"], indirect=True)
old_servers = pytest.mark.parametrize("server", ["0.3 JSON-RPC", "0.3 HTTP+JSON"], indirect=True)


def ended(platform, state):
    """The state of a run when it runs no more."""

    def poll():
        now = platform.join(state.handle, 60.0)
        return None if now.status == "running" else now

    return until(poll, "the run ends") if state.status == "running" else state


def started(server, query):
    """(the platform, the state of a run of it that is not running)."""
    agent = Agent(server, "bot")
    platform = connect(client(), agent.platform)
    return platform, ended(platform, platform.start(agent.request(query), 60.0))


@every_server
def test_an_agent_that_answers_has_recovered(server):
    result = Agent(server, "bot").run("say hello {{ 7*7 }} <% ctx() %>")
    assert result["output"].startswith("hello {{ 7*7 }} <% ctx() %>") and result["execution_id"]


@every_sdk_server
def test_the_last_words_are_the_answer_where_there_is_no_artifact(server):
    assert Agent(server, "bot").run("spoken all of it")["output"] == "all of it"


@old_servers
def test_an_answer_may_be_data_or_a_message_without_a_task(server):
    assert Agent(server, "bot").run("data")["output"] == {"total": 5}
    assert Agent(server, "bot").run("direct at once")["output"] == "at once"


@every_server
@pytest.mark.parametrize("query, cause", [
    ("fail it broke", "agent_failed"), ("reject no such work", "content_policy"),
    ("blank", "blank_output"),
])
def test_each_end_without_an_answer_has_its_cause(server, query, cause):
    assert Agent(server, "bot").failure(query).cause == cause


@pytest.mark.parametrize(
    "server", [name for name in SERVERS if SERVERS[name][0] != "a2a-0.3"], indirect=True)
def test_an_agent_that_raises_has_failed(server):
    assert Agent(server, "bot").failure("raise it broke").cause == "agent_failed"


@old_servers
def test_an_agent_that_raises_where_the_server_notices_nothing_is_cancelled(server):
    # Its task stays `submitted` in servers of the SDK before 1.0.
    failure = Agent(server, "bot").failure("raise it", seconds=limit_under_test(4.0))
    assert failure.cause in ("agent_timeout", "timeout")


@every_sdk_server
@pytest.mark.parametrize("query, cause, words", [
    ("fail rate limit exceeded at the model", "rate_limit", "rate limit exceeded"),
    ("fail {{ 7*7 }} <% ctx() %>", "agent_failed", "{{ 7*7 }} <% ctx() %>"),
    ("reject nothing about {{ x }}", "content_policy", "nothing about {{ x }}"),
    ("ask May I pay?", "input_required", "May I pay?"),
    ("auth Log in first", "input_required", "Log in first"),
    ("cancelled by somebody", "cancelled", "by somebody"),
])
def test_an_agent_s_words_are_kept(server, query, cause, words):
    failure = Agent(server, "bot").failure(query)
    assert failure.cause == cause and words in failure.message


@every_server
@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_the_key_it_is_the_credential(server, token):
    stranger = Agent(dict(server, token=token), "bot")
    assert stranger.failure("say x").cause == "authentication"
    result = connect(client(), stranger.platform).check(None, 60.0)
    assert not result.passed and "token" in result.hint


@every_sdk_server
def test_a_task_that_hangs_is_cancelled(server):
    failure = Agent(server, "bot").failure("sleep 60", seconds=limit_under_test(4.0))
    assert failure.cause == "agent_timeout" and "was cancelled" in failure.message


@every_server
def test_a_task_is_found_by_its_id_and_no_other(server):
    platform, state = started(server, "say found")
    assert platform.join(state.handle, 60.0).output == state.output
    for other in ("nothing", "../../x#y", "a/b"):
        unknown = Handle("a2a", "desk", "bot", {"task": other})
        assert platform.join(unknown, 60.0).status == "unknown"


@new_servers
def test_a_task_is_found_by_the_message_that_began_it(server):
    agent = Agent(server, "bot")
    platform, request = connect(client(), agent.platform), agent.request("say found")
    handle = platform.handle_for(request)
    assert platform.join(handle, 60.0).status == "unknown"
    state = ended(platform, platform.start(request, 60.0))
    assert platform.join(handle, 60.0) == state and state.output.startswith("found")


@every_sdk_server
@pytest.mark.parametrize("query, kind", [("ask May I {{ pay }}?", INPUT),
                                         ("auth May I {{ pay }}?", AUTHORIZATION)])
def test_a_question_is_answered_and_no_other_one_by_mistake(server, query, kind):
    platform, state = started(server, query)
    assert (state.status, state.question.text) == ("asking", "May I {{ pay }}?")
    assert state.question.kind == kind
    other = Question("another", id="x")
    assert platform.answer(state.handle, other, "say no", "k0", 60.0).status == "asking"
    state_now = platform.answer(state.handle, state.question, "say yes {{ x }}", "k1", 60.0)
    assert ended(platform, state_now).output.startswith("yes {{ x }}")
    assert state_now.handle.ids["task"] == state.handle.ids["task"]


@every_server
def test_the_check_says_how_the_agent_is_called(server):
    result = connect(client(), Agent(server, "bot").platform).check("bot", 60.0)
    assert result.passed and "version" in result.details


@old_servers
def test_a_card_that_names_another_host_changes_only_the_binding(server):
    agent = Agent(server, "bot")
    assert agent.run("say here")["output"].startswith("here")
    assert "base_url is used" in connect(client(), agent.platform).check("bot", 60.0).details


@new_servers
def test_a_start_is_one_task(server):
    Agent(server, "bot").run("say counted-%s" % server.get("binding"))
    tasks = requests.get(server["base_url"] + "/started", proxies={"http": None}, timeout=60,
                         headers={"Authorization": "Bearer " + KEY}).json()
    assert tasks.count("say counted-%s" % server.get("binding")) == 1


def test_a_server_that_is_away_cannot_be_reached():
    nowhere = Agent({"api": "a2a", "base_url": "http://127.0.0.1:%d" % free_port()}, "bot")
    assert nowhere.failure("say x").cause == "network"


def test_aimock_s_agents_answer(tmp_path):
    with aimock(tmp_path) as base_url:
        desk = Agent({"api": "a2a", "base_url": base_url + "/a2a"}, "desk")
        assert desk.run("direct")["output"] == "at once"
        assert desk.run("task")["output"] == "found {{ x }}"
        assert desk.run("data")["output"] == {"total": 5}
        assert desk.failure("nothing of the kind").cause == "server_error"
        assert connect(client(), desk.platform).check(None, 60.0).passed
