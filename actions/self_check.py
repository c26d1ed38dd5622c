from synthralos.operations import self_check
from synthralos_action import SynthralosAction


class SelfCheck(SynthralosAction):
    """`pack.check`: what of the configuration works, what is missing, and how to set it."""

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _check(self, env, parameters):
        return self_check.check(env)
