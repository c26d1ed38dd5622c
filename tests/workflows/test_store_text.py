"""`store_user_text: false`: after any run, no word of a caller is left in the datastore."""
import base64
import gzip
import json
import zlib

import pytest
from workflows.orchestrations import Orchestrated

from sandbox import agent_failed, ok, status
from synthralos.storage.keyspace import kind_of_key

WORD = "zanzibarine"
ERROR = "the %s gave up" % WORD
# Not what compresses, so that a case with it needs the datastore.
LONG = " ".join("%s-%d" % (WORD, n * 7919 % 100003) for n in range(14000))


def agent(world, query=WORD, **more):
    inputs = {"agent_id": "a1", "failure_type": "timeout", "original_query": "Find the " + query}
    return world.run("agent_recovery", **dict(inputs, failure_details={"message": ERROR}, **more))


def llm(world, prompt=WORD):
    request = {"prompt": "Tell me of " + prompt, "model": "gpt-4"}
    return world.run("llm_retry", original_request=request, failure_reason=ERROR)


def route(world):
    request = {"endpoint": "/x", "body": {"prompt": WORD}, "model": "gpt-4"}
    return world.run("reroute_request", original_request=request, failure_reason=ERROR)


def error(world):
    return world.run(
        "handle_error", agent_id="a1", error={"type": "timeout_error", "message": ERROR},
        original_query=WORD, state={"said": WORD},
    )


def nodes(world):
    return world.run("infrastructure_repair", nodes=["db-1"])


def alerted(world):
    """The alert of a node that no crew can repair."""
    alert = {
        "status": "firing", "labels": {"alertname": "Down", "instance": "db-1", "note": WORD},
        "annotations": {"summary": WORD, "runbook_url": "http://wiki/" + WORD},
        "generatorURL": "http://prometheus/graph?g0.expr=" + WORD,
    }
    return world.run("infrastructure_repair", source="alert", alert=alert)


def refused(world):
    request = {"prompt": "x", "model": "gpt-4", "parameters": {WORD: 1, "n": WORD}}
    return world.run("llm_retry", original_request=request, failure_reason=ERROR)


RUNS = [agent, llm, route, error, nodes, alerted]


@pytest.mark.parametrize("start", RUNS, ids=lambda start: start.__name__)
@pytest.mark.parametrize("works", [True, False], ids=["succeeds", "fails"])
def test_no_word_is_left(world, start, works):
    world.config["store_user_text"] = False
    if works:
        world.box.script("platform", [ok(text="it is " + WORD)], forever=True)
        world.box.script("llm:*", [ok(text="it is " + WORD)], forever=True)
        world.box.script("route:*", [ok(body={"said": WORD})], forever=True)
    else:
        world.box.script("platform", [agent_failed(ERROR)], forever=True)
        world.box.script("llm:*", [status(500, error=ERROR)], forever=True)
        world.box.script("route:*", [status(500, error=ERROR)], forever=True)
        world.box.script("hook:crews", [status(500)], forever=True)
    run, output = start(world)
    assert run["status"] == ("succeeded" if works else "failed"), output
    if not works:
        assert output["ticket"]
    assert left(world) == [] and foreign(world) == []


def test_a_refusal_leaves_no_word(world):
    world.config["store_user_text"] = False
    run, output = refused(world)
    assert run["status"] == "failed" and output["ticket"]
    assert left(world) == []


@pytest.mark.parametrize(
    "start, kinds",
    [
        (agent, {"history", "query"}), (llm, {"history"}), (error, {"history", "version"}),
        (refused, {"history", "ticket", "ticket_event"}),
    ],
    ids=["agent", "llm", "error", "refused"],
)
def test_by_default_words_are_kept(world, start, kinds):
    """That the search finds them where they are."""
    world.box.script("platform", [agent_failed(ERROR)], forever=True)
    world.box.script("llm:*", [status(500, error=ERROR)], forever=True)
    assert start(world)[0]["status"] == "failed"
    assert kinds <= {name.split(".")[1] for name in left(world)}


def test_a_large_case_goes_within_two_hours(world):
    world.config["store_user_text"] = False
    run, _ = agent(world, query=LONG)
    assert run["status"] == "succeeded"
    (key,) = left(world)
    assert key.startswith("synthralos.case.")
    document = world.local.keys.document(key)
    assert seconds_until(world, document["expire_timestamp"]) <= 3600 + 3600 + 600


def test_a_large_answer_is_not_kept(world):
    world.config.update(store_user_text=False, max_result_bytes=100)
    world.box.script("llm:*", [ok(text=LONG)], forever=True)
    run, output = llm(world)
    result = output["result"]
    assert run["status"] == "succeeded" and left(world) == []
    assert result["response"] is None and result["response_key"] is None
    assert result["response_bytes"] >= len(LONG)


def test_tickets_still_say_what_happened_and_what_to_do(world):
    # Without a retry, the second run does not wait for a breaker that the first has opened.
    world.config.update(store_user_text=False, max_retries=0)
    world.box.script("llm:*", [status(500, error=ERROR)], forever=True)
    _, output = llm(world)
    execution = world.local.run("synthralos.ticket.get", {"ticket_id": output["ticket"]})
    ticket = execution["result"]["result"]["ticket"]
    assert ticket["summary"] == "llm_retry of llm:openai/gpt-4 failed: server_error"
    assert execution["result"]["result"]["report"]["recommendations"]
    world.box.script("llm:*", [status(500, error=ERROR)], forever=True)
    assert llm(world)[1]["ticket"] == output["ticket"]


def test_what_a_person_writes_into_a_ticket_stays(world):
    world.config["store_user_text"] = False
    created = world.local.run(
        "synthralos.ticket.create", {"subject": "a1", "summary": "look at " + WORD})
    name = created["result"]["result"]["ticket"]
    execution = world.local.run("synthralos.ticket.get", {"ticket_id": name})
    assert execution["result"]["result"]["ticket"]["summary"] == "look at " + WORD


def foreign(world):
    """The names of the keys that storage.usage would not know as the pack's."""
    rows = world.local.keys.list(limit=-1)
    return sorted(row["name"] for row in rows if kind_of_key(row["name"]) is None)


def left(world):
    """The names of the keys whose values hold the word, however they are packed."""
    rows = world.local.keys.list(limit=-1)
    return sorted(row["name"] for row in rows if WORD in opened(row["value"]) + row["name"])


def opened(value):
    """All that a value says: in the clear, sealed, packed, or escaped."""
    texts = [value]
    for text in (value, value.rpartition(".")[2]):
        texts += _unpacked(text)
    try:
        texts.append(json.dumps(json.loads(value), ensure_ascii=False))
    except ValueError:
        pass
    return "\n".join(texts)


def _unpacked(text):
    for read in (base64.urlsafe_b64decode, base64.b64decode):
        for unpack in (zlib.decompress, gzip.decompress, bytes):
            try:
                yield unpack(read(text)).decode("utf-8")
            except (ValueError, OSError, EOFError, zlib.error):
                continue


def seconds_until(world, stamp):
    from synthralos.core.timestamps import parse_iso

    return parse_iso(stamp.replace("+00:00", "Z")) - world.local.clock()


@pytest.mark.parametrize("works", [True, False], ids=["succeeds", "fails"])
def test_an_orchestration_keeps_its_steps_for_a_day_and_nothing_else(world, works):
    world.config.update(store_user_text=False)
    flow = Orchestrated(world)
    flow.answers["writer"] = "it is " + WORD if works else status(400, error=ERROR)
    flow.define([{"name": "write", "order": 0, "roleName": "writer", "cache": True}])
    run, output = flow.run(input={"task": WORD})
    assert run["status"] == ("succeeded" if works else "failed"), output
    names = left(world)
    assert {name.split(".")[1] for name in names} == {"wave", "step"}
    assert foreign(world) == []
    for name in names:
        stamp = world.local.keys.document(name)["expire_timestamp"]
        assert seconds_until(world, stamp) <= 86400 + 3600 + 600
