from synthralos.recovery import llm_retry
from synthralos.runtime import failure_record
from synthralos_action import SynthralosAction


class LogRetryFailure(SynthralosAction):
    """Writes down a llm_retry that did not work: history, ticket, trigger and webhook."""

    runs_always = True

    def run(self, **parameters):
        return self.perform(self._log, parameters)

    def _log(self, env, parameters):
        case, inputs = self.case_for_failure_log(env, parameters, llm_retry.WORKFLOW)
        subject = llm_retry.subject(failure_record.complete_case(case), inputs)
        return failure_record.log_failed_run(env, llm_retry.WORKFLOW, subject, case)
