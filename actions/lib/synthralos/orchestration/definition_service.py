"""Create, update and delete roles and orchestrations, for people, agents and the examples.

Each change is checked against its environment: the models and actions of the configuration, and the
roles and orchestrations that exist.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable, Optional

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import (
    action_step,
    definition_store,
    dependencies,
    model_selection,
    orchestration_schema,
    run_queries,
    scheduler,
)
from synthralos.orchestration.definition_store import (
    ORCHESTRATION,
    ROLE,
    DefinitionKind,
    N,
    S,
    StoredOrchestration,
    StoredRole,
)
from synthralos.orchestration.orchestration_schema import Orchestration
from synthralos.orchestration.run_store import RunStore
from synthralos.orchestration.scheduler import PreviewEntry
from synthralos.storage.datastore import PAGE_SIZE

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

MAX_NAMES_SHOWN = 40
MAX_RUNS_SHOWN = 10
# StackStorm's statuses of a run that has not ended.
_LIVE = ("requested", "scheduled", "delayed", "running", "pausing", "paused", "resuming")


class PlannedStep(PreviewEntry):
    """A step in the order in which it would run. `role`, `action`: of the step, or None."""

    role: Optional[str]
    action: Optional[str]


def create_role(env: "Environment", raw_role: object, actor: Optional[str]) -> StoredRole:
    """Create a role and return its stored form.

    :param actor: who creates it, or None.
    :raises InvalidInput: it is not valid, names an unknown model, or its name is in use.
    """
    normal = orchestration_schema.role(raw_role)
    model_selection.check(env, normal)
    return definition_store.create(env, ROLE, normal, actor)


def update_role(
    env: "Environment",
    name_or_id: str,
    updates: object,
    actor: Optional[str],
    version: Optional[int] = None,
) -> StoredRole:
    """Apply `updates` to a role, or restore its `version`; return the stored form."""
    return _update(
        env, ROLE, name_or_id, updates, actor, version, orchestration_schema.role_updated,
        lambda normal: model_selection.check(env, normal, "updates"),
    )


def delete_role(env: "Environment", name_or_id: str, force: bool = False) -> StoredRole:
    """Delete a role and return it.

    :param force: delete it even if orchestrations use it.
    :raises InvalidInput: orchestrations use it.
    """
    existing = definition_store.require(env.store, ROLE, name_or_id)
    users = [] if force else orchestrations_using(env, existing)
    if users:
        reason = "is used by %s" % ", ".join(users[:MAX_NAMES_SHOWN])
        raise InvalidInput("name", existing["name"], reason, "Change these first, or set force")
    return _delete(env, ROLE, existing)


def orchestrations_using(env: "Environment", role: StoredRole) -> list[str]:
    """Return the sorted names of the orchestrations that use the role."""
    return sorted(
        orchestration["name"]
        for orchestration in definition_store.list_all(env.store, ORCHESTRATION)
        if {role["name"], role["id"]} & set(orchestration_schema.roles_used(orchestration))
    )


def create_orchestration(
    env: "Environment", raw_orchestration: object, actor: Optional[str]
) -> StoredOrchestration:
    """Create an orchestration and return its stored form.

    :param actor: who creates it, or None.
    :raises InvalidInput: it is not valid, a reference in it is unknown, or its name is in use.
    """
    normal = orchestration_schema.orchestration(raw_orchestration)
    check(env, normal)
    return definition_store.create(env, ORCHESTRATION, normal, actor)


def update_orchestration(
    env: "Environment",
    name_or_id: str,
    updates: object,
    actor: Optional[str],
    version: Optional[int] = None,
) -> StoredOrchestration:
    """Apply `updates` to an orchestration, or restore its `version`; return the stored form.

    Runs that have begun keep the definition that they started with.
    """
    def checked(normal: Orchestration) -> None:
        # Deactivating must not fail because a reference was deleted in the meantime.
        if normal["active"]:
            check(env, normal, "updates")

    return _update(
        env,
        ORCHESTRATION,
        name_or_id,
        updates,
        actor,
        version,
        orchestration_schema.orchestration_updated,
        checked,
    )


def delete_orchestration(
    env: "Environment", name_or_id: str, force: bool = False
) -> StoredOrchestration:
    """Delete an orchestration and return it.

    :param force: delete it even if it is running or other orchestrations run it.
    :raises InvalidInput: it is running, or other orchestrations run it.
    """
    existing = definition_store.require(env.store, ORCHESTRATION, name_or_id)
    if not force:
        running = live_run_ids(env, existing)
        if running:
            reason = "runs as %s" % ", ".join(running[:MAX_NAMES_SHOWN])
            raise InvalidInput(
                "name", existing["name"], reason, "Wait for them, cancel them, or set force"
            )
        users = [
            orchestration["name"]
            for orchestration in definition_store.list_all(env.store, ORCHESTRATION)
            if {existing["name"], existing["id"]} & set(_sub_orchestrations(orchestration)) and
            orchestration["id"] != existing["id"]
        ]
        if users:
            reason = "is run by %s" % ", ".join(sorted(users)[:MAX_NAMES_SHOWN])
            raise InvalidInput(
                "name", existing["name"], reason, "Change these first, or set force"
            )
    return _delete(env, ORCHESTRATION, existing)


def live_run_ids(env: "Environment", orchestration: StoredOrchestration) -> list[str]:
    """Return the execution ids of its unfinished runs, from the newest 100 of each status."""
    run_ids = []
    for status in _LIVE if env.api is not None else ():
        rows = env.api.executions("id,parameters", action=run_queries.REF, status=status)
        for row in rows[:PAGE_SIZE]:
            name = (row.get("parameters") or {}).get("orchestration")
            run_record = None if name else RunStore(env, row["id"]).definition()
            if run_record is not None:
                # A sub-orchestration or a resumed run: its parameters do not name it.
                name = run_record.get("id")
            if name in (orchestration["name"], orchestration["id"]):
                run_ids.append(row["id"])
    return run_ids


def orchestrations(
    env: "Environment", tags: Iterable[str] = (), active_only: bool = False
) -> list[StoredOrchestration]:
    """Return the orchestrations with any of `tags` (all without tags), last changed first."""
    return [
        orchestration
        for orchestration in definition_store.list_all(env.store, ORCHESTRATION)
        if (not tags or set(tags) & set(orchestration["tags"])) and
        (orchestration["active"] or not active_only)
    ]


def check(env: "Environment", normal: Orchestration, path: str = "orchestration") -> None:
    """Check the references of an orchestration in normal form.

    :raises InvalidInput: a step names an unknown role, model, action or orchestration.
    """
    roles = _find_all(env, ROLE, orchestration_schema.roles_used(normal))
    for step in orchestration_schema.every_step(normal["steps"]):
        step_path = "%s.steps: %s" % (path, step["name"])
        critic = step["critic"]
        for name in (step["role"], None if critic is None else critic["role"]):
            if name is not None and roles[name] is None:
                raise _not_found(env, ROLE, step_path, name)
        model_selection.check_fallbacks(env, step["fallback_models"], step_path)
        if step["action"] is not None:
            action_step.allowed(env, step["action"])
        role = None if step["role"] is None else roles[step["role"]]
        # Checked here, before the steps ahead of it have cost anything.
        if role is not None and not (model_selection.fitting(env, role) or step["fallback_models"]):
            raise InvalidInput(
                step_path, step["role"], "is a role that no configured model can serve",
                "Give the role a model, or configure one with the capabilities it needs",
            )
    _check_sub_orchestrations(env, normal, path)


def plan(env: "Environment", normal: Orchestration) -> list[PlannedStep]:
    """Return the steps in the order in which they would run."""
    return [
        {**entry, "role": step["role"], "action": step["action"]}
        for entry, step in scheduler.preview(normal)
    ]


def summarize(kind: DefinitionKind[N, S], definition: S) -> dict[str, Any]:
    """Return the summary of a definition that lists show."""
    return {
        "name": definition["name"],
        "id": definition["id"],
        **kind.summary_of(definition),
        "version": definition["version"],
        "updated_at": definition["updated_at"],
        "updated_by": definition["updated_by"],
    }


def _update(
    env: "Environment",
    kind: DefinitionKind[N, S],
    name_or_id: str,
    updates: object,
    actor: Optional[str],
    version: Optional[int],
    updated: Callable[[N, object], N],
    checked: Callable[[N], None],
) -> S:
    """Store a new version of a definition.

    :param updated: (normal form, updates) -> normal form.
    :param checked: (normal form); raises InvalidInput when it is not valid.
    """
    current = definition_store.require(env.store, kind, name_or_id)
    with definition_store.locked(env, kind, current["name"]) as existing:
        if existing is None:
            raise InvalidInput(
                "name", name_or_id, "was deleted at the same time", "Create it again"
            )
        if version is not None and updates:
            raise InvalidInput(
                "at_version", version, "cannot be combined with updates", "Use one of them"
            )
        if version is not None:
            normal = kind.normal_form(
                definition_store.version(env.store, kind, existing, version)
            )
        else:
            normal = updated(kind.normal_form(existing), updates)
        checked(normal)
        return definition_store.save_version(env, kind, existing, normal, actor)


def _delete(env: "Environment", kind: DefinitionKind[N, S], existing: S) -> S:
    with definition_store.locked(env, kind, existing["name"]) as current:
        if current is not None:
            definition_store.delete(env, kind, current)
        return current or existing


def _find_all(
    env: "Environment", kind: DefinitionKind[N, S], names: Iterable[str]
) -> dict[str, Optional[S]]:
    return {name: definition_store.find(env.store, kind, name) for name in names}


def _not_found(
    env: "Environment", kind: DefinitionKind[N, S], path: str, name: str
) -> InvalidInput:
    names = [definition["name"] for definition in definition_store.list_all(env.store, kind)]
    names_text = ", ".join(sorted(names)[:MAX_NAMES_SHOWN]) or "none; create it first"
    noun = kind.noun
    reason = "Role not found" if kind is ROLE else "is not a known orchestration"
    return InvalidInput(path, name, reason, "Known %ss are %s" % (noun, names_text))


def _sub_orchestrations(orchestration: Orchestration) -> list[str]:
    """Return the sorted names of the orchestrations that its steps run."""
    steps = orchestration_schema.every_step(orchestration["steps"])
    return sorted({
        step["orchestration"] for step in steps if step["orchestration"] is not None
    })


def _check_sub_orchestrations(env: "Environment", normal: Orchestration, path: str) -> None:
    """Check the orchestrations that `normal` runs, directly or through others.

    :raises InvalidInput: one does not exist, or they run each other in a cycle.
    """
    own_names = (normal["name"], ORCHESTRATION.id_of(normal["name"]))
    plan: dict[str, list[str]] = {normal["name"]: []}
    pending = [normal]
    while pending:
        orchestration = pending.pop()
        for name in _sub_orchestrations(orchestration):
            # What is stored under the name of `normal` is about to be replaced by it.
            child: Optional[Orchestration] = normal
            if name not in own_names:
                child = definition_store.find(env.store, ORCHESTRATION, name)
            if child is None:
                raise _not_found(env, ORCHESTRATION, path, name)
            plan[orchestration["name"]].append(child["name"])
            if child["name"] not in plan:
                plan[child["name"]] = []
                pending.append(child)
    cycle = dependencies.find_cycle(plan)
    if cycle:
        # Start the message with the orchestration that is being checked, if it is in the cycle.
        start = cycle.index(normal["name"]) if normal["name"] in cycle else 0
        names = cycle[start:-1] + cycle[:start + 1]
        reason = "runs itself: %s" % " -> ".join(names)
        raise InvalidInput(path, None, reason, "Have one of them run less")
