from synthralos.orchestration import definition_service, definition_store, permissions
from synthralos.orchestration.definition_input import read_definition, require_name
from synthralos.orchestration.definition_service import summarize
from synthralos.orchestration.definition_store import ROLE
from synthralos_action import ResourceAction

_FIELDS = ("name", "base_prompt", "model", "tools")


class Roles(ResourceAction):
    """`role.*`: who answers the steps of orchestrations."""

    # A definition that is not kept is none.
    key_seconds = 10.0

    def _create(self, env, parameters):
        by = permissions.require_editor(env)
        inputs, _ = self.execution(env, parameters)
        fields = read_definition(inputs, "fields", _FIELDS)
        role = definition_service.create_role(env, fields, by)
        return {"summary": "role %s" % role["name"], "role": role}

    def _get(self, env, parameters):
        role = definition_store.require(env.store, ROLE, require_name(parameters))
        if parameters.get("at_version") is not None:
            role = definition_store.version(env.store, ROLE, role, parameters["at_version"])
        return {
            "summary": "role %(name)s, version %(version)d" % role,
            "role": role,
            "versions": definition_store.versions(env.store, ROLE, role),
            "used_by": definition_service.orchestrations_using(env, role),
        }

    def _list(self, env, parameters):
        roles = definition_store.list_all(env.store, ROLE)
        if parameters.get("tools"):
            roles = [role for role in roles if set(parameters["tools"]) & set(role["tools"])]
        return {
            "summary": "%d roles" % len(roles),
            "roles": [summarize(ROLE, role) for role in roles],
        }

    def _update(self, env, parameters):
        by = permissions.require_editor(env)
        inputs, _ = self.execution(env, parameters)
        updates = read_definition(inputs, "updates")
        role = definition_service.update_role(
            env, require_name(inputs), updates, by, inputs.get("at_version")
        )
        return {"summary": "role %(name)s, version %(version)d" % role, "role": role}

    def _delete(self, env, parameters):
        permissions.require_editor(env)
        role = definition_service.delete_role(env, require_name(parameters), parameters["force"])
        return {"summary": "deleted the role %s" % role["name"], "role": role}
