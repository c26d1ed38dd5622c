from synthralos.core.errors import InvalidInput
from synthralos.orchestration import engine, step_runner
from synthralos_action import ResourceAction


class OrchestrationTasks(ResourceAction):
    """`orchestration.begin`, `.wave`, `.step` and `.next_wave`: the tasks of orchestration.run."""

    # Without the datastore an orchestration cannot go on, so it is waited for.
    key_seconds = 10.0
    resource = "orchestration"
    intermediate_operations = ("step",)

    def _begin(self, env, parameters):
        inputs, started = self.execution(env, parameters)
        return engine.begin(env, inputs, started)

    def _step(self, env, parameters):
        return step_runner.run_step(env, self._case(env, parameters), parameters["step"])

    def _wave(self, env, parameters):
        return engine.run_single_step(env, self._case(env, parameters))

    def _next_wave(self, env, parameters):
        return engine.next_wave(env, self._case(env, parameters), parameters["decision"])

    def _case(self, env, parameters):
        case = self.case(env, parameters, engine.WORKFLOW)
        if case is None:
            raise InvalidInput("case", "", "is missing", "Pass on the case of an orchestration.run")
        return case
