"""Budget, what is kept, and clearing it, on a live StackStorm."""
import secrets

import pytest
from requests.utils import quote

from sandbox import agent_failed

WORD = "zanzibarine"


@pytest.fixture
def configured(st2, box):
    """configured(**entries): the sandbox's configuration with more; put back afterwards."""
    def configure(**entries):
        st2.call("PUT", "/configs/synthralos", json=dict(box.pack_config(), **entries))

    yield configure
    st2.call("PUT", "/configs/synthralos", json=box.pack_config())
    st2.run("storage.clear", kinds=["budget"], dry_run=False)


def result(st2, ref, **parameters):
    execution, _ = st2.run(ref, **parameters)
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["result"]


def values(st2):
    """{name: value} of all keys of the pack."""
    keys = []
    while True:
        params = {"prefix": "synthralos.", "limit": 100, "offset": len(keys), "sort": "-name"}
        rows = st2.call("GET", "/keys", params=params)
        keys += rows
        if len(rows) < 100:
            return {row["name"]: row["value"] for row in keys}


def test_a_budget_that_is_used_up(st2, box, configured):
    configured(budget={"per_run": {"tokens": 5}})
    request = {"prompt": "Hello", "model": "gpt-4"}
    run, output = st2.run("llm_retry", original_request=request, failure_reason="it was slow")
    assert run["status"] == "failed" and output["error"]["cause"] == "budget"
    assert output["attempts"] == 0 and output["ticket"]
    assert not [call for call in box.calls if call.target.startswith("llm:")]
    configured(budget={"per_day": {"tokens": 5000}})
    _, output = st2.run("llm_retry", original_request=request, failure_reason="it was slow")
    assert output["success"]


def test_no_word_is_left(st2, box, configured):
    from workflows.test_store_text import opened

    configured(store_user_text=False)
    before = set(values(st2))
    for fails in (False, True):
        if fails:
            box.script("platform", [agent_failed("the %s gave up" % WORD)], forever=True)
        run, _ = st2.run(
            "agent_recovery", agent_id="agent-" + secrets.token_hex(4), failure_type="timeout",
            original_query="Find the " + WORD, max_retries=0,
        )
        assert run["status"] == ("failed" if fails else "succeeded")
    new = {name: value for name, value in values(st2).items() if name not in before}
    assert new and not [name for name, value in new.items() if WORD in opened(value)]


def test_usage_and_clear(st2, box):
    agent = "agent-" + secrets.token_hex(4)
    foreign_key = "synthralos.theirs." + agent
    st2.call("PUT", "/keys/" + quote(foreign_key), json={"name": foreign_key, "value": "x"})
    try:
        for n in range(3):
            result(st2, "agent.pause", agent_id="%s-%d" % (agent, n), reason="a test")
        used = result(st2, "storage.usage")
        assert used["complete"] and used["kinds"]["pauses"]["keys"] >= 3 and used["foreign"] >= 1
        assert used["kinds"]["pauses"]["next_expiry"]
        dry = result(st2, "storage.clear", kinds=["pauses"])
        assert dry["dry_run"] and dry["left"] >= 3 and dry["deleted"] == 0
        cleared = result(st2, "storage.clear", kinds=["pauses"], dry_run=False)
        assert cleared["deleted"] == dry["left"] and cleared["left"] == 0
        assert "pauses" not in result(st2, "storage.usage")["kinds"]
        assert foreign_key in values(st2)
    finally:
        st2.call("DELETE", "/keys/" + quote(foreign_key))
