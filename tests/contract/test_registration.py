"""What `st2-register-content` does with the pack's files, by StackStorm's own models."""
import pathlib

import pytest
from fixtures import PACK
from pack_files import ACTIONS, KINDS, REF, RUNNER_PARAMETERS, metadata, read

pytest.importorskip("st2common.models.api.action", reason="StackStorm is not installed here")

FILES = [(kind, name) for kind in KINDS for name in metadata(kind)]


def _model(kind):
    from st2common.models.api import action, policy, rule, sensor, trigger

    return {
        "actions": action.ActionAPI,
        "triggers": trigger.TriggerTypeAPI,
        "sensors": sensor.SensorTypeAPI,
        "rules": rule.RuleAPI,
        "aliases": action.ActionAliasAPI,
        "policies": policy.PolicyAPI,
    }[kind]


def _runner_parameters(runner):
    import importlib.util

    package = {"python-script": "python_runner", "orquesta": "orquesta_runner"}[runner]
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip("StackStorm's %s is not on the path" % package)
    described = read(pathlib.Path(spec.origin).parent / "runner.yaml")
    return {entry["name"]: entry for entry in described}[runner]["runner_parameters"]


def test_pack():
    from st2common.models.api.pack import PackAPI

    PackAPI(**dict(read("pack.yaml"), path=str(PACK))).validate()


@pytest.mark.parametrize("kind, name", FILES, ids=["/".join(file) for file in FILES])
def test_file(kind, name):
    from st2common.models.api.base import BaseAPI

    content = dict(read("%s/%s" % (kind, name)), metadata_file="%s/%s" % (kind, name))
    content.setdefault("pack", REF)
    if kind == "sensors":
        content["artifact_uri"] = "file://" + str(PACK / "sensors" / content["entry_point"])
    # A policy's own `validate` looks its type up in the database: test_policy does without.
    BaseAPI.validate(_model(kind)(**content))


@pytest.mark.parametrize("name", ACTIONS)
def test_action_parameters(name):
    from st2common.validators.api import action as validator

    action = ACTIONS[name]
    runner = _runner_parameters(action["runner_type"])
    parameters = action.get("parameters") or {}
    assert validator._validate_parameters(REF + "." + name, parameters, runner)


@pytest.mark.parametrize("runner", RUNNER_PARAMETERS)
def test_the_runners_take_what_these_tests_think_they_take(runner):
    assert set(_runner_parameters(runner)) == RUNNER_PARAMETERS[runner]


@pytest.mark.parametrize("name", metadata("rules"))
def test_criteria(name):
    from st2common.validators.api.reactor import validate_criteria

    validate_criteria(read("rules/" + name).get("criteria") or {})


@pytest.mark.parametrize("name", metadata("policies"))
def test_policy(name):
    import st2common.policies
    from st2common.util import schema

    document = read("policies/" + name)
    folder = pathlib.Path(st2common.policies.__file__).parent / "meta"
    kinds = [read(path) for path in folder.glob("*.yaml")]
    kinds = {"action." + kind["name"]: kind for kind in kinds}
    rules = schema.get_schema_for_resource_parameters(kinds[document["policy_type"]]["parameters"])
    schema.validate(document["parameters"], rules, schema.get_validator(), use_default=True)


def test_config_schema():
    from st2common.models.api.pack import ConfigSchemaAPI

    ConfigSchemaAPI(pack=REF, attributes=read("config.schema.yaml")).validate()


def test_example_config():
    from st2common.util.pack import validate_config_against_schema

    validate_config_against_schema(
        read("config.schema.yaml"), read("synthralos.yaml.example"), "synthralos.yaml", REF
    )
