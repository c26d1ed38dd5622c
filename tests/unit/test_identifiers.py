
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import (
    decode_key_part,
    encode_key_part,
    is_name,
    require_identifier,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


@pytest.mark.parametrize(
    "name", ["a", "0", "gpt-4o", "openai/gpt-4", "us-east-1", "a.b:c@d+e_f", "x" * 128]
)
def test_a_name_is_taken(name):
    assert is_name(name) and require_identifier("f", name) == name


@pytest.mark.parametrize(
    "value",
    ["", " a", "-a", "a b", "a\n", "a\nb", "{{x}}", "<%x%>", "é", "x" * 129, None, 5, ["a"], {}],
)
def test_anything_else_is_no_name(value):
    assert not is_name(value)
    with pytest.raises(InvalidInput) as refused:
        require_identifier("agent_id", value)
    assert refused.value.field == "agent_id"
    assert refused.value.reason == ("is missing" if value is None else "is not a name")


@hypothesis.given(TEXT)
def test_a_key_part_leads_back_to_its_name(name):
    assert decode_key_part(encode_key_part(name)) == name


@hypothesis.given(TEXT)
def test_a_key_part_is_ascii_without_separators(name):
    assert set(encode_key_part(name)) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-~"
    )
