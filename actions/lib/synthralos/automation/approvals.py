"""Approvals that runs of this pack wait for: StackStorm's inquiries."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.escalation import approval_notices
from synthralos.runtime import child_runs
from synthralos.runtime.run_parameters import ENCODED
from synthralos.storage import inquiries
from synthralos.storage.datastore import PAGE_SIZE
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound, Row, StackStormError

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

PACK = "synthralos"
MAX_PAGES = 5
MAX_DEPTH = 10
# The property of an inquiry that takes a text.
ANSWER = "answer"
# As the workflow's inquiry has it, and what of it a text may take.
MAX_ANSWER_CHARS = 12000
MAX_ANSWER_BYTES = (MAX_ANSWER_CHARS - len(ENCODED)) // 4 * 3
_HOW_TO_LIST = (
    "List what waits with `approvals` in the chat, or with `st2 run synthralos.approval.list`"
)
_ATTRIBUTES = "context,start_timestamp,result,status"
# (inquiry, its execution, the run's id, the run).
_OpenInquiry = tuple[Row, Row, str, Row]


class PendingApproval(TypedDict):
    """An approval that a run waits for.

    `id` is what an answer names: the run or, from the second question of the run on, the run and
    the `number` of the question. `question` is the question that the run stored, else the
    description in the inquiry's schema; `answer_property` is the property to decide, or None if
    there are several; `until` is None without a time limit; `takes_text` says whether a text is an
    answer, too.
    """

    id: str
    inquiry: str
    run: str
    number: int
    workflow: str
    since: str
    until: Optional[str]
    question: str
    answer_property: Optional[str]
    takes_text: bool


def pending(env: "Environment", timeout: float = 0) -> list[PendingApproval]:
    """List the open approvals, the longest waiting first.

    :param timeout: seconds after which an approval ends whose run sets no time limit; 0 for never.
    """
    return _approvals(env, _open_inquiries(env), timeout)


def _approvals(
    env: "Environment", open_inquiries: Iterable[_OpenInquiry], timeout: float
) -> list[PendingApproval]:
    """`pending`, of what `_open_inquiries` yields."""
    approvals: list[PendingApproval] = []
    for inquiry, execution, run_id, run in open_inquiries:
        if run.get("status") in ENDED:
            continue
        name, takes_text, schema_question = _schema_question(inquiry)
        stored_inquiry = inquiries.get_inquiry(env.store, run_id)
        since = parse_iso(execution.get("start_timestamp")) or env.now()
        until = stored_inquiry.get("until") or (since + timeout if timeout else None)
        number = _number_of(env, run_id, inquiry["id"])
        approvals.append(
            {
                "id": inquiries.question_id(run_id, number),
                "inquiry": inquiry["id"],
                "run": run_id,
                "number": number,
                "workflow": _workflow_of(run),
                "since": to_iso(since),
                "until": None if until is None else to_iso(until),
                "question": stored_inquiry.get("question") or schema_question,
                "answer_property": name,
                "takes_text": takes_text,
            }
        )
    return sorted(approvals, key=lambda approval: approval["since"])


def _workflow_of(run: Row) -> str:
    ref: str = (run.get("action") or {}).get("ref", "")
    return ref.split(".", 1)[-1]


def _number_of(env: "Environment", run: str, inquiry_id: str) -> int:
    """Return which question of the run an inquiry is, from 1."""
    ids = [row["id"] for row in child_runs.inquiries_of(env, run)]
    return 1 + (ids.index(inquiry_id) if inquiry_id in ids else len(ids))


def answer(
    env: "Environment",
    execution_id: str,
    approved: Optional[bool] = None,
    text: Optional[str] = None,
    timeout: float = 0,
) -> PendingApproval:
    """Answer an approval and return it.

    :param execution_id: the `id` of the approval; or its inquiry, or a run that its run is a part
        of.
    :param approved: yes or no; None if the answer is a text.
    :param text: the answer to an agent that asks for one.
    :param timeout: as for `pending`. An approval whose time is over is ended.
    :raises InvalidInput: there is no answer or there are two, the execution does not wait for an
        approval, it asks something else by now, its time is over, or the inquiry takes no such
        answer.
    """
    if (approved is None) == (text is None):
        raise InvalidInput(
            "answer", text, "is needed unless `approved` is given, and only then",
            "Give approved=true, approved=false or answer=<text>",
        )
    approval = _find(env, execution_id, timeout)
    if _is_overdue(env, approval):
        _end_unanswered(env, approval)
        raise InvalidInput(
            "execution_id", execution_id, "was to be answered by %s" % approval["until"],
            "The run continues without an answer; automation.approval_timeout is the time limit",
        )
    if text is not None:
        if not approval["takes_text"]:
            # The text is not shown: where an authorization is asked for, it may be the credential.
            raise InvalidInput(
                "answer", None, "is not what is asked for", "Give approved=true or approved=false"
            )
        encoded = _encode(text)
        if len(encoded) > MAX_ANSWER_CHARS:
            reason = "is too long (%d bytes in UTF-8)" % len(text.encode("utf-8"))
            hint = "Give at most %d bytes" % MAX_ANSWER_BYTES
            raise InvalidInput("answer", None, reason, hint)
        _respond(env, execution_id, approval, {ANSWER: encoded})
        return approval
    if approval["answer_property"] is None:
        hint = "Answer it with `st2 inquiry respond %s`" % approval["inquiry"]
        raise InvalidInput("execution_id", execution_id, "asks for more than a yes or no", hint)
    _respond(env, execution_id, approval, {approval["answer_property"]: approved})
    return approval


def _find(env: "Environment", execution_id: str, timeout: float) -> PendingApproval:
    """Return the one open approval that an answer is for; see `answer`."""
    named = inquiries.parse_question_id(execution_id)
    if named is None:
        hint = "It is 24 hexadecimal digits, for a later question with its number. " + _HOW_TO_LIST
        raise InvalidInput("execution_id", execution_id, "is not the id of an approval", hint)
    run, number = named
    open_approvals = pending(env, timeout)
    for approval in open_approvals:
        if run == approval["inquiry"]:
            return approval
        if run == approval["run"]:
            if number != approval["number"]:
                raise _other_question(execution_id, approval)
            return approval
    nested = [
        approval for approval in open_approvals if run in _ancestors(env, approval["run"])
    ]
    if len(nested) == 1:
        if child_runs.inquiries_of(env, run):
            # The same answer, sent twice, would answer the question of a run within this one.
            raise _other_question(execution_id, nested[0])
        return nested[0]
    if nested:
        ids = ", ".join(approval["id"] for approval in nested)
        raise InvalidInput(
            "execution_id", execution_id, "waits for %d approvals" % len(nested),
            "Give one of these: %s" % ids,
        )
    raise InvalidInput(
        "execution_id", execution_id, "does not wait for an approval", _HOW_TO_LIST
    )


def _other_question(execution_id: str, approval: PendingApproval) -> InvalidInput:
    """Return the error of an answer to a question that is settled; it may be meant for that one.

    Two people who answer the same question must not answer the next one, which neither has seen.
    """
    return InvalidInput(
        "execution_id", execution_id,
        "does not name the question that is open since %s: %s" % (
            approval["since"], approval["question"]),
        "To answer that one, give %s" % approval["id"],
    )


def _ancestors(env: "Environment", run: str) -> list[str]:
    """Return the runs that `run` is a part of, the outermost one last."""
    ancestors: list[str] = []
    for _ in range(MAX_DEPTH):
        try:
            context = env.api.execution(run, "context").get("context") or {}
        except ExecutionNotFound:
            break
        parent_id = (context.get("parent") or {}).get("execution_id")
        if not parent_id:
            break
        run = parent_id
        ancestors.append(run)
    return ancestors


def _respond(
    env: "Environment",
    execution_id: str,
    approval: PendingApproval,
    response: Mapping[str, Any],
) -> None:
    """Answer the inquiry. Whether its workflow could be resumed at once does not matter: the reaper
    resumes it otherwise.

    :raises InvalidInput: somebody else has answered it in another way.
    """
    try:
        env.api.respond(approval["inquiry"], response)
    except StackStormError:
        # StackStorm fails if the workflow is still being paused, after it has stored the answer.
        inquiry = env.api.execution(approval["inquiry"], "status,result")
        if inquiry.get("status") not in ENDED:
            raise
        if (inquiry.get("result") or {}).get("response") != response:
            raise InvalidInput(
                "execution_id", execution_id, "was settled in another way at the same moment",
                "See `st2 execution get %s`" % approval["inquiry"],
            ) from None


def _encode(text: str) -> str:
    """Return the text in a form that StackStorm, which renders what it finds, cannot read."""
    return ENCODED + base64.b64encode(text.encode("utf-8")).decode("ascii")


def expire(env: "Environment", seconds: float) -> list[PendingApproval]:
    """End approvals that were not answered in time, and return these.

    StackStorm ends inquiries only if it is configured to, and leaves those of cancelled runs open.
    The runs continue as they do without an approval.

    :param seconds: time limit of approvals whose run sets none; 0 for no limit.
    """
    open_inquiries = list(_open_inquiries(env))
    for inquiry, _, run_id, run in open_inquiries:
        if run.get("status") in ENDED and env.api.cancel(inquiry["id"]):
            workflow = _workflow_of(run)
            approval_notices.settle(env, run_id, workflow, workflow)
    ended = []
    for approval in _approvals(env, open_inquiries, seconds):
        if _is_overdue(env, approval) and _end_unanswered(env, approval):
            ended.append(approval)
    return ended


def _is_overdue(env: "Environment", approval: PendingApproval) -> bool:
    expires_at = parse_iso(approval["until"])
    return expires_at is not None and env.now() >= expires_at


def _end_unanswered(env: "Environment", approval: PendingApproval) -> bool:
    """End an approval without an answer; return whether it was still open."""
    return _end(env, approval["inquiry"], approval["run"], {})


def _end(env: "Environment", inquiry_id: str, run: str, mark: Mapping[str, Any]) -> bool:
    """End an inquiry without an answer, and resume its run; return whether it was still open.

    :param mark: is added to the result of the inquiry.
    """
    partial_result = env.api.execution(inquiry_id, "result").get("result") or {}
    if not env.api.set_status(inquiry_id, "timeout", dict(partial_result, **mark)):
        return False
    resume(env, run)
    return True


def withdraw(env: "Environment", run: str) -> bool:
    """End the question that a run waits with, because what the run was started for is over.

    :returns: whether there was one.
    """
    was_open = False
    for inquiry in child_runs.inquiries_of(env, run):
        if inquiry.get("status") == "pending":
            was_open |= _end(env, inquiry["id"], run, {child_runs.WITHDRAWN: True})
    return was_open


def resume(env: "Environment", run: str) -> bool:
    """Resume the outermost workflow, which is the one that StackStorm has paused.

    :returns: whether it was resumed; if not, the reaper tries again.
    """
    is_resumed: bool = env.api.set_status(([run] + _ancestors(env, run))[-1], "resuming")
    return is_resumed


def _open_inquiries(env: "Environment") -> Iterator[_OpenInquiry]:
    """Yield each open inquiry of the pack."""
    for inquiry in _inquiries(env):
        try:
            execution = env.api.execution(inquiry["id"], _ATTRIBUTES)
            parent = (execution.get("context") or {}).get("parent") or {}
            if parent.get("pack") != PACK or execution.get("status") != "pending":
                continue
            run_id = parent["execution_id"]
            yield inquiry, execution, run_id, env.api.execution(run_id, "action.ref,status")
        except ExecutionNotFound:
            # Answered since then, or its run was deleted.
            continue


def _inquiries(env: "Environment") -> Iterator[Row]:
    for page in range(MAX_PAGES):
        rows = env.api.inquiries(page * PAGE_SIZE)
        yield from rows
        if len(rows) < PAGE_SIZE:
            return


def _schema_question(inquiry: Row) -> tuple[Optional[str], bool, str]:
    """Return (name of the property to decide or None, whether a text is an answer, question)."""
    properties = (inquiry.get("schema") or {}).get("properties") or {}
    boolean_names = [
        name
        for name, property_schema in properties.items()
        if property_schema.get("type") == "boolean"
    ]
    takes_text = (properties.get(ANSWER) or {}).get("type") == "string"
    if len(properties) != len(boolean_names) + takes_text or len(boolean_names) != 1:
        return None, False, "see `st2 inquiry get %s`" % inquiry["id"]
    name = boolean_names[0]
    return name, takes_text, properties[name].get("description") or name
