"""The rules by which StackStorm takes the pack's files, written out: they hold without StackStorm.

test_registration.py asks StackStorm itself, where it is installed.
"""
import re

import pytest
from fixtures import PACK
from fixtures.check_each import check_each
from pack_files import (
    ABOUT,
    ACTIONS,
    KINDS,
    REF,
    RUNNER_PARAMETERS,
    all_parameters,
    metadata,
    own_parameters,
    read,
)

TYPES = ("array", "boolean", "integer", "number", "object", "string")
SCHEMA_KEYS = {
    "title", "description", "default", "multipleOf", "maximum", "exclusiveMaximum", "minimum",
    "exclusiveMinimum", "maxLength", "minLength", "pattern", "additionalItems", "items", "maxItems",
    "minItems", "uniqueItems", "maxProperties", "minProperties", "required", "secret",
    "additionalProperties", "properties", "patternProperties", "dependencies", "enum", "type",
    "position", "immutable", "allOf", "anyOf", "oneOf", "not",
}
# kind: (required keys, further keys)
KEYS = {
    "actions": (
        {"name", "runner_type"},
        {"pack", "description", "enabled", "entry_point", "parameters", "output_schema", "tags",
         "notify"},
    ),
    "triggers": (
        {"name"}, {"pack", "description", "payload_schema", "parameters_schema", "tags"},
    ),
    "sensors": (
        {"class_name", "entry_point"},
        {"pack", "description", "enabled", "trigger_types", "poll_interval"},
    ),
    "rules": (
        {"name", "trigger", "action"},
        {"pack", "description", "type", "criteria", "enabled", "context", "tags"},
    ),
    "aliases": (
        {"name", "action_ref", "formats"},
        {"pack", "description", "enabled", "ack", "result", "extra", "immutable_parameters"},
    ),
    "policies": (
        {"name", "resource_ref", "policy_type"}, {"pack", "description", "enabled", "parameters"},
    ),
}
FILES = [(kind, name) for kind in KINDS for name in metadata(kind)]
PARAMETERS = list(all_parameters())
NAMES = ["%s.%s" % parameter[:2] for parameter in PARAMETERS]
OPERATORS = {
    "matchwildcard", "matchregex", "regex", "iregex", "equals", "eq", "nequals", "neq", "iequals",
    "ieq", "contains", "icontains", "ncontains", "incontains", "startswith", "istartswith",
    "endswith", "iendswith", "lessthan", "lt", "greaterthan", "gt", "timediff_lt", "td_lt",
    "timediff_gt", "td_gt", "exists", "nexists", "inside", "in", "ninside", "nin", "search",
}
FAILURE_TYPES = ACTIONS["agent_recovery"]["parameters"]["failure_type"]["enum"]


def test_the_pack():
    assert re.match(r"^[a-z0-9_]+\Z", REF)
    for key in ("name", "description", "author"):
        assert isinstance(ABOUT[key], str) and ABOUT[key].strip()
    assert re.match(r"^\d+\.\d+\.\d+(-[\da-z.-]+)?\Z", ABOUT["version"])
    assert re.match(r"^((>=|=|<=|<|>)\s*\d+\.\d+\.\d+(\s*,\s*)?)+\Z", ABOUT["stackstorm_version"])
    assert ABOUT["python_versions"] == ["3"]
    assert re.match(r"^[^@\s]+@[^@\s]+\Z", ABOUT["email"])
    assert all(isinstance(word, str) for word in ABOUT["keywords"])


@check_each("kind, name", FILES, ids=["/".join(file) for file in FILES])
def test_keys_and_pack(kind, name):
    document = read("%s/%s" % (kind, name))
    required, more = KEYS[kind]
    assert required <= set(document)
    assert set(document) <= required | more
    assert document.get("pack", REF) == REF


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_unique(kind):
    key = "class_name" if kind == "sensors" else "name"
    names = [document[key] for document in metadata(kind).values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_flat(kind):
    """StackStorm reads metadata at this level only; deeper files would be silently without effect.
    """
    deeper = {str(path.relative_to(PACK / kind)) for path in (PACK / kind).glob("*/**/*.y*ml")}
    assert {path for path in deeper if not (kind == "actions" and path.startswith("workflows/"))} \
        == set()
    assert list((PACK / kind).glob("*.yml")) == []


@check_each("name", ACTIONS)
def test_action(name):
    action = ACTIONS[name]
    assert re.match(r"^[a-z0-9_]+(\.[a-z0-9_]+)?\Z", name)
    assert action["runner_type"] in RUNNER_PARAMETERS
    assert action["description"].endswith(".")
    assert (PACK / "actions" / action["entry_point"]).is_file()
    allowed = ({"default", "description", "enum", "immutable", "required"})
    for parameter in set(action.get("parameters") or {}) - set(own_parameters(action)):
        assert set(action["parameters"][parameter]) <= allowed


@check_each("name", ACTIONS)
def test_positions_have_no_holes_and_required_ones_come_first(name):
    specs = own_parameters(ACTIONS[name]).values()
    placed = sorted((s for s in specs if "position" in s), key=lambda spec: spec["position"])
    # From 1: st2web takes position 0 for none, and mixes that parameter with those of the runner.
    assert [spec["position"] for spec in placed] == list(range(1, len(placed) + 1))
    required = [bool(spec.get("required")) for spec in placed]
    assert required == sorted(required, reverse=True)
    assert all("position" in spec for spec in specs if not spec.get("immutable"))


@check_each("action, name, spec", PARAMETERS, ids=NAMES)
def test_parameter_schema(action, name, spec):
    assert re.match(r"^[a-z][a-z0-9_]*\Z", name)
    _check_schema(spec)
    assert isinstance(spec.get("type"), str) or "anyOf" in spec
    if spec.get("immutable"):
        assert "default" in spec and "position" not in spec
    if spec.get("required"):
        assert "default" not in spec
    if "default" in spec and "enum" in spec:
        # st2web shows the first as selected, although it submits the default.
        assert spec["default"] == spec["enum"][0]


def _check_schema(spec, inside=False):
    """`spec` is a schema as StackStorm takes it; with `inside`, one within another."""
    assert isinstance(spec, dict) and set(spec) <= SCHEMA_KEYS
    if "anyOf" in spec and not inside:
        # StackStorm casts by the type and takes one only: a value of several kinds has none.
        assert "type" not in spec and len(spec["anyOf"]) > 1
        for inner in spec["anyOf"]:
            _check_schema(inner, inside=True)
    elif not inside or "type" in spec:
        assert spec["type"] in TYPES
    assert isinstance(spec.get("required", False), bool)
    assert isinstance(spec.get("secret", False), bool)
    if "enum" in spec:
        assert spec["enum"] and len(set(spec["enum"])) == len(spec["enum"])
    if "pattern" in spec:
        re.compile(spec["pattern"])
    for key in ("properties", "patternProperties"):
        for inner in (spec.get(key) or {}).values():
            _check_schema(inner, inside=True)
    for key in ("items", "additionalProperties"):
        if isinstance(spec.get(key), dict):
            _check_schema(spec[key], inside=True)


@check_each("action, name, spec", PARAMETERS, ids=NAMES)
def test_parameter_description(action, name, spec):
    description = spec["description"]
    assert description.endswith(".") and "\n" not in description
    if spec.get("immutable") or spec.get("required"):
        assert "Default:" not in description
    elif "default" in spec:
        default = spec["default"]
        default_text = (
            {True: "true", False: "false"}[default] if isinstance(default, bool) else default
        )
        assert description.endswith("Default: %s." % default_text)
    if re.search(r"timeout|delay|ttl|interval|seconds", name):
        assert "econds" in description
    if "minimum" in spec and "maximum" in spec:
        assert "%d to %d" % (spec["minimum"], spec["maximum"]) in description


@check_each("action, name, spec", PARAMETERS, ids=NAMES)
def test_closed_sets_and_bounds(action, name, spec):
    if name == "failure_type":
        assert sorted(spec["enum"]) == sorted(FAILURE_TYPES)
    if name in ("status", "method", "strategy", "outcome", "severity"):
        assert spec.get("enum")
    if name == "case":
        assert spec["pattern"] == "^[A-Za-z0-9_=-]*$"
    if (action, name) == QUESTION:
        # Typed in a channel: the action says what is wrong with it, and how to find the right one.
        assert "pattern" not in spec
    elif name == "execution_id":
        assert spec["pattern"] == "^[0-9a-f]{24}$"
    if spec.get("type") in ("integer", "number"):
        assert "minimum" in spec
    if spec.get("type") == "array":
        assert spec["items"]["type"] in TYPES


# It may have the number of a question behind it.
QUESTION = ("approval.answer", "execution_id")


def test_the_failure_types_are_the_library_s():
    from synthralos.core import causes

    assert list(causes.TYPES) + list(causes.ALIASES) == FAILURE_TYPES


def test_a_parameter_means_the_same_everywhere():
    """Where two actions share a parameter, people need to learn it once."""
    seen = {}
    for action, name, spec in PARAMETERS:
        if (action, name) == QUESTION:
            continue
        meaning = {key: value for key, value in spec.items() if key in ("type", "pattern", "items")}
        assert seen.setdefault(name, meaning) == meaning, "%s.%s" % (action, name)


def test_the_kinds_that_can_be_cleared_are_the_library_s():
    from synthralos.storage.keyspace import CLEARABLE

    kinds = ACTIONS["storage.clear"]["parameters"]["kinds"]
    assert kinds["items"]["enum"] == ["all", *CLEARABLE]


@check_each("action, name, spec", PARAMETERS, ids=NAMES)
def test_no_text_is_secret(action, name, spec):
    """StackStorm would mask it for the action that reads the run's parameters."""
    assert not spec.get("secret")


@check_each("name", metadata("triggers"))
def test_trigger(name):
    document = read("triggers/" + name)
    assert document["description"].endswith(".")
    assert name == document["name"] + ".yaml"
    schema = document["payload_schema"]
    assert schema["type"] == "object"
    for spec in schema["properties"].values():
        _check_schema(spec)


@check_each("name", metadata("sensors"))
def test_sensor(name):
    document = read("sensors/" + name)
    assert (PACK / "sensors" / document["entry_point"]).is_file()
    # StackStorm's schema takes any number; its sensor process parses whole ones only.
    assert isinstance(document.get("poll_interval", 1), int)
    for trigger in document.get("trigger_types") or []:
        required, more = KEYS["triggers"]
        assert required <= set(trigger) <= required | more


# What rules may start: intakes, which ask for the mode of automation first; a redrive, which does
# so itself; and what sees to runs, tickets and numbers that exist already.
STARTED_BY_RULES = {
    "alert.receive", "failure.receive", "execution.receive", "agent_run.receive",
    "recovery.redrive", "recovery.reap", "ticket.process", "metrics.roll_up",
}


@check_each("name", metadata("rules"))
def test_no_rule_goes_around_the_ladder_of_trust(name):
    pack, _, action = read("rules/" + name)["action"]["ref"].partition(".")
    assert pack == REF and action in STARTED_BY_RULES


@check_each("name", metadata("rules"))
def test_rule(name):
    document = read("rules/" + name)
    assert isinstance(document["enabled"], bool)
    pack, _, action = document["action"]["ref"].partition(".")
    if pack == REF:
        parameters = document["action"].get("parameters") or {}
        declared = ACTIONS[action]["parameters"]
        assert set(parameters) <= set(declared)
        needed = {p for p, s in declared.items() if s.get("required") and "default" not in s}
        assert needed <= set(parameters)
    pack, _, trigger = document["trigger"]["type"].partition(".")
    dispatched = {t["name"] for t in metadata("triggers").values()}
    for sensor in metadata("sensors").values():
        dispatched |= {t["name"] for t in sensor.get("trigger_types") or []}
    assert pack == "core" or (pack == REF and trigger in dispatched)
    for criterion in (document.get("criteria") or {}).values():
        assert criterion["type"] in OPERATORS and criterion["pattern"] is not None


@check_each("name", metadata("aliases"))
def test_alias(name):
    document = read("aliases/" + name)
    pack, _, action = document["action_ref"].partition(".")
    assert pack == REF
    formats = []
    for entry in document["formats"]:
        formats += [entry] if isinstance(entry, str) else entry["representation"]
    declared = set(ACTIONS[action]["parameters"])
    named = {
        n
        for format_string in formats
        for n in re.findall(r"{{\s*(\w+)\s*(?:=[^}]*)?}}", format_string)
    }
    assert named <= declared
    assert set(document.get("immutable_parameters") or {}) <= declared


@check_each("name", metadata("policies"))
def test_policy(name):
    document = read("policies/" + name)
    pack, _, action = document["resource_ref"].partition(".")
    assert pack == REF and action in ACTIONS
    allowed = {
        "action.retry": {"retry_on", "max_retry_count", "delay"},
        "action.concurrency": {"threshold", "action"},
        "action.concurrency.attr": {"threshold", "action", "attributes"},
    }[document["policy_type"]]
    assert set(document["parameters"]) <= allowed
    attributes = document["parameters"].get("attributes") or []
    assert set(attributes) <= set(ACTIONS[action]["parameters"])


@check_each("name", read("config.schema.yaml"))
def test_config_schema(name):
    spec = read("config.schema.yaml")[name]
    assert re.match(r"^\w+\Z", name)
    _check_schema(spec)
    assert spec["description"].endswith(".")
    _check_secrets(name, spec)


def _check_secrets(name, spec):
    children = dict(spec.get("properties") or {})
    children["[]"] = spec.get("items")
    children["{}"] = spec.get("additionalProperties")
    for part, inner in children.items():
        if isinstance(inner, dict):
            _check_secrets("%s.%s" % (name, part), inner)
    if re.search(r"(^|[._])(token|api_key|password|secret|headers|proxy)\Z", name):
        assert spec.get("secret") is True, "%s must be secret" % name
