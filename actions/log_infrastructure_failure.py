from synthralos.infrastructure import outcome
from synthralos_action import SynthralosAction


class LogInfrastructureFailure(SynthralosAction):
    """Writes down an infrastructure_repair that a task ended: history, ticket, trigger, webhook."""

    runs_always = True

    def run(self, **parameters):
        return self.perform(self._log, parameters)

    def _log(self, env, parameters):
        case, inputs = self.case_for_failure_log(env, parameters, outcome.WORKFLOW)
        return outcome.log_failure(env, case, inputs)
