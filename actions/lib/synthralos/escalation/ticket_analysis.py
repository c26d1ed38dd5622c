"""The analysis of a ticket: root cause, impact, timeline, recommendations."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.core.plurals import count_noun
from synthralos.core.sanitize import sanitize_line, sanitize_text
from synthralos.core.timestamps import to_iso
from synthralos.escalation import ticket_evidence
from synthralos.escalation.ticket_evidence import Evidence
from synthralos.storage import history
from synthralos.storage.datastore import BestEffortDatastore, timestamp_of_key
from synthralos.storage.tickets import Ticket, TicketEvent

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

MAX_LINES = 40
MAX_RUNS = 20
MAX_MARKDOWN_CHARS = 12_000
MAX_LINE_CHARS = 300
MAX_EVIDENCE_CHARS = 1200

# cause: (meaning, recommendations). {credential}, {target} and {timeout} stand for the
# configuration entries of the workflow; see _CONFIG_PLACES.
_CAUSES: dict[str, tuple[str, list[str]]] = {
    "timeout": (
        "The target did not respond within the time limit of an attempt.",
        [
            "Compare the limit ({timeout}) with a usual response time, and raise it if needed",
            "Make the request smaller: fewer iterations, a shorter prompt",
        ],
    ),
    "network": (
        "No connection to the target could be established, or it was lost.",
        [
            "Check the address, the proxy and the certificates of {target}: synthralos.pack.check",
            "Add a fallback target in {target}",
        ],
    ),
    "server_error": (
        "The target responded with a server error.",
        ["Read the target's logs and its status page", "Add another target in {target}"],
    ),
    "overloaded": (
        "The target is overloaded.",
        ["Add another target in {target}", "Start fewer runs at the same time"],
    ),
    "truncated_stream": (
        "The response was truncated.",
        ["Check the proxies for time and size limits", "Ask for a shorter response"],
    ),
    "request_timeout": (
        "The target timed out while waiting for the request.",
        ["Check the network between here and {target}", "Make the request smaller"],
    ),
    "malformed_answer": (
        "The response did not have the expected form.",
        ["Check that {target} points to the API and not to a login page or a proxy"],
    ),
    "agent_timeout": (
        "The agent works longer than an attempt may take, and was cancelled each time.",
        [
            "Raise `run_seconds` of the agent's platform in {target}, or `timeout` of the run",
            "Give the agent less to do at once, or a faster model",
        ],
    ),
    "input_required": (
        "The agent asks a question, or for an authorization, before it continues.",
        [
            "Give the agent what it asks for in its query or its `config`, and run it again",
            "Answer the next time with `approval.answer`, or raise `automation.approval_timeout`",
        ],
    ),
    "conflict": (
        "The request conflicts with the current state of the target.",
        ["Look for another run that works on the same object, and run them one at a time"],
    ),
    "idempotency_key_reused": (
        "The pack sent two different requests under one Idempotency-Key. This is a fault of the "
        "pack, not of the request.",
        [
            "Find out at {target} what the first request under that key has done",
            "Report it with the trail of the run and synthralos.case.show",
        ],
    ),
    "rate_limit": (
        "The target limits its call rate, and the wait that it asked for exceeds the deadline.",
        [
            "Ask for a higher rate limit, or start fewer runs at the same time",
            "Add a fallback provider in {target}",
            "Give the run a longer `timeout`, so that it can wait as long as the target asks",
        ],
    ),
    "quota": (
        "The quota or the credit of the account is used up; waiting does not renew it.",
        ["Raise the quota or top up the account", "Add a fallback provider in {target}"],
    ),
    "budget": (
        "The calls to LLMs have used up the `budget` of the configuration.",
        [
            "Find out what used it: synthralos.metrics.get, or the runs of the day",
            "Raise `budget` in the configuration, or wait: a daily budget is reset at 00:00 UTC",
            "Reset the recorded spending: synthralos.storage.clear kinds=budget dry_run=false",
        ],
    ),
    "model_quota": (
        "A daily limit of the model is used up, or a single request exceeds its limit per minute.",
        [
            "Ask for a higher limit of the model, or wait until it is reset",
            "Add a fallback model or provider in {target}",
            "Make the request smaller, if its size exceeds the limit",
        ],
    ),
    "authentication": (
        "The target did not accept the credential.",
        [
            "Check the key that {credential} names, and renew it: st2 key set --encrypt KEY VALUE",
            "Run synthralos.pack.check, which reports whether the new one is accepted",
        ],
    ),
    "permission": (
        "The credential was accepted, but does not have the required permission.",
        ["Grant the permission to the account behind {credential}, or set another key there"],
    ),
    "model_not_found": (
        "The provider does not know the model, or the account may not use it.",
        ["Correct the name of the model in `providers[].models` and in `model_map`"],
    ),
    "context_length": (
        "The prompt does not fit the model's context window.",
        [
            "Add a model with a larger window to `providers[].models`, with its `context_window`",
            "Shorten the prompt or its context",
        ],
    ),
    "output_limit": (
        "The model used all of `max_tokens` for its reasoning and did not answer.",
        ["Raise `max_tokens` of the request", "Lower the model's reasoning effort"],
    ),
    "unsupported_parameter": (
        "The model does not support a parameter of the request.",
        ["Leave the parameter out for this model: the message names it"],
    ),
    "unsupported_content": (
        "The model does not support a part of the content, such as an image or a file.",
        ["Add a model that supports it to `providers[].models` and to the fallbacks"],
    ),
    "wrong_address": (
        "The address responds, but it is not the API that was called.",
        [
            "Correct the base URL in {target}: a redirect or a web page answered",
            "Check the certificates and the `ca_bundle` with synthralos.pack.check",
        ],
    ),
    "request_too_large": (
        "A server or proxy before the target does not accept requests of this size.",
        ["Raise the limit of the proxy before {target}", "Make the request smaller"],
    ),
    "content_policy": (
        "The provider refused the content.",
        [
            "Read the request with synthralos.case.show, and reword it",
            "If another provider may be asked, set `fall_over.content_policy` to true",
        ],
    ),
    "bad_request": (
        "The request was rejected as invalid, by every provider that was asked.",
        ["Correct the request: synthralos.case.show shows what was sent"],
    ),
    "not_found": (
        "The requested path does not exist on the target.",
        ["Check the path of the request and the base URLs in {target}"],
    ),
    "blank_output": (
        "The agent or model returned empty output.",
        ["Check the prompt and the token limit of the request"],
    ),
    "schema_mismatch": (
        "The output does not match the expected schema.",
        ["Compare `context.expected_schema` with the prompt: does it ask for that form?"],
    ),
    "invalid_output": (
        "The output was judged unusable.",
        ["Describe a valid response in the request, with an example"],
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
            "Check memory and disk on the agent's host, and add or free some",
            "Stop what starts its runs until that is done: st2 key set synthralos.enabled false",
        ],
    ),
    "configuration": (
        "The configuration is invalid.",
        ["Run synthralos.pack.check: it names the invalid entry and how to correct it"],
    ),
    "infinite_loop": (
        "The agent repeats itself without making progress.",
        [
            "Stop what starts its runs until it is fixed: st2 key set synthralos.enabled false",
            "Lower `maxIterations` in `agents.<id>.config`, and check what it repeats",
        ],
    ),
    "cancelled": (
        "The run was cancelled.",
        ["Start it again if this was not intended"],
    ),
    "held_back": (
        "No target was called: all are blocked by their breakers or asked for a pause.",
        [
            "Check {target}: earlier failures opened the breakers",
            "Wait for the automatic probes that close a breaker, or add another target",
        ],
    ),
    "refused": (
        "The run was refused before anything was called.",
        ["Correct the input that the message names, and start the run again"],
    ),
    "repairs_incomplete": (
        "Some failed nodes have no crew, or their names are unknown.",
        [
            "Repair the nodes listed in `unassigned` and `unresolved_alerts` of the run",
            "Add capacity or the missing skills to `infrastructure.crews`",
        ],
    ),
    "max_retries_reached": (
        "The repair of the failed nodes could not be planned.",
        [
            "Repair the nodes listed in `unassigned` of the run",
            "Check that `infrastructure.crews` contains available crews with the required skills",
            "If an LLM plans, leave `infrastructure.planner.fallback` on",
        ],
    ),
    "max_steps_reached": (
        "The run stopped at `max_steps` before every failed node had a crew.",
        [
            "Repair the nodes listed in `unassigned` of the run",
            "Read in its `assignments` why crews could not be notified, and check `escalation`",
            "Raise `max_steps` of the run if failures occurred one after the other",
        ],
    ),
    "out_of_time": (
        "The run reached its time limit before every failed node had a crew.",
        [
            "Repair the nodes listed in `unassigned` of the run",
            "Give the run a longer `timeout`, or lower `infrastructure.settle_seconds`",
        ],
    ),
    "not_answered": (
        "The request to approve the repair actions was not answered.",
        [
            "Repair the nodes listed in `unassigned` of the run",
            "Start the run again, and answer its inquiry: st2 inquiry list",
        ],
    ),
    "unknown": (
        "The cause is unknown.",
        ["Read the execution of the run: st2 execution get RUN", "Run synthralos.pack.check"],
    ),
}
# workflow: the entries that {credential}, {target} and {timeout} stand for.
_CONFIG_PLACES = {
    "agent_recovery": {
        "credential": "`platforms[].token_from`",
        "target": "`platforms` and the agent's `fallbacks`",
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


class RootCause(TypedDict):
    """Why runs failed. `meaning`: of the cause, for people; `summary`: of the last failure."""

    type: Optional[str]
    cause: Optional[str]
    severity: Optional[str]
    meaning: str
    summary: Optional[str]


class Impact(TypedDict):
    """What the failures affect. `level`: one of _IMPACT; `score`: 0 to 10; `since`, `last`: of the
    occurrences, in ISO 8601; `runs`: at most MAX_RUNS.
    """

    level: str
    score: float
    subject: Optional[str]
    workflow: Optional[str]
    occurrences: int
    attempts: int
    since: Optional[str]
    last: str
    runs: list[str]


class TimelineEntry(TypedDict):
    """What happened to a ticket or its subject. `at`: in ISO 8601; `run`: the run that did it."""

    at: str
    event: str
    run: Optional[str]


class Analysis(TypedDict):
    """What is known of a ticket, redacted. `timeline`: at most MAX_LINES, oldest first;
    `recommendations`: the most important first; `generated_at`: in ISO 8601.
    """

    ticket: str
    level: str
    status: str
    priority: float
    root_cause: RootCause
    impact: Impact
    evidence: list[Evidence]
    timeline: list[TimelineEntry]
    recommendations: list[str]
    generated_at: str


class TicketReport(Analysis):
    """The analysis of a ticket, also as `markdown`, which is free of template marks."""

    markdown: str


def analyze_ticket(env: "Environment", ticket: Ticket) -> TicketReport:
    """Return the report of `ticket`, as tickets.get returned it."""
    events = [event for event in ticket["events"] if event["time"] > ticket["period"]]
    runs = [event.get("run") for event in events if event["kind"] == "occurred"]
    # As the run that occurred has stored it.
    evidence: Any = next((event["evidence"] for event in events if event.get("evidence")), [])
    analysis: Analysis = {
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
        "impact": _impact(ticket, events, list(dict.fromkeys(run for run in runs if run))),
        "evidence": evidence,
        "timeline": _timeline(env.store, ticket, events),
        "recommendations": recommendations(ticket),
        "generated_at": to_iso(env.now()),
    }
    redacted: Analysis = env.redactor.redact_value(analysis)
    return {**redacted, "markdown": _markdown(env, redacted)}


def recommendations(ticket: Ticket) -> list[str]:
    """Return what a person can do about the ticket, the most important first."""
    details = ticket.get("details") or {}
    steps: list[str] = []
    if ticket["cause"] == "refused" and details.get("field"):
        hint = details.get("hint") or "See its description"
        steps.append("Correct %s: %s" % (details["field"], hint))
    steps += advice(ticket["workflow"], ticket["cause"])[1]
    if ticket["occurrences"] >= 10:
        steps.append(
            "It has occurred %d times: find out what starts these runs, and stop it until the "
            "cause is fixed (`st2 key set synthralos.enabled false` stops what rules start)"
            % ticket["occurrences"]
        )
    return steps


def advice(workflow: Optional[str], cause: Optional[str]) -> tuple[str, list[str]]:
    """Return (meaning, recommendations) of the cause of a failed run."""
    meaning, templates = _CAUSES.get(cause or "unknown", _CAUSES["unknown"])
    places = _CONFIG_PLACES.get(workflow or "", _DEFAULT_PLACES)
    return meaning, [template.format(**places) for template in templates]


def _cause_text(ticket: Ticket) -> tuple[str, list[str]]:
    return _CAUSES.get(ticket["cause"] or "unknown", _CAUSES["unknown"])


def _impact(ticket: Ticket, events: list[TicketEvent], runs: list[str]) -> Impact:
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


def _timeline(
    store: BestEffortDatastore, ticket: Ticket, events: list[TicketEvent]
) -> list[TimelineEntry]:
    """Return the last MAX_LINES events of the ticket and its subject, oldest first."""
    lines = [(event["time"], _event_text(event), event.get("run")) for event in events]
    runs = {event.get("run") for event in events}
    first = min((event["time"] for event in events), default=0)
    for entry in history.recent_entries(store, ticket["subject"] or "", limit=MAX_LINES):
        timestamp = timestamp_of_key(entry["record"])
        # The runs of the ticket are in the history too: skip them.
        if timestamp is not None and timestamp * 1000 >= first and entry.get("run") not in runs:
            lines.append((int(timestamp * 1000), _entry_text(entry), entry.get("run")))
    lines.sort(key=lambda line: line[0])
    return [
        {"at": to_iso(timestamp / 1000.0), "event": text, "run": run}
        for timestamp, text, run in lines[-MAX_LINES:]
    ]


def _event_text(event: TicketEvent) -> str:
    kind = event["kind"]
    if kind == "taken":
        return "taken by %s" % event.get("by")
    if kind == "raised":
        return "raised to %s: %s" % (event.get("level"), event.get("why"))
    if kind == "resolved":
        return "resolved by %s: %s" % (event.get("by"), event.get("resolution"))
    return "occurred: %s" % event.get("summary")


def _entry_text(entry: Mapping[str, Any]) -> str:
    reason = entry.get("reason") or entry.get("cause") or ", ".join(entry.get("repairs") or ())
    parts = (entry.get("workflow"), entry.get("event") or entry.get("kind") or "recorded")
    subject = " ".join(str(part) for part in parts if part)
    return "%s: %s" % (subject, reason) if reason else subject


def _markdown(env: "Environment", report: Analysis) -> str:
    root, impact = report["root_cause"], report["impact"]

    def clean(text: Any) -> str:
        return sanitize_line(text, env.redactor, MAX_LINE_CHARS)

    lines = [
        "# Ticket %s" % report["ticket"],
        "",
        clean(root["summary"]),
        "",
        "- Level: %s, status: %s, priority: %d of 100"
        % (report["level"], report["status"], report["priority"]),
        "- Cause: %s (%s, severity %s). %s"
        % (clean(root["cause"]), clean(root["type"]), clean(root["severity"]), root["meaning"]),
        "",
        "## Impact",
        "",
        "- %s of %s: %s" % (clean(impact["workflow"]), clean(impact["subject"]), impact["level"]),
        "- %s with %s since %s, the last at %s"
        % (count_noun(impact["occurrences"], "occurrence"),
           count_noun(impact["attempts"], "attempt"), impact["since"], impact["last"]),
        "- Runs: %s" % (", ".join(clean(run) for run in impact["runs"]) or "none known"),
        "",
        "## What to do",
        "",
    ]
    lines += [
        "%d. %s" % (n, clean(recommendation))
        for n, recommendation in enumerate(report["recommendations"], 1)
    ]
    if report["evidence"]:
        lines += ["", "## Evidence", ""]
        lines += [
            sanitize_line(line, env.redactor, MAX_EVIDENCE_CHARS)
            for line in ticket_evidence.lines_of(report["evidence"])
        ]
    lines += ["", "## What happened", ""]
    lines += ["- %s %s" % (entry["at"], clean(entry["event"])) for entry in report["timeline"]]
    return sanitize_text("\n".join(lines), env.redactor, MAX_MARKDOWN_CHARS)
