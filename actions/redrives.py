from synthralos.core.errors import InvalidInput
from synthralos.operations import redrive
from synthralos_action import ResourceAction


class Redrives(ResourceAction):
    """`redrive.begin`, `redrive.round` and `redrive.finish`: the tasks of recovery.redrive."""

    resource = "redrive"
    # Without the datastore a redrive cannot go on, so it is waited for.
    key_seconds = 10.0

    def _begin(self, env, parameters):
        if env.api is None:
            raise InvalidInput("recovery", None, "there is no StackStorm API", "Run it there")
        inputs, started, execution = self.intake(env, parameters)
        return redrive.begin(env, inputs, started, execution)

    def _round(self, env, parameters):
        plan = self._plan(env, parameters)
        return redrive.run_round(env, plan, parameters["case"], parameters["cursor"])

    def _finish(self, env, parameters):
        return redrive.finish(env, self._plan(env, parameters))

    @staticmethod
    def _plan(env, parameters):
        plan = redrive.Plan.open(env, parameters.get("case"))
        env.run = plan.run
        return plan
