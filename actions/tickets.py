from synthralos.core import causes, failures
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.core.plurals import count_noun
from synthralos.escalation import ticket_analysis, ticketing
from synthralos.storage import tickets
from synthralos.storage.datastore import DatastoreUnavailable, require_available
from synthralos.storage.stackstorm_api import StackStormError
from synthralos_action import ResourceAction

WORKFLOW = "ticket.create"
_MAX_CHARS = {"summary": 300, "resolution": 2000}
_MAX_DETAILS = 20


class Tickets(ResourceAction):
    """`ticket.*`: what the pack could not cure and a person should look at."""

    def _list(self, env, parameters):
        heads = tickets.list_tickets(
            env.store,
            parameters.get("status"),
            parameters.get("subject"),
            parameters.get("level"),
            parameters.get("min_priority"),
        )
        require_available(env.store)
        return {"summary": count_noun(len(heads), "ticket"), "tickets": heads}

    def _get(self, env, parameters):
        ticket = self._about(env, lambda: tickets.get(env.store, parameters["ticket_id"]))
        report = ticket_analysis.analyze_ticket(env, ticket)
        return {"summary": ticket["summary"], "ticket": ticket, "report": report}

    def _create(self, env, parameters):
        config = ticketing.load_config(env, env.settings.escalation)
        inputs, _ = self.execution(env, parameters)
        subject = require_identifier("subject", inputs.get("subject"))
        summary = " ".join(self._text(env, inputs, "summary").split())
        failure_type, cause = causes.resolve_type(inputs.get("failure_type") or "unknown")
        cause = cause or failures.from_text(summary, failure_type).cause
        failure = {
            "type": failure_type,
            "cause": cause,
            "severity": inputs.get("severity") or causes.CAUSES[cause].severity,
        }
        opened = ticketing.open_ticket(
            env, config, WORKFLOW, subject, failure, summary, inputs.get("level"),
            impact=inputs.get("impact"), details=self._details(env, inputs),
        )
        if opened is None:
            raise DatastoreUnavailable(env.store.unavailable_reason)
        action = "opened" if opened["new"] else "occurrence %d of" % opened["occurrences"]
        text = "%s %s, %s, priority %d" % (
            action,
            opened["ticket"],
            opened["level"],
            opened["priority"],
        )
        return dict({"summary": text}, **opened)

    def _take(self, env, parameters):
        config = ticketing.load_config(env, env.settings.escalation)
        by = self._by(env, parameters)
        ticket = self._about(env, lambda: ticketing.take(env, config, parameters["ticket_id"], by))
        return {"summary": "%s is taken by %s" % (ticket["ticket"], by), "ticket": ticket}

    def _resolve(self, env, parameters):
        config = ticketing.load_config(env, env.settings.escalation)
        by = self._by(env, parameters)
        inputs, _ = self.execution(env, parameters)
        resolution = self._text(env, inputs, "resolution")
        ticket = self._about(
            env, lambda: ticketing.resolve(env, config, parameters["ticket_id"], resolution, by)
        )
        summary = "%s is resolved, by %s" % (ticket["ticket"], ticket["resolved_by"])
        return {"summary": summary, "ticket": ticket}

    def _process(self, env, parameters):
        config = ticketing.load_config(env, env.settings.escalation)
        report = ticketing.process_due(env, config)
        require_available(env.store)
        sent = [
            notification["status"]
            for ticket in report["tickets"]
            for notification in ticket["notifications"]
        ]
        failed = sent.count("failed")
        summary = "%d open, %d raised, %d notifications sent, %d failed" % (
            report["open"], report["raised"], sent.count("sent"), failed
        )
        return not failed, dict({"summary": summary}, **report)

    def _by(self, env, parameters):
        """Who does it: as given, else the user who runs the action."""
        if parameters.get("by"):
            return require_identifier("by", parameters["by"])
        try:
            user = (self.read(env, env.run, "context").get("context") or {}).get("user")
        except (StackStormError, InvalidInput):
            user = None
        if not user:
            raise InvalidInput(
                "by", None, "is missing and StackStorm does not say it", "Give a name"
            )
        return require_identifier("by", user)

    @staticmethod
    def _text(env, inputs, name):
        text = inputs.get(name)
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput(name, text, "is blank", "Say it in a few words")
        return env.redactor.redact_text(text)[: _MAX_CHARS[name]]

    @staticmethod
    def _details(env, inputs):
        details = env.redactor.redact_value(inputs.get("details") or {})
        if len(details) > _MAX_DETAILS:
            hint = "Give at most %d entries" % _MAX_DETAILS
            raise InvalidInput("details", None, "has %d entries" % len(details), hint)
        return {name[:80]: str(value)[:500] for name, value in details.items()}

    def _about(self, env, work):
        """The ticket that `work()` gives. A store that does not answer is no missing ticket."""
        try:
            ticket = work()
        except InvalidInput:
            require_available(env.store)
            raise
        if ticket is None:
            raise DatastoreUnavailable(env.store.unavailable_reason)
        return ticket
