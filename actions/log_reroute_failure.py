from synthralos.recovery import reroute_request
from synthralos.runtime import failure_record
from synthralos_action import SynthralosAction


class LogRerouteFailure(SynthralosAction):
    """Writes down a reroute_request that did not work: history, ticket, trigger and webhook."""

    runs_always = True

    def run(self, **parameters):
        return self.perform(self._log, parameters)

    def _log(self, env, parameters):
        case, given = self.case_for_failure_log(env, parameters, reroute_request.WORKFLOW)
        return failure_record.record_failed_run(env, reroute_request.WORKFLOW, case, given)
