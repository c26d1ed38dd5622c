from synthralos.recovery import reroute_request
from synthralos_action import SynthralosAction


class ExecuteRequest(SynthralosAction):
    """Sends a request: one round over a case's routes, or once as plain parameters say."""

    def run(self, **parameters):
        return self.perform(self._attempt, parameters)

    def _attempt(self, env, parameters):
        case = self.case(env, parameters, reroute_request.WORKFLOW)
        if case is None:
            inputs, started = self.execution(env, parameters)
            case = reroute_request.standalone_case(env, inputs, started)
        return reroute_request.run_round(env, case)
