from synthralos.infrastructure import infrastructure_repair, standalone
from synthralos_action import SynthralosAction


class PlanRepairs(SynthralosAction):
    """Decides which crew repairs which node: the state REPAIR_PLANNING."""

    def run(self, **parameters):
        return self.perform(self._plan, parameters)

    def _plan(self, env, parameters):
        case = self.case(env, parameters, infrastructure_repair.WORKFLOW)
        if case is not None:
            return infrastructure_repair.plan(env, case)
        inputs, started = self.execution(env, parameters)
        return standalone.plan(env, inputs, started)
