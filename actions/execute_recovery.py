from synthralos.recovery import agent_recovery
from synthralos_action import SynthralosAction


class ExecuteRecovery(SynthralosAction):
    """Runs the agent with a step of the plan: one round over the platform's endpoints."""

    def run(self, **parameters):
        return self.perform(self._attempt, parameters)

    def _attempt(self, env, parameters):
        case = self.case(env, parameters, agent_recovery.WORKFLOW)
        if case is None:
            inputs, started = self.execution(env, parameters)
            case = agent_recovery.standalone_case(env, inputs, started)
        return agent_recovery.run_round(env, case)
