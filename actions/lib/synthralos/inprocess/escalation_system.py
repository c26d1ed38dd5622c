"""The escalation system of a program: tickets for what a person has to see to.

The same tickets, levels, priorities and notifications as `ticket.*` of the pack has.
"""
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional, Union

from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import parse_iso
from synthralos.escalation import priority, ticket_analysis, ticketing
from synthralos.inprocess.errors import ErrorContext, EscalationLevel, context_from, member
from synthralos.inprocess.runtime import LOGGER, Runtime, result_of
from synthralos.recovery.error_case import SUMMARY_CHARACTERS, WORKFLOW
from synthralos.runtime.environment import Environment
from synthralos.storage import tickets
from synthralos.storage.datastore import DatastoreUnavailable, require_available
from synthralos.storage.tickets import Ticket

NotificationCallback = Callable[[dict[str, Any]], Any]
DETAIL_CHARACTERS = 500
BY_PROGRAM = "error_handling"


class EscalationSystem:
    """Opens, notifies and resolves the tickets of a program.

    Every method raises InvalidInput for a name or value that is not valid, and DatastoreUnavailable
    when the datastore is unavailable.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.config = ticketing.load_config(runtime.environment(), runtime.settings.escalation)
        self._callbacks: dict[EscalationLevel, list[NotificationCallback]] = {}

    async def evaluate_escalation(
        self,
        error_context: Union[ErrorContext, Mapping[str, Any]],
        recovery_attempts: Sequence[Any] = (),
    ) -> EscalationLevel:
        """The level at which a ticket of this error would open after so many failed attempts."""
        error = context_from(error_context)
        facts: priority.Problem = {
            "type": str(error.error_type), "cause": error.cause, "severity": str(error.severity),
            "occurrences": max(1, len(recovery_attempts)),
        }
        return EscalationLevel(priority.level_of(self.config, facts))

    async def create_escalation(
        self,
        error_context: Union[ErrorContext, Mapping[str, Any]],
        recovery_attempts: Sequence[Any] = (),
        level: Union[EscalationLevel, str, None] = None,
    ) -> str:
        """Opens a ticket for the error, or adds to the one of the same problem; returns its id.

        Who must know is notified, on the channels of the configuration and by the callbacks that
        are registered for its level.

        :param recovery_attempts: what was tried; each a mapping (strategy, error) or a text.
        :param level: the lowest that the ticket's level may be; by default the rules decide.
        """
        error = context_from(error_context)
        min_level = await self.evaluate_escalation(error, recovery_attempts)
        if level is not None:
            min_level = max(min_level, member(EscalationLevel, "level", level), key=_rank)
        env = self._runtime.environment(error.error_id)
        redactor = self._runtime.redactor
        summary = "%s: %s" % (error.agent_id, error.error_message or error.error_type)
        details = {"task_id": error.task_id}
        if recovery_attempts:
            attempts = "; ".join(_describe_attempt(attempt) for attempt in recovery_attempts)
            details["recovery_attempts"] = redactor.redact_text(attempts)[:DETAIL_CHARACTERS]
        opened = await self._runtime.in_thread(
            ticketing.open_ticket,
            env,
            self.config,
            WORKFLOW,
            error.agent_id,
            {
                "type": error.failure.type,
                "cause": error.cause,
                "severity": str(error.severity),
            },
            redactor.redact_text(" ".join(summary.split())[:SUMMARY_CHARACTERS]),
            str(min_level),
            attempts=len(recovery_attempts),
            details=details,
        )
        if opened is None:
            raise DatastoreUnavailable(
                "the ticket was not recorded: %s" % env.store.unavailable_reason
            )
        await self.notify(opened)
        return str(opened["ticket"])

    async def notify(self, opened: Mapping[str, Any]) -> None:
        """Logs a ticket and calls what is registered for its level, when it is new or has risen.

        :param opened: as ticketing.open_ticket returns it. What a callback raises is logged.
        """
        LOGGER.debug("ticket %s: %s, priority %d, occurrence %d", opened["ticket"],
                     opened["level"], opened["priority"], opened["occurrences"])
        for notification in opened.get("notifications") or ():
            LOGGER.debug("ticket %s: %s is %s", opened["ticket"], notification["channel"],
                         notification["status"])
        if opened["new"] or opened["previous_level"]:
            await self._call_back(opened["ticket"], opened["level"])

    async def get_escalation_report(self, ticket_id: str) -> Optional[dict[str, Any]]:
        """What is known of the ticket and what a person can do; None when there is no such ticket.

        {ticket_info, error_analysis {root_cause, impact_assessment, recovery_timeline},
        recommendations [text], system_impact {affected_agents, related_errors}, generated_at,
        markdown}.
        """
        env = self._runtime.environment()
        ticket = await self._runtime.read_write(_ticket, env, ticket_id)
        if ticket is None:
            return None
        analysis = await self._runtime.read_write(ticket_analysis.analyze_ticket, env, ticket)
        info = {name: value for name, value in ticket.items() if name != "events"}
        info["ticket_id"] = info.pop("ticket")
        return {
            "ticket_info": env.redactor.redact_value(info),
            "error_analysis": {
                "root_cause": analysis["root_cause"],
                "impact_assessment": analysis["impact"],
                "recovery_timeline": analysis["timeline"],
            },
            "recommendations": analysis["recommendations"],
            "system_impact": {
                "affected_agents": [ticket["subject"]],
                "related_errors": analysis["impact"]["occurrences"],
            },
            "generated_at": analysis["generated_at"],
            "markdown": analysis["markdown"],
        }

    async def take_escalation(self, ticket_id: str, taken_by: str) -> bool:
        """Whether the ticket is in progress with `taken_by` now; False when it is resolved, or
        there is none.
        """
        env = self._runtime.environment()
        try:
            ticket = await self._runtime.in_thread(
                ticketing.take, env, self.config, ticket_id, taken_by
            )
        except InvalidInput:
            require_available(env.store)
            return False
        require_available(env.store)
        return ticket is not None

    async def resolve_escalation(
        self, ticket_id: str, resolution: str, resolved_by: Optional[str] = None
    ) -> bool:
        """Whether this call has resolved the ticket; False when it was, or there is none."""
        env = self._runtime.environment()
        ticket = await self._runtime.read_write(_ticket, env, ticket_id)
        if ticket is None or ticket["status"] == tickets.RESOLVED:
            return False
        by, text = resolved_by or BY_PROGRAM, env.redactor.redact_text(resolution)
        await self._runtime.in_thread(ticketing.resolve, env, self.config, ticket_id, text, by)
        require_available(env.store)
        LOGGER.debug("ticket %s is resolved by %s", ticket_id, by)
        return True

    async def process_escalation_queue(self) -> list[dict[str, Any]]:
        """Goes over the tickets, the most urgent first: raises each that nobody took within
        escalation_timeout by one level, and sends what is due.

        :returns: those with which something was done: [{ticket_id, level, priority, previous_level,
            notifications}].
        """
        env = self._runtime.environment()
        processed = await self._runtime.in_thread(ticketing.process_due, env, self.config)
        require_available(env.store)
        for ticket in processed["tickets"]:
            if ticket["previous_level"]:
                await self._call_back(ticket["ticket"], ticket["level"])
        return [
            {
                "ticket_id": ticket["ticket"],
                "level": ticket["level"],
                "priority": ticket["priority"],
                "previous_level": ticket["previous_level"],
                "notifications": ticket["notifications"],
            }
            for ticket in processed["tickets"]
        ]

    async def get_escalations(
        self, status: Optional[str] = None, agent_id: Optional[str] = None
    ) -> list[Ticket]:
        """The tickets, newest first.

        :param status: open, in_progress or resolved.
        """
        env = self._runtime.environment()
        rows = await self._runtime.read_write(
            tickets.list_tickets, env.store, status, agent_id
        )
        require_available(env.store)
        return rows

    async def get_statistics(self) -> dict[str, Any]:
        """{total_escalations, by_level, by_status, pending_tickets, average_resolution_time in
        seconds or None} of the tickets on record.
        """
        rows = await self.get_escalations()
        seconds = [
            (parse_iso(row["resolved_at"]) or 0.0) - (parse_iso(row["opened_at"]) or 0.0)
            for row in rows
            if row["status"] == tickets.RESOLVED and row.get("opened_at") and row.get("resolved_at")
        ]
        return {
            "total_escalations": len(rows),
            "by_level": dict(Counter(row["level"] for row in rows)),
            "by_status": dict(Counter(row["status"] for row in rows)),
            "pending_tickets": sum(row["status"] != tickets.RESOLVED for row in rows),
            "average_resolution_time": sum(seconds) / len(seconds) if seconds else None,
        }

    def register_notification_callback(
        self, level: Union[EscalationLevel, str], callback: NotificationCallback
    ) -> None:
        """Has `callback` called with the report of each ticket that opens at, or rises to, `level`.

        :param callback: a function or coroutine function; what it raises is logged.
        """
        named = member(EscalationLevel, "level", level)
        self._callbacks.setdefault(named, []).append(callback)

    async def _call_back(self, ticket_id: str, level: str) -> None:
        callbacks = self._callbacks.get(EscalationLevel(level), [])
        if not callbacks:
            return
        report = await self.get_escalation_report(ticket_id)
        for callback in callbacks:
            try:
                await result_of(callback(dict(report or {})))
            except Exception as error:
                LOGGER.warning("a callback for %s failed: %s: %s", level, type(error).__name__,
                               self._runtime.redactor.redact_text(str(error)))


def _ticket(env: Environment, ticket_id: str) -> Optional[Ticket]:
    try:
        return tickets.get(env.store, str(ticket_id))
    except InvalidInput:
        require_available(env.store)
        return None


def _rank(level: EscalationLevel) -> int:
    return tickets.rank(level.value)


def _describe_attempt(attempt: Any) -> str:
    if isinstance(attempt, Mapping):
        return ", ".join("%s: %s" % (name, value) for name, value in attempt.items())
    return str(attempt)
