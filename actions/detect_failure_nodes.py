from synthralos.infrastructure import detection_state, outcome, standalone
from synthralos_action import SynthralosAction


class DetectFailureNodes(SynthralosAction):
    """Says which nodes have failed, or are repaired: FAILURE_DETECTION and RESCHEDULING."""

    def run(self, **parameters):
        return self.perform(self._detect, parameters)

    def _detect(self, env, parameters):
        case = self.case(env, parameters, outcome.WORKFLOW)
        if case is not None:
            return detection_state.detect(env, case)
        inputs, _ = self.execution(env, parameters)
        return standalone.detect(env, inputs)
