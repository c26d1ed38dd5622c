"""The approvals that runs of this pack ask for: StackStorm's inquiries."""

from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.storage import inquiries
from synthralos.storage.datastore import PAGE_SIZE
from synthralos.storage.stackstorm_api import ExecutionNotFound

PACK = "synthralos"
MAX_PAGES = 5
MAX_DEPTH = 10
_ATTRIBUTES = "context,start_timestamp,result,status"


def pending(env):
    """[{inquiry, run, workflow, since, until, question, answer}], the longest waiting first.

    question is what the run has written down, or what the inquiry's schema says of the one thing to
    decide; answer is that thing's name. until is null where the run names no time.
    """
    found = []
    for inquiry in _inquiries(env):
        try:
            execution = env.api.execution(inquiry["id"], _ATTRIBUTES)
            parent = (execution.get("context") or {}).get("parent") or {}
            if parent.get("pack") != PACK or execution.get("status") != "pending":
                continue
            run = env.api.execution(parent["execution_id"], "action.ref")
        except ExecutionNotFound:
            # Answered meanwhile, or its run was deleted.
            continue
        name, told = _asked(inquiry)
        noted = inquiries.get_inquiry(env.store, parent["execution_id"])
        found.append(
            {
                "inquiry": inquiry["id"],
                "run": parent["execution_id"],
                "workflow": (run.get("action") or {}).get("ref", "").split(".", 1)[-1],
                "since": to_iso(parse_iso(execution.get("start_timestamp")) or 0),
                "until": to_iso(noted["until"]) if noted.get("until") else None,
                "question": noted.get("question") or told,
                "answer": name,
            }
        )
    return sorted(found, key=lambda one: one["since"])


def answer(env, execution_id, approved):
    """The approval that was answered, as in `pending`.

    :param execution_id: of the run that waits, or of the inquiry itself.
    :raises InvalidInput: nothing there waits for an answer, or it is no yes or no.
    """
    for one in pending(env):
        if execution_id in (one["run"], one["inquiry"]):
            break
    else:
        raise InvalidInput(
            "execution_id", execution_id, "does not wait for an approval",
            "See what does: `st2 run synthralos.approval.list`",
        )
    if one["answer"] is None:
        way_out = "Answer it with `st2 inquiry respond %s`" % one["inquiry"]
        raise InvalidInput("execution_id", execution_id, "asks more than yes or no", way_out)
    env.api.respond(one["inquiry"], {one["answer"]: approved})
    return one


def expire(env, seconds):
    """Ends the approvals that nobody gave in time, which StackStorm does only when told to; their
    runs go on to what they do without one. Returns those that were ended.

    :param seconds: what an approval has whose run names no time; 0 is for ever.
    """
    ended = []
    for one in pending(env):
        until = parse_iso(one["until"])
        if until is None and seconds:
            until = (parse_iso(one["since"]) or env.now()) + seconds
        if until is None or env.now() < until:
            continue
        told = env.api.execution(one["inquiry"], "result").get("result") or {}
        if env.api.set_status(one["inquiry"], "timeout", told):
            resume(env, one["run"])
            ended.append(one)
    return ended


def resume(env, run):
    """Whether the outermost workflow, which is the one that StackStorm has paused, was resumed.
    When it was not, the reaper comes back to it.
    """
    for _ in range(MAX_DEPTH):
        parent = (env.api.execution(run, "context").get("context") or {}).get("parent") or {}
        if not parent.get("execution_id"):
            break
        run = parent["execution_id"]
    return env.api.set_status(run, "resuming")


def _inquiries(env):
    for page in range(MAX_PAGES):
        rows = env.api.inquiries(page * PAGE_SIZE)
        yield from rows
        if len(rows) < PAGE_SIZE:
            return


def _asked(inquiry):
    properties = (inquiry.get("schema") or {}).get("properties") or {}
    known = [name for name, told in properties.items() if told.get("type") == "boolean"]
    if len(properties) != 1 or not known:
        return None, "see `st2 inquiry get %s`" % inquiry["id"]
    return known[0], properties[known[0]].get("description") or known[0]
