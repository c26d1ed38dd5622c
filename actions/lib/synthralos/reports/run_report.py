"""The report on a run: the failure, the attempts, the outcome, and the cost."""

from typing import TYPE_CHECKING, Any, Optional

from synthralos.core.json_safe import object_or_empty
from synthralos.core.sanitize import sanitize_line
from synthralos.core.timestamps import parse_iso
from synthralos.escalation import ticket_analysis as advice
from synthralos.reports import costs, state_history
from synthralos.reports.document import (
    BAD,
    GOOD,
    IDLE,
    PLAIN,
    WAIT,
    Bar,
    Block,
    Cell,
    Cleaner,
    Fact,
    FactList,
    Report,
    Status,
    Steps,
    Table,
    Text,
    Timeline,
    duration,
    moment,
)
from synthralos.reports.run_data import iter_executions

if TYPE_CHECKING:
    from synthralos.reports.run_data import AttemptGroup, Node, RunData
    from synthralos.runtime.environment import Environment

MAX_CELL_CHARS = 400
_KIND = {"succeeded": GOOD, "failed": BAD, "timeout": BAD, "abandoned": BAD, "canceled": IDLE}
_CALLING = ("execute_recovery", "call_llm", "execute_request")


def build_run_report(env: "Environment", run: "RunData") -> Report:
    """Build the report on a run."""
    top = run.top

    def clean(text: Any, max_chars: int = MAX_CELL_CHARS) -> str:
        return sanitize_line(text, env.redactor, max_chars)

    attempts = [entry for group in run.attempt_groups for entry in group.attempts]
    elapsed = duration(top.ended_at - top.started_at)
    facts: list[Fact] = [("Duration" if top.is_over else "Running for", elapsed)]
    if attempts:
        attempt_counts = (run.summary.get("attempts"), top.output.get("attempts"), len(attempts))
        facts.append(
            ("Attempts", str(next(count for count in attempt_counts if isinstance(count, int))))
        )
        facts.append(("Targets tried", str(len({entry.get("target") for entry in attempts}))))
    cost_facts, cost_blocks = costs.llm_costs(env, run)
    facts += cost_facts
    nodes = top.output.get("failures")
    if isinstance(nodes, list):
        unassigned = top.output.get("unassigned") or []
        facts.append(("Nodes failed", str(len(nodes))))
        facts.append(("Without a crew", Status(BAD, str(len(unassigned))) if unassigned else "0"))
    ticket = top.output.get("ticket")
    if isinstance(ticket, str):
        facts.append(("Ticket", clean(ticket)))
    subject = subject_of(run)
    report = Report(
        title="%s of %s" % (run.workflow, clean(subject)) if subject else run.workflow,
        subtitle=clean(_sentence(run)),
        outcome=outcome(run),
        facts=facts,
        made_at=env.now(),
        location="Run %s, started %s" % (top.id, moment(top.started_at)),
    )
    report.add("Timeline", _timeline(run, clean))
    report.add("What was tried", _attempts(run, clean))
    for group in run.attempt_groups:
        suffix = " of %s" % clean(group.node.task, 80) if group.node is not top else ""
        report.add("The plan" + suffix, *_plan(group, clean))
    diagram, steps = state_history.run_states(run, clean)
    report.add("Assignments", _assignments(run, clean))
    report.add("States", diagram)
    report.add("Steps", steps)
    failed = isinstance(top.output.get("error"), dict)
    report.add("Why it failed" if failed else "What failed", *_failure(run, clean))
    report.add("Tokens and cost", *cost_blocks)
    report.add("Executions", _executions(run, clean))
    return report


def outcome(run: "RunData") -> Status:
    """Return the outcome of the run, in a word or two."""
    top, output = run.top, run.top.output
    if not top.is_over:
        return Status(WAIT, top.status)
    if top.status != "succeeded":
        return Status(_KIND.get(top.status, BAD), top.status)
    outcome_name = output.get("outcome") or output.get("status")
    if isinstance(outcome_name, str) and outcome_name:
        return Status(IDLE if outcome_name == "refused" else GOOD, outcome_name.replace("_", " "))
    recovered = output.get("recovered") or output.get("recovery_success")
    return Status(GOOD, "recovered" if recovered else "succeeded")


def subject_of(run: "RunData") -> Optional[str]:
    """Return the agent, model, route or orchestration that the run was about, or None."""
    parameters = run.top.parameters
    request = object_or_empty(parameters.get("original_request"))
    for candidate in (
        parameters.get("agent_id"),
        parameters.get("orchestration"),
        request.get("model"),
        request.get("provider"),
        parameters.get("model"),
        run.case.get("subject"),
    ):
        if isinstance(candidate, str) and candidate and not candidate.startswith("@"):
            return candidate
    nodes = run.top.output.get("failures")
    if isinstance(nodes, list) and nodes:
        return ", ".join(str(node) for node in nodes[:3]) + (" ..." if len(nodes) > 3 else "")
    return None


def _sentence(run: "RunData") -> str:
    """Return the error of the run, else the summary of its last task, else its status."""
    error = run.top.output.get("error")
    if isinstance(error, dict) and (error.get("reason") or error.get("message")):
        return str(error.get("reason") or error.get("message"))
    for child in reversed(run.top.children or [run.top]):
        if child.result.get("summary"):
            return str(child.result["summary"])
    return "status %s" % run.top.status


def _timeline(run: "RunData", clean: Cleaner) -> Timeline:
    """Build the timeline of tasks and sub-runs, the waits between them, and the attempts."""
    bars: list[Bar] = []
    previous: dict[int, Node] = {}
    rounds = _rounds(run)
    for node, depth in iter_executions(run.top):
        # StackStorm counts the delay before a task as part of its execution.
        delay = _delay(previous[depth]) if depth in previous else 0
        started_at = min(node.started_at + delay, node.ended_at)
        if delay:
            bars.append(Bar("wait", WAIT, node.started_at, started_at, "", depth))
        kind = _KIND.get(node.status, WAIT if node.action == "core.ask" else PLAIN)
        if node.action == "core.ask":
            kind = WAIT
        note = "" if node.status == "succeeded" else node.status
        bars.append(Bar(clean(node.task, 80), kind, started_at, node.ended_at, note, depth))
        bars += [_bar(entry, node, depth + 1, clean) for entry in rounds.get(node.id, ())]
        previous[depth] = node
        for deeper in [n for n in previous if n > depth]:
            del previous[deeper]
    if not bars:
        top = run.top
        bars = [
            Bar(clean(top.task, 80), _KIND.get(top.status, PLAIN), top.started_at, top.ended_at)
        ]
        bars += [_bar(entry, top, 1, clean) for entry in run.attempt_groups[0].attempts]
    started_at = min([run.top.started_at] + [bar.started_at for bar in bars])
    return Timeline(started_at, max([run.top.ended_at] + [bar.ended_at for bar in bars]), bars)


def _delay(node: "Node") -> int:
    following = node.result.get("next")
    delay = following.get("delay") if isinstance(following, dict) else 0
    return delay if isinstance(delay, int) else 0


def _rounds(run: "RunData") -> dict[str, list[dict[str, Any]]]:
    """Return {execution id of a task: its attempts}.

    Round n belongs to the n-th task of a run that calls a target.
    """
    attempts: dict[str, list[dict[str, Any]]] = {}
    for group in run.attempt_groups:
        calling = [
            node for node in group.node.children if node.action.partition(".")[2] in _CALLING
        ]
        for entry in group.attempts:
            n = entry.get("round")
            if isinstance(n, int) and 0 < n <= len(calling):
                attempts.setdefault(calling[n - 1].id, []).append(entry)
    return attempts


def _bar(entry: dict[str, Any], node: "Node", depth: int, clean: Cleaner) -> Bar:
    seconds = (entry.get("latency_ms") or 0) / 1000.0
    # An attempt without a start time is shown at the end of its task.
    started_at = parse_iso(entry.get("at")) or node.ended_at - seconds
    # It is shown within its task even if the clocks of the hosts differ.
    started_at = min(
        max(started_at, node.started_at), max(node.started_at, node.ended_at - seconds)
    )
    note = "" if entry.get("ok") else str(entry.get("cause") or "failed")
    return Bar(
        "%s. %s" % (entry.get("attempt"), clean(entry.get("target"), 80)),
        GOOD if entry.get("ok") else BAD, started_at, started_at + seconds, clean(note, 60), depth,
    )


def _attempts(run: "RunData", clean: Cleaner) -> Optional[Table]:
    rows: list[list[Cell]] = []
    for node, entry in (
        (group.node, entry) for group in run.attempt_groups for entry in group.trail
    ):
        within = clean(node.task, 80) if node is not run.top else None
        target = clean(entry.get("target") or "?", 120)
        if "attempt" not in entry:
            reason = entry.get("skipped") or entry.get("asked_last") or ""
            status = Status(IDLE, "asked last" if "asked_last" in entry else "skipped")
            rows.append([within, None, target, None, status, None, None, clean(reason)])
            continue
        succeeded = bool(entry.get("ok"))
        result = (
            Status(GOOD, "answered")
            if succeeded
            else Status(BAD, clean(entry.get("cause") or "?", 60))
        )
        message = entry.get("message") or ""
        if entry.get("hint_seconds") is not None:
            message = "%s (asked to wait for %s)" % (
                message, duration(entry["hint_seconds"]))
        rows.append([
            within, entry["attempt"], target, clean(entry.get("step") or "", 60) or None, result,
            entry.get("status"), duration((entry.get("latency_ms") or 0) / 1000.0),
            clean(message),
        ])
    if not rows:
        return None
    columns = ["Within", "#", "Target", "Step", "Result", "HTTP", "Took", "Message"]
    # Empty columns would take room from the others.
    used_columns = [n for n in range(len(columns)) if any(row[n] not in (None, "") for row in rows)]
    return Table(
        [columns[n] for n in used_columns],
        [[row[n] for n in used_columns] for row in rows],
        ("HTTP", "Took"),
    )


def _plan(group: "AttemptGroup", clean: Cleaner) -> tuple[Block, ...]:
    plan = group.plan or {}
    steps = plan.get("steps")
    if not isinstance(steps, list) or not steps:
        return ()
    attempts_by_step: dict[int, list[dict[str, Any]]] = {}
    for entry in group.attempts:
        n = (entry["attempt"] - 1) % len(steps)
        attempts_by_step.setdefault(n, []).append(entry)
    rows: list[tuple[str, Optional[Status]]] = []
    for n, step in enumerate(steps):
        step = step if isinstance(step, dict) else {}
        text = "%s: %s" % (step.get("action"), step.get("description") or "")
        mark = None
        if n in attempts_by_step:
            succeeded = any(entry.get("ok") for entry in attempts_by_step[n])
            numbers = ", ".join(str(entry["attempt"]) for entry in attempts_by_step[n])
            mark = Status(GOOD if succeeded else BAD, "attempt %s" % numbers)
        rows.append((clean(text), mark))
    facts: list[Fact] = [("Source", clean(plan.get("source") or "?", 80))]
    if plan.get("confidence") is not None:
        facts.append(("Confidence", clean(plan["confidence"], 20)))
    return FactList(facts), Steps(rows)


def _assignments(run: "RunData", clean: Cleaner) -> Optional[Table]:
    """Build the table of assigned crews, with the impact of each failed node."""
    assignments = run.top.output.get("assignments")
    if not isinstance(assignments, list) or not assignments:
        return None
    impact = run.top.output.get("impact")
    nodes = impact.get("nodes") if isinstance(impact, dict) else None
    impact_by_node = {
        impact.get("node"): impact for impact in nodes or () if isinstance(impact, dict)
    }
    rows: list[list[Cell]] = []
    for assignment in assignments:
        node_impact = impact_by_node.get(assignment.get("node")) or {}
        is_assigned = assignment.get("status") == "Assigned"
        rows.append([
            clean(assignment.get("node")), clean(assignment.get("crew")),
            Status(GOOD if is_assigned else BAD, clean(assignment.get("status"), 60)),
            clean(node_impact.get("criticality") or "", 30), node_impact.get("nodes_affected"),
            node_impact.get("population_affected"), clean(assignment.get("details") or ""),
        ])
    columns = ["Node", "Crew", "Status", "Criticality", "Nodes", "People", "Details"]
    return Table(columns, rows, ("Nodes", "People"))


def _failure(run: "RunData", clean: Cleaner) -> tuple[Optional[Block], ...]:
    reported = run.case.get("failure")
    error = run.top.output.get("error")
    facts: list[Fact] = []
    heading: Optional[Text] = None
    steps: Optional[Steps] = None
    if isinstance(reported, dict):
        facts.append(("Reported", clean("%s (%s, severity %s)" % (
            reported.get("cause"), reported.get("type"), reported.get("severity")))))
    if isinstance(error, dict):
        cause = error.get("cause") or "unknown"
        facts.append(("Ended by", Status(BAD, clean(cause, 60))))
        facts += [
            (name, clean(error[key]))
            for name, key in (("Message", "message"), ("Reason", "reason"),
                              ("Field", "field"), ("Hint", "hint"))
            if error.get(key) and not (key == "reason" and error.get("message") == error["reason"])
        ]
        meaning, recommendations = advice.advice(run.workflow, cause)
        facts.append(("Meaning", clean(meaning)))
        heading = Text("What you can do:")
        steps = Steps([(clean(text), None) for text in recommendations])
    return (FactList(facts) if facts else None), heading, steps


def _executions(run: "RunData", clean: Cleaner) -> Optional[Table]:
    rows: list[list[Cell]] = [
        # Neither form of a report keeps spaces.
        ["› " * depth + clean(node.task, 80), clean(node.action, 120),
         Status(_KIND.get(node.status, PLAIN), clean(node.status, 30)),
         duration(node.ended_at - node.started_at), node.id]
        for node, depth in iter_executions(run.top)
    ]
    if run.cut:
        rows.append(["...", "further executions are not included", None, None, None])
    return Table(["Task", "Action", "Status", "Took", "Execution"], rows, ("Took",)) \
        if rows else None
