from synthralos.orchestration import run_queries
from synthralos_action import ResourceAction


class OrchestrationRuns(ResourceAction):
    """`orchestration.status`, `.list_runs`, `.cancel` and `.resume`: runs, looked at and led."""

    key_seconds = 10.0

    def _status(self, env, parameters):
        self.read(env, parameters["execution_id"], "status")
        status = run_queries.status(env, parameters["execution_id"], parameters.get("step_name"))
        step_count = len(status["stepLogs"])
        return dict({"summary": "%s, %d steps" % (status["status"], step_count)}, **status)

    def _list_runs(self, env, parameters):
        runs = run_queries.list_runs(
            env, parameters.get("orchestration"), parameters.get("status"), parameters["limit"]
        )
        return {"summary": "%d runs" % len(runs), "runs": runs}

    def _cancel(self, env, parameters):
        self.read(env, parameters["execution_id"], "status")
        run_queries.cancel(env, parameters["execution_id"])
        return {"summary": "%(execution_id)s is to be cancelled" % parameters}

    def _resume(self, env, parameters):
        self.read(env, parameters["execution_id"], "status")
        if parameters.get("automatic"):
            started = run_queries.resume_automatically(env, parameters["execution_id"])
        else:
            timeout = parameters.get("run_timeout")
            started = run_queries.resume(env, parameters["execution_id"], timeout)
        return {
            "summary": "%s continues as %s" % (parameters["execution_id"], started),
            "execution_id": started,
            "resume_of": parameters["execution_id"],
        }
