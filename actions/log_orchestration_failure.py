from synthralos.orchestration import run_completion
from synthralos_action import SynthralosAction


class LogOrchestrationFailure(SynthralosAction):
    """Writes down an orchestration.run that a task ended: history, ticket, trigger, webhook."""

    runs_always = True

    def run(self, **parameters):
        return self.perform(self._log, parameters)

    def _log(self, env, parameters):
        case, inputs = self.case_for_failure_log(env, parameters, run_completion.WORKFLOW)
        return run_completion.log_failure(env, case, inputs)
