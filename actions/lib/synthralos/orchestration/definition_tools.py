"""What a step may do to definitions whose role has the tool `meta`: typed calls in its answer.

    {"calls": [{"tool": "create_role", "arguments": {"name": "...", "basePrompt": "..."}}, ...]}

Nothing of an answer is carried out before all of it has been found well formed; one that is not is
told to the model, as an answer that misses its schema is.
"""

from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.orchestration import (
    definition_service,
    definition_store,
    orchestration_schema,
    run_queries,
)
from synthralos.orchestration.definition_service import summarize
from synthralos.orchestration.definition_store import ORCHESTRATION, ROLE
from synthralos.orchestration.field_reader import Fields
from synthralos.storage.datastore import PREFIX, DatastoreUnavailable
from synthralos.storage.stackstorm_api import StackStormError
from synthralos.telemetry import tracing

MAX_CALLS = 20
# Each is a run, which may hold such steps again.
MAX_STARTED_RUNS = 3
_NAME = {"name": ("name_or_id", "role_id", "orchestration_id")}
# Of each tool: its arguments, with their other names; the definition itself where it is a function
# that gives its normal form.
_TOOLS = {
    "create_role": orchestration_schema.role,
    "list_roles": {},
    "update_role": dict(_NAME, updates=()),
    "delete_role": _NAME,
    "create_orchestration": orchestration_schema.orchestration,
    "list_orchestrations": {"tags": (), "active_only": ()},
    "get_orchestration": _NAME,
    "update_orchestration": dict(_NAME, updates=()),
    "delete_orchestration": _NAME,
    "execute_orchestration": dict(_NAME, input=()),
    "get_execution_status": {"execution_id": ()},
}
_ALIASES = {
    "%s.%s" % (noun, verb): "%s_%s" % (verb, noun)
    for noun in ("role", "orchestration") for verb in ("create", "update", "delete", "get")
}
_ALIASES.update({
    "role.list": "list_roles",
    "orchestration.list": "list_orchestrations",
    "orchestration.run": "execute_orchestration",
    "orchestration.status": "get_execution_status",
})
PROMPT = (
    "You may create and change roles and orchestrations. To do so, answer with one JSON object and "
    'nothing else: {"calls": [{"tool": name, "arguments": {...}}]}, at most %d calls, carried out '
    "in order. Tools and their arguments:\n"
    "create_role {name, basePrompt, capabilities {needsCoding, ...}, contextLimits {minContext, "
    "maxContext}, hyperparameters {temperature, maxTokens, ...}, tools}\n"
    "create_orchestration {name, description, tags, steps [{name, order, roleName, inputMapping, "
    "outputMapping, condition {field, operator, value}, parallelGroup, maxRetries, timeout}]}\n"
    "update_role, update_orchestration {name, updates}\n"
    "delete_role, delete_orchestration, get_orchestration {name}\n"
    "list_roles {}; list_orchestrations {tags, activeOnly}\n"
    "execute_orchestration {name, input}; get_execution_status {executionId}" % MAX_CALLS
)


def calls_of(output):
    """[(tool, arguments)] that a step's parsed output asks for; [] when it asks for none. InvalidInput
    says what is wrong with them.
    """
    if not isinstance(output, dict) or "calls" not in output:
        return []
    calls = output["calls"]
    if not isinstance(calls, list) or len(calls) > MAX_CALLS:
        raise InvalidInput("calls", None, "is no list of at most %d" % MAX_CALLS, "Ask for less")
    found = [_call("calls[%d]" % n, call) for n, call in enumerate(calls)]
    if [tool for tool, _ in found].count("execute_orchestration") > MAX_STARTED_RUNS:
        raise InvalidInput(
            "calls", None, "starts more than %d runs" % MAX_STARTED_RUNS, "Start fewer"
        )
    return found


def perform(env, case, calls):
    """([{tool, result}], None), or (those that were carried out, the error of the next one)."""
    work, done = _ToolExecutor(env, case), []
    for n, (tool, given) in enumerate(calls):
        try:
            done.append({"tool": tool, "result": getattr(work, tool)(given)})
        except (InvalidInput, StackStormError, DatastoreUnavailable) as error:
            before = "; calls 1 to %d were carried out" % n if n else ""
            return done, "call %d, %s: %s%s" % (n + 1, tool, error, before)
    return done, None


def _call(where, call):
    call = Fields(call, where, {"tool": ("name",), "arguments": ("input", "parameters")})
    tool = call.value("tool")
    tool = _ALIASES.get(tool, tool) if isinstance(tool, str) else tool
    if not isinstance(tool, str) or tool not in _TOOLS:
        raise InvalidInput(call.at("tool"), tool, "is not known", "Use one of " + ", ".join(_TOOLS))
    given, known = call.mapping("arguments", {}), _TOOLS[tool]
    if callable(known):
        return tool, known(given, call.at("arguments"))
    fields = Fields(given, call.at("arguments"), known)
    for name in ("name", "execution_id"):
        if name in known and not isinstance(fields.value(name), str):
            raise InvalidInput(fields.at(name), fields.value(name), "is no text", "Give it as text")
    return tool, fields


class _ToolExecutor:
    """The tools, each by its name: (arguments) -> result."""

    def __init__(self, env, case):
        self._env, self._case, self._started = env, case, 0
        # Who is written down as the one that did it.
        self._by = "run:%s" % case["run"]

    def create_role(self, given):
        return summarize(ROLE, definition_service.create_role(self._env, given, self._by))

    def list_roles(self, given):
        return [summarize(ROLE, one) for one in definition_store.list_all(self._env.store, ROLE)]

    def update_role(self, given):
        name, updates = given.value("name"), given.mapping("updates", {})
        return summarize(ROLE, definition_service.update_role(self._env, name, updates, self._by))

    def delete_role(self, given):
        return summarize(ROLE, definition_service.delete_role(self._env, given.value("name")))

    def create_orchestration(self, given):
        made = definition_service.create_orchestration(self._env, given, self._by)
        return summarize(ORCHESTRATION, made)

    def list_orchestrations(self, given):
        tags, active = given.list_of("tags", _as_it_is), given.boolean("active_only", False)
        found = definition_service.orchestrations(self._env, tags, active)
        return [summarize(ORCHESTRATION, one) for one in found]

    def get_orchestration(self, given):
        return definition_store.require(self._env.store, ORCHESTRATION, given.value("name"))

    def update_orchestration(self, given):
        name, updates = given.value("name"), given.mapping("updates", {})
        made = definition_service.update_orchestration(self._env, name, updates, self._by)
        return summarize(ORCHESTRATION, made)

    def delete_orchestration(self, given):
        return summarize(ORCHESTRATION, definition_service.delete_orchestration(
            self._env, given.value("name")))

    def execute_orchestration(self, given):
        name, env = given.value("name"), self._env
        one = definition_store.require(env.store, ORCHESTRATION, name)
        if env.api is None:
            raise InvalidInput("tool", None, "there is no StackStorm API", "Run it there")
        self._started += 1
        rules = {"depth": self._case["depth"] + 1, "input": given.value("input", {})}
        request = env.redactor.remove_secrets({"orchestration": one["name"], "rules": rules})
        run, wave = encode_key_part(self._case["run"] or "none"), self._case["progress"]["cursor"]
        where = "%scase.%s.started.%d.%d" % (PREFIX, run, wave, self._started)
        handed = sealing.seal(
            {"request": request, "trace": tracing.propagation_headers()}, env.store, where
        )
        started = env.api.start(run_queries.REF, {"orchestration": "@case", "case": handed})
        return {"id": started, "orchestration": one["name"]}

    def get_execution_status(self, given):
        return run_queries.status(self._env, given.value("execution_id"))


def _as_it_is(where, value):
    return value
