"""Maps one event of a run to metric updates: a pure function."""

from collections.abc import Iterator
from typing import Any

from synthralos.core.json_safe import object_or_empty
from synthralos.metrics import definitions as f
from synthralos.storage.run_summaries import RunFacts

# (family, label values, number); a histogram observes the number. What is neither a text nor a
# number is for the totals to bound or to leave out.
Update = tuple[f.Family, tuple[object, ...], object]
NONE = "none"
SUCCESS, FAILURE = "success", "failure"
_CHAT = "chat"


def updates_for(event: RunFacts) -> Iterator[Update]:
    """Yield the metric updates of an event: a start, an end, or calls alone."""
    kind, workflow = event.get("kind"), event.get("workflow")
    if kind == "start":
        yield f.STARTED, (workflow,), 1
        return
    if kind == "end" and not event.get("alone"):
        yield from _end(event, workflow)
    yield from _attempts(event, workflow)
    yield from _llm(event)


def _end(event: RunFacts, workflow: object) -> Iterator[Update]:
    failure_type = event.get("failure_type") or NONE
    outcome = event.get("end") or event.get("outcome")
    if event.get("outcome") == "recovered":
        yield f.COMPLETED, (workflow, outcome, failure_type), 1
        yield f.RUN_SECONDS, (workflow, "completed"), event.get("duration")
        yield f.RECOVERY_SECONDS, (workflow,), event.get("recovery")
    else:
        yield f.FAILED, (workflow, outcome, failure_type, event.get("cause") or NONE), 1
        yield f.RUN_SECONDS, (workflow, "failed"), event.get("duration")
    if event.get("redrive"):
        result = "completed" if event.get("outcome") == "recovered" else "failed"
        yield f.REDRIVEN, (workflow, result), 1
    for transition, count in object_or_empty(event.get("transitions")).items():
        from_state, _, to_state = str(transition).partition("->")
        yield f.TRANSITIONS, (workflow, from_state, to_state), count


def _attempts(event: RunFacts, workflow: object) -> Iterator[Update]:
    for target in _list(event.get("skipped")):
        yield f.SKIPPED, (workflow, target), 1
    targets = _list(event.get("targets"))
    causes, millis = _list(event.get("causes")), _list(event.get("latency_ms"))
    if not len(targets) == len(causes) == len(millis):
        return
    agent = event.get("agent")
    last_causes: dict[Any, Any] = {}
    for n, (target, cause, milliseconds) in enumerate(zip(targets, causes, millis)):
        seconds = milliseconds / 1000.0 if isinstance(milliseconds, (int, float)) else None
        yield f.ATTEMPTS, (workflow, target), 1
        yield f.ATTEMPT_SECONDS, (target,), seconds
        if cause:
            yield f.ATTEMPT_FAILURES, (workflow, target, cause), 1
        if target in last_causes:
            yield f.REPEATS, (workflow, target, last_causes[target]), 1
        elif n:
            yield f.FALLBACKS, (workflow, targets[n - 1], causes[n - 1] or NONE), 1
        if agent:
            yield f.AGENT_CALLS, (agent, FAILURE if cause else SUCCESS), 1
            yield f.AGENT_SECONDS, (agent,), seconds
        last_causes[target] = cause or NONE


def _llm(event: RunFacts) -> Iterator[Update]:
    for call in _list(event.get("llm")):
        if not isinstance(call, list) or len(call) != 7:
            continue
        provider, model, milliseconds, cause, input_tokens, output_tokens, cost = call
        labels = (_CHAT, provider, model)
        seconds = milliseconds / 1000.0 if isinstance(milliseconds, (int, float)) else None
        # To Prometheus an empty label is absent, as the convention requires it for a success.
        yield f.LLM_SECONDS, labels + (cause or "",), seconds
        if input_tokens is None and output_tokens is None:
            continue
        yield f.LLM_TOKENS, labels + ("input",), input_tokens
        yield f.LLM_TOKENS, labels + ("output",), output_tokens
        if cost is None:
            yield f.LLM_UNPRICED, (provider, model), 1
        else:
            yield f.LLM_COST, (provider, model, event.get("currency") or "USD"), cost


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
