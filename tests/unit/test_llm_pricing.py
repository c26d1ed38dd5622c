import pytest

from synthralos.config.settings import Settings
from synthralos.telemetry import llm_pricing

MODELS = [
    {"name": "m", "price": {"input": 2.5, "output": 10}},
    {"name": "free", "price": {"input": 0, "output": 0}},
    "unpriced",
]
SETTINGS = Settings.from_config(
    {"providers": [{"name": "p", "base_url": "https://h", "models": MODELS}]}
)


@pytest.mark.parametrize(
    "model, usage, expected",
    [
        ("m", {"input_tokens": 1_000_000, "output_tokens": 0}, 2.5),
        ("m", {"input_tokens": 0, "output_tokens": 1_000_000}, 10.0),
        ("m", {"input_tokens": 1000, "output_tokens": 200}, 0.0045),
        ("m", {"input_tokens": None}, 0.0),
        ("free", {"input_tokens": 1000, "output_tokens": 200}, 0.0),
        ("unpriced", {"input_tokens": 1000, "output_tokens": 200}, None),
        ("other", {"input_tokens": 1000, "output_tokens": 200}, None),
    ],
)
def test_cost(model, usage, expected):
    assert llm_pricing.call_cost("p", model, usage, SETTINGS) == (
        None if expected is None else pytest.approx(expected)
    )


def test_a_price_is_its_providers():
    assert llm_pricing.call_cost("q", "m", {"input_tokens": 1}, SETTINGS) is None
