"""Webhooks about runs of agents on a live StackStorm: a real LangGraph Server posts them there.

StackStorm's API must be reachable from this machine, and its action runners must reach this
machine's loopback address.
"""
import uuid

import pytest
import requests
from fixtures.agent_servers import KEY, langgraph
from fixtures.waiting import LIVE_PATIENCE_SECONDS, PATIENCE_SECONDS, until
from live_rules import enabled

RULE, PATH = "webhook_langgraph", "/webhooks/synthralos/langgraph-runs"
HOSTILE = (
    "{{ config_context.token }} <% ctx().st2 %> <%= erb %> {% raw %} {{.Values.x}} \u202e\U0001f600"
)


@pytest.fixture(scope="module")
def api_key(st2):
    created = st2.call("POST", "/apikeys", json={"metadata": {"used_by": "live test"}})
    yield created["key"]
    st2.call("DELETE", "/apikeys/" + created["id"])


@pytest.fixture(scope="module")
def graphs(tmp_path_factory, effects, api_key):
    with langgraph(tmp_path_factory.mktemp("langgraph"), effects, api_key) as base_url:
        yield base_url


@pytest.fixture
def agents(st2, box, graphs):
    """The pack knows the server's graphs as agents, and may start runs."""
    config = dict(
        box.pack_config(),
        platforms=[{"name": "graphs", "api": "langgraph", "base_url": graphs, "token": KEY}],
        agents={name: {"platform": "graphs", "agent": name} for name in ("agent", "steps")},
        automation={"mode": "act", "recoveries_per_hour": 50},
    )
    st2.call("PUT", "/configs/synthralos", json=config)
    yield
    st2.call("PUT", "/configs/synthralos", json=box.pack_config())


class App:
    """An application of the LangGraph Server, which has StackStorm told of the end of each run."""

    def __init__(self, graphs, webhook):
        self._graphs, self._webhook = graphs, webhook
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["x-api-key"] = KEY

    def run(self, query, graph="agent"):
        """(thread id, run id) of a run that was started."""
        thread = str(uuid.uuid4())
        body = {
            "assistant_id": graph, "if_not_exists": "create", "webhook": self._webhook,
            "input": {"messages": [{"role": "user", "content": query}]},
        }
        return thread, self._call("POST", thread, json=body)["run_id"]

    def runs_on(self, thread):
        """All runs on a thread, newest first."""
        return self._call("GET", thread)

    def _call(self, method, thread, **options):
        url = "%s/threads/%s/runs" % (self._graphs, thread)
        response = self._session.request(method, url, timeout=PATIENCE_SECONDS, **options)
        response.raise_for_status()
        return response.json()


@pytest.fixture
def app(st2, graphs, agents):
    return App(graphs, st2.url + PATH)


def intake_of(st2, run, before=()):
    """(id, result) of an intake of that run, once one has ended that is not in `before`."""
    def ended():
        rows = st2.call("GET", "/executions", params={
            "action": "synthralos.agent_run.receive", "limit": 50,
            "include_attributes": "status,result,trigger_instance",
        })
        for row in rows:
            body = ((row.get("trigger_instance") or {}).get("payload") or {}).get("body") or {}
            is_of_run = body.get("run_id") == run[1] and row["id"] not in before
            if is_of_run and row["status"] in ("succeeded", "failed", "timeout"):
                assert row["status"] == "succeeded", row["result"]
                return row["id"], row["result"]["result"]
        return None

    return until(ended, "the intake of run %s has ended" % run[1], LIVE_PATIENCE_SECONDS)


def post(st2, thread, run):
    body = {"thread_id": thread, "run_id": run, "status": "error"}
    st2.call("POST", PATH, json=body)


def test_a_failed_run_starts_by_its_webhook_and_ends_recovered_on_its_thread(st2, app, effects):
    query = "{{ five }} <% steps %> " + uuid.uuid4().hex
    with enabled(st2, RULE):
        run = app.run(query, "steps")
        intake, result = intake_of(st2, run)
        assert (result["outcome"], result["subject"]) == ("started", "steps"), result
        recovery = st2.wait(result["run"])
        assert recovery["status"] == "succeeded", recovery["result"]
        assert recovery["result"]["output"]["recovery_result"]["output"] == "n5"
        statuses = [row["status"] for row in app.runs_on(run[0])]
        assert statuses == ["success", "error", "error"]
        lines = effects.read_text().split("\n")
        counts = [lines.count("%s %s" % (node, query)) for node in ("n1", "n2", "n3", "n4", "n5")]
        assert counts == [1, 1, 1, 3, 1]
        post(st2, *run)
        _, replay = intake_of(st2, run, before=(intake,))
    assert (replay["outcome"], replay["run"]) == ("duplicate", result["run"])


def test_what_the_server_does_not_confirm_starts_nothing(st2, app):
    with enabled(st2, RULE):
        completed, unknown = app.run("say hello"), (str(uuid.uuid4()), str(uuid.uuid4()))
        intake, first = intake_of(st2, completed)
        # It says of itself that it failed.
        post(st2, *completed)
        post(st2, *unknown)
        _, lie = intake_of(st2, completed, before=(intake,))
        results = [first, lie, intake_of(st2, unknown)[1]]
    outcomes = [result["outcome"] for result in results]
    assert outcomes == ["not_a_failure", "not_a_failure", "unconfirmed"]
    assert {result["run"] for result in results} == {None}


def test_hostile_text_of_a_run_is_data(st2, app):
    with enabled(st2, RULE):
        _, result = intake_of(st2, app.run("raise " + HOSTILE))
        recovery = st2.wait(result["run"])
    assert recovery["status"] == "failed"
    assert HOSTILE in recovery["result"]["output"]["error"]["message"]
