from synthralos.operations import failure_explanation
from synthralos_action import ResourceAction


class Failures(ResourceAction):
    """`failure.explain`: what a failure means, and what a run would try after it."""

    resource = "failure"

    def _explain(self, env, parameters):
        inputs, _ = self.execution(env, parameters)
        return failure_explanation.explain(env, inputs)
