"""The report of a ticket: what failed and why, what it touches, what happened, what to do."""

from synthralos.core.sanitize import sanitize_line, sanitize_text
from synthralos.core.timestamps import to_iso
from synthralos.storage import history
from synthralos.storage.datastore import timestamp_of_key

MAX_LINES = 40
MAX_RUNS = 20
MAX_MARKDOWN_CHARS = 12_000
_LINE = 300

# cause: (what it means, what cures it). {credential}, {target} and {timeout} stand for the entries
# of the configuration that belong to the workflow; see _PLACES.
_CAUSES = {
    "timeout": (
        "The target did not answer within the limit of an attempt.",
        [
            "Compare the limit ({timeout}) with how long a good answer takes; raise it if needed",
            "Make the request smaller: fewer iterations, a shorter prompt",
        ],
    ),
    "network": (
        "No connection to the target could be made or kept.",
        [
            "Check the address, the proxy and the certificates of {target}: synthralos.pack.check",
            "Add another target to fall over to in {target}",
        ],
    ),
    "server_error": (
        "The target answered with an error of its own.",
        ["Read the target's logs and its status page", "Add another target in {target}"],
    ),
    "overloaded": (
        "The target is overloaded.",
        ["Add another target in {target}", "Start fewer runs at a time"],
    ),
    "truncated_stream": (
        "The answer was cut off.",
        ["Check the proxies on the way for limits of time and size", "Ask for a shorter answer"],
    ),
    "request_timeout": (
        "The target waited too long for the request.",
        ["Check the network on the way to {target}", "Make the request smaller"],
    ),
    "malformed_answer": (
        "The answer was not of the promised form.",
        ["Check that {target} leads to the API and not to a login page or a proxy"],
    ),
    "conflict": (
        "The target was in a state that excludes the request.",
        ["Look for another run that works on the same thing, and start one at a time"],
    ),
    "rate_limit": (
        "The target limits how often it is called, and its hint did not fit the deadline.",
        [
            "Ask for a higher rate limit, or start fewer runs at a time",
            "Add a fallback provider in {target}",
            "Give the run a longer `timeout`, so that it can wait for the hint",
        ],
    ),
    "quota": (
        "The quota or the credit of the account is used up; waiting does not renew it.",
        ["Raise the quota or top up the account", "Add a fallback provider in {target}"],
    ),
    "budget": (
        "The calls to LLMs have taken what `budget` in the configuration allows.",
        [
            "Look at what took it: synthralos.metrics.get, or the runs of the day",
            "Raise `budget` in the configuration, or wait: a day's begins anew at 00:00 UTC",
            "Forget what was spent: synthralos.storage.clear kinds=budget dry_run=false",
        ],
    ),
    "authentication": (
        "The target did not accept the credential.",
        [
            "Check the key that {credential} names, and renew it: st2 key set --encrypt KEY VALUE",
            "Run synthralos.pack.check, which says whether the new one is accepted",
        ],
    ),
    "permission": (
        "The credential was accepted, but does not permit this.",
        ["Give the account behind {credential} the right, or name another key there"],
    ),
    "model_not_found": (
        "The provider does not know the model, or the account may not use it.",
        ["Correct the model's name in `providers[].models` and in `model_map`"],
    ),
    "context_length": (
        "The prompt does not fit the model's context window.",
        [
            "Add a model with a larger window to `providers[].models`, with its `context_window`",
            "Shorten the prompt or the context that is sent along",
        ],
    ),
    "content_policy": (
        "The provider refused the content.",
        [
            "Read and reword the request: synthralos.case.show shows it",
            "Where another provider may be asked, set `content_policy_fallbacks: true`",
        ],
    ),
    "bad_request": (
        "The target rejected the request as wrong; it would do so everywhere.",
        ["Correct the request: synthralos.case.show shows what was sent"],
    ),
    "not_found": (
        "The target knows no such path.",
        ["Check the path of the request and the base URLs in {target}"],
    ),
    "blank_output": (
        "The agent or model answered with nothing.",
        ["Look at the prompt and at the limit of tokens in the request"],
    ),
    "schema_mismatch": (
        "The output does not match what was expected of it.",
        ["Compare `context.expected_schema` with the prompt: does it ask for that form?"],
    ),
    "invalid_output": (
        "The output was found unfit.",
        ["Say in the request what a good answer is, with an example"],
    ),
    "agent_failed": (
        "The agent ran and reported a failure.",
        ["Read the agent's own log for the run on the platform", "Try it with a simpler query"],
    ),
    "tool_failure": (
        "A tool that the agent used failed.",
        ["Check the tool's service and its credentials", "Name an alternative tool in the plan"],
    ),
    "resource": (
        "Memory, disk or another resource ran out.",
        [
            "Look at memory and disk where the agent runs, and give it more or free some",
            "Stop what starts its runs until that is done: st2 key set synthralos.enabled false",
        ],
    ),
    "configuration": (
        "Something is configured wrongly.",
        ["Run synthralos.pack.check: it names what is wrong and how to set it"],
    ),
    "infinite_loop": (
        "The agent repeats itself without getting on.",
        [
            "Stop what starts its runs until it is cured: st2 key set synthralos.enabled false",
            "Lower `maxIterations` in `agents.<id>.config`, and look at what it repeats",
        ],
    ),
    "cancelled": (
        "The run was cancelled.",
        ["Start it again if that was not meant to be"],
    ),
    "held_back": (
        "No target was called: all are held back by their breakers, or asked to be left alone.",
        [
            "Look at {target}: the failures that opened the breakers came before this",
            "Wait for the probes, which close a breaker by themselves, or add another target",
        ],
    ),
    "refused": (
        "The run was refused before anything was called.",
        ["Correct what the message names, and start the run again"],
    ),
    "repairs_incomplete": (
        "Failed nodes are left that no crew could be given, or that have no name.",
        [
            "See to the nodes that `unassigned` and `unresolved_alerts` of the run name",
            "Give `infrastructure.crews` more capacity, or the skills that are missing",
        ],
    ),
    "max_retries_reached": (
        "No plan could be made for the repair of the failed nodes.",
        [
            "See to the nodes that `unassigned` of the run names",
            "Check that `infrastructure.crews` has crews that are available and have the skills",
            "Where an LLM plans, leave `infrastructure.planner.fallback` on",
        ],
    ),
    "max_steps_reached": (
        "The run stopped at `max_steps` before every failed node had a crew.",
        [
            "See to the nodes that `unassigned` of the run names",
            "Read in its `assignments` why crews could not be told, and check `escalation`",
            "Give the run more `max_steps` where failures came one after the other",
        ],
    ),
    "out_of_time": (
        "The time of the run was up before every failed node had a crew.",
        [
            "See to the nodes that `unassigned` of the run names",
            "Give the run a longer `timeout`, or lower `infrastructure.settle_seconds`",
        ],
    ),
    "not_answered": (
        "Nobody said whether the actions may run that would have repaired the nodes.",
        [
            "See to the nodes that `unassigned` of the run names",
            "Start the run again, and answer its inquiry: st2 inquiry list",
        ],
    ),
    "unknown": (
        "Nothing is known of the cause.",
        ["Read the execution of the run: st2 execution get RUN", "Run synthralos.pack.check"],
    ),
}
# workflow: what {credential}, {target} and {timeout} stand for.
_CONFIG_PLACES = {
    "agent_recovery": {
        "credential": "`platform.token_from`",
        "target": "`platform` and its `fallbacks`",
        "timeout": "`attempt_timeouts.agent`",
    },
    "llm_retry": {
        "credential": "`providers[].api_key_from`",
        "target": "`providers`",
        "timeout": "`attempt_timeouts.llm`",
    },
    "reroute_request": {
        "credential": "`routes[].token_from`",
        "target": "`routes`",
        "timeout": "`attempt_timeouts.request`",
    },
}
_DEFAULT_PLACES = {
    "credential": "the `..._from` entry of the target",
    "target": "the configuration",
    "timeout": "`attempt_timeouts`",
}
_IMPACT = ("none", "low", "medium", "high", "severe")


def analyze_ticket(env, ticket):
    """The report of `ticket`, which tickets.get gave.

    {ticket, level, status, priority, root_cause {type, cause, severity, meaning, told},
    impact {level, score, subject, workflow, occurrences, attempts, since, last, runs},
    timeline [{at, what, run}], recommendations [text], generated_at, markdown}. Texts are redacted;
    the markdown is also free of template marks.
    """
    events = [event for event in ticket["events"] if event["time"] > ticket["period"]]
    runs = [event["run"] for event in events if event["kind"] == "occurred" and event.get("run")]
    found = {
        "ticket": ticket["ticket"],
        "level": ticket["level"],
        "status": ticket["status"],
        "priority": ticket["priority"],
        "root_cause": {
            "type": ticket["type"],
            "cause": ticket["cause"],
            "severity": ticket["severity"],
            "meaning": _cause_text(ticket)[0],
            "summary": ticket["summary"],
        },
        "impact": _impact(ticket, events, list(dict.fromkeys(runs))),
        "timeline": _timeline(env.store, ticket, events),
        "recommendations": recommendations(ticket),
        "generated_at": to_iso(env.now()),
    }
    found = env.redactor.redact_value(found)
    return dict(found, markdown=_markdown(env, found))


def recommendations(ticket):
    """What a person can do about the case, the first thing first."""
    details = ticket.get("details") or {}
    told = []
    if ticket["cause"] == "refused" and details.get("field"):
        way_out = details.get("hint") or "See its description"
        told.append("Correct %s: %s" % (details["field"], way_out))
    told += advice(ticket["workflow"], ticket["cause"])[1]
    if ticket["occurrences"] >= 10:
        told.append(
            "It has occurred %d times: find out what starts these runs, and stop it until the "
            "cause is cured (`st2 key set synthralos.enabled false` stops what rules start)"
            % ticket["occurrences"]
        )
    return told


def advice(workflow, cause):
    """(what the cause means, what a person can do about it) for a run that failed by it."""
    meaning, what = _CAUSES.get(cause, _CAUSES["unknown"])
    places = _CONFIG_PLACES.get(workflow, _DEFAULT_PLACES)
    return meaning, [told.format(**places) for told in what]


def _cause_text(ticket):
    return _CAUSES.get(ticket["cause"], _CAUSES["unknown"])


def _impact(ticket, events, runs):
    score = 5 if ticket["impact"] is None else ticket["impact"]
    return {
        "level": _IMPACT[min(len(_IMPACT) - 1, int(score / 2.5))],
        "score": score,
        "subject": ticket["subject"],
        "workflow": ticket["workflow"],
        "occurrences": ticket["occurrences"],
        "attempts": ticket["attempts"],
        "since": ticket["opened_at"],
        "last": max((e["at"] for e in events if e["kind"] == "occurred"), default=ticket["at"]),
        "runs": runs[:MAX_RUNS],
    }


def _timeline(store, ticket, events):
    """The last MOST_LINES things that happened, oldest first."""
    lines = [(event["time"], _event_text(event), event.get("run")) for event in events]
    runs = {event.get("run") for event in events}
    first = min((event["time"] for event in events), default=0)
    for entry in history.recent_entries(store, ticket["subject"], limit=MAX_LINES):
        at = timestamp_of_key(entry["record"])
        # A run that is in the ticket is in the history too.
        if at is not None and at * 1000 >= first and entry.get("run") not in runs:
            lines.append((int(at * 1000), _entry_text(entry), entry.get("run")))
    lines.sort(key=lambda one: one[0])
    return [
        {"at": to_iso(at / 1000.0), "event": what, "run": run}
        for at, what, run in lines[-MAX_LINES:]
    ]


def _event_text(event):
    kind = event["kind"]
    if kind == "taken":
        return "taken by %s" % event.get("by")
    if kind == "raised":
        return "raised to %s: %s" % (event.get("level"), event.get("why"))
    if kind == "resolved":
        return "resolved by %s: %s" % (event.get("by"), event.get("resolution"))
    return "occurred: %s" % event.get("summary")


def _entry_text(entry):
    told = entry.get("reason") or entry.get("cause") or ""
    parts = (entry.get("workflow"), entry.get("event") or entry.get("kind") or "recorded")
    what = " ".join(str(part) for part in parts if part)
    return "%s: %s" % (what, told) if told else what


def _markdown(env, found):
    root, impact = found["root_cause"], found["impact"]

    def one(text):
        return sanitize_line(text, env.redactor, _LINE)

    lines = [
        "# Ticket %s" % found["ticket"],
        "",
        one(root["summary"]),
        "",
        "- Level: %s, status: %s, priority: %d of 100"
        % (found["level"], found["status"], found["priority"]),
        "- Cause: %s (%s, severity %s). %s"
        % (one(root["cause"]), one(root["type"]), one(root["severity"]), root["meaning"]),
        "",
        "## Impact",
        "",
        "- %s of %s: %s" % (one(impact["workflow"]), one(impact["subject"]), impact["level"]),
        "- %d occurrences with %d attempts since %s, the last at %s"
        % (impact["occurrences"], impact["attempts"], impact["since"], impact["last"]),
        "- Runs: %s" % (", ".join(one(run) for run in impact["runs"]) or "none known"),
        "",
        "## What to do",
        "",
    ]
    lines += ["%d. %s" % (n, one(told)) for n, told in enumerate(found["recommendations"], 1)]
    lines += ["", "## What happened", ""]
    lines += ["- %s %s" % (entry["at"], one(entry["event"])) for entry in found["timeline"]]
    return sanitize_text("\n".join(lines), env.redactor, MAX_MARKDOWN_CHARS)
