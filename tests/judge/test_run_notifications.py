"""Webhooks that real servers post about runs of agents, given to the intake as StackStorm's rules
would, on st2local: `langgraph dev`, servers of a2a-sdk, and the types of OpenAI's SDK.
"""
import uuid

import pytest
import requests
from fixtures import PACK
from fixtures.agent_servers import KEY, WEBHOOK_KEY, langgraph, python_server
from fixtures.sdk_judge import sdk_judge
from fixtures.waiting import ENDED, PATIENCE_SECONDS, until
from fixtures.webhook_receiver import webhook_receiver

from st2local import St2Local
from synthralos.calls.agent_platforms.run_notifications import read_notification

HOSTILE = "{{ 7*7 }} <% ctx().st2 %> \u202e"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory, effects):
    with langgraph(tmp_path_factory.mktemp("langgraph"), effects) as base_url:
        yield base_url


@pytest.fixture(scope="module", params=[
    ("a2a", "a2a_server.py", "/rpc", "1.0"), ("a2a", "a2a_server.py", "/rpc", "0.3"),
    ("a2a-0.3", "a2a_03_server.py", "", "0.3"),
], ids=["sdk-1-speaks-1.0", "sdk-1-speaks-0.3", "sdk-0.3"])
def desk(request, tmp_path_factory):
    """(base URL, path of JSON-RPC, version)."""
    name, script, path, version = request.param
    with python_server(name, script, tmp_path_factory.mktemp("a2a")) as base_url:
        yield base_url, path, version


@pytest.fixture
def receiver():
    with webhook_receiver() as running:
        yield running


def post(url, body, **headers):
    with requests.Session() as session:
        session.trust_env = False
        response = session.post(url, json=body, headers=headers, timeout=PATIENCE_SECONDS)
    response.raise_for_status()
    return response.json()


def get(url):
    with requests.Session() as session:
        session.trust_env = False
        response = session.get(url, headers={"x-api-key": KEY}, timeout=PATIENCE_SECONDS)
    response.raise_for_status()
    return response.json()


class Pack:
    """The pack on st2local, with one agent of one platform."""

    def __init__(self, folder, rule, platform, **agent):
        self._rule = "synthralos." + rule
        config = {
            "platforms": [dict(platform, name="agents", token=KEY)],
            "agents": {"bot": dict(agent, platform="agents")},
            "automation": {"mode": "act", "recoveries_per_hour": 50},
            "backoff": {"strategy": "immediate"},
        }
        self.local = St2Local(PACK, config, folder)

    def receive(self, body):
        run = self.local.run(
            "synthralos.agent_run.receive", {}, rule=self._rule,
            trigger_instance={"payload": {"body": body, "headers": {}}},
        )
        assert run["status"] == "succeeded", run["result"]
        return run["result"]["result"]

    def recovery(self, result):
        """The recovery that an intake has started, once it has ended."""
        assert result["outcome"] == "started", result
        until(
            lambda: self.local.execution(result["run"])["status"] in ENDED, "the recovery ends"
        )
        return self.local.execution(result["run"])

    def recoveries(self):
        return self.local.executions(action="synthralos.agent_recovery")


@pytest.fixture
def pack(tmp_path):
    """pack(rule, platform, **agent) -> Pack."""
    packs = []

    def make(*arguments, **agent):
        packs.append(Pack(tmp_path / str(len(packs)), *arguments, **agent))
        return packs[-1]

    yield make
    for made_pack in packs:
        made_pack.local.close()


class Graphs:
    """The server of graphs as an application uses it, which wants a webhook for each run."""

    def __init__(self, base_url, receiver):
        self._base_url, self._receiver = base_url, receiver

    def run(self, query, graph="agent", key=KEY):
        """Run a graph on a thread of its own, and return what is posted of it at its end."""
        thread = str(uuid.uuid4())
        return self._run("/threads/%s/runs" % thread, query, graph, key, if_not_exists="create")

    def run_stateless(self, query, **more):
        """The same without a thread of its own."""
        return self._run("/runs", query, "agent", KEY, **more)

    def runs_on(self, thread):
        """All runs on a thread, newest first."""
        return get("%s/threads/%s/runs" % (self._base_url, thread))

    def _run(self, path, query, graph, key, **more):
        count = len(self._receiver.received) + 1
        body = dict(
            {"input": {"messages": [{"role": "user", "content": query}]}},
            assistant_id=graph, webhook=self._receiver.url, **more,
        )
        post(self._base_url + path, body, **{"x-api-key": key})
        return self._receiver.bodies(count)[-1]


@pytest.fixture
def app(graphs, receiver):
    return Graphs(graphs, receiver)


@pytest.fixture
def graph_pack(graphs, pack):
    def make(agent):
        return pack("webhook_langgraph", {"api": "langgraph", "base_url": graphs}, agent=agent)

    return make


def test_a_failed_run_of_a_graph_starts_its_recovery_once(app, graph_pack, receiver, effects):
    # The fourth node fails twice: in the run of the application, and once more.
    query = "{{ five }} <% steps %> " + uuid.uuid4().hex
    webhook = app.run(query, "steps")
    assert webhook["status"] == "error"
    _, headers, _ = receiver.received[0]
    assert headers["content-type"] == "application/json"
    assert headers["st2-api-key"] == WEBHOOK_KEY
    pack = graph_pack("steps")
    result = pack.receive(webhook)
    run = pack.recovery(result)
    assert run["status"] == "succeeded", run["result"]
    assert run["result"]["output"]["recovery_result"]["output"] == "n5"
    # It went on where it stopped, on the thread of the application.
    lines = effects.read_text().split("\n")
    counts = [lines.count("%s %s" % (node, query)) for node in ("n1", "n2", "n3", "n4", "n5")]
    assert counts == [1, 1, 1, 3, 1]
    assert [row["status"] for row in app.runs_on(webhook["thread_id"])] == [
        "success", "error", "error",
    ]
    assert pack.receive(webhook)["outcome"] == "duplicate"
    assert len(pack.recoveries()) == 1


def test_only_what_the_server_confirms_starts_a_run(app, graph_pack):
    failed, completed = app.run("raise " + HOSTILE), app.run("say hello")
    question = app.run("ask May I pay?")
    foreign = app.run("raise x", key=KEY + "-of-another")
    pack = graph_pack("agent")
    never = dict(failed, thread_id=str(uuid.uuid4()), run_id=str(uuid.uuid4()))
    hints = [
        (never, "unconfirmed"), (foreign, "unconfirmed"),
        (dict(failed, run_id=completed["run_id"]), "unconfirmed"),
        (dict(completed, status="error", error={"message": "it failed"}), "not_a_failure"),
        (dict(question, status="error"), "not_a_failure"), (failed, "started"),
        (foreign, "unconfirmed"),
    ]
    results = [pack.receive(hint) for hint, _ in hints]
    assert [result["outcome"] for result in results] == [outcome for _, outcome in hints]
    assert len(pack.recoveries()) == 1
    run = pack.recovery(results[5])
    # The agent raises whenever it is asked that; what it was asked came as it was.
    assert run["status"] == "failed" and HOSTILE in run["result"]["output"]["error"]["message"]


def test_a_run_without_a_thread_is_confirmed_if_it_is_kept(app, graph_pack):
    pack = graph_pack("agent")
    assert pack.receive(app.run_stateless("raise x"))["outcome"] == "unconfirmed"
    result = pack.receive(app.run_stateless("raise x", on_completion="keep"))
    assert pack.recovery(result)["status"] == "failed"


def test_a_graph_that_is_no_configured_agent_starts_nothing(app, graph_pack):
    assert graph_pack("steps").receive(app.run("raise x"))["outcome"] == "not_configured"


def test_runs_that_the_pack_has_started_start_nothing(app, graph_pack, graphs):
    pack = graph_pack("agent")
    parameters = {"agent_id": "bot", "failure_type": "error", "original_query": "raise it broke"}
    run = pack.local.run("synthralos.agent_recovery", dict(parameters, max_retries=0))
    assert run["status"] == "failed"
    threads = post(graphs + "/threads/search", {"metadata": {"graph_id": "agent"}, "limit": 100},
                 **{"x-api-key": KEY})
    hints = [hint for thread in threads for hint in app.runs_on(thread["thread_id"])]
    own = [hint for hint in hints if hint["metadata"].get("execution_id") == run["id"]]
    assert own
    outcomes = [pack.receive({name: hint[name] for name in ("thread_id", "run_id")})["outcome"]
                for hint in own]
    assert outcomes == ["own_execution"] * len(own)
    assert len(pack.recoveries()) == 1


def send(desk, receiver, text):
    """Start a task whose events are posted to the receiver; return all that are."""
    base_url, path, version = desk
    headers = {"Authorization": "Bearer " + KEY}
    message = {"messageId": uuid.uuid4().hex}
    if version == "1.0":
        headers["A2A-Version"] = "1.0"
        message.update(role="ROLE_USER", parts=[{"text": text}])
        configuration = {
            "returnImmediately": True, "taskPushNotificationConfig": {"url": receiver.url},
        }
    else:
        message.update(kind="message", role="user", parts=[{"kind": "text", "text": text}])
        configuration = {"blocking": False, "pushNotificationConfig": {"url": receiver.url}}
    body = {
        "jsonrpc": "2.0", "id": 1,
        "method": "SendMessage" if version == "1.0" else "message/send",
        "params": {"message": message, "configuration": configuration},
    }
    before = len(receiver.received)
    post(base_url + path, body, **headers)
    # It is submitted, works, and ends.
    return receiver.bodies(before + 3)[before:]


def test_of_the_events_of_a_task_the_one_of_its_failure_starts_its_recovery(desk, receiver, pack):
    base_url, path, version = desk
    events = send(desk, receiver, "fail " + HOSTILE)
    assert {headers["content-type"] for _, headers, _ in receiver.received} == {"application/json"}
    desk_pack = pack("webhook_a2a", {
        "api": "a2a", "base_url": base_url + path, "protocol_version": version,
        "binding": "JSONRPC",
    })
    results = [desk_pack.receive(event) for event in events]
    assert [result["outcome"] for result in results] == ["not_a_failure"] * 2 + ["started"]
    run = desk_pack.recovery(results[-1])
    assert run["status"] == "failed" and HOSTILE in run["result"]["output"]["error"]["message"]
    assert desk_pack.receive(events[-1])["outcome"] == "duplicate"
    results = [desk_pack.receive(event) for event in send(desk, receiver, "say hello")]
    assert {result["outcome"] for result in results} == {"not_a_failure"}
    assert len(desk_pack.recoveries()) == 1


def test_a_task_is_confirmed_over_http_too(desk, receiver, pack):
    base_url, path, version = desk
    if path != "/rpc":
        pytest.skip("this server speaks JSON-RPC only")
    failed = send(desk, receiver, "fail it broke")[-1]
    desk_pack = pack("webhook_a2a", {
        "api": "a2a", "base_url": base_url + "/rest", "protocol_version": version,
        "binding": "HTTP+JSON",
    })
    foreign = {"statusUpdate": dict(failed["statusUpdate"], taskId=str(uuid.uuid4()))}
    assert desk_pack.receive(foreign)["outcome"] == "unconfirmed"
    assert desk_pack.recovery(desk_pack.receive(failed))["status"] == "failed"


def test_every_event_of_openai_is_read_and_those_about_responses_name_one():
    with sdk_judge() as sdks:
        events = [sdks.ask(answer="openai_webhooks", seed=seed)["body"] for seed in range(400)]
    kinds = {}
    for event in events:
        if not event["data"].get("id", "x").strip():
            continue
        notification = read_notification(event)
        is_of_response = event["type"].startswith("response.")
        assert notification.api == "openai_responses"
        assert notification.ids == ({"response": event["data"]["id"]} if is_of_response else {})
        kinds.setdefault(is_of_response, set()).add(event["type"])
    assert kinds[True] == {
        "response.completed", "response.failed", "response.incomplete", "response.cancelled",
    }
    assert len(kinds[False]) > 10
