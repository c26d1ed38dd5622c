import base64

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.core.errors import InvalidInput
from synthralos.core.sealing import seal
from synthralos.runtime import run_parameters


def execution(parameters=None, payload=None, **defaults):
    row = {"action": {"parameters": {
        name: {"type": "string", "default": value} for name, value in defaults.items()}}}
    row["action"]["parameters"]["needed"] = {"type": "string", "required": True}
    if parameters is not None:
        row["parameters"] = parameters
    if payload is not None:
        row["trigger_instance"] = {"payload": payload}
    return row


def encoded(text):
    return "base64:" + base64.b64encode(text.encode()).decode()


def test_what_was_given_stands_over_the_defaults():
    resolved = run_parameters.read_parameters(execution({"a": 1}, a=0, b=2))
    assert resolved == {"a": 1, "b": 2}


@pytest.mark.parametrize("parameters", [{}, {"action": None}, {"action": {}, "parameters": None}])
def test_an_execution_without_parameters_has_none(parameters):
    assert run_parameters.read_parameters(parameters) == {}


def test_case_is_replaced_by_what_the_case_holds():
    case = seal({"workflow": "x", "request": {"original_query": "{{ q }}"}})
    resolved = run_parameters.resolve_placeholders({"case": case, "original_query": "@case"})
    assert resolved == {"original_query": "{{ q }}"}


def test_a_plain_object_may_be_a_case_too():
    assert run_parameters.resolve_placeholders({"case": seal({"q": "x"}), "q": "@case"}) == {
        "q": "x"
    }


@pytest.mark.parametrize("payload", [{"q": "x"}, {"body": {"q": "x"}, "headers": {}}])
def test_trigger_is_replaced_by_what_the_trigger_carries(payload):
    assert run_parameters.read_parameters(execution({"q": "@trigger"}, payload)) == {"q": "x"}


@pytest.mark.parametrize(
    "parameters, payload",
    [
        ({"q": "@case"}, {"q": "x"}), ({"q": "@case", "case": ""}, None),
        ({"q": "@case", "case": seal({"other": 1})}, None), ({"q": "@trigger"}, None),
        ({"q": "@trigger"}, {"other": 1}), ({"q": "@trigger", "case": seal({"q": "x"})}, None),
        ({"q": "@trigger"}, "text"),
    ],
)
def test_a_placeholder_without_anything_to_put_there_is_refused(parameters, payload):
    with pytest.raises(InvalidInput) as refused:
        run_parameters.read_parameters(execution(parameters, payload))
    assert refused.value.field == "q"


@pytest.mark.parametrize("case", ["nonsense", seal([1]), seal("x"), seal(None)])
def test_what_is_no_case_is_refused(case):
    with pytest.raises(InvalidInput) as refused:
        run_parameters.resolve_placeholders({"case": case, "q": "@case"})
    assert refused.value.field == "case"


def test_an_empty_object_and_unknown_stand_for_what_is_handed_over():
    case = seal({"request": {"context": {"a": 1}, "failure_type": "timeout"}})
    resolved = run_parameters.resolve_placeholders(
        {"case": case, "context": {}, "failure_type": "unknown"}
    )
    assert resolved == {"context": {"a": 1}, "failure_type": "timeout"}
    resolved = run_parameters.resolve_placeholders(
        {"context": {}, "failure_type": "unknown"}, {"context": {"b": 2}}
    )
    assert resolved == {"context": {"b": 2}, "failure_type": "unknown"}


def test_an_empty_object_and_unknown_stay_where_nothing_is_handed_over():
    parameters = {"context": {}, "failure_type": "unknown", "agent_id": "unknown"}
    assert run_parameters.resolve_placeholders(dict(parameters)) == parameters
    case = seal({"request": {"agent_id": "other", "context": None}})
    assert run_parameters.resolve_placeholders(dict(parameters, case=case))["agent_id"] == "unknown"


def test_what_was_given_plainly_is_not_replaced():
    case = seal({"request": {"q": "other", "context": {"b": 2}}})
    assert run_parameters.resolve_placeholders(
        {"case": case, "q": "mine", "context": {"a": 1}}
    ) == {"q": "mine", "context": {"a": 1}}


def test_base64_is_decoded_at_every_depth():
    inner = [encoded("{{ y }}"), {"d": encoded("é")}]
    resolved = run_parameters.resolve_placeholders({"a": encoded("x"), "b": {"c": inner}})
    assert resolved == {"a": "x", "b": {"c": ["{{ y }}", {"d": "é"}]}}


def test_url_safe_base64_and_line_breaks_are_taken():
    raw = base64.urlsafe_b64encode("\u07ff?>~~~".encode()).decode()
    assert run_parameters.decode_base64("q", "base64:" + raw[:4] + "\n " + raw[4:]) == "\u07ff?>~~~"
    assert run_parameters.decode_base64("q", "base64:") == ""


@pytest.mark.parametrize(
    "text", ["base64:!!!", "base64:a", "base64:é", "base64:/w==", "base64:{{ x }}"]
)
def test_what_is_no_base64_of_utf8_is_refused_with_its_place(text):
    with pytest.raises(InvalidInput) as refused:
        run_parameters.resolve_placeholders({"a": {"b": [text]}})
    assert refused.value.field == "a.b[0]"


def test_text_from_a_case_is_not_decoded_twice():
    case = seal({"request": {"q": run_parameters.decode_base64("q", encoded("base64:eA=="))}})
    assert run_parameters.resolve_placeholders({"case": case, "q": "@case"})["q"] == "base64:eA=="


@hypothesis.given(st.text(st.characters(codec="utf-8")))
def test_any_text_comes_through_base64(text):
    assert run_parameters.decode_base64("q", encoded(text)) == text


@hypothesis.given(st.recursive(st.none() | st.integers() | st.text(st.characters()),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                    max_leaves=8).filter(lambda value: "base64:" not in str(value)))
def test_anything_else_comes_through_as_it_is(value):
    assert run_parameters.decode_base64("q", value) == value


@pytest.mark.parametrize(
    "start_timestamp, at",
    [("2023-11-14T22:13:20.250000Z", 1_700_000_000.25), ("2023-11-14T22:13:20Z", 1_700_000_000.0),
     (None, 7.0), (5, 7.0), ("soon", 7.0)],
)
def test_a_run_starts_when_its_execution_does(start_timestamp, at):
    assert run_parameters.start_time({"start_timestamp": start_timestamp}, 7.0) == at
    assert run_parameters.start_time({}, 7.0) == 7.0


@pytest.mark.parametrize("value", [None, "", " \n", 5, ["a"], {}])
def test_a_text_must_be_one(value):
    with pytest.raises(InvalidInput):
        run_parameters.require_text("q", value)


@pytest.mark.parametrize("value", ["x", [], 5, True])
def test_an_object_must_be_one(value):
    with pytest.raises(InvalidInput):
        run_parameters.require_object("context", value)
    assert run_parameters.require_object("context", None) == {}


@pytest.mark.parametrize("value", ["false", "off", "No ", "0"])
def test_the_switch_keeps_rules_from_starting_runs(store, value):
    store.put(run_parameters.ENABLED_KEY, value)
    with pytest.raises(InvalidInput):
        run_parameters.require_enabled({"rule": {"id": "x"}}, store)
    run_parameters.require_enabled({}, store)


@pytest.mark.parametrize("value", [None, "true", "on", ""])
def test_with_the_switch_on_rules_start_runs(store, value):
    if value is not None:
        store.put(run_parameters.ENABLED_KEY, value)
    run_parameters.require_enabled({"trigger_instance": {"id": "x"}}, store)
