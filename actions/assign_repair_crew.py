from synthralos.infrastructure import execution_state, outcome, standalone
from synthralos_action import SynthralosAction


class AssignRepairCrew(SynthralosAction):
    """Hands nodes to the crews that are to repair them: the state EXECUTION."""

    def run(self, **parameters):
        return self.perform(self._assign, parameters)

    def _assign(self, env, parameters):
        case = self.case(env, parameters, outcome.WORKFLOW)
        if case is not None:
            return execution_state.execute(env, case)
        inputs, started = self.execution(env, parameters)
        return standalone.assign(env, inputs, started)
