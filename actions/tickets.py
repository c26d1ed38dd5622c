from synthralos.state import tickets
from synthralos.state.stackstorm import ApiError
from synthralos_action import SynthralosAction


class Tickets(SynthralosAction):
    """`ticket.list` and `ticket.get`: what the pack could not cure and a person should look at."""

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _list(self, env, parameters):
        found = tickets.listing(env.store, parameters.get("status"), parameters.get("subject"))
        self._answered(env)
        return {"summary": "%d tickets" % len(found), "tickets": found}

    def _get(self, env, parameters):
        ticket = tickets.get(env.store, parameters["ticket_id"])
        return {"summary": ticket["summary"], "ticket": ticket}

    @staticmethod
    def _answered(env):
        # A list that could not be read is not an empty list.
        if env.store.away:
            raise ApiError(env.store.away)
