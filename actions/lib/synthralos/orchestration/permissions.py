"""Permissions to change roles and orchestrations."""

from typing import TYPE_CHECKING, Optional

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import definition_store, role_schema
from synthralos.orchestration.config import configuration
from synthralos.storage.versions import stackstorm_user

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment


def require_editor(env: "Environment") -> Optional[str]:
    """Return the StackStorm user who runs this action, or None if it is unknown.

    Without `orchestration.user_roles`, StackStorm's own permissions have already decided.

    :raises InvalidInput: the configuration does not let that user change definitions.
    """
    name: Optional[str] = stackstorm_user(env.api, env.run)
    mapped = configuration(env).user_roles
    if not mapped:
        return name
    role = None
    if name is not None and name in mapped:
        role = definition_store.role_by(env.store, mapped[name])
    if role is None or not role_schema.may_change_definitions(role):
        reason = "may not change roles and orchestrations"
        hint = "Map the user in orchestration.user_roles of the configuration to %s" % (
            "a role that has the tool %s" % role_schema.META
        )
        raise InvalidInput("user", name, reason, hint)
    return name
