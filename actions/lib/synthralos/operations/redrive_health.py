"""Whether a redrive may start another run: by what its targets did since the redrive began.

Everything is derived from what is written down: the ledger's outcomes, of whatever run, and the
records of redriven runs. A target begins with one run. Each answer in a row allows one more to run
at the same time; after a failure it is one again. Two runs that fail in a row, or a failure after
which the breaker does not let calls through, mean that it fails again.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Optional

from synthralos.operations import redrive_request
from synthralos.operations.redrive_selection import Candidate
from synthralos.runtime.environment import Environment
from synthralos.storage import agent_runs, circuit_breaker, redrives
from synthralos.storage.redrives import RedrivenRun

FAILED_RUNS = 2
# How long a run that has not ended counts as one that may still call its target for the first
# time: in a burst, StackStorm starts it minutes later.
MAX_QUEUE_SECONDS = 300.0
WINDOW_SECONDS = 60.0


@dataclass
class TargetState:
    """What a redrive may do with a target.

    :ivar down: why it fails again, for people, or None.
    :ivar until: until when it must not be called, in seconds since the epoch; 0.0 for now.
    :ivar room: how many redriven runs may be at work for it at the same time.
    :ivar at_work: how many are.
    """

    down: Optional[str]
    until: float
    room: int
    at_work: int


class RedriveHealth:
    """The states of the targets of a redrive; each costs two datastore calls, once.

    :param since: when the redrive began, in seconds since the epoch.
    :param runs: the RedrivenRuns of this redrive and of others, in any order.
    """

    def __init__(self, env: Environment, since: float, runs: Iterable[RedrivenRun]) -> None:
        self._env, self._since = env, since
        self._runs = list(runs)
        self._states: dict[str, TargetState] = {}
        self._accepted: Optional[set[str]] = None

    def state(self, target: str) -> TargetState:
        """Return the TargetState of a target."""
        if target not in self._states:
            self._states[target] = self._read(target)
        return self._states[target]

    def states(self, candidate: Candidate) -> list[TargetState]:
        """Return the states of a candidate's targets; without any, that of its workflow."""
        return [self.state(name) for name in targets_of(candidate.workflow, candidate.targets)]

    def is_down(self, candidate: Candidate) -> Optional[str]:
        """Return why every target of the candidate fails again, or None if one may not."""
        states = self.states(candidate)
        return states[0].down if all(state.down for state in states) else None

    def may_start(self, candidate: Candidate) -> bool:
        """Whether a run may be started now, for one target at least."""
        now = self._env.now()
        return any(
            state.down is None and state.until <= now and state.at_work < state.room
            for state in self.states(candidate)
        )

    def next_call(self, candidate: Candidate) -> float:
        """Return when one of its targets may be called, in seconds since the epoch; 0.0 for now."""
        return min(state.until for state in self.states(candidate) if state.down is None)

    def started(self, candidate: Candidate) -> None:
        """Count a run that has been started since."""
        for state in self.states(candidate):
            state.at_work += 1

    def _read(self, target: str) -> TargetState:
        runs = [run for run in self._runs if target in targets_of(run.workflow, run.targets)]
        at_work = sum(is_at_work(run) for run in runs)
        ended = sorted(
            (run for run in runs if run.ended_at is not None and run.ended_at >= self._since),
            key=lambda run: run.ended_at or 0.0,
            reverse=True,
        )
        failed = leading_failures(ended)
        if len(failed) >= FAILED_RUNS:
            reason = "%s fails again: its last runs ended with %s" % (
                target, failed[0].cause or "unknown"
            )
            return TargetState(reason, 0.0, 0, at_work)
        answers = 0
        for run in ended:
            if run.outcome != redrives.RECOVERED:
                break
            answers += 1
        if target.startswith(_WORKFLOW):
            return TargetState(None, 0.0, 1 + answers, at_work)
        return self._read_ledger(target, answers, at_work)

    def _read_ledger(self, target: str, answers: int, at_work: int) -> TargetState:
        ledger: Any = self._env.ledger
        outcomes = [item for item in ledger.window(target) if item.at >= self._since]
        breaker, now = ledger.breaker_state(target), self._env.now()
        failed_runs, cause, successes = set(), None, 0
        for outcome in outcomes:
            if outcome.ok or not redrive_request.is_redrivable(outcome.cause):
                break
            failed_runs.add(outcome.run)
            cause = cause or outcome.cause
        for outcome in outcomes:
            if not outcome.ok:
                break
            successes += 1
        until = float(breaker.until or 0.0)
        is_closed = breaker.state != circuit_breaker.OPEN and until <= now
        if len(failed_runs) >= FAILED_RUNS or (failed_runs and not is_closed):
            return TargetState("%s fails again: %s" % (target, cause), until, 0, at_work)
        room = 1 + max(successes, answers) + self._accepted_at(target)
        if breaker.state == circuit_breaker.HALF_OPEN:
            room = 1
        return TargetState(None, until, room, at_work)

    def _accepted_at(self, target: str) -> int:
        """Return how many redriven agents are working there: their platform has answered."""
        if not any(is_at_work(run) and run.workflow == "agent_recovery" for run in self._runs):
            return 0
        if self._accepted is None:
            at_work = {run.run for run in self._runs if is_at_work(run)}
            self._accepted = {
                "%s %s" % (agent_run.target, agent_run.started_by)
                for agent_run in agent_runs.undelivered(self._env.store)
                if agent_run.handle is not None and agent_run.started_by in at_work
            }
        return sum(entry.startswith(target + " ") for entry in self._accepted)


_WORKFLOW = "workflow:"


def targets_of(workflow: str, targets: Collection[str]) -> list[str]:
    """Return the names under which a run's targets are judged: its workflow, if it has none."""
    return list(targets) or [_WORKFLOW + workflow]


def is_at_work(run: RedrivenRun) -> bool:
    """Whether a run was started and has not ended."""
    return run.outcome is None


def leading_failures(ended: Iterable[RedrivenRun]) -> list[RedrivenRun]:
    """Return the first runs of the list that failed, up to one that was answered.

    What failed for its own request says nothing of the target.

    :param ended: runs, the newest end first.
    """
    failed = []
    for run in ended:
        if run.outcome == redrives.RECOVERED:
            break
        if run.outcome == redrives.FAILED and redrive_request.is_redrivable(run.cause):
            failed.append(run)
    return failed


def recent_starts(runs: Iterable[RedrivenRun], now: float) -> int:
    """Return how many runs may call their targets within the same 60 seconds as one started now.

    A run calls its target at some time between its start and its end. So each that is at work, or
    ended within the last 60 seconds, may share 60 seconds with a run that is started now.

    :param runs: of this redrive and of others.
    """
    return sum(
        run.outcome != redrives.NOT_STARTED and (
            (run.ended_at or run.claimed_at) > now - WINDOW_SECONDS or
            (is_at_work(run) and run.claimed_at > now - MAX_QUEUE_SECONDS)
        )
        for run in runs
    )
