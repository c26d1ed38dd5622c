from synthralos.orchestration import definitions, examples, model, overview, permissions, stored
from synthralos.orchestration.definitions import summarize
from synthralos.orchestration.given import read_definition, require_name
from synthralos.orchestration.stored import ORCHESTRATION
from synthralos_action import SynthralosAction

_FIELDS = ("name", "description", "tags", "steps")


class Orchestrations(SynthralosAction):
    """`orchestration.create`, `.get`, `.list`, `.update`, `.delete`, `.validate` and
    `.load_examples`: what runs are made from.
    """

    # A definition that is not kept is none.
    key_seconds = 10.0

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _create(self, env, parameters):
        by = permissions.require_editor(env)
        given, _ = self.execution(env, parameters)
        told = read_definition(given, "fields", _FIELDS)
        one = definitions.create_orchestration(env, told, by)
        return self._of(one)

    def _get(self, env, parameters):
        one = stored.require(env.store, ORCHESTRATION, require_name(parameters, "name_or_id"))
        if parameters.get("at_version") is not None:
            one = stored.version(env.store, ORCHESTRATION, one, parameters["at_version"])
        return dict(
            self._of(one),
            versions=stored.versions(env.store, ORCHESTRATION, one),
            runs=overview.list_runs(env, one["name"], limit=definitions.MAX_RUNS_SHOWN),
        )

    def _list(self, env, parameters):
        found = definitions.orchestrations(
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
        one = definitions.update_orchestration(
            env, require_name(given, "orchestration_id"), updates, by, given.get("at_version")
        )
        return self._of(one)

    def _delete(self, env, parameters):
        permissions.require_editor(env)
        name = require_name(parameters, "orchestration_id")
        one = definitions.delete_orchestration(env, name, parameters["force"])
        return dict(self._of(one), summary="deleted the orchestration %s" % one["name"])

    def _validate(self, env, parameters):
        given, _ = self.execution(env, parameters)
        if not any(given.get(name) for name in ("fields", "definition", "steps")):
            one = stored.require(env.store, ORCHESTRATION, require_name(given))
        else:
            one = model.orchestration(read_definition(given, "fields", _FIELDS))
        definitions.check(env, one)
        plan = definitions.plan(env, one)
        return {
            "summary": "%s is valid: %d steps" % (one["name"], len(plan)),
            "valid": True,
            "plan": plan,
            "roles": model.roles_used(one),
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
