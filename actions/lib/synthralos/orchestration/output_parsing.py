"""Parses the answers of models for the steps that use them."""

from typing import Any, Optional

from synthralos.calls import output_schema
from synthralos.core import json_extract


def parse_answer(
    answer: str, schema: Optional[dict[str, Any]] = None, expects_json: bool = False
) -> tuple[Any, Optional[str]]:
    """Return (the output of a step whose model gave `answer`, None), or (None, the mismatch).

    With a schema, the output is the last JSON value in the answer that matches it, or the answer
    itself. Without one, an answer that is JSON is parsed, so that a condition can compare
    `testResults.passed`; JSON with words around it stays text, unless the model was to answer in
    JSON and there is only one value. So does an answer of more than MAX_OUTPUT_BYTES.

    :param expects_json: whether the model was to answer in JSON.
    """
    if schema is not None:
        return output_schema.match_schema(answer, schema, prefer_json=True)
    read = json_extract.extract if expects_json else json_extract.parse_whole
    try:
        return read(answer), None
    except json_extract.NoJson:
        return answer, None
