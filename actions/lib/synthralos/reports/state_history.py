"""The states that a run went through, and its steps."""

from typing import TYPE_CHECKING, Any, Optional

from synthralos.reports.document import (
    BAD,
    GOOD,
    IDLE,
    PLAIN,
    WAIT,
    Cell,
    Cleaner,
    Diagram,
    Status,
    Table,
    duration,
)

if TYPE_CHECKING:
    from synthralos.reports.run_data import RunData

# The states of infrastructure_repair, in the order of a run without errors.
_REPAIR = ("INIT", "FAILURE_DETECTION", "IMPACT_ANALYSIS", "REPAIR_PLANNING", "EXECUTION",
           "RESCHEDULING", "FINAL")
_STATUS = {"completed": GOOD, "failed": BAD, "skipped": IDLE, "refused": IDLE, "waiting": WAIT,
           "running": PLAIN}


def run_states(run: "RunData", clean: Cleaner) -> tuple[Optional[Diagram], Optional[Table]]:
    """Return the diagram of the states and the table of the steps, as far as there are any."""
    history = run.top.output.get("step_history") or run.case.get("step_history")
    if isinstance(history, list) and history:
        moves = [
            (clean(transition.get("from_state"), 60), clean(transition.get("to_state"), 60),
             clean(transition.get("action"), 80))
            for transition in history if isinstance(transition, dict)
        ]
        return _diagram(run, list(_REPAIR), moves), None
    steps = run.top.output.get("stepLogs") or run.top.output.get("steps")
    if not isinstance(steps, list) or not steps:
        return _diagram_of_tasks(run, clean), None
    steps = [step for step in steps if isinstance(step, dict)]
    return _diagram_of_tasks(run, clean), _steps(steps, clean)


def _diagram_of_tasks(run: "RunData", clean: Cleaner) -> Optional[Diagram]:
    """Draw the tasks as states, for a workflow without states of its own."""
    names = [clean(child.task.partition("[")[0], 60) for child in run.top.children]
    # All items of a task count as a single visit.
    path = [name for n, name in enumerate(names)
            if n == 0 or name != names[n - 1] or "[" not in run.top.children[n].task]
    if len(path) < 2:
        return None
    moves = [(from_state, to_state, "") for from_state, to_state in zip(path, path[1:])]
    return _diagram(run, [], moves)


def _diagram(
    run: "RunData", states: list[str], moves: list[tuple[str, str, str]]
) -> Diagram:
    for name in [name for from_state, to_state, _ in moves for name in (from_state, to_state)]:
        if name not in states:
            states.append(name)
    last = moves[-1][1]
    kind = WAIT if not run.top.is_over else GOOD if run.top.status == "succeeded" else BAD
    return Diagram(states, moves, Status(kind, last))


def _steps(steps: list[dict[str, Any]], clean: Cleaner) -> Table:
    rows: list[list[Cell]] = []
    for step in steps:
        if "step_name" in step:
            status = str(step.get("status"))
            rows.append(
                [
                    clean(step["step_name"], 120),
                    Status(_STATUS.get(status, PLAIN), clean(status, 30)),
                    step.get("attempts"),
                    _duration_text(step.get("duration")),
                    clean(step.get("model") or step.get("execution_id") or "", 120),
                    clean(step.get("error") or ""),
                ]
            )
        else:
            succeeded = bool(step.get("ok"))
            rows.append(
                [
                    clean(step.get("strategy"), 120),
                    Status(GOOD, "ok") if succeeded else Status(BAD, "failed"),
                    step.get("attempts"),
                    None,
                    clean(step.get("execution_id") or "", 120),
                    clean(step.get("summary") or ""),
                ]
            )
    columns = ["Step", "Status", "Attempts", "Took", "By", "Message"]
    used_columns = [n for n in range(len(columns)) if any(row[n] not in (None, "") for row in rows)]
    return Table(
        [columns[n] for n in used_columns],
        [[row[n] for n in used_columns] for row in rows],
        ("Attempts", "Took"),
    )


def _duration_text(seconds: object) -> Optional[str]:
    return duration(seconds) if isinstance(seconds, (int, float)) else None
