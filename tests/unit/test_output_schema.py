import json

import pytest

from synthralos.calls import output_schema
from synthralos.core.errors import InvalidInput

from .conftest import http_answer


def accepted(output, schema=None):
    value, problem = output_schema.accept_output(output, schema)
    assert problem is None
    return value


def problem_of(output, schema=None):
    value, problem = output_schema.accept_output(output, schema)
    assert value is None
    return problem


LIMIT_MESSAGES = [
    ("LangChain", "Agent stopped due to iteration limit or time limit."),
    ("LangChain", "Agent stopped due to max iterations."),
    ("LangGraph", "Sorry, need more steps to process this request."),
    ("LangGraph", "Recursion limit of 25 reached without hitting a stop condition. You can "
     "increase the limit by setting the `recursion_limit` config key.\nFor troubleshooting, visit: "
     "https://docs.langchain.com/oss/python/langgraph/errors/GRAPH_RECURSION_LIMIT"),
    ("LangGraph", "GraphRecursionError: Recursion limit of 80 reached without hitting a stop "
     "condition. You can increase the limit by setting the `recursion_limit` config key."),
    ("CrewAI", "Agent stopped due to iteration limit or time limit."),
    ("SuperAGI", "Maximum iterations exceeded!"),
    ("smolagents", "Reached max steps."),
    ("OpenManus", "Terminated: Reached max steps (20)"),
    ("OpenAI Agents", "Max turns (10) exceeded"),
    ("OpenAI Agents", "agents.exceptions.MaxTurnsExceeded: Max turns (10) exceeded"),
    ("Claude Agent SDK", "Reached maximum number of turns (1)"),
    ("LlamaIndex", "Reached max iterations."),
    ("LlamaIndex", "Max iterations of 20 reached! Either something went wrong, or you can increase "
     "the max iterations with `.run(.., max_iterations=...)`"),
    ("AutoGen", "Maximum number of turns 10 reached."),
    ("AutoGen", "Maximum number of messages 6 reached, current message count: 6"),
    ("Pydantic AI", "The next request would exceed the request_limit of 50"),
    ("Google ADK", "Max number of llm calls limit of `500` exceeded"),
]


@pytest.mark.parametrize("shape", ["%s", " %s\n", "swapcase"])
@pytest.mark.parametrize("framework, message", LIMIT_MESSAGES)
def test_a_framework_that_ran_into_a_limit_has_not_recovered(framework, message, shape):
    output = message.swapcase() if shape == "swapcase" else shape % message
    assert problem_of(output).cause == "infinite_loop"
    failure = problem_of(output, {"type": "string"})
    assert failure.cause == "infinite_loop" and not failure.policy.counts_for_breaker


@pytest.mark.parametrize("shape", [
    "%s This is what LangChain says.", "The log ends with: %s", '"%s"', "%s\n\n42", {},
])
@pytest.mark.parametrize("message", [message for _, message in LIMIT_MESSAGES[:3]])
def test_an_answer_that_mentions_such_a_message_is_an_answer(shape, message):
    output = {"text": message} if isinstance(shape, dict) else shape % message
    assert accepted(output) == output


# The schema.

SCHEMA = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}


@pytest.mark.parametrize("output", [{"total": 5}, '{"total": 5}'])
def test_an_output_that_matches_is_taken(output):
    assert accepted(output, SCHEMA) == output


@pytest.mark.parametrize("output", [
    '```json\n{"total": 5}\n```', '```JSON\n{"total": 5}```', 'Here it is: {"total": 5} Bye.',
    '<think>maybe {"total": 4}</think>\n{"total": 5}', 'of {"draft": 1}</think>{"total": 5}',
    '{"total": 4} no, rather {"total": 5}', '{"total": 5} and not {"total": "4"}',
])
def test_json_with_words_around_it_is_handed_on_parsed(output):
    assert accepted(output, SCHEMA) == {"total": 5}


def test_a_large_output_is_accepted_as_json():
    output = json.dumps({"total": 5, "text": "x" * 2_000_000})
    assert accepted(output, SCHEMA) == output


@pytest.mark.parametrize("output", ['```\n{"total": 5}\n```', 'It is {"total": 5}'])
def test_without_a_schema_an_output_is_handed_on_as_it_came(output):
    assert accepted(output) == output


@pytest.mark.parametrize("output", [{"total": "5"}, '{"total": "5"}', {}, "prose", "[1", [1],
                                    '{"total": NaN}', 'x {"total": 1e999}', 'x {"total": 5'])
def test_an_output_that_does_not_match_is_not(output):
    assert problem_of(output, SCHEMA).cause == "schema_mismatch"


@pytest.mark.parametrize(
    "schema", [{"type": "string"}, {"type": ["string", "null"]}, {"enum": ["yes", "no"]},
               {"minLength": 2}, {}]
)
def test_a_schema_that_allows_text_is_matched_by_text(schema):
    assert accepted("yes", schema) == "yes"


def test_an_output_nested_too_deeply_is_a_mismatch():
    assert problem_of("[" * 50_000, SCHEMA).cause == "schema_mismatch"


@pytest.mark.parametrize("schema", ["x", [], 5, {"type": "nonsense"}, {"type": 5},
                                    {"required": "x"}, {"pattern": "("}])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(InvalidInput) as refused:
        output_schema.require_valid_schema(schema)
    assert refused.value.field == "context.expected_schema"


def test_a_schema_is_checked_without_fetching_anything(serve):
    server = serve(http_answer(200, b"{}"))
    schema = {"$ref": server.url + "/schema"}
    try:
        output_schema.require_valid_schema(schema)
        output_schema.accept_output({"a": 1}, schema)
    except InvalidInput:
        pass
    assert server.requests == []


@pytest.mark.parametrize("ref", ["#/definitions/gone", "gone.json", "file:///etc/passwd"])
def test_a_reference_that_leads_nowhere_is_refused_or_a_mismatch(ref):
    schema = {"$ref": ref}
    try:
        output_schema.require_valid_schema(schema)
    except InvalidInput:
        return
    assert problem_of({"a": 1}, schema).cause == "schema_mismatch"


def test_a_jsonschema_without_its_own_reference_error_is_enough(monkeypatch):
    import jsonschema

    monkeypatch.delattr(jsonschema, "RefResolutionError", raising=False)
    schema = {"$ref": "#"}
    output_schema.require_valid_schema(schema)
    assert "endlessly" in problem_of({"a": 1}, schema).message


def test_a_reference_that_the_schema_s_id_leads_elsewhere_is_followed_nowhere(serve):
    server = serve(http_answer(200, b"{}"))
    schema = {"id": server.url + "/x", "definitions": {"a": {"type": "string"}},
              "properties": {"b": {"id": "sub/", "$ref": "#/definitions/a"}}}
    output_schema.require_valid_schema(schema)
    assert accepted({"b": "c"}, schema) == {"b": "c"}
    assert problem_of({"b": 5}, schema).cause == "schema_mismatch"
    assert server.requests == []


def test_a_property_that_is_called_id_is_checked():
    schema = {"properties": {"id": {"type": "string"}, "enum": {"id": "x", "type": "object"}},
              "enum": [{"id": "a"}, {"id": 5}]}
    assert accepted({"id": "a"}, schema) == {"id": "a"}
    assert problem_of({"id": 5}, schema).cause == "schema_mismatch"
    assert problem_of({"id": "b"}, schema).cause == "schema_mismatch"
