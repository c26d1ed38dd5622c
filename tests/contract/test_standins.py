"""What stands in for StackStorm where that is not installed has StackStorm's names and arguments.
"""
import importlib
import importlib.util
import inspect
import pathlib

import pytest
from fixtures import STANDINS

# (module, class, methods)
SIGNATURES = [
    ("st2common", "st2common.runners.base_action", "Action", ["__init__", "run"]),
    ("st2common", "st2common.runners.utils", "PackConfigDict", ["__init__", "__getitem__"]),
    ("st2tests", "st2tests.base", "BaseActionTestCase",
     ["setUp", "get_action_instance", "get_fixture_content"]),
    ("st2tests", "st2tests.base", "BaseSensorTestCase",
     ["setUp", "get_sensor_instance", "get_dispatched_triggers", "get_last_dispatched_trigger",
      "assertTriggerDispatched"]),
    ("st2tests", "st2tests.action_aliases", "BaseActionAliasTestCase",
     ["setUp", "assertCommandMatchesExactlyOneFormatString", "assertExtractedParametersMatch"]),
    ("st2reactor", "st2reactor.sensor.base", "Sensor",
     ["__init__", "setup", "run", "cleanup", "add_trigger", "update_trigger", "remove_trigger"]),
    ("st2reactor", "st2reactor.sensor.base", "PollingSensor",
     ["__init__", "poll", "run", "get_poll_interval", "set_poll_interval"]),
]


def _standin(package, module):
    path = pathlib.Path(STANDINS[package], *module.split(".")).with_suffix(".py")
    described = importlib.util.spec_from_file_location("standin_" + module.replace(".", "_"), path)
    loaded = importlib.util.module_from_spec(described)
    described.loader.exec_module(loaded)
    return loaded


def _arguments(function):
    parameters = list(inspect.signature(function).parameters.values())
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters[1:]]


@pytest.mark.parametrize("package, module, name, methods", SIGNATURES)
def test_signatures(package, module, name, methods):
    real = importlib.import_module(module)
    if str(STANDINS[package]) in str(real.__file__):
        pytest.skip("%s is not installed here" % package)
    real, standin = getattr(real, name), getattr(_standin(package, module), name)
    for method in methods:
        ours, theirs = getattr(standin, method), getattr(real, method)
        assert _arguments(ours) == _arguments(theirs), method
