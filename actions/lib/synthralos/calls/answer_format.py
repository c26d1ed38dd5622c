"""Answers in JSON: whether one is what was asked for, and what its model is told if it is not."""

import json
from typing import TYPE_CHECKING, Any, Optional

from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.core import failures, json_extract
from synthralos.core.failures import Failure

if TYPE_CHECKING:
    from synthralos.calls.llm_wires.completion import Completion

MAX_ANSWER_CHARS = 8000


class Corrections:
    """The rejected answers of a run: a model that is asked again is told why.

    :param rejected: {target: {answer, reason}} of earlier rounds.
    """

    def __init__(self, rejected: Optional[dict[str, dict[str, str]]] = None) -> None:
        self._rejected = dict(rejected or {})

    def as_dict(self) -> dict[str, dict[str, str]]:
        """Return the rejected answers as a JSON value."""
        return self._rejected

    def record(self, target: str, answer: str, reason: str) -> None:
        """Remember an answer that was rejected; only the last of each target counts."""
        self._rejected[target] = {"answer": answer[:MAX_ANSWER_CHARS], "reason": reason}

    def apply(self, target: str, request: ChatRequest) -> ChatRequest:
        """Return the request as the target gets it: with its rejected answer, if there is one."""
        rejected = self._rejected.get(target)
        if rejected is None:
            return request
        reason = "That is not valid: %s. Answer again." % rejected["reason"]
        return request.with_messages(request.messages + [
            {"role": "assistant", "content": rejected["answer"] or "(nothing)"},
            {"role": "user", "content": reason},
        ])


def check(completion: "Completion", request: ChatRequest) -> Optional[Failure]:
    """Return why an answer is not the JSON that was asked for, or None.

    Of an answer with other words around it, `response` becomes the JSON alone.
    """
    if not request.expects_json or completion.tool_calls:
        return None
    value, mismatch = _value_of(completion.response, request)
    if mismatch is not None:
        message = "the answer does not match response_format: %s" % mismatch
        return failures.make_failure("schema_mismatch", message, status=200)
    if not json_extract.is_json(completion.response):
        completion.response = json.dumps(value, ensure_ascii=False)
    return None


def _value_of(text: str, request: ChatRequest) -> tuple[Any, Optional[str]]:
    schema = request.response_schema
    if schema is not None:
        from synthralos.calls import output_schema

        if not json_extract.find_values(text):
            return None, "it contains no JSON value"
        value, mismatch = output_schema.match_schema(text, schema.schema, prefer_json=True)
        return value, mismatch
    try:
        return json_extract.extract(text, lambda value: isinstance(value, dict)), None
    except json_extract.NoJson:
        return None, "it contains no JSON object"


def require_valid_schema(request: ChatRequest, field: str) -> None:
    """Raise InvalidInput if the schema of the answer is not a JSON schema; names `field`."""
    schema = request.response_schema
    if schema is not None:
        from synthralos.calls import output_schema

        output_schema.require_valid_schema(schema.schema, field)
