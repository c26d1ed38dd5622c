"""Tells people on the channels of `escalation` that a run waits for their answer."""

import time
from typing import TYPE_CHECKING

from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.escalation import notifications, ticketing
from synthralos.escalation.config import CHANNELS
from synthralos.escalation.notifications import Delivery, Notice
from synthralos.runtime import child_runs

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

SECONDS = 5.0
SEVERITY, CAUSE = "medium", "approval_requested"


def tell(
    env: "Environment", run: str, workflow: str, subject: str, question: str
) -> list[Delivery]:
    """Send the question, and how to answer it, on every channel that is ready. Nothing is raised:
    the question is asked even if nobody can be told.

    :param run: the execution id of the run that asks.
    :param question: one line, sanitized.
    """
    question_id = child_runs.next_question_id(env, run)
    answer = "st2 run synthralos.approval.answer %s approved=true" % question_id
    advice = [
        "Answer with `%s`, or approved=false, or answer=\"...\"" % answer,
        "Or in the chat: `approve run %s`, `refuse run %s`" % (question_id, question_id),
    ]
    text = "\n".join([question, *advice])
    title = "[synthralos] a person is asked: %s" % question
    return _send(env, notifications.TRIGGER, CHANNELS, run, workflow, subject, title, text, advice)


def settle(env: "Environment", run: str, workflow: str, subject: str) -> list[Delivery]:
    """Tell a webhook, which keeps what is open, that the question is settled."""
    title = "[synthralos] %s of %s waits no more" % (workflow, subject)
    return _send(
        env, notifications.RESOLVE, ("webhook",), run, workflow, subject, title, title, []
    )


def _send(
    env: "Environment",
    action: str,
    channels: tuple[str, ...],
    run: str,
    workflow: str,
    subject: str,
    title: str,
    text: str,
    advice: list[str],
) -> list[Delivery]:
    try:
        config = ticketing.load_config(env, env.settings.escalation)
    except InvalidInput as error:
        return [
            {
                "action": action, "channel": name, "status": "failed", "tries": 0,
                "error": str(error),
            }
            for name in channels
        ]
    facts = {"workflow": workflow, "subject": subject, "run": run, "cause": CAUSE}
    notice: Notice = {
        "action": action,
        "ticket": "approval:%s" % run,
        "severity": SEVERITY,
        "subject": subject,
        "workflow": workflow,
        "cause": CAUSE,
        "at": to_iso(env.now()),
        "title": title[: notifications.MAX_TITLE_CHARS],
        "text": text,
        "recommendations": advice,
        "facts": facts,
    }
    ready = [name for name in channels if config.state(name) == "ready"]
    pending = [((action, name), notice) for name in ready]
    if not pending:
        return []
    return notifications.send_in_parallel(env, config, pending, SECONDS, time.sleep)
