from synthralos.infrastructure import infrastructure_repair, standalone
from synthralos_action import SynthralosAction


class DetectFailureNodes(SynthralosAction):
    """Says which nodes have failed, or are repaired: FAILURE_DETECTION and RESCHEDULING."""

    def run(self, **parameters):
        return self.perform(self._detect, parameters)

    def _detect(self, env, parameters):
        case = self.case(env, parameters, infrastructure_repair.WORKFLOW)
        if case is not None:
            return infrastructure_repair.detect(env, case)
        inputs, _ = self.execution(env, parameters)
        return standalone.detect(env, inputs)
