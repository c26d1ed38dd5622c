"""Sensors and the triggers they fire: what StackStorm expects of their files, and what it does not
say when it is not so.
"""
import ast
import re
import subprocess
import sys

import pytest
from fixtures import PACK, STANDINS
from pack_files import metadata, read

SENSORS = metadata("sensors")
TRIGGERS = metadata("triggers")
LIBRARY = PACK / "actions" / "lib" / "synthralos"
# sensor_type_utils.MINIMUM_POLL_INTERVAL
SHORTEST_POLL = 4
BASES = {"Sensor", "PollingSensor"}
# What a sensor's process may not import: the pack's virtualenv comes after StackStorm's own there.
ABSENT = ("pydantic", "tenacity", "jsonschema", "yaml")
TRIGGER = re.compile(r'^(?:[A-Z]+_)?TRIGGER = "(\w+)"', re.M)


def _class(name):
    """(tree, class) of a sensor's entry point."""
    tree = ast.parse((PACK / "sensors" / SENSORS[name]["entry_point"]).read_text())
    [class_node] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return tree, class_node


@pytest.mark.parametrize("name", SENSORS)
def test_a_sensor_s_file(name):
    document = SENSORS[name]
    assert document["description"].endswith(".")
    assert isinstance(document["enabled"], bool)
    assert document["entry_point"] == name.replace(".yaml", ".py")
    interval = document.get("poll_interval")
    assert interval is None or (type(interval) is int and interval >= SHORTEST_POLL)


@pytest.mark.parametrize("name", SENSORS)
def test_a_sensor_s_class(name):
    tree, class_node = _class(name)
    assert class_node.name == SENSORS[name]["class_name"]
    assert ast.get_docstring(class_node)
    [base] = [base_node.id for base_node in class_node.bases]
    assert base in BASES
    # StackStorm passes an interval to polling sensors only.
    assert (base == "PollingSensor") == ("poll_interval" in SENSORS[name])
    methods = {node.name for node in class_node.body if isinstance(node, ast.FunctionDef)}
    needed = {"setup", "cleanup", "add_trigger", "update_trigger", "remove_trigger"}
    assert needed | {"poll" if base == "PollingSensor" else "run"} <= methods


@pytest.mark.parametrize("name", SENSORS)
def test_a_sensor_finds_the_library_by_itself(name):
    """StackStorm puts actions/lib on the path of actions only."""
    tree, _ = _class(name)
    statements = [ast.unparse(node) for node in tree.body[:3]]
    assert statements[:2] == ["import os", "import sys"]
    assert statements[2].startswith("sys.path.insert(0, ") and "../actions/lib" in statements[2]


@pytest.mark.parametrize("name", SENSORS)
def test_a_sensor_s_process_needs_stackstorm_requests_and_python_only(name):
    entry = PACK / "sensors" / SENSORS[name]["entry_point"]
    code = (
        "import importlib.util, sys\n"
        "sys.path.append(%r)\n"
        "spec = importlib.util.spec_from_file_location('sensor', %r)\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "print([name for name in %r if name in sys.modules])\n"
    ) % (str(STANDINS["st2reactor"]), str(entry), ABSENT)
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert (completed.stdout.strip(), completed.returncode) == ("[]", 0), completed.stderr


def test_every_entry_point_belongs_to_a_sensor():
    existing = {path.name for path in (PACK / "sensors").glob("*.py")}
    assert existing == {document["entry_point"] for document in SENSORS.values()}


def test_each_trigger_type_is_declared_once():
    """Declared twice, the one that is registered last would win."""
    declared = [document["name"] for document in TRIGGERS.values()]
    for document in SENSORS.values():
        declared += [trigger_type["name"] for trigger_type in document.get("trigger_types") or []]
    assert len(declared) == len(set(declared))


def test_what_the_library_fires_is_declared():
    declared = {document["name"] for document in TRIGGERS.values()}
    fired = set()
    for path in (LIBRARY / "sensing").glob("*.py"):
        fired |= set(TRIGGER.findall(path.read_text()))
    assert (
        {"metrics_alert", "agent_failure", "agent_loop", "sensor_disconnected"} <= fired <= declared
    )


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_payload_s_schema(name):
    for field, spec in TRIGGERS[name]["payload_schema"]["properties"].items():
        # An enum does not take the null that StackStorm lets an optional field have.
        assert "enum" not in spec or spec.get("required"), field
        # StackStorm fills in defaults for checking only: the payload would still lack it.
        assert "default" not in spec, field


def test_the_failure_types_are_the_library_s():
    from synthralos.core import causes

    properties = TRIGGERS["agent_failure.yaml"]["payload_schema"]["properties"]
    assert properties["failure_type"]["enum"] == list(causes.TYPES)
    properties = TRIGGERS["agent_loop.yaml"]["payload_schema"]["properties"]
    assert properties["severity"]["enum"] == list(causes.SEVERITIES)


def test_the_defaults_of_the_config_schema_are_the_library_s():
    from synthralos.config.settings import Settings
    from synthralos.sensing.config import SensorsConfig

    bare = {"url": "http://127.0.0.1:9"}
    schema = read("config.schema.yaml")["sensors"]["properties"]
    platforms = Settings.from_config({}).platforms
    plain = SensorsConfig.from_config(dict.fromkeys(schema, bare), platforms)
    configured = {
        name: dict(bare, **{
            key: inner["default"] for key, inner in spec["properties"].items() if "default" in inner
        })
        for name, spec in schema.items()
    }
    assert SensorsConfig.from_config(configured, platforms) == plain
    # StackStorm makes an object of defaults where nothing is configured.
    for entry in configured.values():
        del entry["url"]
    assert SensorsConfig.from_config(configured, platforms) == SensorsConfig()


@pytest.mark.parametrize("name", SENSORS)
def test_the_interval_is_the_config_schema_s(name):
    entry = name.replace("_sensor.yaml", "")
    schema = read("config.schema.yaml")["sensors"]["properties"][entry]["properties"]
    if "poll_interval" in SENSORS[name]:
        assert SENSORS[name]["poll_interval"] == schema["poll_interval"]["default"]
        assert schema["poll_interval"]["minimum"] == SHORTEST_POLL


def test_the_example_config_configures_sensors():
    from synthralos.config.settings import Settings
    from synthralos.sensing.config import SensorsConfig

    settings = Settings.from_config(read("synthralos.yaml.example"))
    config = SensorsConfig.from_config(settings.sensors, settings.platforms)
    assert config.alertmanager and config.agent_errors and not config.agent_events
