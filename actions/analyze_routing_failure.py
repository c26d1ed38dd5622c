from synthralos.recovery import reroute_request
from synthralos_action import SynthralosAction


class AnalyzeRoutingFailure(SynthralosAction):
    """reroute_request's first task: reads the parameters, checks them, orders the routes."""

    def run(self, **parameters):
        return self.perform(self._analyse, parameters)

    def _analyse(self, env, parameters):
        inputs, started = self.execution(env, parameters)
        return reroute_request.analyse(env, inputs, started)
