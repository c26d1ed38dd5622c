from synthralos.operations import health
from synthralos_action import SynthralosAction


class Health(SynthralosAction):
    """`health.get`: how the pack and what it looks after are doing."""

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _get(self, env, parameters):
        return health.get(env, parameters.get("agent_id"))
