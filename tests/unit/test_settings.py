import pathlib

import pytest
import yaml
from fixtures.waiting import limit_under_test

from synthralos.calls.trace_exporter import Tracing
from synthralos.config.settings import Price, Settings
from synthralos.core.errors import InvalidInput
from synthralos.escalation.config import EscalationConfig
from synthralos.loop_detection.detector import LoopDetectionConfig
from synthralos.metrics.config import MetricsConfig
from synthralos.storage import snapshots, versions
from synthralos.telemetry.run_log import LogConfig

PACK = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = PACK / "synthralos.yaml.example"
SCHEMA = PACK / "config.schema.yaml"
URL = "https://h"


def read(**config):
    return Settings.from_config(config)


def provider(**more):
    return dict({"name": "p", "base_url": URL, "models": ["m"]}, **more)


def route(**more):
    return dict({"provider": "p", "region": "r", "base_url": URL}, **more)


@pytest.mark.parametrize("config", [None, {}, {"platforms": None, "agents": None, "routes": None}])
def test_an_empty_configuration_has_defaults(config):
    settings = Settings.from_config(config)
    assert (settings.platforms, settings.providers, settings.routes) == ([], [], [])
    assert (settings.default_provider, settings.default_region) == ("openai", "us-east-1")
    assert (settings.max_routes, settings.max_retries) == (12, 3)
    assert settings.max_result_bytes == 256 * 1024
    assert (settings.fall_over, settings.ask_next_after) == ({}, 20.0)
    assert (settings.backoff.strategy, settings.backoff.base_delay) == ("exponential", 2.0)
    assert settings.backoff.max_delay == 60.0
    breaker = settings.breaker
    assert (breaker.failures, breaker.open_seconds, breaker.probes) == (5, 60.0, 3)
    assert settings.secrets() == []


def test_models_may_have_prices():
    models = [{"name": "m", "price": {"input": 3, "output": 0}}, {"name": "n", "price": None}, "o"]
    settings = read(providers=[provider(models=models)], currency="EUR")
    assert [model.price for model in settings.providers[0].models] == [Price(3.0, 0.0), None, None]
    assert (settings.currency, read().currency) == ("EUR", "USD")


@pytest.mark.parametrize(
    "price, field",
    [
        (7, "price"),
        ({"input": 3}, "price.output"),
        ({"output": 3}, "price.input"),
        ({"input": -1, "output": 1}, "price.input"),
        ({"input": 1, "output": float("nan")}, "price.output"),
        ({"input": 1, "output": "2"}, "price.output"),
        ({"input": True, "output": 2}, "price.input"),
    ],
)
def test_a_wrong_price_is_refused(price, field):
    with pytest.raises(InvalidInput) as refused:
        read(providers=[provider(models=[{"name": "m", "price": price}])])
    assert refused.value.field == "providers[0].models[0]." + field


@pytest.mark.parametrize("currency", ["", "usd", "EURO", "$", 7])
def test_a_wrong_currency_is_refused(currency):
    with pytest.raises(InvalidInput, match="currency"):
        read(currency=currency)


def test_causes_may_be_treated_differently():
    config = {"content_policy": True, "bad_request": False, "timeout": None}
    assert read(fall_over=config).fall_over == {"content_policy": True, "bad_request": False}


@pytest.mark.parametrize("entry, field", [
    ({"content-policy": True}, "fall_over.content-policy"),
    ({"content_policy": "yes"}, "fall_over.content_policy"),
    ({"bad_request": 1}, "fall_over.bad_request"),
    (["content_policy"], "fall_over"),
])
def test_a_wrong_treatment_of_causes_is_refused(entry, field):
    with pytest.raises(InvalidInput) as refused:
        read(fall_over=entry)
    assert refused.value.field == field


def test_an_unknown_cause_is_answered_with_those_there_are():
    with pytest.raises(InvalidInput, match="content_policy, .*bad_request"):
        read(fall_over={"policy": True})


@pytest.mark.parametrize("seconds", [-1, 3601, "20", True])
def test_a_wrong_time_to_ask_the_next_host_is_refused(seconds):
    with pytest.raises(InvalidInput, match="ask_next_after"):
        read(ask_next_after=seconds)


def test_the_next_host_may_never_be_asked():
    assert read(ask_next_after=0).ask_next_after == 0.0


def test_max_retries_may_be_none_at_all():
    assert read(max_retries=0).max_retries == 0


def test_attempts_have_the_time_limits_of_their_kind():
    settings = read(platforms=[{"base_url": URL}], providers=[provider()], routes=[route()])
    limits = [
        section[0].connection.timeout
        for section in (settings.platforms, settings.providers[0].accounts, settings.routes)
    ]
    assert limits == [60.0, 60.0, 20.0]
    assert settings.routes[0].connection.connect_timeout == 5.0


def test_attempt_timeouts_are_taken_and_a_target_may_have_its_own():
    settings = read(
        attempt_timeouts={"request": 7, "connect": 1},
        routes=[route(), route(region="q", timeout=limit_under_test(3))],
    )
    assert [section.connection.timeout for section in settings.routes] == [7.0, 3.0]
    assert settings.routes[0].connection.connect_timeout == 1.0


def test_a_base_url_loses_its_last_slash():
    assert read(routes=[route(base_url=URL + "/x/")]).routes[0].connection.base_url == URL + "/x"


def test_a_model_may_be_a_bare_name():
    models = read(providers=[provider(models=["a", {"name": "b", "context_window": 9}])])
    assert [(m.name, m.context_window) for m in models.providers[0].models] == [
        ("a", None), ("b", 9)
    ]


def test_a_fallback_endpoint_is_as_the_main_one_where_it_says_nothing():
    settings = read(platforms=[{
        "base_url": URL, "token": "main-token", "execute_path": "/x",
        "fallbacks": [{"name": "b", "base_url": "https://other"}],
    }])
    first, second = settings.platforms
    assert (first.name, second.name) == ("synthralos", "b")
    assert (second.connection.secret, second.execute_path) == ("main-token", "/x")
    assert second.connection.base_url == "https://other"


@pytest.mark.parametrize(
    "main, own", [("token_from", "token"), ("token", "token_from")]
)
def test_a_fallback_with_a_credential_of_its_own_does_not_get_the_main_one(main, own):
    settings = read(platforms=[{
        "base_url": URL, main: "of-the-main", "fallbacks": [
            {"name": "b", "base_url": "https://other", own: "its-own"}
        ],
    }])
    connection = settings.platforms[1].connection
    assert "of-the-main" not in (connection.secret, connection.secret_from)


PLATFORMS = [
    {"name": "main", "base_url": URL, "fallbacks": [{"name": "standby", "base_url": URL + "/b"}]},
    {"api": "langgraph", "base_url": URL, "token": "t"},
    {"api": "a2a", "name": "desk", "base_url": URL, "token": "t"},
]


def endpoints(settings, agent_id):
    return [(endpoint.platform.name, endpoint.agent) for endpoint in
            settings.agent_endpoints(agent_id)]


def test_an_agent_runs_where_its_entry_says_and_on_the_first_platform_without_one():
    settings = read(platforms=PLATFORMS, agents={
        "bot": {"platform": "langgraph", "agent": "graph", "fallbacks": [
            {"platform": "main"}, {"platform": "standby"},
            {"platform": "langgraph", "agent": "b"}]},
        "plain": {"agent_type": "react"},
    })
    assert endpoints(settings, "bot") == [
        ("langgraph", "graph"), ("main", "bot"), ("standby", "bot"), ("langgraph", "b")
    ]
    for agent_id in ("plain", "nobody"):
        assert endpoints(settings, agent_id) == [("main", agent_id), ("standby", agent_id)]
    assert endpoints(read(), "nobody") == []


def test_a_token_travels_in_the_header_of_its_api_unless_the_entry_names_another():
    headers = [platform.token_header for platform in read(platforms=PLATFORMS).platforms]
    assert headers == [None, None, "x-api-key", None]
    platforms = [dict(PLATFORMS[1], token_header="Authorization"),
                 dict(PLATFORMS[2], token_header="X-Key")]
    assert [platform.token_header for platform in read(platforms=platforms).platforms] == [
        None, "X-Key"
    ]


@pytest.mark.parametrize("agent, field", [
    ({"platform": "gone"}, "agents.bot.platform"),
    ({"platform": "a b"}, "agents.bot.platform"),
    ({"platform": "main", "agent": "a b"}, "agents.bot.agent"),
    ({"agent": "x"}, "agents.bot.agent"),
    ({"fallbacks": [{"platform": "main"}]}, "agents.bot.fallbacks"),
    ({"platform": "main", "fallbacks": [{"platform": "gone"}]}, "agents.bot.fallbacks[0].platform"),
    ({"platform": "main", "fallbacks": ["main"]}, "agents.bot.fallbacks[0]"),
])
def test_an_agent_that_runs_nowhere_is_refused(agent, field):
    with pytest.raises(InvalidInput) as refused:
        read(platforms=PLATFORMS, agents={"bot": agent})
    assert refused.value.field == field


def test_a_ca_bundle_is_how_to_verify():
    assert read(routes=[route(ca_bundle="/ca.pem")]).routes[0].connection.verify == "/ca.pem"
    assert read(routes=[route(verify=False)]).routes[0].connection.verify is False
    assert read(routes=[route()]).routes[0].connection.verify is True


@pytest.mark.parametrize(
    "config, field",
    [
        ({"platforms": "x"}, "platforms"),
        ({"platforms": [{"base_url": "host"}]}, "platforms[0].base_url"),
        ({"platforms": [{"base_url": "http://["}]}, "platforms[0].base_url"),
        ({"platforms": [{"base_url": "ftp://host"}]}, "platforms[0].base_url"),
        ({"platforms": [{"base_url": URL, "name": "a b"}]}, "platforms[0].name"),
        ({"platforms": [{"base_url": URL, "fallbacks": [{"name": "b", "base_url": "x"}]}]},
         "platforms[0].fallbacks[0].base_url"),
        ({"platforms": [{"base_url": URL, "fallbacks": [{"base_url": URL}]}]},
         "platforms[0].fallbacks[0].name"),
        ({"platforms": [{"base_url": URL, "api": "soap"}]}, "platforms[0].api"),
        ({"platforms": [{"base_url": URL, "output": "state"}]}, "platforms[0].output"),
        ({"platforms": [{"base_url": URL, "api": "langgraph", "output": "x"}]},
         "platforms[0].output"),
        ({"platforms": [{"base_url": URL, "api": "a2a", "protocol_version": "2"}]},
         "platforms[0].protocol_version"),
        ({"platforms": [{"base_url": URL, "token_header": "a b"}]}, "platforms[0].token_header"),
        ({"platforms": [{"base_url": URL}, {"base_url": URL}]}, "platforms"),
        ({"providers": [provider(api="cohere")]}, "providers[0].api"),
        ({"providers": [provider(name=None)]}, "providers[0].name"),
        ({"providers": [provider(base_url=None)]}, "providers[0].base_url"),
        ({"providers": [provider(models=["a b"])]}, "providers[0].models[0].name"),
        ({"providers": [provider(models=[{"name": "m", "context_window": "8k"}])]},
         "providers[0].models[0].context_window"),
        ({"providers": [provider(models=[{"name": "m", "context_window": True}])]},
         "providers[0].models[0].context_window"),
        ({"providers": [provider(), provider()]}, "providers"),
        ({"providers": [provider(api_key=123456)]}, "providers[0].api_key"),
        ({"routes": [route(token=123456)]}, "routes[0].token"),
        ({"routes": [route(token_from=5)]}, "routes[0].token_from"),
        ({"routes": [route(headers_from=["a"])]}, "routes[0].headers_from"),
        ({"routes": [route(proxy=5)]}, "routes[0].proxy"),
        ({"routes": [route(region="")]}, "routes[0].region"),
        ({"routes": [route(provider="{{x}}")]}, "routes[0].provider"),
        ({"routes": [route(base_url=5)]}, "routes[0].base_url"),
        ({"routes": [route(), route()]}, "routes"),
        ({"agents": []}, "agents"),
        ({"model_map": "x"}, "model_map"),
        ({"attempt_timeouts": {"agent": 0}}, "attempt_timeouts.agent"),
        ({"attempt_timeouts": {"connect": "5"}}, "attempt_timeouts.connect"),
        ({"attempt_timeouts": {"llm": True}}, "attempt_timeouts.llm"),
        ({"attempt_timeouts": {"llm": float("nan")}}, "attempt_timeouts.llm"),
        ({"backoff": {"strategy": "random"}}, "backoff.strategy"),
        ({"backoff": {"base_delay": -1}}, "backoff.base_delay"),
        ({"backoff": {"max_delay": 0}}, "backoff.max_delay"),
        ({"breaker": {"open_seconds": "x"}}, "breaker.open_seconds"),
    ],
)
def test_a_refusal_names_its_entry(config, field):
    with pytest.raises(InvalidInput) as refused:
        Settings.from_config(config)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "config",
    [
        {"providers": [None]},
        {"routes": [route(timeout=-1)]},
        {"agents": {"a": "x"}},
        {"model_map": {"anthropic": "claude"}},
        {"max_retries": 11},
    ],
)
def test_an_entry_of_the_wrong_kind_is_refused(config):
    with pytest.raises(InvalidInput):
        Settings.from_config(config)


def test_an_agent_that_says_nothing_is_an_agent():
    assert read(agents={"bot": None}).agents["bot"].config == {}


def test_every_literal_secret_is_known():
    settings = read(
        platforms=[{"base_url": URL, "token": "t-platform", "headers": {"X-Key": "h-platform"},
                  "fallbacks": [{"name": "b", "base_url": URL, "token": "t-fallback"}]}],
        providers=[provider(api_key="k-provider", proxy="http://u:p-proxy@proxy:3128")],
        routes=[route(token="t-route"), route(region="q", token_from="a_key")],
        metrics={"pushgateway": {"url": "http://u:p-push@h", "token": "t-push"}},
    )
    assert set(settings.secrets()) >= {
        "t-platform", "h-platform", "t-fallback", "k-provider", "p-proxy", "t-route", "p-push",
        "t-push",
    }
    assert "a_key" not in settings.secrets()


def test_the_example_configuration_is_valid():
    settings = Settings.from_config(yaml.safe_load(EXAMPLE.read_text()))
    assert [platform.name for platform in settings.platforms] == [
        "synthralos", "standby", "graphs"
    ]
    assert [section.name for section in settings.providers] == ["openai", "anthropic"]
    assert len(settings.routes) == 4
    assert settings.agents["invoice-bot"].unsafe_to_repeat is True
    assert settings.model_map["anthropic"]["gpt-4"] == "claude-3-5-sonnet"
    assert settings.secrets() == []


def _read_everything(config):
    settings = Settings.from_config(config)
    snapshots.snapshot_config(settings)
    versions.history_config(settings)
    LoopDetectionConfig.from_config(settings.loop_detection)
    EscalationConfig.from_config(settings.escalation)
    MetricsConfig.from_config(settings.metrics)
    Tracing.from_config(settings.tracing)
    LogConfig.from_config(settings.logs)


BARE = {
    "platforms": {"base_url": URL},
    "providers": provider(),
    "providers.models": {"name": "m"},
    "providers.models.price": {"input": 1, "output": 1},
    "routes": route(),
    "metrics.pushgateway": {"url": URL},
    "escalation.mail": {"host": "h", "from": "a@b", "to": ["c@d"]},
    "tracing": {"endpoint": URL},
}


LISTS = ("platforms", "providers", "models", "routes")


def _bounded(spec, path=()):
    """(path, spec) of every number of the schema; LISTS without their index."""
    if spec.get("type") in ("integer", "number"):
        yield path, spec
    for name, below in (spec.get("properties") or {}).items():
        yield from _bounded(below, path + (name,))
    for name, at in (("items", ()), ("additionalProperties", ("bot",))):
        if isinstance(spec.get(name), dict):
            yield from _bounded(spec[name], path + at)


def _config(path, value):
    config = {path[-1]: value}
    for n in range(len(path) - 1, 0, -1):
        config = dict(BARE.get(".".join(path[:n]), {}), **config)
        config = {path[n - 1]: [config] if path[n - 1] in LISTS else config}
    return config


# These read their entries themselves.
ELSEWHERE = ("sensors", "automation", "infrastructure", "orchestration")
NUMBERS = [
    (path, spec)
    for path, spec in _bounded({"properties": yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))})
    if path[0] not in ELSEWHERE
]


@pytest.mark.parametrize("path, spec", NUMBERS, ids=[".".join(path) for path, _ in NUMBERS])
def test_the_schema_s_bounds_are_those_of_the_library(path, spec):
    """What the library would refuse in each run, StackStorm refuses when the config is registered.
    """
    least, most = spec["minimum"], spec["maximum"]
    for value in (least, most, spec.get("default", least)):
        _read_everything(_config(path, value))
    for value in (least - (0.01 if spec["type"] == "number" else 1), most + 1):
        with pytest.raises(InvalidInput) as refused:
            _read_everything(_config(path, value))
        assert path[-1] in refused.value.field and refused.value.hint
