from synthralos.automation import approvals, recovery_with_approval
from synthralos.automation import config as automation_config
from synthralos.core.errors import InvalidInput
from synthralos.core.plurals import count_noun
from synthralos.runtime import run_parameters
from synthralos_action import ResourceAction


class Approvals(ResourceAction):
    """`approval.*`: what runs of this pack ask people for, and the run that does nothing else."""

    resource = "approval"

    def _list(self, env, parameters):
        self._reachable(env)
        pending = approvals.pending(env, self._timeout(env))
        verb = "waits" if len(pending) == 1 else "wait"
        summary = "%s %s for an answer" % (count_noun(len(pending), "approval"), verb)
        return {"summary": summary, "approvals": pending}

    def _answer(self, env, parameters):
        self._reachable(env)
        approved, text = parameters.get("approved"), parameters.get("answer")
        if text is not None:
            text = run_parameters.require_text(
                "answer", run_parameters.decode_base64("answer", text)
            )
        question = run_parameters.require_text("execution_id", parameters.get("execution_id"))
        approval = approvals.answer(env, question, approved, text, self._timeout(env))
        verb = "answered" if approved is None else "approved" if approved else "refused"
        summary = "%s of %s is %s: %s" % (
            approval["id"], approval["workflow"], verb, approval["question"])
        return {"summary": summary, "approved": approved, "approval": approval}

    def _request(self, env, parameters):
        inputs, started = self.execution(env, parameters)
        return recovery_with_approval.request(env, inputs, started)

    def _proceed(self, env, parameters):
        case = self.case(env, parameters, recovery_with_approval.WORKFLOW)
        if case is None:
            hint = "Pass on the case of a recovery_with_approval run"
            raise InvalidInput("case", "", "is missing", hint)
        return recovery_with_approval.proceed(env, case)

    @staticmethod
    def _timeout(env):
        return automation_config.load(env.settings.automation)[0].approval_timeout

    @staticmethod
    def _reachable(env):
        if env.api is None:
            raise InvalidInput("approval", None, "there is no StackStorm API", "Run it there")
