from synthralos.operations import self_check
from synthralos_action import ResourceAction


class SelfCheck(ResourceAction):
    """`pack.check`: what of the configuration works, what is missing, and how to set it."""

    def _check(self, env, parameters):
        return self_check.check(env)
