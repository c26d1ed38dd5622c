from synthralos.orchestration import (
    definition_service,
    definition_store,
    examples,
    orchestration_schema,
    permissions,
    run_queries,
)
from synthralos.orchestration.definition_input import read_definition, require_name
from synthralos.orchestration.definition_service import summarize
from synthralos.orchestration.definition_store import ORCHESTRATION
from synthralos_action import ResourceAction

_FIELDS = ("name", "description", "tags", "steps")


class Orchestrations(ResourceAction):
    """`orchestration.create`, `.get`, `.list`, `.update`, `.delete`, `.validate` and
    `.load_examples`: what runs are made from.
    """

    # A definition that is not kept is none.
    key_seconds = 10.0

    def _create(self, env, parameters):
        by = permissions.require_editor(env)
        given, _ = self.execution(env, parameters)
        told = read_definition(given, "fields", _FIELDS)
        one = definition_service.create_orchestration(env, told, by)
        return self._of(one)

    def _get(self, env, parameters):
        one = definition_store.require(
            env.store, ORCHESTRATION, require_name(parameters, "name_or_id")
        )
        if parameters.get("at_version") is not None:
            one = definition_store.version(env.store, ORCHESTRATION, one, parameters["at_version"])
        return dict(
            self._of(one),
            versions=definition_store.versions(env.store, ORCHESTRATION, one),
            runs=run_queries.list_runs(env, one["name"], limit=definition_service.MAX_RUNS_SHOWN),
        )

    def _list(self, env, parameters):
        found = definition_service.orchestrations(
            env, parameters.get("tags") or (), parameters["active_only"]
        )
        return {
            "summary": "%d orchestrations" % len(found),
            "orchestrations": [summarize(ORCHESTRATION, one) for one in found],
        }

    def _update(self, env, parameters):
        by = permissions.require_editor(env)
        given, _ = self.execution(env, parameters)
        updates = read_definition(given, "updates")
        one = definition_service.update_orchestration(
            env, require_name(given, "orchestration_id"), updates, by, given.get("at_version")
        )
        return self._of(one)

    def _delete(self, env, parameters):
        permissions.require_editor(env)
        name = require_name(parameters, "orchestration_id")
        one = definition_service.delete_orchestration(env, name, parameters["force"])
        return dict(self._of(one), summary="deleted the orchestration %s" % one["name"])

    def _validate(self, env, parameters):
        given, _ = self.execution(env, parameters)
        if not any(given.get(name) for name in ("fields", "definition", "steps")):
            one = definition_store.require(env.store, ORCHESTRATION, require_name(given))
        else:
            one = orchestration_schema.orchestration(read_definition(given, "fields", _FIELDS))
        definition_service.check(env, one)
        plan = definition_service.plan(env, one)
        return {
            "summary": "%s is valid: %d steps" % (one["name"], len(plan)),
            "valid": True,
            "plan": plan,
            "roles": orchestration_schema.roles_used(one),
        }

    def _load_examples(self, env, parameters):
        by = permissions.require_editor(env)
        done = examples.load(
            env, by, parameters.get("names"), parameters.get("model"), parameters["overwrite"]
        )
        created, changed = (sum(one[name] for one in done) for name in ("created", "changed"))
        told = "%d created, %d changed, %d were there" % (
            created, changed, len(done) - created - changed)
        return {"summary": told, "definitions": done}

    @staticmethod
    def _of(one):
        return {
            "summary": "orchestration %(name)s, version %(version)d" % one,
            "orchestration": one,
        }
