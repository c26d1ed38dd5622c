from synthralos.recovery import agent_recovery, record
from synthralos_action import SynthralosAction


class LogRecoveryFailure(SynthralosAction):
    """Writes down a agent_recovery that did not work: history, ticket, trigger and webhook."""

    runs_always = True

    def run(self, **parameters):
        return self.perform(self._log, parameters)

    def _log(self, env, parameters):
        case, given = self.left_behind(env, parameters, agent_recovery.WORKFLOW)
        return record.record(env, agent_recovery.WORKFLOW, case, given)
