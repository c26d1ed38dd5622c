from synthralos.recovery import agent_recovery
from synthralos_action import SynthralosAction


class GenerateRepairPlan(SynthralosAction):
    """Plans the repair of a failure that was analysed, or of one that plain parameters describe."""

    def run(self, **parameters):
        return self.perform(self._plan, parameters)

    def _plan(self, env, parameters):
        case = self.case(env, parameters, agent_recovery.WORKFLOW)
        if case is None:
            inputs, started = self.execution(env, parameters)
            case = agent_recovery.standalone_case(env, inputs, started, attempted=False)
        return agent_recovery.plan_repair(env, case)
