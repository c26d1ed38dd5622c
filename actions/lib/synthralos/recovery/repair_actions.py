"""The repair actions: each a pure function from an agent request to an agent request.

A function gets the request, the step's parameters and the facts of the case, changes a copy and
returns it. Nothing else ever repairs: a plan that names another action is refused.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, TypedDict

from synthralos.core.identifiers import MAX_ID_CHARS, MAX_NAME_CHARS, is_name

ITERATIONS_LESS = 5
DEFAULT_ITERATIONS = 10
DEFAULT_EXECUTION_MS = 60_000
MAX_EXECUTION_MS = 600_000
SIMPLE_QUERY = 2000


class Resume(TypedDict):
    """Where a run is continued: from a checkpoint of its platform, or its last one if that is None;
    with which state, and as which node of its graph, if they are to be others.
    """

    checkpoint: Optional[str]
    state: Optional[dict[str, Any]]
    as_node: Optional[str]


class RunRequest(TypedDict):
    """What is asked of an agent. `config`: of the agent, in the platform's words; `replay_of`: the
    execution at the platform that is replayed, or None.
    """

    query: str
    agent_type: str
    config: dict[str, Any]
    replay_of: Optional[str]
    resume: Optional[Resume]


class Facts(TypedDict, total=False):
    """What is known of the failure.

    `failure`: as Failure.as_dict has it; `failure_details`, `context`: the caller's; `model_map`:
    {provider: {model of another provider: its own}}; `models`: [(provider, model)].
    """

    failure: Mapping[str, Any]
    failure_details: Mapping[str, Any]
    context: Mapping[str, Any]
    expected_schema: Optional[Mapping[str, Any]]
    model_map: Mapping[str, Mapping[str, str]]
    models: Sequence[tuple[str, str]]


# Of a step of a plan, by name.
Parameters = Mapping[str, Any]
Apply = Callable[[RunRequest, Parameters, Facts], RunRequest]


@dataclass(frozen=True)
class ParameterSpec:
    """What a parameter of a repair action may be.

    :ivar kind: integer, name, text, or object.
    :ivar maximum: of an integer; the characters of a name or text; the bytes of an object as JSON.
    :ivar minimum: of an integer.
    """

    kind: str
    maximum: int = MAX_NAME_CHARS
    minimum: int = 0


@dataclass(frozen=True)
class RepairAction:
    """What a step of a plan does to the request."""

    description: str
    expected_outcome: str
    apply: Apply
    parameters: dict[str, ParameterSpec] = field(default_factory=dict)


def apply(
    name: str, request: RunRequest, parameters: Optional[Parameters], facts: Facts
) -> RunRequest:
    """The request that the repair action `name` makes of `request`."""
    return REPAIR_ACTIONS[name].apply(deepcopy(request), parameters or {}, facts)


def _unchanged(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    return request


def _append_instruction(sentence: str) -> Apply:
    """An action that leaves the query whole and adds a sentence to it."""

    def add(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
        request["query"] = "%s\n\n%s" % (request["query"], parameters.get("text") or sentence)
        return request

    return add


def _reduce_max_iterations(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    current = request["config"].get("maxIterations")
    current = (
        current
        if isinstance(current, int) and not isinstance(current, bool)
        else DEFAULT_ITERATIONS
    )
    request["config"]["maxIterations"] = parameters.get("max_iterations") or max(
        1, current - ITERATIONS_LESS
    )
    return request


def _increase_timeout(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    current = request["config"].get("maxExecutionTime")
    current = (
        current
        if isinstance(current, (int, float)) and not isinstance(current, bool)
        else DEFAULT_EXECUTION_MS
    )
    seconds = parameters.get("seconds")
    longer = seconds * 1000 if seconds else current * 2
    # Never less than it had: the operator may allow more than a repair does.
    request["config"]["maxExecutionTime"] = int(max(current, min(longer, MAX_EXECUTION_MS)))
    return request


def _simplify_query(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    query, max_length = request["query"], parameters.get("max_length") or SIMPLE_QUERY
    if len(query) > max_length:
        # The task stands at the beginning of a prompt and the question at its end.
        query = "%s\n[...]\n%s" % (query[: max_length * 2 // 3], query[-(max_length // 3):])
    request["query"] = query + "\n\nAnswer the essential part first, in the simplest way."
    return request


def _use_alternative_tool(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    details = facts.get("failure_details") or {}
    failed = parameters.get("tool") or details.get("tool") or details.get("tool_name")
    tools = request["config"].get("tools")
    if isinstance(tools, list) and failed in tools and len(tools) > 1:
        request["config"]["tools"] = [tool for tool in tools if tool != failed]
    tool_phrase = (
        "the tool %s" % failed
        if isinstance(failed, str) and is_name(failed)
        else "the tool that failed"
    )
    request["query"] += "\n\nDo not use %s; reach the goal another way." % tool_phrase
    return request


def _switch_provider(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    config = request["config"]
    home = config.get("provider") or "openai"
    other = parameters.get("provider") or ("anthropic" if home == "openai" else "openai")
    config["provider"] = other
    model = config.pop("model", None)
    names = (facts.get("model_map") or {}).get(other) or {}
    mapped = names.get(model) if isinstance(model, str) else None
    models = [name for provider, name in facts.get("models") or [] if provider == other]
    # A model's name means nothing to another provider: without a mapping the platform chooses.
    chosen = parameters.get("model") or mapped or (models[0] if models else None)
    if chosen:
        config["model"] = chosen
    return request


def _switch_model(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    config = request["config"]
    if parameters.get("model"):
        config["model"] = parameters["model"]
        return request
    home = config.get("provider") or "openai"
    for provider, name in facts.get("models") or []:
        if provider == home and name != config.get("model"):
            config["model"] = name
            return request
    # No other model is known here: without one the platform takes its default.
    config.pop("model", None)
    return request


def _add_context(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    failure = facts.get("failure") or {}
    context_text = parameters.get("text") or "An earlier attempt failed (%s)." % failure.get(
        "cause", "unknown"
    )
    request["query"] += "\n\nContext: %s Take that into account." % context_text
    return request


def _add_validation(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    sentence = (
        "Check your answer before you give it: it must be complete and must answer the question."
    )
    if facts.get("expected_schema"):
        import json

        schema = json.dumps(facts["expected_schema"], sort_keys=True)
        sentence = "Answer with JSON only, valid against this JSON schema: " + schema
    request["query"] += "\n\n" + (parameters.get("text") or sentence)
    return request


def _resume_checkpoint(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    request["resume"] = {
        "checkpoint": None,
        "state": parameters.get("state"),
        "as_node": parameters.get("as_node"),
    }
    return request


def _restore_snapshot(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    snapshot = parameters.get("snapshot_id") or (facts.get("context") or {}).get("snapshot_id")
    if snapshot:
        request["config"]["snapshotId"] = snapshot
        # A platform with checkpoints of its own knows it as one of them.
        request["resume"] = {"checkpoint": snapshot, "state": None, "as_node": None}
    return request


def _replay_execution(request: RunRequest, parameters: Parameters, facts: Facts) -> RunRequest:
    request["replay_of"] = replay_target(parameters, facts.get("context") or {})
    return request


def replay_target(parameters: Parameters, context: Mapping[str, Any]) -> Optional[str]:
    """The platform's execution id that a replay is about, or None."""
    candidates = (
        parameters.get("execution_id"),
        context.get("execution_id"),
        context.get("executionId"),
    )
    return next((candidate for candidate in candidates if is_name(candidate)), None)


_NAME, _TEXT = ParameterSpec("name"), {"text": ParameterSpec("text", 2000)}
RESUME_CHECKPOINT, RESTORE_SNAPSHOT = "resume_checkpoint", "restore_snapshot"
REPAIR_ACTIONS: dict[str, RepairAction] = {
    RESUME_CHECKPOINT: RepairAction(
        "Continue the run that failed from its last checkpoint, at platforms that keep one",
        "What was finished is not done again",
        _resume_checkpoint,
        {"state": ParameterSpec("object", 20_000), "as_node": _NAME},
    ),
    "retry_execution": RepairAction(
        "Run the agent again with the same request",
        "The failure was transient and does not come back",
        _unchanged,
    ),
    "retry_tool": RepairAction(
        "Run the agent again so that it calls the tool again",
        "The tool answers this time",
        _unchanged,
    ),
    "use_alternative_tool": RepairAction(
        "Take the failing tool away and ask for another way",
        "The agent reaches its goal without the failing tool",
        _use_alternative_tool,
        {"tool": _NAME},
    ),
    "retry_with_backoff": RepairAction(
        "Run the agent again after the back-off",
        "The service behind the agent has recovered",
        _unchanged,
    ),
    "switch_provider": RepairAction(
        "Run the agent on another LLM provider",
        "The other provider answers",
        _switch_provider,
        {"provider": _NAME, "model": _NAME},
    ),
    "switch_model": RepairAction(
        "Run the agent on another model of its provider",
        "The other model answers",
        _switch_model,
        {"model": _NAME},
    ),
    "reduce_max_iterations": RepairAction(
        "Allow the agent fewer iterations",
        "The agent ends within its time",
        _reduce_max_iterations,
        {"max_iterations": ParameterSpec("integer", 1000, minimum=1)},
    ),
    "simplify_query": RepairAction(
        "Ask for the essential part first, and shorten a very long query in its middle",
        "The agent answers within its time and context window",
        _simplify_query,
        {"max_length": ParameterSpec("integer", 1_000_000, minimum=100)},
    ),
    "increase_timeout": RepairAction(
        "Give the agent more time",
        "The agent ends within the longer time",
        _increase_timeout,
        {"seconds": ParameterSpec("integer", MAX_EXECUTION_MS // 1000, minimum=1)},
    ),
    "regenerate_output": RepairAction(
        "Have the output generated again", "The new output is complete and valid", _unchanged
    ),
    "add_validation": RepairAction(
        "Ask the agent to check its answer, against the schema where there is one",
        "The output is valid",
        _add_validation,
        _TEXT,
    ),
    "add_context": RepairAction(
        "Tell the agent what went wrong before",
        "The agent avoids the earlier failure",
        _add_context,
        _TEXT,
    ),
    "rephrase": RepairAction(
        "Ask the agent to restate the task before it works on it",
        "The agent understands the task",
        _append_instruction("First restate this task in your own words, then carry it out."),
        _TEXT,
    ),
    "add_examples": RepairAction(
        "Ask the agent to think of an example of a good answer first",
        "The output has the form of the example",
        _append_instruction(
            "Think of one short example of a correct answer first, then answer in that form."
        ),
        _TEXT,
    ),
    "increase_specificity": RepairAction(
        "Ask for a concrete and complete answer",
        "The output is concrete and complete",
        _append_instruction(
            "Be specific: answer every part of the task, with concrete values and no placeholders."
        ),
        _TEXT,
    ),
    "change_approach": RepairAction(
        "Ask the agent to take another way than before",
        "The agent leaves the way that failed",
        _append_instruction(
            "An earlier attempt failed. Take a different approach from the obvious one."
        ),
        _TEXT,
    ),
    "simplify_approach": RepairAction(
        "Ask the agent to take the simplest way",
        "The agent reaches the goal with fewer steps",
        _append_instruction(
            "Take the simplest approach that works, step by step, with as few tools as possible."
        ),
        _TEXT,
    ),
    RESTORE_SNAPSHOT: RepairAction(
        "Start the agent from a snapshot of its state",
        "The agent continues from a good state",
        _restore_snapshot,
        {"snapshot_id": ParameterSpec("name", MAX_ID_CHARS)},
    ),
    "replay_execution": RepairAction(
        "Replay an earlier execution at the platform, unchanged",
        "The replay completes",
        _replay_execution,
        {"execution_id": _NAME},
    ),
}
