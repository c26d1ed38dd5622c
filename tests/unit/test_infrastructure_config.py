import datetime
import pathlib

import pytest
import yaml

from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import topology
from synthralos.infrastructure.config import (
    InfrastructureConfig,
    load_config,
    load_config_or_default,
)
from synthralos.infrastructure.runbooks import find_runbook

from .infrastructure import INFRASTRUCTURE

PACK = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load((PACK / "config.schema.yaml").read_text(encoding="utf-8"))
CREW = {"name": "a", "channels": ["mail"]}


def crews(*entries, **more):
    return dict({"crews": list(entries)}, **more)


def robot(**more):
    """The configuration with a crew that is an action."""
    return crews(dict({"name": "a", "action": "x.y"}, **more), allowed_actions=["x.y"])


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
    ({"topology_from": 7}, "infrastructure.topology_from"),
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
    (robot(node_parameter="cmd"), "infrastructure.crews[0].node_parameter"),
    (robot(node_parameter="extra_args"), "infrastructure.crews[0].node_parameter"),
    (robot(parameters={"note": "restart {{ node }}"}), "infrastructure.crews[0].node_parameter"),
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


class TestInvalidConfig:
    """What receives an alert goes on with what can be read."""

    RUNBOOKS = [
        {"name": "a", "match": {"alertname": "A"}, "mode": "act", "steps": [{"action": "x.z"}]},
        {"name": "b", "match": {"alertname": "B"}, "mode": "acct", "steps": []},
        {"name": "c", "match": {"alertname": {"pattern": "("}}, "steps": [{"action": "x.y"}]},
        {"name": "no name", "match": {"alertname": "D"}}, {"name": "e", "match": []}, 7,
        {"name": "f", "match": {"alertname": {"pattern": "F.+"}}, "mode": "observe"},
    ]

    def loaded(self, make_env, **entry):
        return load_config_or_default(make_env({"infrastructure": entry}))

    def test_the_runbooks_are_matched_with_their_modes(self, make_env):
        config = self.loaded(make_env, runbooks=self.RUNBOOKS, allowed_actions=["x.y"])
        assert [(runbook.name, runbook.mode, runbook.steps) for runbook in config.runbooks] == [
            ("a", "act", ()), ("b", None, ()), ("f", "observe", ())]
        assert find_runbook(config.runbooks, {"alertname": "Full"}).name == "f"

    def test_another_invalid_entry_hides_no_runbook(self, make_env):
        runbook = dict(self.RUNBOOKS[0], steps=[{"action": "x.y"}])
        config = self.loaded(
            make_env, runbooks=[runbook], allowed_actions=["x.y"], settle_seconds=-1,
            topology=[{"name": "web-1"}], alert_labels=["shard"],
        )
        assert [runbook.name for runbook in config.runbooks] == ["a"]
        assert config.topology == ({"name": "web-1"},)
        assert config.alert_rules.labels == ("shard",)

    @pytest.mark.parametrize("entry", [
        {"runbooks": 7}, {"runbooks": {}}, {"topology": 7}, {"alert_labels": 7, "holidays": 7},
        {"topology_from": 7},
    ])
    def test_nothing_that_can_be_read(self, make_env, entry):
        assert self.loaded(make_env, settle_seconds=-1, **entry) == InfrastructureConfig()
