"""Tools for roles with the tool `meta`: their answers may call for changes of definitions.

    {"calls": [{"tool": "create_role", "arguments": {"name": "...", "basePrompt": "..."}}, ...]}

No call of an answer is performed before all of its calls have been validated. The problem of an
invalid one is sent to the model, like that of an answer that does not match its schema.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict, Union

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
from synthralos.orchestration.definition_store import ORCHESTRATION, ROLE, StoredOrchestration
from synthralos.orchestration.field_reader import Allowed, Fields
from synthralos.orchestration.orchestration_schema import Orchestration
from synthralos.orchestration.role_schema import Role
from synthralos.orchestration.run_queries import RunStatus
from synthralos.storage.datastore import PREFIX, DatastoreUnavailable
from synthralos.storage.stackstorm_api import StackStormError
from synthralos.telemetry import tracing

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment
    from synthralos.runtime.workflow_run import Case

# (tool, its arguments): a definition in its normal form for a tool that creates one.
Call = tuple[str, Union[Fields, Role, Orchestration]]
MAX_CALLS = 20
# Each starts a run, which may contain such steps again.
MAX_STARTED_RUNS = 3
_NAME: Allowed = {"name": ("name_or_id", "role_id", "orchestration_id")}
# Tool -> {argument: its other names}, or a function that returns the normal form of a definition.
_TOOLS: dict[str, Union[Allowed, Callable[[object, str], Union[Role, Orchestration]]]] = {
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


class CallResult(TypedDict):
    """What a call of a tool has returned: a JSON value."""

    tool: str
    result: Any


def parse_calls(output: Any) -> list[Call]:
    """Return the tool calls in a step's parsed output; [] for an output without calls.

    :raises InvalidInput: a call is not valid, or there are too many.
    """
    if not isinstance(output, dict) or "calls" not in output:
        return []
    calls = output["calls"]
    if not isinstance(calls, list) or len(calls) > MAX_CALLS:
        raise InvalidInput(
            "calls", None, "must be a list of at most %d calls" % MAX_CALLS, "Request fewer"
        )
    parsed = [_parse_call("calls[%d]" % n, call) for n, call in enumerate(calls)]
    if [tool for tool, _ in parsed].count("execute_orchestration") > MAX_STARTED_RUNS:
        raise InvalidInput(
            "calls", None, "starts more than %d runs" % MAX_STARTED_RUNS, "Start fewer"
        )
    return parsed


def perform(
    env: "Environment", case: "Case", calls: Iterable[Call]
) -> tuple[list[CallResult], Optional[str]]:
    """Perform the calls in order until one fails.

    :returns: (the results of the calls that succeeded, None or the error of the next one).
    """
    executor = _ToolExecutor(env, case)
    results: list[CallResult] = []
    for index, (tool, arguments) in enumerate(calls):
        try:
            results.append({"tool": tool, "result": getattr(executor, tool)(arguments)})
        except (InvalidInput, StackStormError, DatastoreUnavailable) as error:
            before = "; calls 1 to %d were performed" % index if index else ""
            return results, "call %d, %s: %s%s" % (index + 1, tool, error, before)
    return results, None


def _parse_call(path: str, raw_call: object) -> Call:
    call = Fields(raw_call, path, {"tool": ("name",), "arguments": ("input", "parameters")})
    tool = call.value("tool")
    tool = _ALIASES.get(tool, tool) if isinstance(tool, str) else tool
    if not isinstance(tool, str) or tool not in _TOOLS:
        raise InvalidInput(
            call.path("tool"), tool, "is not a known tool", "Use one of " + ", ".join(_TOOLS)
        )
    arguments, argument_names = call.mapping("arguments") or {}, _TOOLS[tool]
    if callable(argument_names):
        return tool, argument_names(arguments, call.path("arguments"))
    fields = Fields(arguments, call.path("arguments"), argument_names)
    for name in ("name", "execution_id"):
        if name in argument_names and not isinstance(fields.value(name), str):
            raise InvalidInput(
                fields.path(name), fields.value(name), "must be text", "Write it as text"
            )
    return tool, fields


class _ToolExecutor:
    """The tools, each a method (arguments) -> result."""

    def __init__(self, env: "Environment", case: "Case") -> None:
        self._env, self._case, self._started = env, case, 0
        # The author that is stored with each change.
        self._actor = "run:%s" % case["run"]

    def create_role(self, role: Role) -> dict[str, Any]:
        return summarize(ROLE, definition_service.create_role(self._env, role, self._actor))

    def list_roles(self, arguments: Fields) -> list[dict[str, Any]]:
        return [summarize(ROLE, role) for role in definition_store.list_all(self._env.store, ROLE)]

    def update_role(self, arguments: Fields) -> dict[str, Any]:
        name, updates = arguments.value("name"), arguments.mapping("updates") or {}
        return summarize(
            ROLE, definition_service.update_role(self._env, name, updates, self._actor)
        )

    def delete_role(self, arguments: Fields) -> dict[str, Any]:
        return summarize(ROLE, definition_service.delete_role(self._env, arguments.value("name")))

    def create_orchestration(self, normal: Orchestration) -> dict[str, Any]:
        orchestration = definition_service.create_orchestration(self._env, normal, self._actor)
        return summarize(ORCHESTRATION, orchestration)

    def list_orchestrations(self, arguments: Fields) -> list[dict[str, Any]]:
        tags, active = (
            arguments.list_of("tags", _accept_any),
            arguments.boolean("active_only", False),
        )
        matches = definition_service.orchestrations(self._env, tags, active)
        return [summarize(ORCHESTRATION, orchestration) for orchestration in matches]

    def get_orchestration(self, arguments: Fields) -> StoredOrchestration:
        return definition_store.require(self._env.store, ORCHESTRATION, arguments.value("name"))

    def update_orchestration(self, arguments: Fields) -> dict[str, Any]:
        name, updates = arguments.value("name"), arguments.mapping("updates") or {}
        orchestration = definition_service.update_orchestration(
            self._env, name, updates, self._actor
        )
        return summarize(ORCHESTRATION, orchestration)

    def delete_orchestration(self, arguments: Fields) -> dict[str, Any]:
        return summarize(ORCHESTRATION, definition_service.delete_orchestration(
            self._env, arguments.value("name")))

    def execute_orchestration(self, arguments: Fields) -> dict[str, str]:
        name, env = arguments.value("name"), self._env
        orchestration = definition_store.require(env.store, ORCHESTRATION, name)
        if env.api is None:
            raise InvalidInput(
                "tool", None, "is not available without StackStorm's API", "Run it on StackStorm"
            )
        self._started += 1
        rules = {"depth": self._case["depth"] + 1, "input": arguments.value("input", {})}
        request = env.redactor.remove_secrets(
            {"orchestration": orchestration["name"], "rules": rules}
        )
        run, wave = encode_key_part(self._case["run"] or "none"), self._case["progress"]["cursor"]
        case_key = "%scase.%s.started.%d.%d" % (PREFIX, run, wave, self._started)
        child_case = sealing.seal(
            {"request": request, "trace": tracing.propagation_headers()}, env.store, case_key
        )
        started = env.api.start(run_queries.REF, {"orchestration": "@case", "case": child_case})
        return {"id": started, "orchestration": orchestration["name"]}

    def get_execution_status(self, arguments: Fields) -> RunStatus:
        return run_queries.status(self._env, arguments.value("execution_id"))


def _accept_any(path: str, value: Any) -> Any:
    return value
