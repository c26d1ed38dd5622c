from synthralos.recovery import agent_recovery
from synthralos_action import SynthralosAction


class AnalyzeAgentFailure(SynthralosAction):
    """agent_recovery's first task: reads the parameters, checks them, classifies the failure."""

    def run(self, **parameters):
        return self.perform(self._analyse, parameters)

    def _analyse(self, env, parameters):
        inputs, started, execution = self.intake(env, parameters)
        # Only a run goes on to an attempt, and may use up the probe of a paused agent.
        return agent_recovery.analyse(
            env,
            inputs,
            started,
            attempted=bool(parameters.get("execution_id")),
            execution=execution,
        )
