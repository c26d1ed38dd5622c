"""Spans: the steps of an action and their durations, under the span of its run.

An action's process has one tracer, which `use_tracer` makes current. Without one, as in a Python
program that uses the library, `span` only yields. A span holds names, enums and numbers: never a
caller's text.
"""

import contextlib
import contextvars
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional, Union

from synthralos.telemetry import trace_context
from synthralos.telemetry.trace_context import TraceContext

INTERNAL, CLIENT = "internal", "client"
# Of one action: a round calls at most some dozens of targets, a step some dozens of models.
MAX_SPANS = 500

# None is left out.
AttributeValue = Union[str, bool, int, float, Sequence[Optional[str]], None]
Attributes = Mapping[str, AttributeValue]


@dataclass
class Span:
    """One timed step of an action.

    :ivar began, ended: seconds since the epoch.
    :ivar error: the kind of failure that ended it, or None.
    """

    name: str
    span_id: str
    parent_id: Optional[str]
    kind: str = INTERNAL
    began: float = 0.0
    ended: float = 0.0
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    error: Optional[str] = None

    def set(self, attributes: Attributes) -> None:
        self.attributes.update(attributes)

    def fail(self, kind: Optional[str]) -> None:
        """Mark the span as failed; `kind` becomes its `error.type`."""
        self.error = kind or "error"


class Tracer:
    """The spans of one action.

    :param name: of the action.
    :param execution_id: of the action.
    :param now: a callable that returns seconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        execution_id: str,
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.execution_id, self.run, self.recording = execution_id, execution_id, False
        self.spans: list[Span] = []
        self.dropped_spans = 0
        self._monotonic = monotonic
        self._started_at, self._monotonic_start = now(), monotonic()
        self._context: Optional[TraceContext] = None
        self._joined, self._sample_ratio = False, 1.0
        self._workflow: Optional[str] = None
        self._started: Optional[float] = None
        self._run_attributes: dict[str, AttributeValue] = {}
        self._numbers = itertools.count()
        self.action = Span(
            name, trace_context.span_id(execution_id, "action"), None, began=self._started_at
        )

    def configure(self, sample_ratio: float) -> None:
        """Records from now on, if the trace is among the `sample_ratio` that is."""
        self.recording, self._sample_ratio = True, sample_ratio

    @property
    def context(self) -> TraceContext:
        if self._context is None:
            self._context = TraceContext.of_run(self.run)
        return self._context

    @property
    def sampled(self) -> bool:
        caller_decision = self.context.sampled
        return (
            trace_context.sampled(self.context.trace_id, self._sample_ratio)
            if caller_decision is None
            else caller_decision
        )

    def join(
        self,
        run: str,
        carrier: object = None,
        workflow: Optional[str] = None,
        started: Optional[float] = None,
        attributes: Optional[Attributes] = None,
    ) -> None:
        """Make the action part of `run`.

        :param carrier: {traceparent, tracestate} that the caller of the run passed; ignored if it
            is anything else.
        :param started: when the run started, in seconds since the epoch.
        :param attributes: of the run's span and the action's.
        """
        self.run, self._joined = run, True
        self._workflow, self._started = workflow, started
        self._run_attributes = dict(attributes or {})
        carrier = carrier if isinstance(carrier, dict) else {}
        caller_context = TraceContext.parsed(carrier.get("traceparent"), carrier.get("tracestate"))
        self._context = caller_context or TraceContext.of_run(run)

    def now(self) -> float:
        """Return seconds since the epoch, by a clock that never goes back within the action."""
        return self._started_at + self._monotonic() - self._monotonic_start

    def begin(self, name: str, kind: str, attributes: dict[str, AttributeValue]) -> Span:
        parent_span = _current.get()
        span_id = trace_context.span_id(self.execution_id, next(self._numbers))
        parent_id = parent_span.span_id if parent_span is not None else self.action.span_id
        return Span(name, span_id, parent_id, kind, self.now(), attributes=attributes)

    def end(self, span: Span) -> None:
        span.ended = self.now()
        if len(self.spans) < MAX_SPANS:
            self.spans.append(span)
        else:
            self.dropped_spans += 1

    def headers(self, span: Span) -> dict[str, str]:
        """Return the headers that propagate the trace with a call under `span`."""
        if self.recording:
            return self.context.headers(span.span_id, self.sampled)
        # Without spans of its own, it passes on the caller's context.
        return self.context.headers() if self.context.parent_id else {}

    def propagation_headers(self) -> Optional[dict[str, str]]:
        """Return {traceparent, tracestate} for a run that this action starts, or None if it is
        not recording and its caller passed none.
        """
        return self.headers(self.action) or None

    def finish(
        self,
        error: Optional[str],
        attributes: Attributes,
        ended: bool = False,
        run_error: Optional[str] = None,
    ) -> None:
        """End the action's span, and the run's if the run ends with it.

        :param error: the kind of failure that ended the action, or None.
        :param attributes: of both spans.
        :param ended: whether the run ends here.
        :param run_error: the kind of failure that ended the run, or None.
        """
        ended_at, is_own_run = self.now(), self.run == self.execution_id
        facts: dict[str, AttributeValue] = {
            "synthralos.run": self.run,
            "synthralos.workflow": self._workflow,
        }
        facts.update(self._run_attributes, **attributes)
        root = Span(
            self._workflow or self.action.name,
            trace_context.span_id(self.run, "run"),
            self.context.parent_id,
            began=min(self._started or self._started_at, self._started_at),
            ended=ended_at,
            attributes=dict(facts),
            error=run_error,
        )
        # An action that no workflow started is a run of its own.
        self.action.parent_id = root.parent_id if is_own_run else root.span_id
        self.action.ended, self.action.error = ended_at, error
        self.action.set(dict(facts, **{"synthralos.execution": self.execution_id}))
        if self.dropped_spans:
            self.action.set({"synthralos.spans_lost": self.dropped_spans})
        self.spans.append(self.action)
        if ended and not is_own_run:
            self.spans.append(root)

    def worth_sending(self) -> bool:
        """Return whether there is anything to see: a task of a run, or a call that was made."""
        return self.recording and self.sampled and (self._joined or len(self.spans) > 1)


_tracer: "contextvars.ContextVar[Optional[Tracer]]" = contextvars.ContextVar(
    "synthralos_tracer", default=None
)
_current: "contextvars.ContextVar[Optional[Span]]" = contextvars.ContextVar(
    "synthralos_span", default=None
)
_facts: "contextvars.ContextVar[Optional[Attributes]]" = contextvars.ContextVar(
    "synthralos_span_facts", default=None
)


@contextlib.contextmanager
def use_tracer(tracer: Tracer) -> Iterator[Tracer]:
    """Make `tracer` current in the block."""
    current, token = _tracer.set(tracer), _current.set(None)
    try:
        yield tracer
    finally:
        _current.reset(token)
        _tracer.reset(current)


@contextlib.contextmanager
def span(
    name: str, attributes: Optional[Attributes] = None, kind: str = INTERNAL
) -> Iterator[Span]:
    """Open a span around the block, under the one that is open, and yield it.

    An exception that leaves the block marks it as failed: by the cause of a CallError, else by the
    name of the exception's class.
    """
    tracer = _tracer.get()
    if tracer is None:
        yield Span(name, "", None)
        return
    opened = tracer.begin(name, kind, dict(_facts.get() or {}, **(attributes or {})))
    token = _current.set(opened)
    try:
        yield opened
    except Exception as error:
        opened.fail(_kind_of(error))
        raise
    finally:
        _current.reset(token)
        tracer.end(opened)


@contextlib.contextmanager
def span_attributes(**attributes: AttributeValue) -> Iterator[None]:
    """Add `synthralos.<name>` to every span that begins in the block; None is left out."""
    named = {"synthralos." + name: value for name, value in attributes.items() if value is not None}
    token = _facts.set(dict(_facts.get() or {}, **named))
    try:
        yield
    finally:
        _facts.reset(token)


def set_attributes(attributes: Attributes) -> None:
    """Add to the open span, if there is one."""
    opened = _current.get()
    if opened is not None:
        opened.set(attributes)


def headers() -> dict[str, str]:
    """Return the headers that propagate the trace with an HTTP call; {} outside a call's span."""
    tracer, opened = _tracer.get(), _current.get()
    if tracer is None or opened is None or opened.kind != CLIENT:
        return {}
    return tracer.headers(opened)


def configure(sample_ratio: float) -> None:
    """Make the current tracer record `sample_ratio` of the traces, 0 to 1."""
    tracer = _tracer.get()
    if tracer is not None:
        tracer.configure(sample_ratio)


def join_run(
    run: str,
    carrier: object = None,
    workflow: Optional[str] = None,
    started: Optional[float] = None,
    attributes: Optional[Attributes] = None,
) -> None:
    """Make the current action part of `run`; see Tracer.join."""
    tracer = _tracer.get()
    if tracer is not None:
        tracer.join(run, carrier, workflow, started, attributes)


def propagation_headers() -> Optional[dict[str, str]]:
    """Return the trace context for the case of another run: {traceparent ...}, or None."""
    tracer = _tracer.get()
    return tracer.propagation_headers() if tracer is not None else None


def _kind_of(error: Exception) -> str:
    failure = getattr(error, "failure", None)
    return getattr(failure, "cause", None) or type(error).__name__
