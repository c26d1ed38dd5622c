"""How long facts are kept, and which words of them."""
import json

import pytest

from synthralos.config import retention
from synthralos.config.retention import BOUNDS, format_duration, read_retention
from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput
from synthralos.storage import (
    history,
    keyspace,
    last_queries,
    outcome_ledger,
    snapshots,
    tickets,
    versions,
)
from synthralos.storage.datastore import WITHHELD, BestEffortDatastore
from synthralos.storage.retention_store import (
    FIELDS_WITHOUT_TEXT,
    RetentionDatastore,
    case_seconds,
    with_retention,
)


class Written:
    """A datastore that remembers what is put there."""

    def __init__(self):
        self.rows = {}

    def put(self, name, value, ttl=None):
        self.rows[name] = (value, ttl)

    def list(self, prefix, limit=100, offset=0):
        return []


@pytest.fixture
def written():
    return Written()


def store_with(written, **config):
    return BestEffortDatastore(with_retention(written, Settings.from_config(config)))


def ttl(written):
    ((_, seconds),) = written.rows.values()
    return seconds


@pytest.mark.parametrize(
    "group, put, default",
    [
        ("runs", lambda store: store.put("synthralos.run.0000000000001-r", "", 604800), "7d"),
        ("history", lambda store: history.append_entry(store, "a", 1.0, {}), "30d"),
        ("queries", lambda store: last_queries.save_query(store, "a", "q"), "7d"),
        ("incidents", lambda store: store.put("synthralos.start.a.0000000000001-1", "", 604800),
         "7d"),
        ("answers", lambda store: store.put("synthralos.answer.r", "", 86400), "24h"),
        ("loops", lambda store: store.put("synthralos.loop.a.0000000000001-1", "", 604800), "7d"),
    ],
)
def test_each_kind_is_kept_as_long_as_the_configuration_says(written, group, put, default):
    put(store_with(written))
    assert format_duration(ttl(written)) in (default, "1d")
    written.rows.clear()
    put(store_with(written, retention={group: "5h" if group != "incidents" else "2d"}))
    assert ttl(written) == (5 * 3600 if group != "incidents" else 2 * 86400)


def test_tickets_and_what_was_told_of_them(written):
    store = store_with(written, retention={"tickets": "7d"})
    tickets.record_occurrence(store, 1.0, "w", "a", {"cause": "timeout"}, "r", "s")
    store.put("synthralos.notification.T000000000000.0.trigger-any-mail", "{}", 99)
    assert {seconds for _, seconds in written.rows.values()} == {7 * 86400}
    assert len(written.rows) == 3


def test_states_have_the_older_entries_until_retention_says_otherwise():
    both = {"rollback": {"cleanup_after_hours": 2}, "history": {"retention_days": 3}}
    settings = Settings.from_config(both)
    assert (
        snapshots.snapshot_config(settings).seconds == 7200 and
        versions.history_config(settings).seconds == 259200
    )
    settings = Settings.from_config(dict(both, retention={"snapshots": "90m", "history": "5d"}))
    assert (
        snapshots.snapshot_config(settings).seconds == 5400 and
        versions.history_config(settings).seconds == 432000
    )


def test_an_outcome_counts_as_long_as_it_is_kept(make_env, clock):
    env = make_env({"retention": {"ledger": "1h"}})
    env.ledger.append("t", outcome_ledger.Outcome(True, None, clock()))
    clock.forward(3000)
    assert len(env.ledger.window("t")) == 1
    assert len(make_env({}).ledger.window("t")) == 0


def test_what_is_no_duration_within_bounds_is_refused():
    for value in ("7", 7, "d", "0d", "-1d", "1.5d", "7 d", "7D", True, "9999999999s", [], "\n7d"):
        with pytest.raises(InvalidInput) as caught:
            read_retention({"runs": value})
        assert caught.value.field == "retention.runs" and "between 1h and 365d" in str(caught.value)
    for group, (least, most) in BOUNDS.items():
        assert read_retention({group: format_duration(least)}) == {group: least}
        assert read_retention({group: format_duration(most)}) == {group: most}
        for beyond in (least - 1, most + 1):
            with pytest.raises(InvalidInput):
                read_retention({group: format_duration(beyond)})
    with pytest.raises(InvalidInput, match="retention.run 'x'"):
        read_retention({"run": "x"})
    assert read_retention({"runs": None}) == {}


def test_the_groups_are_those_that_keys_have():
    assert set(retention.BOUNDS) <= set(keyspace.GROUPS)


@pytest.mark.parametrize(
    "kind, rest", [("query", "a"), ("answer", "r"), ("cached", "ab")]
)
def test_what_is_nothing_but_text_is_withheld(written, kind, rest):
    store = RetentionDatastore(written, {}, store_text=False)
    assert store.put("synthralos.%s.%s" % (kind, rest), "words", 60) == WITHHELD
    tolerant = BestEffortDatastore(store)
    assert tolerant.put("synthralos.%s.%s" % (kind, rest), "words", 60) is False
    assert written.rows == {} and tolerant.unrecorded_note() is None


def test_errors_keep_their_cause_and_numbers(written):
    store = BestEffortDatastore(RetentionDatastore(written, {}, store_text=False))
    error = {
        "cause": "refused", "message": "word", "field": "original_request.word[0].x",
        "value": "word", "hint": "word", "status": 429, "retry_after": 1.5,
        "evidence": {"a": "word"}, "type": "two words",
    }
    entry = {"event": "failed", "reason": "word", "error": error, "new": "word"}
    history.append_entry(store, "a", 1.0, entry)
    ((text, _),) = written.rows.values()
    stored = json.loads(text)
    assert stored == {"v": 1, "event": "failed", "error": {
        "cause": "refused", "field": "original_request", "status": 429, "retry_after": 1.5}}


def test_what_was_asked_goes_when_nobody_can_answer_any_more(written):
    config = {"store_user_text": False, "automation": {"approval_timeout": 60}}
    store_with(written, **config).put("synthralos.inquiry.r", "{}", 604800)
    assert ttl(written) == 3600 + 60 + 600
    written.rows.clear()
    store_with(written, **config).put("synthralos.wave.r.00001", "x", 604800)
    assert ttl(written) == 86400 + 60 + 600


@pytest.mark.parametrize("timeout, seconds", [(3600, 86400), (7 * 86400, 3600 + 7 * 86400 + 600)])
def test_the_case_of_a_run_lasts_until_a_person_may_have_answered(written, timeout, seconds):
    config = {"automation": {"approval_timeout": timeout}}
    store_with(written, **config).put("synthralos.case.r.0", "x", 86400)
    assert ttl(written) == seconds


@pytest.mark.parametrize("timeout, asking", [(None, 3600), (0, 86400), ("x", 86400), (True, 86400)])
def test_for_how_long_a_run_may_ask(written, timeout, asking):
    config = {"store_user_text": False, "automation": {"approval_timeout": timeout}}
    store_with(written, **config).put("synthralos.inquiry.r", "{}", 604800)
    assert ttl(written) == 3600 + asking + 600


@pytest.mark.parametrize("stores_text, expected", [(True, 2 * 86400), (False, 250 + 60 + 600)])
def test_a_case_is_stored_as_long_as_its_run_needs_it(stores_text, expected):
    config = {"store_user_text": stores_text, "automation": {"approval_timeout": 60}}
    assert case_seconds(Settings.from_config(config), 250) == expected


def test_every_kind_with_text_is_seen_to():
    """A kind that holds text is reduced, withheld, or short-lived; none is left out."""
    for kind, key_kind in keyspace.KINDS.items():
        if not key_kind.holds_user_text:
            continue
        store = Written()
        RetentionDatastore(store, {}, store_text=False).put(
            "synthralos.%s.x" % kind, json.dumps({"words": "word"}), 10**7)
        rows = list(store.rows.values())
        assert not rows or rows[0][1] < 10**7 or "word" not in rows[0][0], kind
    assert set(FIELDS_WITHOUT_TEXT) < set(keyspace.KINDS)


def test_other_calls_go_to_the_datastore(written):
    assert RetentionDatastore(written, {}).list("x") == []
    with pytest.raises(AttributeError):
        RetentionDatastore(written, {}).unknown()
    assert with_retention(None, Settings.from_config({})) is None


def test_keys_that_are_not_ours_are_written_as_they_are(written):
    RetentionDatastore(written, {"runs": 1}, store_text=False).put("acme.run.x", "words", 7)
    assert written.rows == {"acme.run.x": ("words", 7)}
