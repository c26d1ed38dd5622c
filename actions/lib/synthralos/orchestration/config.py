"""The entry `orchestration` of the pack's configuration."""

from dataclasses import dataclass, field
from typing import Optional

from synthralos.config.reader import read_int
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.orchestration.field_reader import titled

MAX_CONCURRENT = 20
_WHERE = "orchestration."


@dataclass(frozen=True)
class OrchestrationConfig:
    """:ivar user_roles: {StackStorm user: name of a role}; where it is empty, StackStorm's own
        permissions decide who changes definitions.
    :ivar allowed_actions: the StackStorm actions that steps may run.
    :ivar max_concurrent: most steps of a run at once.
    :ivar default_model: of roles that name none, or None for the first one that fits.
    """

    user_roles: dict = field(default_factory=dict)
    allowed_actions: tuple = ()
    max_concurrent: int = 5
    default_model: Optional[str] = None


def configuration(env):
    """Orchestrations of the environment's settings. InvalidInput names the entry that is wrong."""
    entry = env.settings.orchestration
    model = entry.get("default_model") or None
    return OrchestrationConfig(
        user_roles=_role_of_user(entry.get("user_roles")),
        allowed_actions=tuple(_actions(entry.get("allowed_actions"))),
        max_concurrent=read_int(entry, "max_concurrent", 5, 1, MAX_CONCURRENT, _WHERE),
        default_model=None
        if model is None
        else require_identifier(_WHERE + "default_model", model),
    )


def _role_of_user(value):
    where = _WHERE + "user_roles"
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise InvalidInput(where, value, "is not an object", "Write {user: role}")
    return {
        str(user): titled("%s.%s" % (where, user), role) for user, role in value.items()
    }


def _actions(value):
    where = _WHERE + "allowed_actions"
    value = [] if value is None else value
    if not isinstance(value, list):
        raise InvalidInput(where, value, "is no list", "Write it as [pack.action]")
    for n, action in enumerate(value):
        place = "%s[%d]" % (where, n)
        if "." not in require_identifier(place, action):
            way_out = "Name it with its pack, such as core.http"
            raise InvalidInput(place, action, "is no action reference", way_out)
        yield action
