"""The schema of the steps of an orchestration."""

from typing import Any, Optional, TypedDict, Union

from synthralos.calls.output_schema import require_valid_schema
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.orchestration import conditions, dependencies
from synthralos.orchestration.conditions import Condition
from synthralos.orchestration.field_reader import (
    Allowed,
    Fields,
    require_title,
    style_of_all,
    text_item,
)
from synthralos.orchestration.role_schema import IGNORED, MAX_FALLBACKS
from synthralos.orchestration.templates import ROOTS

KINDS = ("llm", "action", "approval", "loop", "branch", "orchestration")
POLICIES = ("fail", "continue")
# The guide's step type -> kind; None for types that only define the order of steps.
STEP_TYPES: dict[str, Optional[str]] = {
    "sequential": None,
    "parallel": None,
    "conditional": None,
    "loop": "loop",
    "branch": "branch",
    "sub_orchestration": "orchestration",
    "approval": "approval",
}
MAX_STEPS = 100
MAX_NESTED = 3
MAX_RETRIES = 10
MAX_DELAY_SECONDS = 300
MAX_STEP_SECONDS = 3600
MAX_APPROVAL_SECONDS = 7 * 24 * 3600
MAX_ROUNDS = 50
MAX_CASES = 20
MAX_ORDER = 100_000
PARALLEL = "parallel"
_FIELDS: Allowed = {
    "name": (),
    "description": (),
    "order": (),
    "kind": (),
    "step_type": (),
    "role": ("role_name",),
    "action": (),
    "parameters": (),
    "group": ("parallel_group",),
    "depends_on": (),
    "condition": (),
    "input": ("input_mapping",),
    "output": ("output_mapping",),
    "max_retries": (),
    "retry_delay": (),
    "timeout": (),
    "priority": (),
    "fallback_models": (),
    "context_keys": (),
    "schema": ("validation_rules",),
    "critic": (),
    "cache": (),
    "on_failure": (),
    "loop": (),
    "branch": (),
    "orchestration": ("sub_orchestration", "sub_orchestration_id"),
    "approval": (),
}
# Fields that only steps of one kind have. `schema` is checked apart: two kinds have it.
_FIELDS_BY_KIND: dict[str, tuple[str, ...]] = {
    "action": ("action", "parameters"),
    "loop": ("loop",),
    "branch": ("branch",),
    "orchestration": ("orchestration",),
    "approval": ("approval",),
    "llm": ("role", "critic", "fallback_models"),
}


class WithSteps(TypedDict):
    """What consists of steps: an orchestration or a loop."""

    steps: "list[Step]"


class Critic(TypedDict):
    """Who scores the answers of a step, from 0 to 1. `threshold`: the lowest score that passes."""

    role: str
    threshold: float


class Loop(WithSteps):
    """Steps that are repeated. `until`: the condition that ends them; None for `max_rounds`."""

    until: Optional[Condition]
    max_rounds: int


class BranchCase(WithSteps):
    """The steps that run when a condition holds."""

    when: Condition


class Branch(TypedDict):
    """Steps of which one list runs: of the first case that holds, else `otherwise`."""

    cases: list[BranchCase]
    otherwise: "list[Step]"


class Approval(TypedDict):
    """What a person is asked. `question`: with templates; `timeout`: seconds."""

    question: str
    timeout: float


class Step(TypedDict):
    """A step in its normal form.

    `kind`: one of KINDS; `action`: a reference; `group`: steps of the same one run at the same
    time; `depends_on`: names of steps of the same list; `input`, `output`: with templates, a text
    for an LLM step only; `retry_delay`, `timeout`: seconds; `priority`: higher goes first;
    `context_keys`: of what it may see; `schema`: a JSON schema of draft 4; `on_failure`: one of
    POLICIES, None for the orchestration's; `orchestration`: the name of another.
    """

    name: str
    description: Optional[str]
    order: int
    kind: str
    role: Optional[str]
    action: Optional[str]
    parameters: Optional[dict[str, Any]]
    group: Optional[str]
    depends_on: Optional[list[str]]
    condition: Optional[Condition]
    input: Union[dict[str, Any], str, None]
    output: Optional[dict[str, Any]]
    max_retries: int
    retry_delay: float
    timeout: float
    priority: int
    fallback_models: list[str]
    context_keys: list[str]
    schema: Optional[dict[str, Any]]
    critic: Optional[Critic]
    cache: bool
    on_failure: Optional[str]
    loop: Optional[Loop]
    branch: Optional[Branch]
    orchestration: Optional[str]
    approval: Optional[Approval]


def steps(
    raw_steps: object,
    path: str,
    parent_style: Optional[str] = None,
    nested: int = 0,
    names: Optional[list[str]] = None,
) -> list[Step]:
    """Return the normal forms of a list of steps, including nested ones.

    :param path: the dotted path of the list, for error messages.
    :param parent_style: the style of the object that contains the list.
    :param nested: how many loops and branches are around it.
    :param names: the names of the steps so far, to which these are added.
    :raises InvalidInput: a step is not valid, or the steps wait for each other.
    """
    names = [] if names is None else names
    if not isinstance(raw_steps, list) or not raw_steps:
        raise InvalidInput(
            path, raw_steps, "must be a list of steps", "Write at least one step: [{name, ...}]"
        )
    if nested > MAX_NESTED:
        hint = "Keep loops and branches within %d levels" % MAX_NESTED
        raise InvalidInput(path, None, "is nested too deeply", hint)
    parent_style = style_of_all(raw_steps) or parent_style
    normal_steps: list[Step] = []
    are_placed: list[bool] = []
    for index, raw_step in enumerate(raw_steps):
        fields = Fields(raw_step, "%s[%d]" % (path, index), _FIELDS, IGNORED, parent_style)
        normal_steps.append(_step(fields, index, nested, names))
        are_placed.append(fields.has("order") or normal_steps[-1]["group"] is not None)
    if any(step["depends_on"] is not None for step in normal_steps):
        # In a graph, a step without dependencies and without a place waits for nothing.
        for step, has_place in zip(normal_steps, are_placed):
            if step["depends_on"] is None and not has_place:
                step["depends_on"] = []
    _check_dependencies(normal_steps, path)
    return normal_steps


def _step(fields: Fields, position: int, nested: int, names: list[str]) -> Step:
    name = fields.title("name")
    if name in ROOTS:
        raise InvalidInput(
            fields.path("name"),
            name,
            "is reserved for templates",
            "Choose another name for the step",
        )
    if name in names:
        raise InvalidInput(
            fields.path("name"), name, "is a duplicate", "Step names must be unique"
        )
    names.append(name)
    if len(names) > MAX_STEPS:
        hint = "Use at most %d steps, including nested ones; split it up" % MAX_STEPS
        raise InvalidInput(fields.base_path, None, "exceeds the limit of steps", hint)
    kind, group = _kind(fields), _group(fields)
    step: Step = {
        "name": name,
        "description": fields.text("description"),
        "order": fields.integer("order", position, 0, MAX_ORDER),
        "kind": kind,
        "role": fields.optional_title("role"),
        "action": None,
        "parameters": None,
        "group": group,
        "depends_on": fields.unique_list("depends_on", require_title)
        if fields.has("depends_on")
        else None,
        "condition": _condition(fields),
        "input": _input(fields, kind),
        "output": _output(fields),
        "max_retries": fields.integer("max_retries", 0, 0, MAX_RETRIES),
        "retry_delay": fields.seconds("retry_delay", 1, 0, MAX_DELAY_SECONDS),
        "timeout": fields.seconds("timeout", 300, 0.1, MAX_STEP_SECONDS),
        "priority": fields.integer("priority", 0, -1000, 1000),
        "fallback_models": fields.unique_list("fallback_models", require_identifier, MAX_FALLBACKS),
        "context_keys": fields.unique_list("context_keys", text_item),
        "schema": _schema(fields, kind),
        "critic": _critic(fields),
        "cache": fields.boolean("cache", False),
        "on_failure": fields.choice("on_failure", None, POLICIES),
        "loop": None,
        "branch": None,
        "orchestration": None,
        "approval": None,
    }
    if kind == "action":
        step["action"] = _action(fields)
        step["parameters"] = fields.mapping("parameters")
    elif kind == "loop":
        step["loop"] = _loop(fields, nested, names)
    elif kind == "branch":
        step["branch"] = _branch(fields, nested, names)
    elif kind == "orchestration":
        step["orchestration"] = _require(fields, "orchestration").title("orchestration")
    elif kind == "approval":
        step["approval"] = _approval(fields)
    return step


def _kind(fields: Fields) -> str:
    """Return the kind of the step: as stated, or implied by a field that only one kind has."""
    kind, step_type = fields.choice("kind", None, KINDS), fields.value("step_type")
    if step_type is not None:
        step_type = step_type.replace("-", "_") if isinstance(step_type, str) else step_type
        if not isinstance(step_type, str) or step_type not in STEP_TYPES:
            hint = "Use one of " + ", ".join(STEP_TYPES)
            raise InvalidInput(fields.path("step_type"), step_type, "is not a step type", hint)
        if step_type == "conditional" and not fields.has("condition"):
            hint = "Set condition: {field, operator, value}"
            raise InvalidInput(fields.path("condition"), None, "is missing", hint)
        if kind is not None and STEP_TYPES[step_type] not in (None, kind):
            hint = "Use kind or stepType, not both"
            raise InvalidInput(fields.path("kind"), kind, "contradicts stepType", hint)
        kind = kind or STEP_TYPES[step_type]
    if kind is None:
        named_like_a_field = ("action", "loop", "branch", "orchestration", "approval")
        kind = next((name for name in named_like_a_field if fields.has(name)), "llm")
    for other_kind, names in _FIELDS_BY_KIND.items():
        if other_kind != kind:
            fields.reject(
                [name for name in names if name != "fallback_models" or fields.value(name)],
                "is not for a step of kind %s" % kind, "Leave it out, or set another kind"
            )
    return kind


def _group(fields: Fields) -> Optional[str]:
    if fields.value("step_type") == "parallel" and not fields.has("group"):
        return PARALLEL
    return fields.optional_title("group")


def _condition(fields: Fields) -> Optional[Condition]:
    if not fields.has("condition"):
        return None
    return conditions.check(fields.value("condition"), fields.path("condition"))


def _input(fields: Fields, kind: str) -> Union[dict[str, Any], str, None]:
    if kind == "llm" and isinstance(fields.value("input"), str):
        return fields.text("input")
    return fields.mapping("input")


def _output(fields: Fields) -> Optional[dict[str, Any]]:
    output = fields.mapping("output")
    for name in output or {}:
        if name == "input" or not isinstance(name, str) or not name.strip():
            reason = (
                "would replace the run's input" if name == "input" else "is not a key"
            )
            raise InvalidInput(
                "%s.%s" % (fields.path("output"), name), None, reason, "Use another key"
            )
    return output


def _schema(fields: Fields, kind: str) -> Optional[dict[str, Any]]:
    schema = fields.mapping("schema")
    if schema is not None:
        if kind not in ("llm", "action"):
            reason = "is not for a step of kind %s" % kind
            raise InvalidInput(fields.path("schema"), None, reason, "Leave it out")
        require_valid_schema(schema, fields.path("schema"))
    return schema


def _critic(fields: Fields) -> Optional[Critic]:
    if not fields.has("critic"):
        return None
    raw_critic = fields.value("critic")
    raw_critic = {"role": raw_critic} if isinstance(raw_critic, str) else raw_critic
    allowed = {"role": ("role_name",), "threshold": ("min_confidence",)}
    critic = Fields(raw_critic, fields.path("critic"), allowed, parent_style=fields.style)
    return {"role": critic.title("role"), "threshold": critic.number("threshold", 0.8, 0, 1)}


def _action(fields: Fields) -> str:
    action = require_identifier(fields.path("action"), _require(fields, "action").value("action"))
    pack, _, name = action.partition(".")
    if not pack or not name:
        hint = "Name it with its pack, such as core.http"
        raise InvalidInput(fields.path("action"), action, "is not an action reference", hint)
    return action


def _loop(fields: Fields, nested: int, names: list[str]) -> Loop:
    allowed = {"steps": (), "until": (), "max_rounds": ()}
    raw_loop = _require(fields, "loop").value("loop")
    loop = Fields(raw_loop, fields.path("loop"), allowed, parent_style=fields.style)
    inner = steps(loop.value("steps"), loop.path("steps"), loop.style, nested + 1, names)
    until = loop.value("until")
    if until is not None:
        until = conditions.check(until, loop.path("until"))
    # The guide bounds the rounds of a loop by the step's maxRetries.
    rounds = max(1, fields.integer("max_retries", 5, 0, MAX_RETRIES))
    return {
        "steps": inner,
        "until": until,
        "max_rounds": loop.integer("max_rounds", rounds, 1, MAX_ROUNDS),
    }


def _branch(fields: Fields, nested: int, names: list[str]) -> Branch:
    allowed = {"cases": (), "otherwise": ("else",)}
    raw_branch = _require(fields, "branch").value("branch")
    branch = Fields(raw_branch, fields.path("branch"), allowed, parent_style=fields.style)
    hint = "Write [{when: condition, steps: [...]}]"
    if not branch.has("cases"):
        raise InvalidInput(branch.path("cases"), None, "is missing", hint)

    def case(path: str, raw_case: object) -> BranchCase:
        fields = Fields(
            raw_case, path, {"when": ("condition",), "steps": ()}, parent_style=branch.style
        )
        return {
            "when": conditions.check(fields.value("when"), fields.path("when")),
            "steps": steps(
                fields.value("steps"), fields.path("steps"), fields.style, nested + 1, names
            ),
        }

    cases = branch.list_of("cases", case, MAX_CASES)
    if not cases:
        raise InvalidInput(branch.path("cases"), [], "is empty", hint)
    otherwise = branch.value("otherwise") or []
    if otherwise:
        otherwise = steps(otherwise, branch.path("otherwise"), branch.style, nested + 1, names)
    return {"cases": cases, "otherwise": otherwise}


def _approval(fields: Fields) -> Approval:
    raw_approval = _require(fields, "approval").value("approval")
    raw_approval = {"question": raw_approval} if isinstance(raw_approval, str) else raw_approval
    approval = Fields(raw_approval, fields.path("approval"), {"question": (), "timeout": ()},
                      parent_style=fields.style)
    question = approval.text("question", max_length=4000)
    if question is None:
        hint = "Write in question what a person has to decide"
        raise InvalidInput(approval.path("question"), None, "is missing", hint)
    return {
        "question": question,
        "timeout": approval.seconds("timeout", 3600, 1, MAX_APPROVAL_SECONDS),
    }


def _require(fields: Fields, kind: str) -> Fields:
    """Return `fields`; raise InvalidInput if the field that the kind is named after is missing."""
    if not fields.has(kind):
        forms = {
            "action": "action: pack.action",
            "loop": "loop: {steps, until, max_rounds}",
            "branch": "branch: {cases: [{when, steps}], otherwise: [...]}",
            "orchestration": "orchestration: its name",
            "approval": "approval: {question}",
        }
        hint = "A step of kind %s requires %s" % (kind, forms[kind])
        raise InvalidInput(fields.path(kind), None, "is missing", hint)
    return fields


def _check_dependencies(normal_steps: list[Step], path: str) -> None:
    names = {step["name"] for step in normal_steps}
    for index, step in enumerate(normal_steps):
        step_path = "%s[%d].depends_on" % (path, index)
        for name in step["depends_on"] or []:
            if name not in names:
                hint = "Steps in the same list: " + ", ".join(sorted(names))
                raise InvalidInput(step_path, name, "is not a step of the same list", hint)
    cycle = dependencies.find_cycle(dependencies.dependency_map({"steps": normal_steps}))
    if cycle:
        reason = "steps wait for each other: " + " -> ".join(cycle)
        raise InvalidInput(path, None, reason, "Have one of them depend on less")
