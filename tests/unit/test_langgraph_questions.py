"""Answers of people in the forms that graphs take."""
import pytest

from synthralos.calls.agent_platforms.langgraph_questions import (
    Interrupt,
    question_text,
    resume_value,
)

PAY = {"name": "pay", "args": {"account": "{{ 12 }}"}}
APPROVAL = dict(PAY, type="tool_approval")
REVIEW = {"action_requests": [PAY, {"name": "ask_person", "args": {}}], "review_configs": [
    {"action_name": "pay", "allowed_decisions": ["approve", "reject"]},
    {"action_name": "ask_person", "allowed_decisions": ["respond"]},
]}


def decision(kind):
    return {"type": "object", "properties": {"type": {"const": kind}}, "required": ["type"]}


def answer(value, text, schema=None):
    return resume_value(Interrupt("i", value, schema), text)


@pytest.mark.parametrize("value, text", [
    ("May I?", "May I?"), ({"question": "May I?"}, "May I?"), ({"a": "ü"}, '{"a": "ü"}'),
    (None, "null"), (APPROVAL, 'May this tool be called? pay({"account": "{{ 12 }}"})'),
    (REVIEW, 'May these tools be called? pay({"account": "{{ 12 }}"}); ask_person({})'),
    ({"action_requests": ["odd"]}, "May these tools be called? (null)"),
    ({"action_requests": []}, '{"action_requests": []}'),
])
def test_people_read_what_is_asked(value, text):
    assert question_text(value) == text


@pytest.mark.parametrize("text, decisions", [
    ("yes", [{"type": "approve"}, {"type": "respond", "message": "yes"}]),
    ("not now", [{"type": "reject", "message": "not now"},
                 {"type": "respond", "message": "not now"}]),
])
def test_each_tool_call_of_a_review_gets_a_decision_that_it_allows(text, decisions):
    assert answer(REVIEW, text) == {"decisions": decisions}


@pytest.mark.parametrize("schema, text, kind", [
    (None, "yes", "approve"), (None, "no", "reject"), (None, "later", "reject"),
    (decision("respond"), "yes", "respond"), (decision("respond"), "later", "respond"),
    (decision("reject"), "later", "reject"),
    # No such decision is known here: the graph says what is wrong with it.
    (decision("edit"), "later", "reject"),
    ({"$ref": "http://127.0.0.1:9/schema"}, "later", "reject"), ({"type": 7}, "yes", "approve"),
])
def test_a_tool_call_gets_the_decision_that_its_schema_allows(schema, text, kind):
    assert answer(APPROVAL, text, schema)["type"] == kind


@pytest.mark.parametrize("schema, text, value", [
    (None, '{"a": 1}', '{"a": 1}'),
    ({"type": "string"}, '{"a": 1}', '{"a": 1}'),
    ({"type": "object"}, '{"a": 1}', {"a": 1}),
    ({"type": "boolean"}, "yes", True), ({"type": "boolean"}, "no", False),
    ({"type": "integer"}, "twelve", "twelve"),
])
def test_an_answer_is_read_as_the_graph_wants_it(schema, text, value):
    assert answer({"question": "How?"}, text, schema) == value
