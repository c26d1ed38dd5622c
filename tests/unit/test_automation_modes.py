"""Which mode of automation is in force, and what decides it."""
import pytest

from synthralos.automation import config as automation_config
from synthralos.automation import modes
from synthralos.automation.config import AutomationConfig
from synthralos.config.modes import ACT, APPROVE, MODES, OBSERVE
from synthralos.core.errors import InvalidInput

AGENT, INFRASTRUCTURE = "agent_recovery", "infrastructure_repair"


@pytest.fixture
def env(make_env):
    return make_env()


def mode(env, workflow=AGENT, runbook=None, runbook_mode=None, **entry):
    config = AutomationConfig.from_config(entry)
    return modes.mode_of(env, config, workflow, runbook, runbook_mode).mode


def test_without_a_word_it_observes(env):
    assert mode(env) == OBSERVE


def test_the_configuration_names_a_mode_for_all_and_for_single_workflows(env):
    entry = {"mode": "observe", "modes": {AGENT: "act"}}
    assert mode(env, AGENT, **entry) == ACT
    assert mode(env, INFRASTRUCTURE, **entry) == OBSERVE
    assert mode(env, None, **entry) == OBSERVE


def test_a_runbook_s_own_mode_comes_before_its_workflow_s(env):
    entry = {"mode": "act", "modes": {INFRASTRUCTURE: "act"}}
    assert mode(env, INFRASTRUCTURE, "disk-full", "approve", **entry) == APPROVE


@pytest.mark.parametrize("override", MODES)
def test_an_override_for_all_decides_where_the_configuration_names_no_workflow(env, override):
    modes.set_override(env, override, None)
    assert {mode(env, mode=configured) for configured in MODES} == {override}


@pytest.mark.parametrize("override, configured, in_force", [
    (OBSERVE, ACT, OBSERVE), (APPROVE, ACT, APPROVE), (ACT, APPROVE, APPROVE),
    (ACT, OBSERVE, OBSERVE), (APPROVE, APPROVE, APPROVE),
])
def test_an_override_for_all_takes_down_what_is_configured_and_takes_nothing_up(
    env, override, configured, in_force
):
    modes.set_override(env, override, None)
    assert mode(env, modes={AGENT: configured}) == in_force
    assert mode(env, INFRASTRUCTURE, "disk-full", configured, mode="act") == in_force


@pytest.mark.parametrize("override", MODES)
@pytest.mark.parametrize("for_all", [None, OBSERVE, ACT])
def test_a_runbook_s_override_comes_before_everything(env, override, for_all):
    modes.set_override(env, for_all, None)
    modes.set_override(env, override, "disk/full")
    assert mode(env, INFRASTRUCTURE, "disk/full", "approve", mode="act") == override
    assert mode(env, INFRASTRUCTURE, "disk", "approve", mode="act") == (
        OBSERVE if for_all == OBSERVE else APPROVE
    )


def test_an_override_is_removed(env):
    for runbook in (None, "disk-full"):
        modes.set_override(env, ACT, runbook)
        modes.set_override(env, None, runbook)
    assert mode(env, INFRASTRUCTURE, "disk-full") == OBSERVE
    assert env.store.list("synthralos.") == []


@pytest.mark.parametrize("value", ["", "acting", "ACT now", "{{ mode }}"])
def test_an_override_that_is_not_a_mode_observes_and_is_named(env, value):
    env.store.put(modes.OVERRIDE_KEY, value)
    in_force = modes.mode_of(env, AutomationConfig(mode="act"), AGENT)
    assert in_force.mode == OBSERVE and modes.OVERRIDE_KEY in in_force.source


def test_an_override_may_be_typed_in_capitals_with_blanks(env):
    env.store.put(modes.OVERRIDE_KEY, " Act\n")
    assert mode(env) == ACT


@pytest.mark.parametrize("entry, path", [
    ({"mode": "auto"}, "automation.mode"), ({"mode": True}, "automation.mode"),
    ({"mode": ["act"]}, "automation.mode"),
    ({"modes": {AGENT: "yes"}}, "automation.modes.agent_recovery"),
    ({"modes": {"handle_error": "act"}}, "automation.modes.handle_error"),
    ({"modes": ["act"]}, "automation.modes"),
])
def test_an_invalid_mode_is_an_error_that_names_it_and_counts_as_observe(env, entry, path):
    with pytest.raises(InvalidInput) as error:
        AutomationConfig.from_config(entry)
    assert error.value.field == path and error.value.hint
    config, message = automation_config.load(dict({"mode": "act"}, **entry))
    assert config == AutomationConfig() and path in message
    assert modes.mode_of(env, config, AGENT).mode == OBSERVE


@pytest.mark.parametrize("other, path", [
    ({"recurrence_window": "soon"}, "automation.recurrence_window"),
    ({"failed_actions": ["acme.ask"]}, "automation.failed_actions"),
    ({"failed_actions": {"acme.ask": {"query_from": ["q"]}}},
     "automation.failed_actions.acme.ask.query_from"),
])
def test_another_invalid_entry_leaves_the_modes_alone(other, path):
    entry = dict({"mode": "approve", "modes": {AGENT: "act"}}, **other)
    config, message = automation_config.load(entry)
    assert message.startswith(path + " ")
    assert config == AutomationConfig(mode=APPROVE, modes={AGENT: ACT})


def test_all_modes_in_force_are_listed_with_what_decides_each(make_env):
    runbook = {"match": {"alertname": "A"}, "steps": [{"crew": "on-call"}]}
    env = make_env({"infrastructure": {
        "crews": [{"name": "on-call", "channels": ["slack"]}],
        "runbooks": [
            dict(runbook, name="node-down", mode="act"),
            dict(runbook, name="disk-full", mode="act"),
        ],
    }})
    config = AutomationConfig.from_config({"mode": "approve", "modes": {AGENT: "act"}})
    modes.set_override(env, OBSERVE, "disk-full")
    in_force = modes.modes_in_force(env, config)
    assert (in_force["mode"], in_force["source"]) == (APPROVE, "automation.mode")
    assert in_force["workflows"][AGENT] == {
        "mode": ACT, "source": "automation.modes.agent_recovery",
    }
    assert in_force["workflows"][INFRASTRUCTURE]["mode"] == APPROVE
    assert {name: entry["mode"] for name, entry in in_force["runbooks"].items()} == {
        "disk-full": OBSERVE, "node-down": ACT,
    }
    assert modes.describe(in_force) == (
        "approve (automation.mode); agent_recovery: act, disk-full: observe, node-down: act"
    )
