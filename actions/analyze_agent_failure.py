from synthralos.recovery import agent_recovery
from synthralos_action import SynthralosAction


class AnalyzeAgentFailure(SynthralosAction):
    """Reads the run's parameters, checks them and classifies the failure: agent_recovery's first task."""

    def run(self, **parameters):
        return self.perform(self._analyse, parameters)

    def _analyse(self, env, parameters):
        given, started = self.execution(env, parameters)
        return agent_recovery.analyse(env, given, started)
