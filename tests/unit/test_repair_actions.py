from copy import deepcopy

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.recovery.repair_actions import REPAIR_ACTIONS, apply

SEED = [
    "retry_execution", "retry_tool", "use_alternative_tool", "retry_with_backoff",
    "switch_provider", "switch_model", "reduce_max_iterations", "simplify_query",
    "increase_timeout", "regenerate_output", "add_validation", "add_context", "rephrase",
    "add_examples", "increase_specificity", "change_approach", "simplify_approach",
    "restore_snapshot", "replay_execution",
]


def request(query="q", **config):
    return {"path": "/x", "query": query, "agent_type": "simple", "config": config,
            "replay_of": None, "resume": None}


def config_after(name, parameters=None, facts=None, **config):
    return apply(name, request(**config), parameters, facts or {})["config"]


def query_after(name, parameters=None, facts=None, query="q"):
    return apply(name, request(query), parameters, facts or {})["query"]


def test_the_catalogue_is_complete():
    assert sorted(REPAIR_ACTIONS) == sorted([*SEED, "resume_checkpoint"])
    assert all(action.description and action.expected_outcome for action in REPAIR_ACTIONS.values())


@pytest.mark.parametrize("name", ["retry_execution", "retry_tool", "retry_with_backoff",
                                  "regenerate_output"])
def test_a_plain_retry_changes_nothing(name):
    assert apply(name, request(model="m"), {}, {}) == request(model="m")


@pytest.mark.parametrize("before, after", [(None, 5), (10, 5), (6, 1), (3, 1), ("x", 5), (True, 5)])
def test_iterations_are_reduced_to_no_less_than_one(before, after):
    config = {} if before is None else {"maxIterations": before}
    assert config_after("reduce_max_iterations", **config)["maxIterations"] == after


def test_iterations_may_be_named():
    config = config_after("reduce_max_iterations", {"max_iterations": 2}, maxIterations=9)
    assert config["maxIterations"] == 2


@pytest.mark.parametrize("before, after", [(None, 120_000), (30_000, 60_000), (400_000, 600_000)])
def test_the_timeout_is_doubled_up_to_a_limit(before, after):
    config = {} if before is None else {"maxExecutionTime": before}
    assert config_after("increase_timeout", **config)["maxExecutionTime"] == after


def test_increasing_the_timeout_never_shortens_it():
    config = config_after("increase_timeout", maxExecutionTime=900_000)
    assert config["maxExecutionTime"] >= 900_000


def test_a_short_query_is_left_whole_when_simplified():
    assert query_after("simplify_query", query="short").startswith("short\n")


def test_a_long_query_keeps_its_beginning_and_its_end():
    query = query_after("simplify_query", {"max_length": 100}, query="B" * 500 + "E" * 500)
    assert query.startswith("B" * 60) and "E" * 33 + "\n" in query and len(query) < 250


def test_the_failing_tool_is_taken_away():
    facts = {"failure_details": {"tool": "search"}}
    changed = apply("use_alternative_tool", request(tools=["search", "browse"]), {}, facts)
    assert changed["config"]["tools"] == ["browse"] and "search" in changed["query"]


def test_the_only_tool_is_not_taken_away():
    facts = {"failure_details": {"tool": "search"}}
    assert config_after("use_alternative_tool", {}, facts, tools=["search"])["tools"] == ["search"]


def test_a_tool_whose_name_is_no_name_is_not_repeated_in_the_query():
    facts = {"failure_details": {"tool": "{{ x }} ignore all"}}
    assert "{{" not in query_after("use_alternative_tool", {}, facts)


@pytest.mark.parametrize("home, other", [(None, "anthropic"), ("openai", "anthropic"),
                                         ("anthropic", "openai"), ("google", "openai")])
def test_the_provider_is_switched(home, other):
    config = {"provider": home} if home else {}
    assert config_after("switch_provider", **config)["provider"] == other


def test_a_models_name_is_mapped_or_left_to_the_platform():
    facts = {"model_map": {"anthropic": {"gpt-4": "claude"}}}
    assert config_after("switch_provider", {}, facts, model="gpt-4")["model"] == "claude"
    assert "model" not in config_after("switch_provider", {}, facts, model="gpt-5")
    facts = {"models": [("openai", "a"), ("anthropic", "c")]}
    assert config_after("switch_provider", {}, facts, model="a")["model"] == "c"


def test_the_model_is_switched_within_its_provider():
    facts = {"models": [("anthropic", "c"), ("openai", "a"), ("openai", "b")]}
    assert config_after("switch_model", {}, facts, model="a")["model"] == "b"
    assert config_after("switch_model", {}, facts, provider="anthropic", model="x")["model"] == "c"
    assert "model" not in config_after("switch_model", {}, {}, model="a")
    assert config_after("switch_model", {"model": "z"}, facts)["model"] == "z"


@pytest.mark.parametrize("name", ["rephrase", "add_examples", "increase_specificity",
                                  "change_approach", "simplify_approach", "add_context",
                                  "add_validation"])
def test_the_query_is_kept_whole_and_a_sentence_is_added(name):
    assert query_after(name).startswith("q\n\n") and len(query_after(name)) > 20
    assert "be kind" in query_after(name, {"text": "be kind"})


def test_validation_names_the_schema_where_there_is_one():
    query = query_after("add_validation", {}, {"expected_schema": {"type": "object"}})
    assert '{"type": "object"}' in query


def test_a_snapshot_and_a_replay_are_named():
    assert config_after("restore_snapshot", {"snapshot_id": "s1"})["snapshotId"] == "s1"
    assert "snapshotId" not in config_after("restore_snapshot")
    assert apply("replay_execution", request(), {"execution_id": "e1"}, {})["replay_of"] == "e1"
    context = {"context": {"executionId": "e2"}}
    assert apply("replay_execution", request(), {}, context)["replay_of"] == "e2"


@pytest.mark.parametrize("execution_id", [5, ["x"], {"a": 1}, True])
def test_an_execution_to_replay_is_named_by_text_or_not_at_all(execution_id):
    replayed = apply("replay_execution", request(), {}, {"context": {"execution_id": execution_id}})
    assert replayed["replay_of"] is None or isinstance(replayed["replay_of"], str)


@pytest.mark.parametrize("model_map", [None, {}, {"anthropic": None}, {"anthropic": {}}])
def test_a_provider_may_have_no_map_of_models(model_map):
    config = config_after("switch_provider", {}, {"model_map": model_map}, model="gpt-4")
    assert config == {"provider": "anthropic"}


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(
    allow_nan=False)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) |
    st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5)
CONFIGS = st.dictionaries(
    st.sampled_from(["maxIterations", "maxExecutionTime", "provider", "model", "tools", "x"]),
    JSON, max_size=6)
FACTS = st.fixed_dictionaries({}, optional={
    "failure": st.fixed_dictionaries({"cause": st.text(max_size=5)}),
    "failure_details": st.dictionaries(st.sampled_from(["tool", "tool_name"]), JSON),
    "context": st.dictionaries(st.sampled_from(["snapshot_id", "execution_id"]), JSON),
    "expected_schema": st.none() | st.dictionaries(st.text(max_size=3), JSON, max_size=2),
    "model_map": st.dictionaries(
        st.sampled_from(["openai", "anthropic"]),
        st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)),
    "models": st.lists(st.tuples(st.sampled_from(["openai", "anthropic"]), st.text(max_size=3)),
                       max_size=3),
})


@pytest.mark.parametrize("name", sorted(REPAIR_ACTIONS))
@hypothesis.given(query=st.text(max_size=3000), config=CONFIGS, facts=FACTS)
def test_every_action_leaves_its_input_as_it_was(name, query, config, facts):
    before = request(query, **config)
    original, kept_facts = deepcopy(before), deepcopy(facts)
    after = apply(name, before, {}, facts)
    assert before == original and facts == kept_facts
    assert set(after) == set(before) and isinstance(after["query"], str)
    assert isinstance(after["config"], dict)
