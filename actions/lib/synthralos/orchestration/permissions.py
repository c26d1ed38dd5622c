"""Who may change roles and orchestrations."""

from synthralos.orchestration import roles, stored
from synthralos.orchestration.config import configuration
from synthralos.refusals import Refused
from synthralos.state.versions import user


def changer(env):
    """The StackStorm user who runs this action, None where nobody can tell. Refused when the
    configuration does not let that user change definitions.

    Without `orchestration.user_roles` StackStorm's own permissions have decided before.
    """
    name, mapped = user(env.api, env.run), configuration(env).user_roles
    if not mapped:
        return name
    role = stored.role_by(env.store, mapped[name]) if name in mapped else None
    if role is None or not roles.may_change_definitions(role):
        why = "may not change roles and orchestrations"
        way_out = "Map the user in orchestration.user_roles of the configuration to %s" % (
            "a role that has the tool %s" % roles.META
        )
        raise Refused("user", name, why, way_out)
    return name
