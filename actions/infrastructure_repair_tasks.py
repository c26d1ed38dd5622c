from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import infrastructure_repair, outcome
from synthralos_action import ResourceAction


class InfrastructureRepairTasks(ResourceAction):
    """`repair.begin` and `repair.finish`: the first and the last task of infrastructure_repair."""

    resource = "repair"

    def _begin(self, env, parameters):
        inputs, started, execution = self.intake(env, parameters)
        payload = (execution.get("trigger_instance") or {}).get("payload")
        return infrastructure_repair.begin(env, inputs, started, payload)

    def _finish(self, env, parameters):
        case = self.case(env, parameters, outcome.WORKFLOW)
        if case is None:
            raise InvalidInput(
                "case", "", "is missing", "Pass on the case of an infrastructure_repair"
            )
        return outcome.finish(env, case)
