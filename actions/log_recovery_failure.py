from synthralos.runtime import failure_record
from synthralos_action import SynthralosAction


class LogRecoveryFailure(SynthralosAction):
    """Writes down an agent_recovery, or a handle_error, that did not work."""

    runs_always = True

    def run(self, workflow="agent_recovery", **parameters):
        return self.perform(
            lambda env, parameters: self._log(env, workflow, parameters), parameters
        )

    def _log(self, env, workflow, parameters):
        # A failure must be logged, whatever was asked for.
        workflow = (
            workflow if workflow in failure_record.LOGGED_HERE else failure_record.LOGGED_HERE[0]
        )
        case, given = self.case_for_failure_log(env, parameters, workflow)
        return failure_record.record_failed_run(env, workflow, case, given)
