from synthralos.recovery import reroute_request
from synthralos_action import SynthralosAction


class AnalyzeRoutingFailure(SynthralosAction):
    """Reads the run's parameters, checks them and orders the routes: reroute_request's first task."""

    def run(self, **parameters):
        return self.perform(self._analyse, parameters)

    def _analyse(self, env, parameters):
        given, started = self.execution(env, parameters)
        return reroute_request.analyse(env, given, started)
