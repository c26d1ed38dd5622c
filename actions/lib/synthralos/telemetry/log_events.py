"""The events of the live output, and the fields of each: all that `log.line` may be called with.

Every line also says `run`, the execution id of the run, and `agent`, where it is about one.
Values are numbers, enums, names and ids.
"""

EVENTS = {
    # A call to a target, once it is over.
    "attempt": ("number", "target", "outcome", "status", "hint_seconds", "seconds"),
    # A call over the budget of a run or a day, which only warns; `limited` is tokens or cost.
    "over_budget": ("period", "limited", "limit", "used"),
    # A target that was not called: its breaker is open, or it asked to be left alone.
    "skipped": ("target", "seconds", "cause"),
    # The step of the repair plan that the next attempt applies.
    "step": ("action",),
    # An LLM's repair plan, or its decision on repairs, that is not valid.
    "plan_refused": ("number", "field"),
    "decision_refused": ("number", "field"),
    # A crew of infrastructure_repair was told of its nodes; `assigned` says whether it took them.
    "assign": ("crew", "nodes", "assigned"),
    # Prometheus could not be asked again whether nodes are up.
    "not_watched": ("cause",),
    # A wave of an orchestration begins: steps at once, a question, or another orchestration.
    "wave": ("number", "what", "steps"),
    # A try of an orchestration's step that did not end well.
    "step_attempt": ("number", "outcome"),
    # The collector of traces took nothing; this host leaves it alone for `pause_seconds`.
    "traces_not_sent": ("cause", "pause_seconds"),
    # The entry `tracing` or `logs` of the configuration is wrong, and is not used.
    "configuration_ignored": ("field",),
}
EVERYWHERE = ("run", "agent")
