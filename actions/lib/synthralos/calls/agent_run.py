"""One attempt with an agent: started, then asked for until it ends, within the attempt's limit."""

import time
from dataclasses import dataclass
from typing import Any, Callable, Optional

from synthralos.calls import output_schema, span_attributes
from synthralos.calls.agent_platforms import connect
from synthralos.calls.agent_platforms.protocol import (
    ASKING,
    COMPLETED,
    RUNNING,
    UNKNOWN,
    AgentPlatform,
    AgentRequest,
    Handle,
    NotSupported,
    RunState,
)
from synthralos.calls.http import CallError, Client
from synthralos.config.platforms import AgentEndpoint
from synthralos.core import failures
from synthralos.core.failures import Failure

# Of one question about a run.
CALL_SECONDS = 15.0
FIRST_POLL_SECONDS = 0.2
MAX_POLL_SECONDS = 5.0
POLL_GROWTH = 1.5
# What is left of the limit to cancel a run that takes longer: this share of it, and at most this.
CANCEL_SHARE = 0.1
MAX_CANCEL_SECONDS = 5.0
# A run that its platform did not know this long after its start was lost, or has not arrived.
MISSING_SECONDS = 20.0
# The same after a start that was answered with an error, which may have begun something as well.
MISSING_SECONDS_AFTER_ERROR = 2.0
# Of a start, what leaves open whether the run exists.
LOST_REPLIES = ("timeout", "network", "truncated_stream", "malformed_answer", "server_error")


@dataclass(frozen=True)
class Clock:
    """Time, for whoever waits: `now` in seconds that never go back, and `sleep` in seconds."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


REAL_TIME = Clock()


def run_agent(
    client: Client,
    endpoint: AgentEndpoint,
    request: AgentRequest,
    seconds: float,
    clock: Clock = REAL_TIME,
) -> dict[str, Any]:
    """Run an agent once, to its end.

    :param request: `agent` is the name at this endpoint.
    :param seconds: the limit; a run that takes longer is cancelled, where the API can.
    :returns: {output, execution_id, metadata, latency_ms}; `output` as `accept_output` returns it,
        and `execution_id` the id of the run at its platform, or None.
    :raises CallError: the platform or the agent failed, or its output is blank or does not match.
    """
    with span_attributes.invoke_agent(endpoint.platform, request.agent):
        started_at = clock.now()
        attempt = _Attempt(connect(client, endpoint.platform), request, seconds, clock)
        state = attempt.run()
        output, problem = output_schema.accept_output(state.output, request.schema)
        if problem is not None:
            raise CallError(problem)
        return {
            "output": output,
            "execution_id": _main_id(state.handle),
            "metadata": dict(state.metadata),
            "latency_ms": int((clock.now() - started_at) * 1000),
        }


class _Attempt:
    """One attempt; the parameters are those of run_agent."""

    def __init__(
        self, platform: AgentPlatform, request: AgentRequest, seconds: float, clock: Clock
    ) -> None:
        self._platform, self._request, self._clock = platform, request, clock
        self._seconds, self._ends_at = seconds, clock.now() + seconds
        cancel_seconds = 0.0
        if platform.capabilities.cancels:
            cancel_seconds = min(seconds * CANCEL_SHARE, MAX_CANCEL_SECONDS)
        self._polls_until = self._ends_at - cancel_seconds
        self._lost_start: Optional[CallError] = None
        self._missing_since: Optional[float] = None

    def run(self) -> RunState:
        """Return the state of a completed run.

        :raises CallError: in any other case.
        """
        state, pause = self._start(), FIRST_POLL_SECONDS
        while state.may_be_live and self._missing_too_long(state) is None:
            seconds_left = self._polls_until - self._clock.now()
            if seconds_left <= 0:
                state = self._cancel(state.handle)
                break
            self._clock.sleep(min(pause, seconds_left))
            pause = min(pause * POLL_GROWTH, MAX_POLL_SECONDS)
            state = self._join(state)
        if state.status == COMPLETED:
            return state
        raise CallError(self._failure(state))

    def _start(self) -> RunState:
        seconds = self._seconds
        if self._platform.capabilities.chooses_run_id:
            # It returns at once; what it does not return is found afterwards.
            seconds = min(seconds / 2, CALL_SECONDS)
        try:
            return self._platform.start(self._request, seconds)
        except CallError as error:
            handle = self._platform.handle_for(self._request)
            if handle is None or not _may_exist(error.failure):
                raise
            self._lost_start = error
            return RunState(UNKNOWN, handle)

    def _join(self, state: RunState) -> RunState:
        """Return the state now, or `state` where the platform cannot be asked at the moment."""
        seconds = min(CALL_SECONDS, max(0.1, self._polls_until - self._clock.now()))
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
            self._missing_since = None
            return None
        if self._missing_since is None:
            self._missing_since = self._clock.now()
        missing = self._clock.now() - self._missing_since
        lost = self._lost_start
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
        return max(0.1, self._ends_at - self._clock.now())

    def _failure(self, state: RunState) -> Failure:
        if state.failure is not None:
            return state.failure
        if state.status == ASKING and state.question is not None:
            message = "the agent asks, and nobody has answered: %s" % state.question.text
            return failures.make_failure("input_required", message)
        if self._lost_start is not None:
            lost: Failure = self._lost_start.failure
            return lost
        if state.status == UNKNOWN and self._missing_since is not None:
            message = "the platform does not know of the run that it started"
            return failures.make_failure("server_error", message)
        message = "no answer within %.1f s; the run may still be live" % self._seconds
        return failures.make_failure("timeout", message)


def _may_exist(failure: Failure) -> bool:
    return failure.cause in LOST_REPLIES and bool(failure.evidence.get("sent", True))


def _main_id(handle: Handle) -> Optional[str]:
    """Return the id of a run by which people find it at its platform."""
    for name in ("execution", "run", "task", "response"):
        if name in handle.ids:
            return handle.ids[name]
    return None
