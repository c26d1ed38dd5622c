import datetime
import pathlib

import pytest
import yaml

from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import topology
from synthralos.infrastructure.config import InfrastructureConfig, load_config

from .infrastructure import INFRASTRUCTURE

PACK = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load((PACK / "config.schema.yaml").read_text(encoding="utf-8"))
CREW = {"name": "a", "channels": ["mail"]}


def crews(*entries, **more):
    return dict({"crews": list(entries)}, **more)


def defaults(spec):
    if "default" in spec:
        return spec["default"]
    below = {name: defaults(inner) for name, inner in (spec.get("properties") or {}).items()}
    return {name: value for name, value in below.items() if value not in (None, {})}


def test_nothing_is_configured():
    assert InfrastructureConfig.from_config(None) == InfrastructureConfig()


def test_the_defaults_of_the_schema_are_the_library_s():
    assert (
        InfrastructureConfig.from_config(defaults(SCHEMA["infrastructure"])) ==
        InfrastructureConfig()
    )
    bare = {"base_url": "http://h"}
    config = {"prometheus": bare, "weather": bare, "crews": [CREW]}
    of_crews = SCHEMA["infrastructure"]["properties"]["crews"]["items"]
    declared = defaults(SCHEMA["infrastructure"])
    declared = {
        "prometheus": dict(declared["prometheus"], **bare),
        "weather": dict(declared["weather"], **bare),
        "crews": [dict(defaults(of_crews), **CREW)],
    }
    assert InfrastructureConfig.from_config(declared) == InfrastructureConfig.from_config(config)


def test_the_defaults_of_a_node_are_the_schema_s():
    items = SCHEMA["infrastructure"]["properties"]["topology"]["items"]
    declared = topology.read_nodes("t", [dict(defaults(items), name="x")])
    assert declared == topology.read_nodes("t", [{"name": "x"}])


def test_the_example_is_understood():
    text = (PACK / "synthralos.yaml.example").read_text(encoding="utf-8")
    config = InfrastructureConfig.from_config(yaml.safe_load(text)["infrastructure"])
    assert config.prometheus and config.crews
    assert [crew.name for crew in config.crews if crew.requires_approval] == ["restart"]
    assert topology.read_nodes("t", list(config.topology))


@pytest.mark.parametrize("entry, field", [
    ([], "infrastructure"),
    ({"prometheus": {"base_url": "x"}}, "infrastructure.prometheus.base_url"),
    ({"prometheus": {"base_url": "http://h", "query": 7}}, "infrastructure.prometheus.query"),
    ({"prometheus": {"base_url": "http://h", "label": 7}}, "infrastructure.prometheus.label"),
    ({"prometheus": {"base_url": "http://h", "timeout": 0}}, "infrastructure.prometheus.timeout"),
    ({"weather": {"base_url": "http://h", "path": "/"}}, "infrastructure.weather.path"),
    ({"alert_labels": "x"}, "infrastructure.alert_labels"),
    ({"allowed_actions": [1]}, "infrastructure.allowed_actions[0]"),
    ({"busy_seconds": -1}, "infrastructure.busy_seconds"),
    ({"settle_seconds": 3601}, "infrastructure.settle_seconds"),
    ({"travel_seconds": {"a": {"b": "x"}}}, "infrastructure.travel_seconds.a.b"),
    ({"holidays": ["soon"]}, "infrastructure.holidays[0]"),
    ({"planner": {"max_tool_calls": 51}}, "infrastructure.planner.max_tool_calls"),
    (crews(CREW, CREW), "infrastructure.crews"),
    (crews({"name": "a"}), "infrastructure.crews[0]"),
    (crews(dict(CREW, action="x.y"), allowed_actions=["x.y"]), "infrastructure.crews[0]"),
    (crews({"name": "a", "action": "x.y"}), "infrastructure.crews[0].action"),
    (crews(dict(CREW, channels=["pigeon"])), "infrastructure.crews[0].channels"),
    (crews(dict(CREW, mail_to=["a b"])), "infrastructure.crews[0].mail_to"),
    (crews(dict(CREW, mail_to=["a@b\nc: d"])), "infrastructure.crews[0].mail_to"),
    (crews(dict(CREW, name="no name")), "infrastructure.crews[0].name"),
    (crews(dict(CREW, approval="thinks")), "infrastructure.crews[0].approval"),
    (crews(dict(CREW, capacity=-1)), "infrastructure.crews[0].capacity"),
    (crews(dict(CREW, capacity=True)), "infrastructure.crews[0].capacity"),
    (crews(dict(CREW, seconds="x")), "infrastructure.crews[0].seconds"),
    (crews(dict(CREW, zone="{{ x }}")), "infrastructure.crews[0].zone"),
])
def test_a_wrong_entry_is_named(entry, field):
    with pytest.raises(InvalidInput) as refused:
        InfrastructureConfig.from_config(entry)
    assert refused.value.field == field and refused.value.hint


def test_a_date_may_be_as_yaml_reads_it():
    entry = {"holidays": [datetime.date(2025, 12, 25), "2026-01-01"]}
    assert InfrastructureConfig.from_config(entry).holidays == ("2025-12-25", "2026-01-01")


def test_its_secrets_are_masked(make_env):
    prometheus = {"base_url": "http://h", "token": "very-secret", "headers": {"X-Key": "as-secret"}}
    env = make_env({"infrastructure": dict(INFRASTRUCTURE, prometheus=prometheus)})
    load_config(env)
    assert env.redactor.redact_text("very-secret as-secret") == "******** ********"
