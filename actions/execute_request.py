from synthralos.recovery import reroute_request
from synthralos_action import SynthralosAction


class ExecuteRequest(SynthralosAction):
    """Sends a request: one round over a case's routes, or once as plain parameters say."""

    def run(self, **parameters):
        return self.perform(self._attempt, parameters)

    def _attempt(self, env, parameters):
        case = self.case(env, parameters, reroute_request.WORKFLOW)
        if case is None:
            given, started = self.execution(env, parameters)
            case = reroute_request.alone(env, given, started)
        return reroute_request.attempt(env, case)
