"""The `orchestration` section of the pack's configuration."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

from synthralos.config.reader import read_int
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.orchestration.field_reader import require_title

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

MAX_CONCURRENT = 20
_PREFIX = "orchestration."


@dataclass(frozen=True)
class OrchestrationConfig:
    """Settings of orchestrations.

    :ivar user_roles: {StackStorm user: role name}; if it is empty, StackStorm's own permissions
        decide who may change definitions.
    :ivar allowed_actions: the StackStorm actions that steps may run.
    :ivar max_concurrent: the maximum number of steps of a run at the same time.
    :ivar default_model: the model of roles that name none; None is the first one that fits.
    """

    user_roles: dict[str, str] = field(default_factory=dict)
    allowed_actions: tuple[str, ...] = ()
    max_concurrent: int = 5
    default_model: Optional[str] = None


def configuration(env: "Environment") -> OrchestrationConfig:
    """Return the OrchestrationConfig of the environment's settings.

    :raises InvalidInput: an entry is not valid.
    """
    entry = env.settings.orchestration
    model = entry.get("default_model") or None
    return OrchestrationConfig(
        user_roles=_user_roles(entry.get("user_roles")),
        allowed_actions=tuple(_actions(entry.get("allowed_actions"))),
        max_concurrent=read_int(entry, "max_concurrent", 5, 1, MAX_CONCURRENT, _PREFIX),
        default_model=None
        if model is None
        else require_identifier(_PREFIX + "default_model", model),
    )


def _user_roles(value: object) -> dict[str, str]:
    path = _PREFIX + "user_roles"
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise InvalidInput(path, value, "must be an object", "Write {user: role}")
    return {
        str(user): require_title("%s.%s" % (path, user), role) for user, role in value.items()
    }


def _actions(value: object) -> Iterator[str]:
    path = _PREFIX + "allowed_actions"
    value = [] if value is None else value
    if not isinstance(value, list):
        raise InvalidInput(path, value, "must be a list", "Write it as [pack.action]")
    for n, action in enumerate(value):
        item_path = "%s[%d]" % (path, n)
        if "." not in require_identifier(item_path, action):
            hint = "Name it with its pack, such as core.http"
            raise InvalidInput(item_path, action, "is not an action reference", hint)
        yield action
