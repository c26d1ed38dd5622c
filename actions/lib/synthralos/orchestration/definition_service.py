"""What people, agents and the examples do with roles and orchestrations.

What is created or changed is checked against the world that it is for: the models and actions of
the configuration, the roles and orchestrations that there are.
"""

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import (
    action_step,
    definition_store,
    model_selection,
    orchestration_schema,
    run_queries,
    scheduler,
)
from synthralos.orchestration.definition_store import ORCHESTRATION, ROLE
from synthralos.orchestration.run_store import RunStore
from synthralos.storage.datastore import PAGE_SIZE

MAX_NAMES_SHOWN = 40
MAX_RUNS_SHOWN = 10
# Of StackStorm's statuses, those of a run that is on its way.
_LIVE = ("requested", "scheduled", "delayed", "running", "pausing", "paused", "resuming")


def create_role(env, given, by):
    normal = orchestration_schema.role(given)
    model_selection.check(env, normal)
    return definition_store.create(env, ROLE, normal, by)


def update_role(env, name_or_id, updates, by, version=None):
    """The role after `updates`, or as it was with `version`."""
    return _update(
        env, ROLE, name_or_id, updates, by, version, orchestration_schema.role_updated,
        lambda normal: model_selection.check(env, normal, "updates"),
    )


def delete_role(env, name_or_id, force=False):
    """The role that was deleted. InvalidInput while orchestrations use it, unless forced."""
    there = definition_store.require(env.store, ROLE, name_or_id)
    users = [] if force else orchestrations_using(env, there)
    if users:
        why = "is used by %s" % ", ".join(users[:MAX_NAMES_SHOWN])
        raise InvalidInput("name", there["name"], why, "Change these first, or give force")
    return _delete(env, ROLE, there)


def orchestrations_using(env, role):
    """The sorted names of the orchestrations with steps that have the role."""
    return sorted(
        one["name"] for one in definition_store.list_all(env.store, ORCHESTRATION)
        if {role["name"], role["id"]} & set(orchestration_schema.roles_used(one))
    )


def create_orchestration(env, given, by):
    normal = orchestration_schema.orchestration(given)
    check(env, normal)
    return definition_store.create(env, ORCHESTRATION, normal, by)


def update_orchestration(env, name_or_id, updates, by, version=None):
    """The orchestration after `updates`, or as it was with `version`.

    Runs that have begun go on with what they began with.
    """
    def checked(normal):
        # What is switched off must not be held up by what has gone meanwhile.
        if normal["active"]:
            check(env, normal, "updates")

    return _update(
        env,
        ORCHESTRATION,
        name_or_id,
        updates,
        by,
        version,
        orchestration_schema.orchestration_updated,
        checked,
    )


def delete_orchestration(env, name_or_id, force=False):
    """The orchestration that was deleted. InvalidInput, unless forced, while it runs or others run it.
    """
    there = definition_store.require(env.store, ORCHESTRATION, name_or_id)
    if not force:
        running = runs_of(env, there)
        if running:
            why = "runs as %s" % ", ".join(running[:MAX_NAMES_SHOWN])
            raise InvalidInput("name", there["name"], why, "Wait or cancel, or give force")
        users = [
            one["name"]
            for one in definition_store.list_all(env.store, ORCHESTRATION)
            if {there["name"], there["id"]} & set(_sub_orchestrations(one)) and
            one["id"] != there["id"]
        ]
        if users:
            why = "is run by %s" % ", ".join(sorted(users)[:MAX_NAMES_SHOWN])
            raise InvalidInput("name", there["name"], why, "Change these first, or give force")
    return _delete(env, ORCHESTRATION, there)


def runs_of(env, orchestration):
    """The execution ids of its runs that have not ended, of the newest 100 of each status."""
    found = []
    for status in _LIVE if env.api is not None else ():
        rows = env.api.executions("id,parameters", action=run_queries.REF, status=status)
        for row in rows[:PAGE_SIZE]:
            named = (row.get("parameters") or {}).get("orchestration")
            begun = None if named else RunStore(env, row["id"]).definition()
            if begun is not None:
                # A sub-orchestration, or a run that goes on: its parameters do not name it.
                named = begun.get("id")
            if named in (orchestration["name"], orchestration["id"]):
                found.append(row["id"])
    return found


def orchestrations(env, tags=(), active_only=False):
    """The orchestrations with any of the tags, the one changed last first."""
    return [
        one for one in definition_store.list_all(env.store, ORCHESTRATION)
        if (not tags or set(tags) & set(one["tags"])) and (one["active"] or not active_only)
    ]


def check(env, normal, where="orchestration"):
    """InvalidInput when a step names a role, model, action or orchestration that there is not."""
    roles = _find_all(env, ROLE, orchestration_schema.roles_used(normal))
    for step in orchestration_schema.every_step(normal["steps"]):
        at = "%s.steps: %s" % (where, step["name"])
        for name in (step["role"], (step["critic"] or {}).get("role")):
            if name is not None and roles[name] is None:
                raise _not_found(env, ROLE, at, name)
        model_selection.check_fallbacks(env, step["fallback_models"], at)
        if step["action"] is not None:
            action_step.allowed(env, step["action"])
        role = roles.get(step["role"])
        # Here, and not when what comes before the step has been paid for.
        if role is not None and not (model_selection.fitting(env, role) or step["fallback_models"]):
            raise InvalidInput(
                at, step["role"], "is a role that no configured model fits",
                "Give the role a model, or configure one that has what it needs",
            )
    _check_others(env, normal, where)


def plan(env, normal):
    """What would run in which order: [{step_id, step_name, kind, wave, role, action}]."""
    return [
        dict(entry, role=step["role"], action=step["action"])
        for entry, step in scheduler.preview(normal)
    ]


def summarize(kind, one):
    """One of `kind` as a list shows it."""
    if kind is ROLE:
        told = {
            "model": one["model"],
            "needs": [name for name, needed in one["needs"].items() if needed],
            "tools": one["tools"],
        }
    else:
        told = {
            "description": one["description"],
            "tags": one["tags"],
            "active": one["active"],
            "steps": [step["name"] for step in one["steps"]],
        }
    told.update((name, one[name]) for name in ("version", "updated_at", "updated_by"))
    return dict({"name": one["name"], "id": one["id"]}, **told)


def _update(env, kind, name_or_id, updates, by, version, updated, checked):
    """:param updated: (normal form, updates) -> normal form; checked: refuses one that is wrong."""
    known = definition_store.require(env.store, kind, name_or_id)
    with definition_store.locked(env, kind, known["name"]) as there:
        if there is None:
            raise InvalidInput("name", name_or_id, "has just been deleted", "Create it again")
        if version is not None and updates:
            raise InvalidInput("at_version", version, "is given beside updates", "Give one of them")
        if version is not None:
            normal = definition_store.definition_fields(
                definition_store.version(env.store, kind, there, version)
            )
        else:
            normal = updated(definition_store.definition_fields(there), updates)
        checked(normal)
        return definition_store.save_version(env, kind, there, normal, by)


def _delete(env, kind, there):
    with definition_store.locked(env, kind, there["name"]) as there_now:
        if there_now is not None:
            definition_store.delete(env, kind, there_now)
        return there_now or there


def _find_all(env, kind, names):
    return {name: definition_store.find(env.store, kind, name) for name in names}


def _not_found(env, kind, where, name):
    known = [one["name"] for one in definition_store.list_all(env.store, kind)]
    told = ", ".join(sorted(known)[:MAX_NAMES_SHOWN]) or "none; create it first"
    noun = kind.noun
    why = "Role not found" if kind is ROLE else "is no orchestration"
    return InvalidInput(where, name, why, "Known %ss are %s" % (noun, told))


def _sub_orchestrations(one):
    """The names of the orchestrations that its steps run."""
    found = {step["orchestration"] for step in orchestration_schema.every_step(one["steps"])}
    return sorted(found - {None})


def _check_others(env, normal, where):
    """InvalidInput when a sub-orchestration is missing, or leads back to the orchestration itself."""
    way, seen = [(name, [normal["name"]]) for name in _sub_orchestrations(normal)], set()
    while way:
        name, path = way.pop()
        found = definition_store.find(env.store, ORCHESTRATION, name)
        ours = name in (normal["name"], ORCHESTRATION.id_of(normal["name"]))
        if ours:
            circle = " -> ".join(path + [normal["name"]])
            raise InvalidInput(where, None, "runs itself: %s" % circle, "Have one of them run less")
        if found is None:
            raise _not_found(env, ORCHESTRATION, where, name)
        if found["id"] not in seen:
            seen.add(found["id"])
            way += [(other, path + [found["name"]]) for other in _sub_orchestrations(found)]
