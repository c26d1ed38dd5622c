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
        inputs, _ = self.execution(env, parameters)
        fields = read_definition(inputs, "fields", _FIELDS)
        orchestration = definition_service.create_orchestration(env, fields, by)
        return self._result(orchestration)

    def _get(self, env, parameters):
        orchestration = definition_store.require(
            env.store, ORCHESTRATION, require_name(parameters, "name_or_id")
        )
        if parameters.get("at_version") is not None:
            orchestration = definition_store.version(
                env.store, ORCHESTRATION, orchestration, parameters["at_version"]
            )
        return dict(
            self._result(orchestration),
            versions=definition_store.versions(env.store, ORCHESTRATION, orchestration),
            runs=run_queries.list_runs(
                env, orchestration["name"], limit=definition_service.MAX_RUNS_SHOWN
            ),
        )

    def _list(self, env, parameters):
        orchestrations = definition_service.orchestrations(
            env, parameters.get("tags") or (), parameters["active_only"]
        )
        return {
            "summary": "%d orchestrations" % len(orchestrations),
            "orchestrations": [
                summarize(ORCHESTRATION, orchestration) for orchestration in orchestrations
            ],
        }

    def _update(self, env, parameters):
        by = permissions.require_editor(env)
        inputs, _ = self.execution(env, parameters)
        updates = read_definition(inputs, "updates")
        orchestration = definition_service.update_orchestration(
            env, require_name(inputs, "orchestration_id"), updates, by, inputs.get("at_version")
        )
        return self._result(orchestration)

    def _delete(self, env, parameters):
        permissions.require_editor(env)
        name = require_name(parameters, "orchestration_id")
        orchestration = definition_service.delete_orchestration(env, name, parameters["force"])
        return dict(
            self._result(orchestration),
            summary="deleted the orchestration %s" % orchestration["name"],
        )

    def _validate(self, env, parameters):
        inputs, _ = self.execution(env, parameters)
        if not any(inputs.get(name) for name in ("fields", "definition", "steps")):
            orchestration = definition_store.require(env.store, ORCHESTRATION, require_name(inputs))
        else:
            orchestration = orchestration_schema.orchestration(
                read_definition(inputs, "fields", _FIELDS)
            )
        definition_service.check(env, orchestration)
        plan = definition_service.plan(env, orchestration)
        return {
            "summary": "%s is valid: %d steps" % (orchestration["name"], len(plan)),
            "valid": True,
            "plan": plan,
            "roles": orchestration_schema.roles_used(orchestration),
        }

    def _load_examples(self, env, parameters):
        by = permissions.require_editor(env)
        definitions = examples.load(
            env, by, parameters.get("names"), parameters.get("model"), parameters["overwrite"]
        )
        created, changed = (
            sum(definition[name] for definition in definitions) for name in ("created", "changed")
        )
        summary = "%d created, %d changed, %d were there" % (
            created, changed, len(definitions) - created - changed)
        return {"summary": summary, "definitions": definitions}

    @staticmethod
    def _result(orchestration):
        return {
            "summary": "orchestration %(name)s, version %(version)d" % orchestration,
            "orchestration": orchestration,
        }
