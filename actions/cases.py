from synthralos.core.errors import InvalidInput
from synthralos.core.sealing import unseal
from synthralos_action import ResourceAction

_ATTRIBUTES = "parameters,result,start_timestamp"


class Cases(ResourceAction):
    """`case.show`: what a run has sealed, opened for a person."""

    def _show(self, env, parameters):
        case = parameters.get("case") or self._newest(env, parameters.get("execution_id"))
        content = unseal(case, env.store)
        if not isinstance(content, dict):
            raise InvalidInput(
                "case", None, "holds no object", "Give the case of a synthralos workflow"
            )
        return {"summary": "case of %s" % content.get("workflow", "a run"), "content": content}

    def _newest(self, env, execution_id):
        """The newest case of a workflow's run, or of one of its tasks."""
        if not execution_id:
            raise InvalidInput("execution_id", execution_id, "is missing", "Give it, or a case")
        executions = [self.read(env, execution_id, _ATTRIBUTES)] + env.api.children(
            execution_id, _ATTRIBUTES
        )
        for execution in reversed(executions):
            for case in _cases_of(execution):
                return case
        raise InvalidInput(
            "execution_id", execution_id, "has no case", "Give the run of a synthralos workflow"
        )


def _cases_of(execution):
    result = execution.get("result")
    result = result.get("result") if isinstance(result, dict) else None
    if isinstance(result, dict):
        following = result.get("next") if isinstance(result.get("next"), dict) else {}
        for case in (following.get("carry"), result.get("carry")):
            if case:
                yield case
    if (execution.get("parameters") or {}).get("case"):
        yield execution["parameters"]["case"]
