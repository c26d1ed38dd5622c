from synthralos.automation import recovery_with_approval
from synthralos.recovery import agent_recovery, handle_error
from synthralos.runtime import failure_record
from synthralos_action import SynthralosAction

_WORKFLOWS = {
    module.WORKFLOW: module for module in (agent_recovery, handle_error, recovery_with_approval)
}


class LogRecoveryFailure(SynthralosAction):
    """Writes down an agent_recovery, a handle_error or a recovery_with_approval that failed."""

    runs_always = True

    def run(self, workflow="agent_recovery", **parameters):
        return self.perform(
            lambda env, parameters: self._log(env, workflow, parameters), parameters
        )

    def _log(self, env, workflow, parameters):
        # A failure must be logged, whatever `workflow` is.
        module = _WORKFLOWS.get(workflow, agent_recovery)
        case, inputs = self.case_for_failure_log(env, parameters, module.WORKFLOW)
        subject = module.subject(failure_record.complete_case(case), inputs)
        return failure_record.log_failed_run(env, module.WORKFLOW, subject, case)
