from synthralos.recovery import handle_error, intake
from synthralos.refusals import Refused
from synthralos_action import SynthralosAction


class Errors(SynthralosAction):
    """`error.assess` and `error.proceed`: the tasks of handle_error."""

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _assess(self, env, parameters):
        given, started, parent = dict(parameters), env.now(), None
        if parameters.get("execution_id"):
            execution = self.read(env, parameters["execution_id"])
            intake.check_switch(execution, env.store)
            parent = ((execution.get("context") or {}).get("parent") or {}).get("pack")
            given = intake.parameters_of(execution, env.store)
            started = intake.started_at(execution, started)
        else:
            given = intake.resolved({k: v for k, v in given.items() if v is not None})
        return handle_error.assess(env, given, started, parent)

    def _proceed(self, env, parameters):
        case = self.case(env, parameters, handle_error.WORKFLOW)
        if case is None:
            raise Refused("case", "", "is missing", "Pass on the case of a handle_error run")
        return handle_error.proceed(env, case)
