from synthralos.infrastructure import ending, infrastructure_repair
from synthralos.recovery import intake
from synthralos.refusals import Refused
from synthralos_action import SynthralosAction


class Repairs(SynthralosAction):
    """`repair.begin` and `repair.finish`: the first and the last task of infrastructure_repair."""

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _begin(self, env, parameters):
        given, started, payload = dict(parameters), env.now(), None
        if parameters.get("execution_id"):
            execution = self.read(env, parameters["execution_id"])
            intake.check_switch(execution, env.store)
            given = intake.parameters_of(execution, env.store)
            started = intake.started_at(execution, started)
            payload = (execution.get("trigger_instance") or {}).get("payload")
        else:
            given = intake.resolved({k: v for k, v in given.items() if v is not None})
        return infrastructure_repair.begin(env, given, started, payload)

    def _finish(self, env, parameters):
        case = self.case(env, parameters, infrastructure_repair.WORKFLOW)
        if case is None:
            raise Refused("case", "", "is missing", "Pass on the case of an infrastructure_repair")
        return ending.finish(env, case)
