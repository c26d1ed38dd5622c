from synthralos.infrastructure import detection_state, outcome, standalone
from synthralos_action import SynthralosAction


class EstimateImpact(SynthralosAction):
    """Estimates what the failure of nodes touches: the state IMPACT_ANALYSIS."""

    def run(self, **parameters):
        return self.perform(self._estimate, parameters)

    def _estimate(self, env, parameters):
        case = self.case(env, parameters, outcome.WORKFLOW)
        if case is not None:
            return detection_state.estimate(env, case)
        inputs, started = self.execution(env, parameters)
        return standalone.estimate(env, inputs, started)
