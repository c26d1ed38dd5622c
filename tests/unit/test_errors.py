from synthralos.core.errors import InvalidInput, shorten_repr


def test_a_refusal_names_field_value_and_way_out():
    message = str(InvalidInput("original_request.model", "gpt-9", "is unknown", "Use gpt-4"))
    assert message == "original_request.model 'gpt-9': is unknown. Use gpt-4."


def test_a_missing_value_is_not_shown():
    assert (
        str(InvalidInput("model", None, "is missing", "Name it")) == "model: is missing. Name it."
    )


def test_a_long_value_is_shown_shortened():
    assert len(shorten_repr("x" * 10_000)) == 120
    assert len(str(InvalidInput("f", "x" * 10_000, "is long", "Cut it"))) < 200


def test_as_error_has_what_a_result_shows():
    error = InvalidInput("f", 5, "is bad", "Mend it").as_error()
    assert error["cause"] == "refused"
    assert (error["field"], error["value"], error["hint"]) == ("f", "5", "Mend it")
    assert "is bad" in error["message"]


def test_it_is_a_value_error():
    assert isinstance(InvalidInput("f", 1, "w", "o"), ValueError)
