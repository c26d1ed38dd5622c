from synthralos.automation import approvals
from synthralos.core.errors import InvalidInput
from synthralos_action import ResourceAction


class Approvals(ResourceAction):
    """`approval.*`: what runs of this pack ask people for."""

    def _list(self, env, parameters):
        self._reachable(env)
        found = approvals.pending(env)
        return {"summary": "%d approvals are asked for" % len(found), "approvals": found}

    def _answer(self, env, parameters):
        self._reachable(env)
        approved = parameters["approved"] is True
        self.read(env, parameters["execution_id"], "id")
        told = approvals.answer(env, parameters["execution_id"], approved)
        said = "%s of %s is %s" % (
            told["inquiry"], told["workflow"], "approved" if approved else "refused"
        )
        return {"summary": said, "approved": approved, "approval": told}

    @staticmethod
    def _reachable(env):
        if env.api is None:
            raise InvalidInput("approval", None, "there is no StackStorm API", "Run it there")
