"""Stored definitions, the models of roles, and the calls of roles with the tool `meta`."""
import json
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput
from synthralos.orchestration import (
    definition_service,
    definition_store,
    definition_tools,
    model_selection,
    orchestration_schema,
)
from synthralos.orchestration.definition_store import ORCHESTRATION, ROLE
from synthralos.storage.datastore import BestEffortDatastore

A = {"name": "A", "base_prompt": "x"}
FLOW = {"name": "flow", "steps": [{"name": "a", "role": "A"}]}
CASE = {"run": "5f0c", "depth": 1, "progress": {"cursor": 1}}


def served(*models):
    return {"providers": [
        {"name": "p", "base_url": "http://127.0.0.1:9", "api_key": "k", "models": list(models)}]}


@pytest.fixture
def env(make_env):
    return make_env(config=served({"name": "m"}))


@pytest.mark.parametrize("read, raw, field", [
    (orchestration_schema.role, dict(A, given=[["top_p"]]), "role.given[0]"),
    (
        orchestration_schema.orchestration,
        {"name": "flow", "steps": [{"name": "a", "step_type": ["loop"]}]},
        "orchestration.steps[0].step_type",
    ),
], ids=["given", "step_type"])
def test_a_list_in_place_of_a_name_is_an_error_of_its_field(read, raw, field):
    with pytest.raises(InvalidInput) as refused:
        read(raw)
    assert refused.value.field == field and refused.value.hint


def test_of_two_that_create_a_name_at_once_exactly_one_does(make_env, datastore):
    """Each has a thread and a view of the store of its own, as two processes would."""
    barrier, tones = threading.Barrier(8), []

    def create(n):
        env = make_env(
            config=served({"name": "m"}), store=BestEffortDatastore(datastore), run="5f%02d" % n
        )
        normal = orchestration_schema.role(dict(A, tone="of %d" % n))
        barrier.wait()
        try:
            tones.append(definition_store.create(env, ROLE, normal, "user %d" % n)["tone"])
        except InvalidInput as error:
            assert "another role" in str(error) or "by another client" in str(error)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert (
        len(tones) == 1 and
        definition_store.role_by(BestEffortDatastore(datastore), "A")["tone"] == tones[0]
    )


def test_changes_at_once_are_versions_one_after_the_other(make_env, datastore):
    env = make_env(config=served({"name": "m"}))
    definition_service.create_role(env, A, None)
    numbers = []

    def change(n):
        env = make_env(
            config=served({"name": "m"}), store=BestEffortDatastore(datastore), run="5f%02d" % n
        )
        try:
            numbers.append(
                definition_service.update_role(env, "A", {"tone": "t%d" % n}, None)["version"]
            )
        except InvalidInput as error:
            assert "by another client" in str(error)

    threads = [threading.Thread(target=change, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert numbers and sorted(numbers) == list(range(2, 2 + len(numbers)))
    role = definition_store.role_by(env.store, "A")
    assert [
        version["version"] for version in definition_store.versions(env.store, ROLE, role)
    ] == list(range(1 + len(numbers), 0, -1))


def test_a_role_and_an_orchestration_may_have_one_name(env):
    definition_service.create_role(env, A, None)
    definition_service.create_orchestration(env, dict(FLOW, name="A"), None)
    assert definition_store.role_by(env.store, "A") and definition_store.orchestration_by(
        env.store, "A"
    )
    assert definition_store.role_by(env.store, ORCHESTRATION.id_of("A")) is None


@pytest.mark.parametrize("role, names", [
    ({}, ["p/small"]),
    ({"min_context": 9000}, ["p/large"]),
    ({"needs": {"vision": True}}, ["p/seeing"]),
    ({"needs": {"vision": True}, "min_context": 9000}, ["p/plain"]),
    ({"needs": {"json": True, "coding": True}}, ["p/plain"]),
    ({"model": "large"}, ["large"]),
    ({"fallback_models": ["seeing", "small"]}, ["p/small", "seeing", "small"]),
    ({"model": "small", "fallback_models": ["small", "large"]}, ["small", "large"]),
])
def test_the_first_model_that_has_what_the_role_needs(make_env, role, names):
    env = make_env(config=served(
        {"name": "small", "context_window": 8000, "capabilities": ["json"]},
        {"name": "seeing", "context_window": 8000, "capabilities": ["vision"]},
        {"name": "large", "context_window": 100000, "capabilities": ["reasoning"]},
        # Nothing is known of it, so nothing speaks against it; and what is empty is not known.
        {"name": "plain", "capabilities": []},
    ))
    assert model_selection.fitting(env, orchestration_schema.role(dict(A, **role))) == names


def test_the_default_model_where_it_fits(make_env):
    config = dict(
        served({"name": "a", "capabilities": ["json"]}, {"name": "b", "capabilities": ["coding"]}),
        orchestration={"default_model": "b"},
    )
    env = make_env(config=config)
    assert model_selection.fitting(env, orchestration_schema.role(A)) == ["b"]
    assert model_selection.fitting(
        env, orchestration_schema.role(dict(A, needs={"json": True}))
    ) == ["p/a"]
    assert (
        model_selection.fitting(env, orchestration_schema.role(dict(A, needs={"vision": True}))) ==
        []
    )


def test_an_input_beyond_what_the_role_may_be_given():
    role = orchestration_schema.role(dict(A, max_context=10))
    model_selection.check_length(role, "x" * 43)
    with pytest.raises(InvalidInput, match="takes 10"):
        model_selection.check_length(role, "x" * 44)


@pytest.mark.parametrize("model_, reason", [
    ({"name": "m", "capabilities": "json"}, "is not a list"),
    ({"name": "m", "capabilities": ["flying"]}, "is not a known capability"),
])
def test_capabilities_that_are_wrong(model_, reason):
    with pytest.raises(InvalidInput, match=reason):
        Settings.from_config(served(model_))


def answer(*calls):
    return {"calls": [{"tool": tool, "arguments": arguments} for tool, arguments in calls]}


def test_calls_are_carried_out_in_order(env):
    calls = definition_tools.parse_calls(answer(
        ("create_role", {"name": "Coder", "basePrompt": "Code."}),
        ("create_orchestration", {"name": "f", "steps": [{"name": "s", "roleName": "Coder"}]}),
        ("update_orchestration", {"orchestrationId": "f", "updates": {"tags": ["t"]}}),
        ("list_orchestrations", {"tags": ["t"], "activeOnly": True}),
        ("list_roles", {}),
        ("orchestration.get", {"nameOrId": "f"}),
        ("update_role", {"roleId": "Coder", "updates": {"tone": "kind"}}),
        ("delete_orchestration", {"orchestration_id": "f"}),
        ("role.delete", {"name": "Coder"}),
    ))
    results, problem = definition_tools.perform(env, CASE, calls)
    assert problem is None and len(results) == 9
    assert results[3]["result"][0]["name"] == "f" and results[5]["result"]["tags"] == ["t"]
    assert results[6]["result"]["version"] == 2
    assert results[6]["result"]["updated_by"] == "run:5f0c"
    assert (
        definition_store.list_all(env.store, ROLE) ==
        definition_store.list_all(env.store, ORCHESTRATION) ==
        []
    )


def test_a_call_that_fails_says_which_were_carried_out(env):
    calls = definition_tools.parse_calls(answer(
        ("create_role", {"name": "A", "basePrompt": "x"}),
        ("delete_role", {"name": "gone"}),
        ("create_role", {"name": "B", "basePrompt": "x"}),
    ))
    results, problem = definition_tools.perform(env, CASE, calls)
    assert [result["tool"] for result in results] == ["create_role"]
    assert problem.startswith("call 2, delete_role: ")
    assert problem.endswith("calls 1 to 1 were performed")
    assert definition_store.role_by(env.store, "B") is None


@pytest.mark.parametrize("output, reason", [
    ({"calls": {}}, "must be a list"),
    ({"calls": [{"tool": "list_roles"}] * 21}, "must be a list of at most 20"),
    ({"calls": ["x"]}, "must be an object"),
    (answer(("format_disk", {})), "is not a known tool"),
    (answer(("__init__", {})), "is not a known tool"),
    (answer(("create_role", {"name": "A"})), "is missing"),
    (answer(("create_role", {"name": "A", "basePrompt": "x", "force": True})),
     "is not an allowed field"),
    (answer(("delete_role", {"name": "A", "force": True})), "is not an allowed field"),
    (answer(("delete_role", {})), "must be text"),
    (answer(*[("execute_orchestration", {"name": "f"})] * 4), "starts more than 3"),
    ({"calls": [{"tool": ["list_roles"], "arguments": {}}]}, "is not a known tool"),
])
def test_calls_that_are_not_well_formed(output, reason):
    with pytest.raises(InvalidInput, match=reason):
        definition_tools.parse_calls(output)


@pytest.mark.parametrize("output", ["text", {"answer": 1}, [1], None, 3])
def test_an_answer_without_calls(output):
    assert definition_tools.parse_calls(output) == []


def test_every_tool_of_the_prompt_is_one():
    for tool in definition_tools._TOOLS:
        assert tool in definition_tools.PROMPT and hasattr(definition_tools._ToolExecutor, tool)


def test_a_run_that_a_call_starts_is_one_deeper(make_env):
    started = []

    class Starting:
        def start(self, action, parameters):
            started.append((action, parameters))
            return "5f0d"

    env = make_env(config=served({"name": "m"}), api=Starting())
    definition_service.create_role(env, A, None)
    definition_service.create_orchestration(env, FLOW, None)
    calls = definition_tools.parse_calls(answer(("execute_orchestration", {
        "orchestrationId": "flow", "input": {"t": "{{ x }}"}})))
    results, problem = definition_tools.perform(env, CASE, calls)
    assert problem is None and results[0]["result"] == {
        "id": "5f0d", "orchestration": "flow"}
    action, parameters = started[0]
    assert action == "synthralos.orchestration.run" and "{{" not in json.dumps(parameters)
    from synthralos.core.sealing import unseal
    request = unseal(parameters["case"], env.store)["request"]
    assert parameters["orchestration"] == "@case" and request["orchestration"] == "flow"
    assert request["rules"] == {"depth": 2, "input": {"t": "{{ x }}"}}
