"""A run of an agent: started once, then asked for until it ends or its limit is reached.

Whoever calls `run_agent` waits for a while only. If an agent takes longer, StillRunning is raised,
and its run is joined by its handle later, from any process.
"""

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from synthralos.calls import idempotency, output_schema, span_attributes
from synthralos.calls.agent_platforms import connect
from synthralos.calls.agent_platforms.protocol import (
    ASKING,
    COMPLETED,
    FAILED,
    RUNNING,
    UNKNOWN,
    AgentPlatform,
    AgentRequest,
    Handle,
    NoCheckpoint,
    NotSupported,
    Question,
    RunState,
)
from synthralos.calls.attempts import StillRunning
from synthralos.calls.http import CallError, Client
from synthralos.config.platforms import AgentEndpoint
from synthralos.core import failures
from synthralos.core.failures import Failure

# Of one question about a run.
CALL_SECONDS, MIN_CALL_SECONDS = 15.0, 2.0
# Between two questions while somebody waits, and after that.
FIRST_POLL_SECONDS = 0.2
MAX_POLL_SECONDS = 5.0
POLL_GROWTH = 1.5
MIN_DELAY_SECONDS, DELAY_SHARE = 10.0, 0.2
# What is left of the limit to cancel a run that takes longer: this share of it, and at most this.
CANCEL_SHARE = 0.1
MAX_CANCEL_SECONDS = 5.0
# A run that its platform has named, and has not known for this long, is lost: a server restarts, or
# only one of its workers knows the run.
LOST_SECONDS = 180.0
# The same of a run whose start may not have arrived.
MISSING_SECONDS = 20.0
# The same after a start that was answered with an error, which may have begun something as well.
MISSING_SECONDS_AFTER_ERROR = 2.0
# Of a start, what leaves open whether the run exists.
LOST_REPLIES = ("timeout", "network", "truncated_stream", "malformed_answer", "server_error")

# Called with the handle before a run is started, where it can be known by then, and whenever the
# platform says more: (handle or None, progress, for how many seconds the platform has not known the
# run, or None if it knows it).
Record = Callable[[Optional[Handle], str, Optional[float]], None]


@dataclass(frozen=True)
class Answer:
    """What becomes of an agent's question.

    :ivar text: a person's answer, for the agent.
    :ivar failure: why there is none: the run is cancelled, and its attempt has failed.
    """

    text: str = ""
    failure: Optional[Failure] = None


# Called with the handle of a run that asks, and with its question. It may raise StillRunning, if
# the answer comes later.
AnswerQuestion = Callable[[Handle, Question], Answer]


class QuestionIsOpen(StillRunning):
    """Raised when a person has to answer an agent before its run goes on.

    :ivar question: the agent's.
    """

    def __init__(self, question: Question) -> None:
        super().__init__(0.0)
        self.question = question


def nobody_answers(handle: Handle, question: Question) -> Answer:
    """Return the Answer where no person can be asked."""
    message = "the agent asks, and nobody has answered: %s" % question.text
    return Answer(failure=failures.make_failure("input_required", message))


@dataclass(frozen=True)
class Clock:
    """Time, for whoever waits: `now` in seconds that never go back, and `sleep` in seconds."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


REAL_TIME = Clock()


@dataclass(frozen=True)
class Patience:
    """How long to wait for a run.

    :ivar seconds: the limit of the run since its start; then it is cancelled, where the API can.
    :ivar elapsed: seconds since its start.
    :ivar hold_seconds: how long one call waits; None for the whole limit.
    :ivar unknown_seconds: for how long the platform has not known the run, as `record` was told
        last; None if it knew it.
    """

    seconds: float
    elapsed: float = 0.0
    hold_seconds: Optional[float] = None
    unknown_seconds: Optional[float] = None


def run_agent(
    client: Client,
    endpoint: AgentEndpoint,
    request: AgentRequest,
    patience: Patience,
    clock: Clock = REAL_TIME,
    handle: Optional[Handle] = None,
    record: Record = lambda handle, progress, unknown_seconds: None,
    answer_question: AnswerQuestion = nobody_answers,
    may_start: bool = True,
) -> dict[str, Any]:
    """Start a run of an agent, or join the one of `handle`, and wait for its end.

    :param request: `agent` is the name at this endpoint. If its checkpoint cannot be continued,
        the run is started like any other.
    :param record: stores the handle, so that the run is found whatever becomes of this process.
    :param may_start: false where another start, whose reply was lost, may have had an effect that
        must not be repeated: the run is joined or it is a failure.
    :returns: {output, execution_id, metadata, latency_ms}; `output` as `accept_output` returns it,
        and `execution_id` the id of the run at its platform, or None. `adapted` where the run was
        started although the request has a checkpoint.
    :raises StillRunning: it has not ended within `hold_seconds`.
    :raises CallError: the platform or the agent failed, or its output is blank or does not match;
        `evidence.live` where the run may go on.
    """
    with span_attributes.invoke_agent(endpoint.platform, request.agent):
        started_at = clock.now() - patience.elapsed
        platform = connect(client, endpoint.platform)
        waiting = _Waiting(
            platform, request, patience, clock, record, answer_question, may_start
        )
        state = waiting.wait(handle)
        output, problem = output_schema.accept_output(state.output, request.schema)
        if problem is not None:
            raise CallError(failures.with_evidence(problem, ran=True))
        result = {
            "output": output,
            "execution_id": _main_id(state.handle),
            "metadata": dict(state.metadata),
            "latency_ms": int((clock.now() - started_at) * 1000),
        }
        return dict(result, adapted=waiting.adapted) if waiting.adapted else result


class _Waiting:
    """Waits for one run; the parameters are those of run_agent."""

    def __init__(
        self,
        platform: AgentPlatform,
        request: AgentRequest,
        patience: Patience,
        clock: Clock,
        record: Record,
        answer_question: AnswerQuestion,
        may_start: bool,
    ) -> None:
        self._platform, self._request, self._clock = platform, request, clock
        self._record, self._answer_question = record, answer_question
        self._may_start = may_start
        self._seconds = patience.seconds
        self.adapted: list[str] = []
        now = clock.now()
        self._started_at, self._ends_at = now - patience.elapsed, (
            now - patience.elapsed + patience.seconds
        )
        cancel_seconds = 0.0
        if platform.capabilities.cancels:
            cancel_seconds = min(patience.seconds * CANCEL_SHARE, MAX_CANCEL_SECONDS)
        self._polls_until = self._ends_at - cancel_seconds
        can_return = platform.capabilities.joins and patience.hold_seconds is not None
        self._hold_until = now + (patience.hold_seconds or 0.0) if can_return else self._ends_at
        self._lost_start: Optional[CallError] = None
        unknown = patience.unknown_seconds
        self._missing_since = None if unknown is None else now - unknown
        # Whether the platform has named the run, so that its start has arrived.
        self._is_named = False

    def wait(self, handle: Optional[Handle]) -> RunState:
        """Return the state of a completed run.

        :param handle: of the run; None to start one.
        :raises StillRunning: it has not ended yet.
        :raises CallError: in any other case.
        """
        if handle is None:
            state = self._start()
        else:
            self._is_named = handle != self._platform.handle_for(self._request)
            state = self._find_or_start(handle)
        pause = FIRST_POLL_SECONDS
        while True:
            if state.status == ASKING and state.question is not None:
                state = self._answer(state, state.question)
            if not state.may_be_live or self._missing_too_long(state) is not None:
                break
            now = self._clock.now()
            if now >= self._polls_until:
                state = self._cancel(state.handle)
                break
            if now >= self._hold_until:
                missing = self._missing_since
                unknown = None if missing is None else now - missing
                self._record(state.handle, state.progress, unknown)
                raise StillRunning(self._delay(now))
            self._clock.sleep(min(pause, min(self._polls_until, self._hold_until) - now))
            pause = min(pause * POLL_GROWTH, MAX_POLL_SECONDS)
            state = self._join(state)
        if state.status == COMPLETED:
            return state
        raise CallError(self._failure(state))

    def _delay(self, now: float) -> float:
        """Return when to ask again: the longer the run takes, the less often, but at its limit."""
        delay = max(MIN_DELAY_SECONDS, (now - self._started_at) * DELAY_SHARE)
        return max(1.0, min(delay, self._polls_until - now))

    def _start(self) -> RunState:
        if not self._may_start:
            message = "the reply to the start was lost, and something else is asked for now"
            failure = failures.make_failure("server_error", message)
            raise CallError(failures.with_evidence(failure, ran=True))
        seconds = self._seconds
        if self._platform.capabilities.joins:
            # It returns at once; what it does not return is found afterwards, where it can be.
            seconds = min(seconds / 2, CALL_SECONDS)
        handle = self._platform.handle_for(self._request)
        self._missing_since = None
        self._record(handle, "", None)
        try:
            state = self._begin(seconds)
        except (NoCheckpoint, NotSupported):
            # A start like any other.
            self._request = replace(self._request, checkpoint=None)
            self.adapted.append("started over: there was no checkpoint to continue from")
            return self._start()
        except CallError as error:
            if handle is None or not may_exist(error.failure):
                raise
            self._lost_start = error
            return RunState(UNKNOWN, handle)
        self._is_named = True
        self._record(state.handle, state.progress, None)
        return state

    def _find_or_start(self, handle: Handle) -> RunState:
        """Return the state of the run of `handle`; it is started where it cannot be found without
        the reply to its start, which was lost, and where the same start can be repeated because it
        would have the same id.
        """
        try:
            state = self._join(RunState(RUNNING, handle))
        except NotSupported:
            return self._start()
        is_same_start = (
            self._platform.capabilities.chooses_run_id and
            handle == self._platform.handle_for(self._request)
        )
        return self._start() if state.status == UNKNOWN and is_same_start else state

    def _begin(self, seconds: float) -> RunState:
        checkpoint = self._request.checkpoint
        if checkpoint is None:
            return self._platform.start(self._request, seconds)
        return self._platform.resume(self._request, checkpoint, seconds)

    def _answer(self, state: RunState, question: Question) -> RunState:
        """Give the agent a person's answer and return the state after that."""
        answer = self._answer_question(state.handle, question)
        if answer.failure is not None:
            return RunState(FAILED, self._withdraw(state.handle), failure=answer.failure)
        # Whoever delivers it, and however often: it is one answer.
        identity = [state.handle.ids, question.id, question.text]
        key = idempotency.key(state.handle.platform, "ANSWER", state.handle.agent, identity)
        seconds = min(CALL_SECONDS, self._seconds_left())
        try:
            state = self._platform.answer(state.handle, question, answer.text, key, seconds)
        except CallError as error:
            if error.failure.policy.scope not in ("moment", "host", "state"):
                raise
            # It asks again at the next look.
            return RunState(RUNNING, state.handle)
        self._record(state.handle, state.progress, None)
        if state.status == ASKING and state.question == question:
            # The platform has not noticed yet.
            return RunState(RUNNING, state.handle)
        return state

    def _withdraw(self, handle: Handle) -> Handle:
        """Cancel a run whose question is not answered: it waits, and has no effect meanwhile."""
        if self._platform.capabilities.cancels:
            with contextlib.suppress(CallError):
                self._platform.cancel(handle, min(CALL_SECONDS, self._seconds_left()))
        return handle

    def _join(self, state: RunState) -> RunState:
        """Return the state now, or `state` where the platform cannot be asked at the moment."""
        seconds = self._polls_until - self._clock.now()
        seconds = min(CALL_SECONDS, max(MIN_CALL_SECONDS, seconds))
        try:
            return self._platform.join(state.handle, seconds)
        except NotSupported as error:
            # What cannot be found without the reply that was lost.
            raise self._lost_start or error from None
        except CallError as error:
            # The run goes on meanwhile, whatever is between it and us.
            if error.failure.policy.scope not in ("moment", "host", "state"):
                raise
            return state

    def _missing_too_long(self, state: RunState) -> Optional[float]:
        """Return for how many seconds the platform has not known the run, if that is too long."""
        if state.status != UNKNOWN:
            self._missing_since, self._is_named = None, True
            return None
        lost = self._lost_start
        is_looked_for = not self._is_named and lost is None
        if self._missing_since is None:
            self._missing_since = self._started_at if is_looked_for else self._clock.now()
        missing = self._clock.now() - self._missing_since
        if self._is_named:
            limit = LOST_SECONDS
        else:
            was_answered = lost is not None and lost.failure.status is not None
            limit = MISSING_SECONDS_AFTER_ERROR if was_answered else MISSING_SECONDS
        return missing if missing >= limit else None

    def _cancel(self, handle: Handle) -> RunState:
        if not self._platform.capabilities.cancels:
            return RunState(UNKNOWN, handle)
        try:
            state = self._platform.cancel(handle, self._seconds_left())
            while state.status == RUNNING and self._clock.now() < self._ends_at:
                self._clock.sleep(min(FIRST_POLL_SECONDS, self._seconds_left()))
                state = self._platform.join(handle, self._seconds_left())
        except CallError:
            return RunState(UNKNOWN, handle)
        if state.failure is not None and state.failure.cause == "cancelled":
            message = "no answer within %.1f s; the run was cancelled" % self._seconds
            too_long = failures.make_failure("agent_timeout", message)
            return RunState(state.status, handle, failure=too_long)
        return state

    def _seconds_left(self) -> float:
        return max(MIN_CALL_SECONDS, self._ends_at - self._clock.now())

    def _failure(self, state: RunState) -> Failure:
        if state.failure is not None:
            return state.failure
        if self._lost_start is not None:
            lost: Failure = self._lost_start.failure
            return lost
        if state.status == UNKNOWN and self._missing_since is not None:
            message = "the platform does not know of the run that it started"
            return failures.with_evidence(failures.make_failure("server_error", message), ran=True)
        message = "no answer within %.1f s; the run may still be live" % self._seconds
        failure = failures.make_failure("timeout", message)
        if self._platform.capabilities.cancels:
            # Nobody else is asked while the cancellation is not confirmed.
            failure = failures.with_evidence(failure, live=True)
        return failure


def may_exist(failure: Failure) -> bool:
    """Return whether a run may exist although its start failed this way."""
    return failure.cause in LOST_REPLIES and bool(failure.evidence.get("sent", True))


def _main_id(handle: Handle) -> Optional[str]:
    """Return the id of a run by which people find it at its platform."""
    for name in ("execution", "run", "task", "response"):
        if name in handle.ids:
            return handle.ids[name]
    return None
