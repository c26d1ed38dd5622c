"""The steps of an orchestration, as people define them and as the pack keeps them; see model."""

from synthralos.calls.agent_platform import require_valid_schema
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.orchestration import conditions, dependencies
from synthralos.orchestration.field_reader import Fields, style_of_all, text_item, titled
from synthralos.orchestration.role_schema import IGNORED, MAX_FALLBACKS
from synthralos.orchestration.templates import ROOTS

KINDS = ("llm", "action", "approval", "loop", "branch", "orchestration")
POLICIES = ("fail", "continue")
# What the guide calls it -> our kind; None where it says how steps follow each other.
STEP_TYPES = {
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
_FIELDS = {
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
# Fields that only steps of one kind have; role and schema are of two.
_FIELDS_BY_KIND = {
    "action": ("action", "parameters"),
    "loop": ("loop",),
    "branch": ("branch",),
    "orchestration": ("orchestration",),
    "approval": ("approval",),
    "llm": ("role", "critic", "fallback_models"),
}


def steps(given, where, around=None, nested=0, names=None):
    """The normal forms of a list of steps, nested ones within.

    :param around: the style of what the list stands in.
    :param names: the names of the steps so far; those found are added.
    """
    names = [] if names is None else names
    if not isinstance(given, list) or not given:
        raise InvalidInput(
            where, given, "is no list of steps", "Give at least one step: [{name, ...}]"
        )
    if nested > MAX_NESTED:
        way_out = "Keep loops and branches within %d levels" % MAX_NESTED
        raise InvalidInput(where, None, "is nested too deeply", way_out)
    around = style_of_all(given) or around
    found, placed = [], []
    for n, one in enumerate(given):
        fields = Fields(one, "%s[%d]" % (where, n), _FIELDS, IGNORED, around)
        found.append(_step(fields, n, nested, names))
        placed.append(fields.has("order") or found[-1]["group"] is not None)
    if any(step["depends_on"] is not None for step in found):
        # In a graph, what neither depends on anything nor has a place waits for nothing.
        for step, has_place in zip(found, placed):
            if step["depends_on"] is None and not has_place:
                step["depends_on"] = []
    _check_dependencies(found, where)
    return found


def _step(fields, position, nested, names):
    name = fields.title("name")
    if name in ROOTS:
        raise InvalidInput(
            fields.at("name"), name, "is a word of templates", "Name the step otherwise"
        )
    if name in names:
        raise InvalidInput(
            fields.at("name"), name, "stands there twice", "Give each step its own name"
        )
    names.append(name)
    if len(names) > MAX_STEPS:
        way_out = "At most %d steps, nested ones included; split it up" % MAX_STEPS
        raise InvalidInput(fields.where, None, "is one step too many", way_out)
    kind, group = _kind(fields), _group(fields)
    step = {
        "name": name,
        "description": fields.text("description"),
        "order": fields.integer("order", position, 0, MAX_ORDER),
        "kind": kind,
        "role": fields.title("role", None),
        "action": None,
        "parameters": None,
        "group": group,
        "depends_on": fields.unique_list("depends_on", titled)
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
        step["orchestration"] = _needed(fields, "orchestration").title("orchestration")
    elif kind == "approval":
        step["approval"] = _approval(fields)
    return step


def _kind(fields):
    """The kind of the step: as it says, or as the field tells that only one kind has."""
    told, guide = fields.choice("kind", None, KINDS), fields.value("step_type")
    if guide is not None:
        guide = guide.replace("-", "_") if isinstance(guide, str) else guide
        if guide not in STEP_TYPES:
            way_out = "Use one of " + ", ".join(STEP_TYPES)
            raise InvalidInput(fields.at("step_type"), guide, "is not known", way_out)
        if guide == "conditional" and not fields.has("condition"):
            way_out = "Give condition: {field, operator, value}"
            raise InvalidInput(fields.at("condition"), None, "is missing", way_out)
        if told is not None and STEP_TYPES[guide] not in (None, told):
            way_out = "Give kind or stepType, not both"
            raise InvalidInput(fields.at("kind"), told, "is not what stepType says", way_out)
        told = told or STEP_TYPES[guide]
    if told is None:
        only = ("action", "loop", "branch", "orchestration", "approval")
        told = next((kind for kind in only if fields.has(kind)), "llm")
    for kind, names in _FIELDS_BY_KIND.items():
        if kind != told:
            names = [name for name in names if name != "fallback_models" or fields.value(name)]
            fields.reject(
                names, "is not for a step of kind %s" % told, "Leave it out, or give another kind"
            )
    return told


def _group(fields):
    if fields.value("step_type") == "parallel" and not fields.has("group"):
        return PARALLEL
    return fields.title("group", None)


def _condition(fields):
    if not fields.has("condition"):
        return None
    return conditions.check(fields.value("condition"), fields.at("condition"))


def _input(fields, kind):
    if kind == "llm" and isinstance(fields.value("input"), str):
        return fields.text("input")
    return fields.mapping("input")


def _output(fields):
    output = fields.mapping("output")
    for name in output or {}:
        if name == "input" or not isinstance(name, str) or not name.strip():
            why = "would stand in the place of the run's input" if name == "input" else "is no key"
            raise InvalidInput("%s.%s" % (fields.at("output"), name), None, why, "Use another key")
    return output


def _schema(fields, kind):
    schema = fields.mapping("schema")
    if schema is not None:
        if kind not in ("llm", "action"):
            why = "is not for a step of kind %s" % kind
            raise InvalidInput(fields.at("schema"), None, why, "Leave it out")
        require_valid_schema(schema, fields.at("schema"))
    return schema


def _critic(fields):
    if not fields.has("critic"):
        return None
    given = fields.value("critic")
    given = {"role": given} if isinstance(given, str) else given
    known = {"role": ("role_name",), "threshold": ("min_confidence",)}
    critic = Fields(given, fields.at("critic"), known, around=fields.style)
    return {"role": critic.title("role"), "threshold": critic.number("threshold", 0.8, 0, 1)}


def _action(fields):
    action = require_identifier(fields.at("action"), _needed(fields, "action").value("action"))
    pack, _, name = action.partition(".")
    if not pack or not name:
        way_out = "Name it with its pack, such as core.http"
        raise InvalidInput(fields.at("action"), action, "is no action reference", way_out)
    return action


def _loop(fields, nested, names):
    known = {"steps": (), "until": (), "max_rounds": ()}
    given = _needed(fields, "loop").value("loop")
    loop = Fields(given, fields.at("loop"), known, around=fields.style)
    inner = steps(loop.value("steps"), loop.at("steps"), loop.style, nested + 1, names)
    until = loop.value("until")
    if until is not None:
        until = conditions.check(until, loop.at("until"))
    # The guide bounds what is done again by the step's maxRetries.
    rounds = max(1, fields.integer("max_retries", 5, 0, MAX_RETRIES))
    return {
        "steps": inner,
        "until": until,
        "max_rounds": loop.integer("max_rounds", rounds, 1, MAX_ROUNDS),
    }


def _branch(fields, nested, names):
    known = {"cases": (), "otherwise": ("else",)}
    given = _needed(fields, "branch").value("branch")
    branch = Fields(given, fields.at("branch"), known, around=fields.style)
    way_out = "Give [{when: condition, steps: [...]}]"
    if not branch.has("cases"):
        raise InvalidInput(branch.at("cases"), None, "is missing", way_out)

    def case(where, given):
        fields = Fields(given, where, {"when": ("condition",), "steps": ()}, around=branch.style)
        return {
            "when": conditions.check(fields.value("when"), fields.at("when")),
            "steps": steps(
                fields.value("steps"), fields.at("steps"), fields.style, nested + 1, names
            ),
        }

    cases = branch.list_of("cases", case, MAX_CASES)
    if not cases:
        raise InvalidInput(branch.at("cases"), [], "is empty", way_out)
    otherwise = branch.value("otherwise") or []
    if otherwise:
        otherwise = steps(otherwise, branch.at("otherwise"), branch.style, nested + 1, names)
    return {"cases": cases, "otherwise": otherwise}


def _approval(fields):
    given = _needed(fields, "approval").value("approval")
    given = {"question": given} if isinstance(given, str) else given
    approval = Fields(given, fields.at("approval"), {"question": (), "timeout": ()},
                      around=fields.style)
    question = approval.text("question", longest=4000)
    if question is None:
        way_out = "Say in question what a person is to decide"
        raise InvalidInput(approval.at("question"), None, "is missing", way_out)
    return {
        "question": question,
        "timeout": approval.seconds("timeout", 3600, 1, MAX_APPROVAL_SECONDS),
    }


def _needed(fields, kind):
    """`fields`, which has the field that its kind is named after, else InvalidInput."""
    if not fields.has(kind):
        forms = {
            "action": "action: pack.action",
            "loop": "loop: {steps, until, max_rounds}",
            "branch": "branch: {cases: [{when, steps}], otherwise: [...]}",
            "orchestration": "orchestration: its name",
            "approval": "approval: {question}",
        }
        way_out = "A step of kind %s has %s" % (kind, forms[kind])
        raise InvalidInput(fields.at(kind), None, "is missing", way_out)
    return fields


def _check_dependencies(found, where):
    known = {step["name"] for step in found}
    for n, step in enumerate(found):
        at = "%s[%d].depends_on" % (where, n)
        for name in step["depends_on"] or []:
            if name not in known:
                way_out = "Steps beside it are " + ", ".join(sorted(known))
                raise InvalidInput(at, name, "is no step beside it", way_out)
    circle = dependencies.find_cycle(dependencies.dependency_map({"steps": found}))
    if circle:
        why = "steps wait for each other: " + " -> ".join(circle)
        raise InvalidInput(where, None, why, "Have one of them depend on less")
