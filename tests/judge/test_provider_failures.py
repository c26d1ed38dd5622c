"""Every failure of the corpus before a healthy fallback, with LiteLLM's Router as the oracle.

The pack's library and the Router each run in a process of their own, against the same servers.
"""
import pytest
from benchmarks import corpus, peers, server
from fixtures import PACK

from synthralos.core.causes import CAUSES, NEVER

ENVIRONMENTS = PACK / ".bench"


@pytest.fixture(scope="module")
def healthy():
    """The base URL of the provider that answers."""
    with server.running() as base:
        yield base + server.HEALTHY


@pytest.fixture(scope="module")
def ours(healthy):
    """The Score of the pack with its defaults."""
    return corpus.score(corpus.OURS, healthy, str(ENVIRONMENTS))


def test_no_entry_is_answered_by_litellm_only(ours, healthy):
    try:
        peers.existing_litellm(ENVIRONMENTS)
    except peers.NotInstalled as error:
        pytest.skip(str(error))
    oracle = corpus.score(corpus.LITELLM, healthy, str(ENVIRONMENTS))
    assert len(oracle.answered_ids) > len(oracle.failing) / 2, "the oracle itself does not work"
    assert corpus.only_elsewhere(ours, oracle) == set()


def test_every_failure_but_of_policy_is_answered_by_the_fallback(ours):
    expected = {entry.id for entry in ours.failing if entry.cause != corpus.POLICY}
    assert ours.answered_ids == expected
    assert ours.accepted_ids == set()


def test_each_incurable_target_is_called_once(ours):
    incurable = [
        entry.id for entry in ours.failing if CAUSES[entry.cause].speaks_of.same_target == NEVER
    ]
    assert len(incurable) > 100
    calls = {entry_id: ours.calls.get(entry_id, 0) for entry_id in incurable}
    assert calls == dict.fromkeys(incurable, 1)
    assert ours.repeated_ids == set()


def test_the_benchmark_counts_as_incurable_what_the_library_does():
    entries = corpus.failing_entries()
    assert {entry.id for entry in entries if entry.is_incurable} == {
        entry.id for entry in entries if CAUSES[entry.cause].speaks_of.same_target == NEVER
    }


def test_a_score_tells_answers_from_failures_that_look_like_answers():
    entries = [corpus.Failing(name, "quota", "account") for name in ("a", "b", "c", "d")]
    outcomes = {
        "a": (server.ANSWER, 0.1, None),
        "b": ("half a text", 0.1, None),
        "c": (None, 0.1, "HTTPError: 429"),
        "d": (None, 0.1, None),
    }
    result = corpus.Score(entries, outcomes, {"a": 1, "b": 2, "c": 1})
    assert result.answered_ids == {"a"}
    assert result.accepted_ids == {"b", "d"}
    assert result.repeated_ids == {"b"}
    policy = [corpus.Failing("a", "content_policy", "policy")] + entries[1:]
    nothing = dict.fromkeys(outcomes, (None, 0.1, "RuntimeError"))
    ours = corpus.Score(policy, nothing, {})
    assert corpus.only_elsewhere(ours, result) == set()
    assert corpus.only_elsewhere(corpus.Score(entries, nothing, {}), result) == {"a"}
