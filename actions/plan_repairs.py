from synthralos.infrastructure import outcome, planning_state, standalone
from synthralos_action import SynthralosAction


class PlanRepairs(SynthralosAction):
    """Decides which crew repairs which node: the state REPAIR_PLANNING."""

    def run(self, **parameters):
        return self.perform(self._plan, parameters)

    def _plan(self, env, parameters):
        case = self.case(env, parameters, outcome.WORKFLOW)
        if case is not None:
            return planning_state.plan(env, case)
        inputs, started = self.execution(env, parameters)
        return standalone.plan(env, inputs, started)
