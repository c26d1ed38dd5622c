import json

import pytest

from synthralos.core.errors import InvalidInput
from synthralos.storage import pauses
from synthralos.storage.datastore import PREFIX

AGENT = "team/invoice-bot.v2"


@pytest.fixture
def env(make_env):
    return make_env()


def refused(env, **options):
    with pytest.raises(InvalidInput) as caught:
        pauses.refuse_if_paused(env, AGENT, **options)
    return caught.value


def test_nobody_paused(store, clock, env):
    assert pauses.pause_of(store, AGENT, clock()) is None
    assert pauses.listing(store, clock()) == {}
    assert pauses.refuse_if_paused(env, AGENT) is None
    assert pauses.resume(store, AGENT, clock()) is False
    assert pauses.public_pause(None) is None


def test_a_pause_holds_until_it_ends(store, clock):
    since = clock()
    paused = pauses.pause(store, AGENT, clock(), "broken tool", 300)
    assert (paused["by"], paused["reason"], paused["probe_at"]) == ("person", "broken tool", None)
    assert paused["until"] == since + 300
    clock.forward(299.9)
    assert pauses.pause_of(store, AGENT, clock()) == paused
    assert list(pauses.listing(store, clock())) == [AGENT]
    clock.forward(0.1)
    assert pauses.pause_of(store, AGENT, clock()) is None
    assert pauses.ended_at(store, AGENT, clock()) == since + 300
    assert pauses.listing(store, clock()) == {}


def test_another_agent_is_not_paused(store, clock):
    pauses.pause(store, AGENT, clock(), "x", 300)
    assert pauses.pause_of(store, AGENT + ".2", clock()) is None
    assert pauses.pause_of(store, "team", clock()) is None


def test_resume_ends_it(store, clock):
    pauses.pause(store, AGENT, clock(), "x", 300)
    clock.forward(10)
    assert pauses.resume(store, AGENT, clock()) is True
    assert pauses.pause_of(store, AGENT, clock()) is None
    assert pauses.ended_at(store, AGENT, clock()) == clock()
    assert pauses.resume(store, AGENT, clock()) is False
    clock.forward(1000)
    assert pauses.ended_at(store, AGENT, clock()) == clock() - 1000


def test_paused_again_after_a_resume(store, clock):
    pauses.pause(store, AGENT, clock(), "one", 300)
    pauses.resume(store, AGENT, clock())
    pauses.pause(store, AGENT, clock(), "two", 60)
    assert pauses.pause_of(store, AGENT, clock() + 1)["reason"] == "two"


def test_the_newest_pause_of_a_party_replaces_its_older_one(store, clock):
    pauses.pause(store, AGENT, clock(), "long", 3600)
    clock.forward(1)
    pauses.pause(store, AGENT, clock(), "short", 60)
    clock.forward(61)
    assert pauses.pause_of(store, AGENT, clock()) is None


def test_neither_party_shortens_the_other_s_pause(store, clock):
    pauses.pause(store, AGENT, clock(), "maintenance", 3600)
    clock.forward(1)
    pauses.pause(store, AGENT, clock(), "loop", 60, pauses.DETECTOR, 10)
    paused = pauses.pause_of(store, AGENT, clock())
    assert (paused["reason"], paused["probe_at"]) == ("maintenance", None)
    assert pauses.resume(store, AGENT, clock(), actor=pauses.DETECTOR) is True
    assert pauses.pause_of(store, AGENT, clock())["reason"] == "maintenance"
    assert pauses.resume(store, AGENT, clock(), actor=pauses.DETECTOR) is False


def test_a_writer_whose_clock_is_behind_does_not_lose(store, clock):
    pauses.pause(store, AGENT, clock() + 5, "from the future", 300)
    assert pauses.resume(store, AGENT, clock()) is True
    assert pauses.pause_of(store, AGENT, clock()) is None


def test_the_reason_is_redacted_cut_and_inside_json(store, datastore, clock, make_env):
    env = make_env()
    env.redactor.add("s3cret-value")
    text = "s3cret-value {{ config_context.x }} <% ctx() %> \ud800" + "x" * 1000
    pauses.pause(store, AGENT, clock(), text, 300, redactor=env.redactor)
    (name,) = datastore.names()
    stored = datastore.get(name)
    assert name.startswith(PREFIX + "pause.") and "s3cret-value" not in stored
    assert len(json.loads(stored)["reason"]) == pauses.MAX_REASON_CHARS


def test_a_refusal_tells_why_until_when_and_what_to_do(store, clock, env):
    pauses.pause(store, AGENT, clock(), "broken tool", 300)
    error = refused(env)
    assert error.field == "agent_id"
    assert "paused by the person until 2023-11-14T22:18:20Z: broken tool" in str(error)
    assert "synthralos.agent.resume" in error.hint
    pauses.pause(store, AGENT, clock(), "broken tool", 300, probe_seconds=60)
    assert "from 2023-11-14T22:14:20Z" in refused(env).hint


def test_one_probe_goes_through_per_interval(store, clock, env, make_env):
    pauses.pause(store, AGENT, clock(), "x", 3600, probe_seconds=60)
    clock.forward(59)
    refused(env)
    clock.forward(1.5)
    refused(env, claim=False)
    pauses.refuse_if_paused(env, AGENT)
    assert pauses.probing_since(store, AGENT, pauses.pause_of(store, AGENT, clock()), clock())
    other = make_env(run="other")
    again = refused(other).hint
    assert "2023-11-14T22:15:20Z" in again
    clock.forward(61)
    pauses.refuse_if_paused(other, AGENT)


def test_a_good_probe_ends_the_pause_and_nobody_else_does(store, clock, env, make_env):
    pauses.pause(store, AGENT, clock(), "x", 3600, probe_seconds=60)
    assert pauses.resume_after_probe(env, AGENT) is False
    clock.forward(60.5)
    pauses.refuse_if_paused(env, AGENT)
    clock.forward(200)
    assert pauses.resume_after_probe(make_env(run="other"), AGENT) is False
    assert pauses.resume_after_probe(env, AGENT) is True
    assert pauses.pause_of(store, AGENT, clock()) is None
    assert pauses.resume_after_probe(env, AGENT) is False


def test_a_claim_for_an_older_pause_ends_no_newer_one(store, clock, env):
    pauses.pause(store, AGENT, clock(), "x", 3600, probe_seconds=60)
    clock.forward(61)
    pauses.refuse_if_paused(env, AGENT)
    clock.forward(1)
    pauses.pause(store, AGENT, clock(), "again", 3600, probe_seconds=60)
    assert pauses.resume_after_probe(env, AGENT) is False
    clock.forward(30)
    refused(env)


def test_a_probe_that_would_come_after_the_end_is_none(store, clock):
    paused = pauses.pause(store, AGENT, clock(), "x", 60, probe_seconds=60)
    assert paused["probe_at"] is None


def test_of_two_at_once_one_is_the_probe(store, clock, make_env):
    pauses.pause(store, AGENT, clock(), "x", 3600, probe_seconds=60)
    clock.forward(61)
    went = []
    for run in "abc":
        try:
            pauses.refuse_if_paused(make_env(run=run), AGENT)
            went.append(run)
        except InvalidInput:
            pass
    assert went == ["a"]


def test_without_a_datastore_nobody_is_held_back(store, datastore, clock, env):
    pauses.pause(store, AGENT, clock(), "x", 3600)
    datastore.away = True
    assert pauses.refuse_if_paused(env, AGENT) is None
    assert pauses.pause(store, AGENT, clock(), "x", 3600) is None
    assert pauses.resume(store, AGENT, clock()) is False


def test_what_others_wrote_is_passed_over(store, datastore, clock):
    prefix = PREFIX + "pause.bot."
    pauses.pause(store, "bot", clock(), "x", 300)
    for n, value in enumerate(
        ["", "[]", "{", '{"v": 2}', '{"v": 1, "event": "pause", "by": 1}', "null"]
    ):
        datastore.put("%s%013d-%d" % (prefix, clock() * 1000 + n, n), value)
    datastore.put(prefix + "no-time", '{"v": 1, "event": "resume", "by": "*"}')
    assert pauses.pause_of(store, "bot", clock())["reason"] == "x"
    assert list(pauses.listing(store, clock())) == ["bot"]


def test_facts_expire_only_after_they_matter(store, datastore, clock):
    pauses.pause(store, AGENT, clock(), "x", 300)
    clock.forward(300 + pauses.TTL_AFTER_END_SECONDS - 1)
    assert len(datastore.names()) == 1
    clock.forward(2)
    assert datastore.names() == []


def test_the_listing_reads_page_after_page(store, clock):
    for n in range(130):
        pauses.pause(store, "bot-%d" % n, clock(), "x", 300)
    assert len(pauses.listing(store, clock())) == 130
