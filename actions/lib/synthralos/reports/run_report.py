"""The report of a run: what failed, what was tried, what came of it, and what it cost."""

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

MAX_CELL_CHARS = 400
_KIND = {"succeeded": GOOD, "failed": BAD, "timeout": BAD, "abandoned": BAD, "canceled": IDLE}
_CALLING = ("execute_recovery", "call_llm", "execute_request")


def build_run_report(env, run):
    """The Report of a reading.Run."""
    top = run.top

    def said(text, longest=MAX_CELL_CHARS):
        return sanitize_line(text, env.redactor, longest)

    made = [entry for tried in run.attempt_groups for entry in tried.attempts]
    facts = [("Took" if top.is_over else "Has taken", duration(top.ended - top.began))]
    if made:
        told = (run.summary.get("attempts"), top.output.get("attempts"), len(made))
        facts.append(("Attempts", str(next(one for one in told if isinstance(one, int)))))
        facts.append(("Targets tried", str(len({entry.get("target") for entry in made}))))
    cost, table = costs.llm_costs(env, run)
    facts += cost
    nodes = top.output.get("failures")
    if isinstance(nodes, list):
        open_ = top.output.get("unassigned") or []
        facts.append(("Nodes failed", str(len(nodes))))
        facts.append(("Without a crew", Status(BAD, str(len(open_))) if open_ else "0"))
    ticket = top.output.get("ticket")
    if isinstance(ticket, str):
        facts.append(("Ticket", said(ticket)))
    subject = subject_of(run)
    report = Report(
        title="%s of %s" % (run.workflow, said(subject)) if subject else run.workflow,
        subtitle=said(_sentence(run)),
        outcome=outcome(run),
        facts=facts,
        made_at=env.now(),
        where="Run %s, started %s" % (top.id, moment(top.began)),
    )
    report.add("Timeline", _timeline(run, said))
    report.add("What was tried", _attempts(run, said))
    for tried in run.attempt_groups:
        within = " of %s" % said(tried.node.task, 80) if tried.node is not top else ""
        report.add("The plan" + within, *_plan(tried, said))
    diagram, steps = state_history.run_states(run, said)
    report.add("Who repairs what", _assignments(run, said))
    report.add("States", diagram)
    report.add("Steps", steps)
    failed = isinstance(top.output.get("error"), dict)
    report.add("Why it failed" if failed else "What had failed", *_failure(run, said))
    report.add("Tokens and cost", *table)
    report.add("Executions", _executions(run, said))
    return report


def outcome(run):
    """A Mark: what came of the run, in a word or two."""
    top, output = run.top, run.top.output
    if not top.is_over:
        return Status(WAIT, "going on" if top.status == "running" else top.status)
    if top.status != "succeeded":
        return Status(_KIND.get(top.status, BAD), top.status)
    told = output.get("outcome") or output.get("status")
    if isinstance(told, str) and told:
        return Status(IDLE if told == "refused" else GOOD, told.replace("_", " "))
    recovered = output.get("recovered") or output.get("recovery_success")
    return Status(GOOD, "recovered" if recovered else "succeeded")


def subject_of(run):
    """The agent, model, route or orchestration that the run was about, or None."""
    given = run.top.parameters
    request = given.get("original_request")
    request = request if isinstance(request, dict) else {}
    for told in (given.get("agent_id"), given.get("orchestration"), request.get("model"),
                 request.get("provider"), given.get("model"), run.case.get("subject")):
        if isinstance(told, str) and told and not told.startswith("@"):
            return told
    nodes = run.top.output.get("failures")
    if isinstance(nodes, list) and nodes:
        return ", ".join(str(node) for node in nodes[:3]) + (" ..." if len(nodes) > 3 else "")
    return None


def _sentence(run):
    """What came of it, as the last task of the run says."""
    error = run.top.output.get("error")
    if isinstance(error, dict) and (error.get("reason") or error.get("message")):
        return str(error.get("reason") or error.get("message"))
    for child in reversed(run.top.children or [run.top]):
        if child.result.get("summary"):
            return str(child.result["summary"])
    return "status %s" % run.top.status


def _timeline(run, said):
    """Tasks and the runs within, the waits between them, and the attempts."""
    bars, before = [], {}
    rounds = _rounds(run)
    for node, depth in iter_executions(run.top):
        # StackStorm counts the delay before a task as part of its execution.
        delay = _delay(before[depth]) if depth in before else 0
        began = min(node.began + delay, node.ended)
        if delay:
            bars.append(Bar("wait", WAIT, node.began, began, "", depth))
        kind = _KIND.get(node.status, WAIT if node.action == "core.ask" else PLAIN)
        if node.action == "core.ask":
            kind = WAIT
        told = "" if node.status == "succeeded" else node.status
        bars.append(Bar(said(node.task, 80), kind, began, node.ended, told, depth))
        bars += [_bar(entry, node, depth + 1, said) for entry in rounds.get(node.id, ())]
        before[depth] = node
        for deeper in [n for n in before if n > depth]:
            del before[deeper]
    if not bars:
        top = run.top
        bars = [Bar(said(top.task, 80), _KIND.get(top.status, PLAIN), top.began, top.ended)]
        bars += [_bar(entry, top, 1, said) for entry in run.attempt_groups[0].attempts]
    began = min([run.top.began] + [bar.began for bar in bars])
    return Timeline(began, max([run.top.ended] + [bar.ended for bar in bars]), bars)


def _delay(node):
    following = node.result.get("next")
    delay = following.get("delay") if isinstance(following, dict) else 0
    return delay if isinstance(delay, int) else 0


def _rounds(run):
    """{execution id: its attempts} of the tasks: round n is a run's n-th task that calls."""
    found = {}
    for tried in run.attempt_groups:
        calling = [
            node for node in tried.node.children if node.action.partition(".")[2] in _CALLING
        ]
        for entry in tried.attempts:
            n = entry.get("round")
            if isinstance(n, int) and 0 < n <= len(calling):
                found.setdefault(calling[n - 1].id, []).append(entry)
    return found


def _bar(entry, node, depth, said):
    took = (entry.get("latency_ms") or 0) / 1000.0
    # An attempt that does not say when it began is shown where its task ended.
    began = parse_iso(entry.get("at")) or node.ended - took
    # It is shown within its task, whatever the clocks of the hosts say.
    began = min(max(began, node.began), max(node.began, node.ended - took))
    told = "" if entry.get("ok") else str(entry.get("cause") or "failed")
    return Bar(
        "%s. %s" % (entry.get("attempt"), said(entry.get("target"), 80)),
        GOOD if entry.get("ok") else BAD, began, began + took, said(told, 60), depth,
    )


def _attempts(run, said):
    rows = []
    for by, entry in ((one.node, entry) for one in run.attempt_groups for entry in one.trail):
        within = said(by.task, 80) if by is not run.top else None
        target = said(entry.get("target") or "?", 120)
        if "attempt" not in entry:
            rows.append([within, None, target, None, Status(IDLE, "passed over"), None, None,
                         said(entry.get("skipped") or "")])
            continue
        good = bool(entry.get("ok"))
        result = (
            Status(GOOD, "answered") if good else Status(BAD, said(entry.get("cause") or "?", 60))
        )
        message = entry.get("message") or ""
        if entry.get("hint_seconds") is not None:
            message = "%s (asked to be left alone for %s)" % (
                message, duration(entry["hint_seconds"]))
        rows.append([
            within, entry["attempt"], target, said(entry.get("step") or "", 60) or None, result,
            entry.get("status"), duration((entry.get("latency_ms") or 0) / 1000.0),
            said(message),
        ])
    if not rows:
        return None
    columns = ["Within", "#", "Target", "Step", "Result", "HTTP", "Took", "It said"]
    # A column that says nothing takes room from the others.
    kept = [n for n in range(len(columns)) if any(row[n] not in (None, "") for row in rows)]
    return Table(
        [columns[n] for n in kept], [[row[n] for n in kept] for row in rows], ("HTTP", "Took")
    )


def _plan(tried, said):
    plan = tried.plan or {}
    steps = plan.get("steps")
    if not isinstance(steps, list) or not steps:
        return ()
    came = {}
    for entry in tried.attempts:
        n = (entry["attempt"] - 1) % len(steps)
        came.setdefault(n, []).append(entry)
    rows = []
    for n, step in enumerate(steps):
        step = step if isinstance(step, dict) else {}
        text = "%s: %s" % (step.get("action"), step.get("description") or "")
        mark = None
        if n in came:
            good = any(entry.get("ok") for entry in came[n])
            numbers = ", ".join(str(entry["attempt"]) for entry in came[n])
            mark = Status(GOOD if good else BAD, "attempt %s" % numbers)
        rows.append((said(text), mark))
    facts = [("Made by", said(plan.get("source") or "?", 80))]
    if plan.get("confidence") is not None:
        facts.append(("Confidence", said(plan["confidence"], 20)))
    return FactList(facts), Steps(rows)


def _assignments(run, said):
    """The crews of an infrastructure_repair, with what the failure of each node touches."""
    found = run.top.output.get("assignments")
    if not isinstance(found, list) or not found:
        return None
    impact = run.top.output.get("impact")
    nodes = impact.get("nodes") if isinstance(impact, dict) else None
    known = {one.get("node"): one for one in nodes or () if isinstance(one, dict)}
    rows = []
    for one in found:
        told = known.get(one.get("node")) or {}
        good = one.get("status") == "Assigned"
        rows.append([
            said(one.get("node")), said(one.get("crew")),
            Status(GOOD if good else BAD, said(one.get("status"), 60)),
            said(told.get("criticality") or "", 30), told.get("nodes_affected"),
            told.get("population_affected"), said(one.get("details") or ""),
        ])
    columns = ["Node", "Crew", "Status", "Criticality", "Nodes", "People", "Told"]
    return Table(columns, rows, ("Nodes", "People"))


def _failure(run, said):
    reported = run.case.get("failure")
    error = run.top.output.get("error")
    facts, heading, steps = [], None, None
    if isinstance(reported, dict):
        facts.append(("Reported", said("%s (%s, severity %s)" % (
            reported.get("cause"), reported.get("type"), reported.get("severity")))))
    if isinstance(error, dict):
        cause = error.get("cause") or "unknown"
        facts.append(("Ended by", Status(BAD, said(cause, 60))))
        facts += [
            (name, said(error[key]))
            for name, key in (("In words", "message"), ("Reason", "reason"),
                              ("Field", "field"), ("Way out", "hint"))
            if error.get(key) and not (key == "reason" and error.get("message") == error["reason"])
        ]
        meaning, what = advice.advice(run.workflow, cause)
        facts.append(("That means", said(meaning)))
        heading = Text("What a person can do:")
        steps = Steps([(said(text), None) for text in what])
    return (FactList(facts) if facts else None), heading, steps


def _executions(run, said):
    rows = [
        # Neither form of a report keeps spaces.
        ["› " * depth + said(node.task, 80), said(node.action, 120),
         Status(_KIND.get(node.status, PLAIN), said(node.status, 30)),
         duration(node.ended - node.began), node.id]
        for node, depth in iter_executions(run.top)
    ]
    if run.cut:
        rows.append(["...", "there are more than a report reads", None, None, None])
    return Table(["Task", "Action", "Status", "Took", "Execution"], rows, ("Took",)) \
        if rows else None
