"""The retry system of a program: when what failed is tried again, after which wait, and how its
prompt is adjusted.
"""
import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from synthralos.calls import backoff
from synthralos.config.settings import STRATEGIES
from synthralos.core.errors import InvalidInput
from synthralos.inprocess.errors import ErrorContext
from synthralos.inprocess.runtime import LOGGER, Runtime, result_of
from synthralos.recovery import error_case, repair_actions, strategies
from synthralos.recovery.repair_actions import RunRequest
from synthralos.runtime.environment import Environment
from synthralos.storage import run_summaries

RecoveryCallback = Callable[..., Any]
PROMPT = "adjusted_prompt"
# Where a context has the prompt that failed, the first that is a text; in it, then within these.
PROMPT_FIELDS = ("prompt", "original_prompt", "query", "original_query")
WITHIN = ("task_data", "additional_context")
ALIASES = {
    "exponential_backoff": "exponential", "linear_backoff": "linear", "fixed_delay": "fixed",
}


@dataclass
class RetryOutcome:
    """What the attempts of one error came to.

    :ivar result: of the callback, where one attempt succeeded.
    :ivar error: the last attempt's exception as text, else None.
    :ivar delays: seconds waited before each attempt.
    """

    success: bool = False
    result: Any = None
    error: Optional[str] = None
    attempts: int = 0
    delays: list[float] = field(default_factory=list)


class RetrySystem:
    """Waits, calls again, and learns from what recoveries of each type of failure came to."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.rules = runtime.settings.retry
        self._counts: Counter[str] = Counter()
        self._by_strategy: Counter[str] = Counter()

    async def should_retry(self, error_context: ErrorContext, attempt: int = 0) -> bool:
        """Whether another attempt is worthwhile after `attempt` of them: not beyond max_retries,
        not of an error that a retry cannot cure, and not below success_rate_threshold.
        """
        if attempt >= self.rules.max_retries or error_context.cause in strategies.NOT_RETRIED:
            return False
        return await self.success_rate(error_context) >= self.rules.success_rate_threshold

    async def success_rate(self, error_context: ErrorContext) -> float:
        """The share of the last hour's recoveries from this type of failure that succeeded, 0 to 1;
        1.0 without enough of them, or without adaptive_learning.
        """
        if not self.rules.adaptive_learning:
            return 1.0
        env = self._runtime.environment()
        summaries = await self._runtime.read_write(run_summaries.recent_summaries, env.store)
        since = self._runtime.now() - error_case.RECENT_SECONDS
        learned = [run for run in summaries if run["at"] >= since]
        return float(
            run_summaries.success_rate(learned, self._runtime.now(), error_context.failure.type)
        )

    async def execute_retry(
        self,
        error_context: ErrorContext,
        recovery_callback: RecoveryCallback,
        original_prompt: Optional[str] = None,
        attempt: int = 1,
    ) -> dict[str, Any]:
        """Makes attempt number `attempt` (1, 2, ...), after its wait.

        :returns: {success, result, error, attempts_used, retry_context {attempt, max_attempts,
            strategy, delay, adjusted_prompt}}.
        """
        rate = await self.success_rate(error_context)
        outcome = RetryOutcome(attempts=attempt - 1)
        strategy = strategies.backoff_of(error_context.cause)
        prompt = adjusted_prompt(original_prompt, attempt, str(error_context.cause))
        await self._attempt(outcome, strategy, rate, recovery_callback, prompt)
        return {
            "success": outcome.success,
            "result": outcome.result,
            "error": outcome.error,
            "attempts_used": outcome.attempts,
            "retry_context": {
                "attempt": attempt,
                "max_attempts": self.rules.max_retries,
                "strategy": strategy,
                "delay": outcome.delays[-1],
                "adjusted_prompt": prompt,
            },
        }

    async def retry(
        self,
        error_context: ErrorContext,
        recovery_callback: RecoveryCallback,
        success_rate: Optional[float] = None,
    ) -> RetryOutcome:
        """Makes up to max_retries attempts, until one succeeds, and records for learning what they
        came to.

        The prompt that the error's context_data holds is adjusted a little more with each attempt;
        `backoff_strategy` there replaces the one of the error's type.
        """
        rate = await self.success_rate(error_context) if success_rate is None else success_rate
        data, cause = error_context.context_data, str(error_context.cause)
        strategy = _strategy(data.get("backoff_strategy"), cause)
        original = prompt_of(data)
        began, outcome = self._runtime.now(), RetryOutcome()
        while not outcome.success and outcome.attempts < self.rules.max_retries:
            prompt = adjusted_prompt(original, outcome.attempts + 1, cause)
            await self._attempt(outcome, strategy, rate, recovery_callback, prompt)
        if outcome.attempts:
            env = self._runtime.environment(error_context.error_id)
            await self._runtime.read_write(_learn, env, error_context, outcome, began)
        return outcome

    def get_statistics(self) -> dict[str, Any]:
        """{total_retries, successful_retries, failed_retries, strategy_usage} of this process."""
        names = ("total_retries", "successful_retries", "failed_retries")
        statistics: dict[str, Any] = {name: self._counts[name] for name in names}
        return dict(statistics, strategy_usage=dict(self._by_strategy))

    async def _attempt(
        self,
        outcome: RetryOutcome,
        strategy: str,
        rate: float,
        callback: RecoveryCallback,
        prompt: Optional[str],
    ) -> None:
        """One more attempt, told in `outcome`."""
        rules = self.rules
        outcome.attempts += 1
        delay = float(
            backoff.jittered_delay(
                strategy, outcome.attempts, rules.base_delay, rules.max_delay, True, rate,
                rules.backoff_multiplier,
            )
        )
        outcome.delays.append(delay)
        LOGGER.debug("attempt %d of %d in %.2f s (%s)%s", outcome.attempts, rules.max_retries,
                     delay, strategy, "" if prompt is None else ", with an adjusted prompt")
        await self._runtime.sleep(delay)
        self._counts["total_retries"] += 1
        self._by_strategy[strategy] += 1
        try:
            outcome.result = await result_of(call_back(callback, prompt))
        except Exception as error:
            text = "%s: %s" % (type(error).__name__, error)
            outcome.error = self._runtime.redactor.redact_text(text)
            self._counts["failed_retries"] += 1
            LOGGER.debug("attempt %d failed: %s", outcome.attempts, outcome.error)
            return
        outcome.success, outcome.error = True, None
        self._counts["successful_retries"] += 1
        LOGGER.debug("attempt %d succeeded", outcome.attempts)


def adjusted_prompt(prompt: Optional[str], attempt: int, cause: str) -> Optional[str]:
    """The prompt of attempt 1, 2, ...: each adds a further adjustment; None for None."""
    if prompt is None:
        return None
    request: RunRequest = {
        "query": prompt, "agent_type": "simple", "config": {}, "replay_of": None, "resume": None
    }
    for name in strategies.ADJUSTMENTS[:attempt]:
        request = repair_actions.apply(name, request, {}, {"failure": {"cause": cause}})
    return request["query"]


def prompt_of(context: Mapping[str, Any]) -> Optional[str]:
    """The prompt that failed, from a context or its `task_data`; None where neither has one."""
    for place in [context] + [context.get(name) for name in WITHIN]:
        if not isinstance(place, Mapping):
            continue
        for name in PROMPT_FIELDS:
            value = place.get(name)
            if isinstance(value, str) and value.strip():
                return value
    return None


def call_back(callback: RecoveryCallback, prompt: Optional[str]) -> Any:
    """Calls a callback that takes the adjusted prompt, by place or as `adjusted_prompt`, or
    nothing; what it must take and is not there is None.
    """
    try:
        parameters = list(inspect.signature(callback).parameters.values())
    except (ValueError, TypeError):
        # Of some built-in functions nothing is known.
        return callback() if prompt is None else callback(prompt)
    by_name = [p for p in parameters if p.name == PROMPT and p.kind is not p.VAR_POSITIONAL]
    if any(p.kind is not p.POSITIONAL_ONLY for p in by_name):
        return callback(**{PROMPT: prompt})
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [p for p in parameters if p.kind in by_place or p.kind is p.VAR_POSITIONAL]
    if not places:
        return callback()
    is_required = places[0].default is places[0].empty and places[0].kind is not (
        places[0].VAR_POSITIONAL
    )
    return callback(prompt) if prompt is not None or is_required else callback()


def _strategy(stated: Any, cause: str) -> str:
    if stated is None:
        return str(strategies.backoff_of(cause))
    name = ALIASES.get(str(stated).lower(), str(stated).lower())
    if name not in STRATEGIES:
        way_out = "Use one of " + ", ".join(STRATEGIES + tuple(ALIASES))
        raise InvalidInput("context.backoff_strategy", stated, "is unknown", way_out)
    return name


def _learn(
    env: Environment, error: ErrorContext, outcome: RetryOutcome, began: float
) -> None:
    run_summaries.learn(
        env.store,
        env.run,
        env.now(),
        workflow=error_case.WORKFLOW,
        outcome="recovered" if outcome.success else "failed",
        failure_type=error.failure.type,
        cause=error.cause,
        attempts=outcome.attempts,
        repeats=outcome.attempts - 1,
        duration=round(env.now() - began, 3),
    )
