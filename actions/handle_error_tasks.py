from synthralos.core.errors import InvalidInput
from synthralos.recovery import handle_error
from synthralos_action import ResourceAction


class HandleErrorTasks(ResourceAction):
    """`error.assess` and `error.proceed`: the tasks of handle_error."""

    resource = "error"

    def _assess(self, env, parameters):
        inputs, started, execution = self.intake(env, parameters)
        parent = ((execution.get("context") or {}).get("parent") or {}).get("pack")
        return handle_error.assess(env, inputs, started, parent)

    def _proceed(self, env, parameters):
        case = self.case(env, parameters, handle_error.WORKFLOW)
        if case is None:
            raise InvalidInput("case", "", "is missing", "Pass on the case of a handle_error run")
        return handle_error.proceed(env, case)
