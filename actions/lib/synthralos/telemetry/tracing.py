"""Spans: what an action did and how long it took, below the span of its run.

An action's process has one tracer, which `use_tracer` makes current. Where there is none, as in a
Python program that uses the library, `span` does nothing but yield. A span holds names, enums and
numbers: never a caller's text.
"""

import contextlib
import contextvars
import itertools
import time
from dataclasses import dataclass, field
from typing import Optional

from synthralos.telemetry import trace_context
from synthralos.telemetry.trace_context import TraceContext

INTERNAL, CLIENT = "internal", "client"
# Of one action: a round tries at most some dozens of targets, a step asks some dozens of times.
MAX_SPANS = 500

_tracer = contextvars.ContextVar("synthralos_tracer", default=None)
_current = contextvars.ContextVar("synthralos_span", default=None)
_facts = contextvars.ContextVar("synthralos_span_facts", default=None)


@dataclass
class Span:
    """:ivar began, ended: seconds since the epoch; error: what kind of failure ended it, or None.
    :ivar attributes: name to text, number, boolean, or a list of texts; None is left out.
    """

    name: str
    span_id: str
    parent_id: Optional[str]
    kind: str = INTERNAL
    began: float = 0.0
    ended: Optional[float] = None
    attributes: dict = field(default_factory=dict)
    error: Optional[str] = None

    def set(self, attributes):
        self.attributes.update(attributes)

    def fail(self, kind):
        """Marks the span as failed; `kind` becomes its `error.type`."""
        self.error = kind or "error"


class Tracer:
    """The spans of one action.

    :param name: of the action; own: its execution id.
    :param now: a callable that gives seconds since the epoch.
    """

    def __init__(self, name, execution_id, now, monotonic=time.monotonic):
        self.execution_id, self.run, self.recording = execution_id, execution_id, False
        self.spans, self.dropped_spans = [], 0
        self._now, self._monotonic = now, monotonic
        self._started_at, self._monotonic_start = now(), monotonic()
        self._context, self._joined, self._sample_ratio = None, False, 1.0
        self._workflow, self._started, self._run_attributes = None, None, {}
        self._numbers = itertools.count()
        self.action = Span(
            name, trace_context.span_id(execution_id, "action"), None, began=self._started_at
        )

    def configure(self, sample_ratio):
        """Records from now on, if the trace is among the `sample_ratio` that is."""
        self.recording, self._sample_ratio = True, sample_ratio

    @property
    def context(self):
        if self._context is None:
            self._context = TraceContext.of_run(self.run)
        return self._context

    @property
    def sampled(self):
        caller_decision = self.context.sampled
        return (
            trace_context.sampled(self.context.trace_id, self._sample_ratio)
            if caller_decision is None
            else caller_decision
        )

    def join(self, run, carrier=None, workflow=None, started=None, attributes=None):
        """The action belongs to `run`.

        :param carrier: {traceparent, tracestate} that the run was given, or None.
        :param started: when the run was, in seconds since the epoch.
        :param attributes: of the run's span and the action's.
        """
        self.run, self._joined = run, True
        self._workflow, self._started = workflow, started
        self._run_attributes = dict(attributes or {})
        carrier = carrier if isinstance(carrier, dict) else {}
        caller_context = TraceContext.parsed(carrier.get("traceparent"), carrier.get("tracestate"))
        self._context = caller_context or TraceContext.of_run(run)

    def now(self):
        """Seconds since the epoch, by a clock that never goes back within the action."""
        return self._started_at + self._monotonic() - self._monotonic_start

    def begin(self, name, kind, attributes):
        parent_span = _current.get()
        span_id = trace_context.span_id(self.execution_id, next(self._numbers))
        parent_id = parent_span.span_id if parent_span is not None else self.action.span_id
        return Span(name, span_id, parent_id, kind, self.now(), attributes=attributes)

    def end(self, span):
        span.ended = self.now()
        if len(self.spans) < MAX_SPANS:
            self.spans.append(span)
        else:
            self.dropped_spans += 1

    def headers(self, span):
        """The headers that take the trace along with a call under `span`."""
        if self.recording:
            return self.context.headers(span.span_id, self.sampled)
        # Whoever makes no spans hands on what it was given.
        return self.context.headers() if self.context.parent_id else {}

    def propagation_headers(self):
        """{traceparent, tracestate} for a run that this action starts; None when not recording
        and nobody has given one.
        """
        return self.headers(self.action) or None

    def finish(self, error, attributes, ended=False, run_error=None):
        """Ends the action's span, and the run's where the run ends with it.

        :param error: what kind of failure ended the action, or None; run_error: the run.
        :param attributes: of both spans; ended: whether the run ends here.
        """
        ended_at, is_own_run = self.now(), self.run == self.execution_id
        facts = {"synthralos.run": self.run, "synthralos.workflow": self._workflow}
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
        # An action that no workflow has started is all of its run.
        self.action.parent_id = root.parent_id if is_own_run else root.span_id
        self.action.ended, self.action.error = ended_at, error
        self.action.set(dict(facts, **{"synthralos.execution": self.execution_id}))
        if self.dropped_spans:
            self.action.set({"synthralos.spans_lost": self.dropped_spans})
        self.spans.append(self.action)
        if ended and not is_own_run:
            self.spans.append(root)

    def worth_sending(self):
        """Whether there is anything to see: a run's task, or a call that was made."""
        return self.recording and self.sampled and (self._joined or len(self.spans) > 1)


@contextlib.contextmanager
def use_tracer(tracer):
    """Makes `tracer` current in the block."""
    current, token = _tracer.set(tracer), _current.set(None)
    try:
        yield tracer
    finally:
        _current.reset(token)
        _tracer.reset(current)


@contextlib.contextmanager
def span(name, attributes=None, kind=INTERNAL):
    """A span around the block, below the one that is open; yields it, to be added to.

    An exception that leaves the block marks it as failed: by the cause of what a call raised, else
    by the name of its class.
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
def span_attributes(**attributes):
    """What the spans that begin in the block bear, as `synthralos.<name>`; None is left out."""
    named = {"synthralos." + name: value for name, value in attributes.items() if value is not None}
    token = _facts.set(dict(_facts.get() or {}, **named))
    try:
        yield
    finally:
        _facts.reset(token)


def set_attributes(attributes):
    """Adds to the open span, if there is one."""
    opened = _current.get()
    if opened is not None:
        opened.set(attributes)


def headers():
    """The headers that take the trace along with an HTTP call: {} outside a call's own span."""
    tracer, opened = _tracer.get(), _current.get()
    if tracer is None or opened is None or opened.kind != CLIENT:
        return {}
    return tracer.headers(opened)


def configure(sample_ratio):
    """Has the current tracer record `sample_ratio` of the traces, 0 to 1."""
    tracer = _tracer.get()
    if tracer is not None:
        tracer.configure(sample_ratio)


def join_run(run, carrier=None, workflow=None, started=None, attributes=None):
    """The current action belongs to `run`; see Tracer.join."""
    tracer = _tracer.get()
    if tracer is not None:
        tracer.join(run, carrier, workflow, started, attributes)


def propagation_headers():
    """What a case for another run says of the trace: {traceparent ...}, or None."""
    tracer = _tracer.get()
    return tracer.propagation_headers() if tracer is not None else None


def _kind_of(error):
    failure = getattr(error, "failure", None)
    return getattr(failure, "cause", None) or type(error).__name__
