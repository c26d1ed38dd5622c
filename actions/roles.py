from synthralos.orchestration import definitions, permissions, stored
from synthralos.orchestration.definitions import brief
from synthralos.orchestration.given import definition_of, name_of
from synthralos.orchestration.stored import ROLE
from synthralos_action import SynthralosAction

_FIELDS = ("name", "base_prompt", "model", "tools")


class Roles(SynthralosAction):
    """`role.*`: who answers the steps of orchestrations."""

    # A definition that is not kept is none.
    key_seconds = 10.0

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _create(self, env, parameters):
        by = permissions.changer(env)
        given, _ = self.execution(env, parameters)
        told = definition_of(given, "fields", _FIELDS)
        role = definitions.create_role(env, told, by)
        return {"summary": "role %s" % role["name"], "role": role}

    def _get(self, env, parameters):
        role = stored.needed(env.store, ROLE, name_of(parameters))
        if parameters.get("at_version") is not None:
            role = stored.version(env.store, ROLE, role, parameters["at_version"])
        return {
            "summary": "role %(name)s, version %(version)d" % role,
            "role": role,
            "versions": stored.versions(env.store, ROLE, role),
            "used_by": definitions.used_by(env, role),
        }

    def _list(self, env, parameters):
        found = stored.every(env.store, ROLE)
        if parameters.get("tools"):
            found = [role for role in found if set(parameters["tools"]) & set(role["tools"])]
        return {"summary": "%d roles" % len(found), "roles": [brief(ROLE, one) for one in found]}

    def _update(self, env, parameters):
        by = permissions.changer(env)
        given, _ = self.execution(env, parameters)
        updates = definition_of(given, "updates")
        role = definitions.update_role(env, name_of(given), updates, by, given.get("at_version"))
        return {"summary": "role %(name)s, version %(version)d" % role, "role": role}

    def _delete(self, env, parameters):
        permissions.changer(env)
        role = definitions.delete_role(env, name_of(parameters), parameters["force"])
        return {"summary": "deleted the role %s" % role["name"], "role": role}
