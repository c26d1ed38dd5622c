from synthralos.recovery import llm_retry
from synthralos_action import SynthralosAction


class DetermineRetryStrategy(SynthralosAction):
    """llm_retry's first task: reads the parameters, checks them, orders the models."""

    def run(self, **parameters):
        return self.perform(self._determine, parameters)

    def _determine(self, env, parameters):
        inputs, started = self.execution(env, parameters)
        return llm_retry.determine(env, inputs, started)
