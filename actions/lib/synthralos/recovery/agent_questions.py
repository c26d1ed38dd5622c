"""What an agent asks goes to a person, through StackStorm's inquiries, and the answer goes back.

The round in which the agent asks ends; the workflow opens an inquiry, and the next round delivers
the answer to the same run of the agent. What is asked, and by whom, is recorded with the agent's
run: an answer still counts after the workflow that asked has ended.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

from synthralos.calls.agent_platforms.protocol import AUTHORIZATION, Question
from synthralos.calls.agent_run import Answer, QuestionIsOpen
from synthralos.calls.attempts import StillRunning
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.sanitize import sanitize_line
from synthralos.runtime import child_runs, run_parameters
from synthralos.storage import agent_runs, inquiries
from synthralos.storage.agent_runs import AgentRun, AskedQuestion
from synthralos.storage.retention_store import approval_seconds
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound
from synthralos.telemetry import run_log

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment
    from synthralos.runtime.workflow_run import Case

# Tasks of the workflow: a question takes a text, or yes or no; an authorization yes or no only.
ASK, CONFIRM = "ask", "confirm"
YES, NO, CONFIRMATION = "yes", "no", "done"
MAX_QUESTION_CHARS = 2000
# Until a question is looked at again that another run of the workflow asks: this share of the time
# that it has been open, within these bounds.
OTHER_RUN_SHARE, OTHER_RUN_SECONDS, MAX_OTHER_RUN_SECONDS = 0.2, 10.0, 300.0


class AnswerIsAwaited(StillRunning):
    """Raised while a person answers another run of the workflow, which has asked."""


def task_for(question: Question) -> str:
    """Return the task that asks a person."""
    return CONFIRM if question.kind == AUTHORIZATION else ASK


def find_answer(
    env: "Environment", case: Mapping[str, Any], record: AgentRun, question: Question
) -> Answer:
    """Return what a person has answered.

    :param record: of the run that asks.
    :raises QuestionIsOpen: nobody was asked yet; see `ask`.
    :raises AnswerIsAwaited: another run of the workflow waits for the answer.
    """
    last = record.question
    if last is None or last.identity != _identity(question):
        raise QuestionIsOpen(question)
    is_own = last.run == case["run"]
    inquiry = _inquiry(env, last)
    if not is_own and (inquiry is None or inquiry.get("status") != "succeeded"):
        # StackStorm leaves the inquiry of a run that was cancelled open, and nobody reads it.
        if _is_live(env, last.run):
            raise _awaited(env, last)
        raise QuestionIsOpen(question)
    if inquiry is None:
        return _no_answer("nobody could be asked", question)
    if inquiry.get("status") not in ENDED:
        raise _awaited(env, last)
    return _read_answer(inquiry, question)


def ask(
    env: "Environment", case: Mapping[str, Any], record: AgentRun, question: Question
) -> AgentRun:
    """Prepare the workflow's inquiry, tell people that something waits, and return the record."""
    run = case["run"]
    now = env.now()
    number = len(child_runs.inquiries_of(env, run))
    record = replace(
        record.with_answer(now),
        question=AskedQuestion(_identity(question), run, number, now),
        # Until then the record, and who waits for the run, are needed.
        ends_by=max(record.ends_by, now + approval_seconds(env.settings)),
    )
    agent_runs.save(env.store, record, now)
    agent_runs.add_waiter(env.store, record, run, now)
    # Hardly any round asks, and this imports all channels.
    from synthralos.escalation import approval_notices

    text = question_line(env, case, question)
    inquiries.record_inquiry(env.store, run, None, text)
    approval_notices.tell(env, run, case["workflow"], record.agent_id, text)
    run_log.emit("agent_asks", target=record.target)
    return record


def question_line(env: "Environment", case: Mapping[str, Any], question: Question) -> str:
    """Return the question on one line, for people."""
    verb = "needs an authorization" if question.kind == AUTHORIZATION else "asks"
    text = "%s %s: %s" % (case["request"]["agent_id"], verb, question.text)
    return str(sanitize_line(text, env.redactor, MAX_QUESTION_CHARS))


def count_waiting_time(env: "Environment", case: "Case") -> None:
    """Take the time that a person took to answer out of the limits of the run.

    Those of the agent follow from its record: it does not work while it waits.
    """
    asked_at, awaited_at = case.pop("asked_at", None), case.pop("awaited_at", None)
    since = awaited_at if asked_at is None else asked_at
    if since is None:
        return
    seconds = max(0.0, env.now() - since)
    case["asked_seconds"] = case.get("asked_seconds", 0.0) + seconds
    case["deadline"] += seconds
    inquiries.record_wait(env.store, case["run"], case["asked_seconds"])
    pending = case["progress"]["pending"]
    if pending is not None:
        pending["started_at"] += seconds
    if asked_at is not None:
        case["is_answered"] = True
        from synthralos.escalation import approval_notices

        approval_notices.settle(env, case["run"], case["workflow"], case["request"]["agent_id"])


def record_awaiting(env: "Environment", case: "Case", delay: float) -> None:
    """Record that the run waits for an answer that another one has asked for, and will look for it
    in `delay` seconds.
    """
    case["awaited_at"] = env.now()
    inquiries.record_wait(env.store, case["run"], case.get("asked_seconds", 0.0) + delay)


def _identity(question: Question) -> str:
    """Return what tells this question from every other one of the same agent's run."""
    text = "\0".join((question.kind, question.id, question.run, question.text))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _inquiry(env: "Environment", question: AskedQuestion) -> Optional[dict[str, Any]]:
    rows = child_runs.inquiries_of(env, question.run)
    return rows[question.number] if len(rows) > question.number else None


def _awaited(env: "Environment", question: AskedQuestion) -> AnswerIsAwaited:
    delay = (env.now() - question.asked_at) * OTHER_RUN_SHARE
    return AnswerIsAwaited(min(MAX_OTHER_RUN_SECONDS, max(OTHER_RUN_SECONDS, delay)))


def _is_live(env: "Environment", run: str) -> bool:
    api: Any = env.api
    try:
        return api.execution(run, "status")["status"] not in ENDED
    except ExecutionNotFound:
        return False


def _read_answer(inquiry: Mapping[str, Any], question: Question) -> Answer:
    response = (inquiry.get("result") or {}).get("response")
    response = response if isinstance(response, dict) else {}
    approved, text = response.get("approved"), response.get("answer")
    if question.kind == AUTHORIZATION:
        # A text might be the credential: none is taken.
        if approved is True:
            return Answer(CONFIRMATION)
        reason = "a person refused it" if approved is False else "nobody has answered"
        return _no_answer(reason, question)
    if isinstance(text, str) and text.strip():
        try:
            return Answer(run_parameters.decode_base64("answer", text))
        except InvalidInput:
            return Answer(text)
    if isinstance(approved, bool):
        return Answer(YES if approved else NO)
    return _no_answer("nobody has answered", question)


def _no_answer(reason: str, question: Question) -> Answer:
    message = "the agent asks, and %s: %s" % (reason, question.text)
    return Answer(failure=failures.make_failure("input_required", message))
