"""The events of the live output and the fields of each: all that `run_log.emit` accepts.

Every line also has `run`, the execution id of the run, and `agent`, if it concerns one.
Values are numbers, enums, names and ids.
"""

EVENTS = {
    # A call to a target has ended.
    "attempt": ("number", "target", "outcome", "status", "hint_seconds", "seconds"),
    # A call exceeds the budget of a run or a day, which only warns; `limited` is tokens or cost.
    "over_budget": ("period", "limited", "limit", "used"),
    # A target was not called: its breaker is open, or it asked to wait.
    "skipped": ("target", "seconds", "cause"),
    # An agent works on after a round; `seconds` since its start.
    "agent_running": ("target", "seconds"),
    # An agent asks a person; the run waits for the answer.
    "agent_asks": ("target",),
    # A run for the same request is at a target that the agent has no longer.
    "agent_run_lost": ("target",),
    # The step of the repair plan that the next attempt applies.
    "step": ("action",),
    # The repair plan of an LLM, or its decision on repairs, is not valid.
    "plan_refused": ("number", "field"),
    "decision_refused": ("number", "field"),
    # A crew of infrastructure_repair was notified of its nodes; `assigned`: whether it took them.
    "assign": ("crew", "nodes", "assigned"),
    # A run acts on nodes without knowing whether another one does: `reason` is what is unavailable.
    "turn_not_taken": ("reason",),
    # Prometheus could not be queried again for the state of nodes.
    "not_watched": ("cause",),
    # A repair has silenced an alert, or could not.
    "silence": ("status",),
    # A repair has ended its silences; `confirmed`: whether Alertmanager says so.
    "silences_ended": ("count", "confirmed"),
    # A wave of an orchestration begins: steps at once, a question, or another orchestration.
    "wave": ("number", "what", "steps"),
    # An attempt of an orchestration's step failed.
    "step_attempt": ("number", "outcome"),
    # The trace collector did not accept a request; this host pauses export for `pause_seconds`.
    "traces_not_sent": ("cause", "pause_seconds"),
    # The entry `tracing` or `logs` of the configuration is not valid, and is ignored.
    "configuration_ignored": ("field",),
}
EVERYWHERE = ("run", "agent")
