from synthralos.recovery import reroute_request
from synthralos.runtime import failure_record
from synthralos_action import SynthralosAction


class LogRerouteFailure(SynthralosAction):
    """Writes down a reroute_request that did not work: history, ticket, trigger and webhook."""

    runs_always = True

    def run(self, **parameters):
        return self.perform(self._log, parameters)

    def _log(self, env, parameters):
        case, inputs = self.case_for_failure_log(env, parameters, reroute_request.WORKFLOW)
        subject = reroute_request.subject(failure_record.complete_case(case), inputs)
        return failure_record.log_failed_run(env, reroute_request.WORKFLOW, subject, case)
