from synthralos.operations import health
from synthralos_action import ResourceAction


class Health(ResourceAction):
    """`health.get`: how the pack and what it looks after are doing."""

    def _get(self, env, parameters):
        return health.get(env, parameters.get("agent_id"))
