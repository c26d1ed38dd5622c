"""Who may change roles and orchestrations."""

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import definition_store, role_schema
from synthralos.orchestration.config import configuration
from synthralos.storage.versions import stackstorm_user


def require_editor(env):
    """The StackStorm user who runs this action, None where nobody can tell. InvalidInput when the
    configuration does not let that user change definitions.

    Without `orchestration.user_roles` StackStorm's own permissions have decided before.
    """
    name, mapped = stackstorm_user(env.api, env.run), configuration(env).user_roles
    if not mapped:
        return name
    role = definition_store.role_by(env.store, mapped[name]) if name in mapped else None
    if role is None or not role_schema.may_change_definitions(role):
        why = "may not change roles and orchestrations"
        way_out = "Map the user in orchestration.user_roles of the configuration to %s" % (
            "a role that has the tool %s" % role_schema.META
        )
        raise InvalidInput("user", name, why, way_out)
    return name
