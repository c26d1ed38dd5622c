"""What a request may hold, what it is made of, and what the action gets."""
import pytest

from st2local import InvalidInput
from st2local.errors import ParamException, ValidationError

LOOK = "fixture.look.around"
CONFIG = {"plain": "from config", "nested": {"key": "{{st2kv.system.deep}}"}}


def seen(local, parameters, **options):
    execution = local.run(LOOK, parameters, **options)
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["result"]


@pytest.mark.parametrize("parameters, message", [
    ({"stray": 1}, "Additional properties are not allowed ('stray' was unexpected)"),
    ({"n": 11}, "11 is greater than the maximum of 10"),
    ({"n": 0}, "0 is less than the minimum of 1"),
    ({"kind": "c"}, "'c' is not one of ['a', 'b']"),
    ({"sealed": "<% ctx() %>"}, "'<% ctx() %>' does not match"),
    ({"text": {"a": 1}}, "must either be a string or None"),
    ({"n": "<% 1+1 %>"}, "Failed to cast"),
    ({"obj": [1]}, "[1] is not of type 'object'"),
    ({"fixed": "x"}, "Override of immutable parameter(s) ['fixed'] is unsupported."),
    ({"text": "{{ foo }}"}, 'Dependency unsatisfied in variable "foo"'),
    ({"obj": {"deep": ["{{ foo }}"]}}, 'Dependency unsatisfied in variable "foo"'),
    ({"text": "{{ text }}"}, "Cyclic dependency"),
    ({"text": "{{ config_context.absent }}"}, 'Failed to render parameter "text"'),
    ({"text": "{{ st2kv.system.absent | decrypt_kv }}"}, "doesn't exist"),
])
def test_refused(local, parameters, message):
    with pytest.raises(InvalidInput) as caught:
        local.run(LOOK, parameters)
    assert message in str(caught.value)


def test_required(local):
    with pytest.raises(ValidationError, match="'how' is a required property"):
        local.run("fixture.ending")


def test_unknown_action(local):
    with pytest.raises(InvalidInput, match='Action "fixture.absent" cannot be found.'):
        local.run("fixture.absent")
    with pytest.raises(InvalidInput):
        local.run("other.action")


@pytest.mark.parametrize("raw_parameters, expected", [
    ({"n": 2.5}, {"n": 2}),
    ({"n": True}, {"n": 1}),
    ({"n": "3"}, {"n": 3}),
    ({"ratio": 2}, {"ratio": 2.0}),
    ({"flag": "true"}, {"flag": True}),
    ({"obj": '{"a": 1}'}, {"obj": {"a": 1}}),
    ({"arr": "[1, 2]"}, {"arr": [1, 2]}),
    ({"n": None}, {"n": 5}),
    ({"text": None}, {"text": None}),
    ({"text": "{% broken {{ x"}, {"text": "{% broken {{ x"}),
    ({"text": "<%= erb %> <% 1 %> {{.Values.x}}"}, {"text": "<%= erb %> <% 1 %> {{.Values.x}}"}),
    ({"text": "{{ config_context.plain }}"}, {"text": "from config"}),
    ({"text": "{{ n }}", "n": 4}, {"text": "4"}),
    ({"obj": {"a": "{{ n }}", "{{ n }}": ["{{n}}"]}, "n": 4}, {"obj": {"a": "4", "4": [4]}}),
    ({"text": "{{ action_context.user }}"}, {"text": "st2admin"}),
    ({"text": "{{ st2kv.system.greeting }}"}, {"text": "hello {{ foo }}"}),
    ({"text": "{{ st2kv.system.sealed | decrypt_kv }}"}, {"text": "hush"}),
    ({"text": "{{ 'a1' | regex_replace('[0-9]', '') }}"}, {"text": "a"}),
])
def test_rendered_and_cast(make, raw_parameters, expected):
    local = make(config=CONFIG)
    local.keys.set("greeting", "hello {{ foo }}")
    local.keys.set("sealed", "hush", encrypt=True)
    parameters = seen(local, raw_parameters)["parameters"]
    assert {name: parameters[name] for name in expected} == expected


def test_every_declared_parameter_reaches_the_action(local):
    local.keys.set("greeting", "hello")
    assert seen(local, {})["parameters"] == {
        "text": None, "n": 5, "kind": "a", "sealed": "", "obj": None, "arr": None, "flag": None,
        "ratio": None, "from_kv": "hello", "fixed": "fixed {{ foo }", "hidden": None,
    }


def test_an_execution_holds_what_was_given(local):
    assert "parameters" not in local.run("fixture.two")
    assert local.run(LOOK, {"n": 2.5})["parameters"] == {"n": 2, "from_kv": ""}


def test_secrets_are_masked_in_what_is_shown(local):
    execution = local.run(LOOK, {"hidden": "hush", "timeout": 99})
    assert execution["parameters"]["hidden"] == "********"
    assert execution["result"]["result"]["parameters"]["hidden"] == "hush"
    clear = local.execution(execution["id"], show_secrets=True)
    assert clear["parameters"]["hidden"] == "hush"


def test_surroundings(make):
    local = make(config=CONFIG)
    local.keys.set("deep", "secret of the deep", encrypt=True)
    reported = seen(local, {"text": "a private word"})
    assert reported["library"] == "found in actions/lib"
    assert reported["importable"] == []
    assert reported["registered"] is False
    assert reported["last_path"].endswith("/actions")
    assert "a private word" not in str(reported["arguments"])
    environment = reported["environment"]
    assert environment["ST2_ACTION_PACK_NAME"] == "fixture"
    assert environment["ST2_ACTION_API_URL"].endswith("/v1")
    assert len(environment["ST2_ACTION_EXECUTION_ID"]) == 24


def test_config_is_resolved(make):
    local = make(config=dict(CONFIG, providers=[{"name": "a"}, {"name": "b", "seconds": 5}]))
    local.keys.set("deep", "secret of the deep", encrypt=True)
    assert seen(local, {})["config"] == {
        "plain": "from config", "limit": 7,
        "nested": {"key": "secret of the deep", "depth": 3},
        "providers": [{"name": "a", "seconds": 60}, {"name": "b", "seconds": 5}],
    }


def test_a_secret_that_is_not_encrypted_fails_the_action(make):
    local = make(config=CONFIG)
    local.keys.set("deep", "in the clear")
    execution = local.run(LOOK)
    assert execution["status"] == "failed"
    assert 'value for key "nested.key"' in execution["result"]["error"]


@pytest.mark.parametrize("config, message", [
    ({"limit": "x"}, "limit: 'x' is not of type"),
    ({"providers": [{"seconds": 1}]}, "'name' is a required property"),
    ({"token": "{{ st2kv.system.x | decrypt_kv }}"}, "remove decrypt_kv"),
    ([1], "must be a mapping"),
])
def test_wrong_config(make, config, message):
    from st2local import ConfigError

    with pytest.raises(ConfigError, match="the given config") as caught:
        make(config=config)
    assert message in str(caught.value)


def test_param_errors_name_the_variable(local):
    with pytest.raises(ParamException):
        local.run(LOOK, {"text": "{{ foo.bar }}"})
