"""The loop detector of a program: whether an agent repeats itself, and its pauses.

The same steps, patterns and pauses as `loop.*` and `agent.*` of the pack have.
"""
from collections.abc import Mapping
from typing import Any, Optional

from synthralos.inprocess.errors import ErrorContext
from synthralos.inprocess.runtime import LOGGER, Runtime
from synthralos.loop_detection import detector, patterns
from synthralos.loop_detection.detector import CheckResult, RecordedPattern
from synthralos.storage import pauses
from synthralos.storage.datastore import require_available

STATE = "state"


class AgentPattern(RecordedPattern):
    """A pattern that was recorded for the agent `agent_id`."""

    agent_id: str


class LoopDetector:
    """Every method raises InvalidInput for a name it cannot work with."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.limits = detector.LoopDetectionConfig.from_config(runtime.settings.loop_detection)

    async def record_step(
        self,
        agent_id: str,
        action: str,
        input: Any = None,
        output: Any = None,
        progress: Optional[float] = None,
        task_id: Optional[str] = None,
    ) -> CheckResult:
        """Records a step of the agent and says what its time window shows; a critical loop pauses
        it where enable_auto_pause is on.

        :param action: the tool or call, a name; input, output: JSON values of it.
        :param progress: a number that grows while the agent gets on.
        :returns: the same as `loop.check` of the pack.
        """
        return await self._record(agent_id, action, input, output, progress, task_id)

    async def _record(
        self,
        agent_id: str,
        action: str,
        step_input: Any,
        output: Any,
        progress: Optional[float],
        task_id: Optional[str],
        compare_ids: bool = True,
    ) -> CheckResult:
        env = self._runtime.environment()
        seen = await self._runtime.read_write(
            detector.record_step,
            env.store,
            self._runtime.now(),
            self.limits,
            agent_id,
            action,
            detector.parse_json_text(step_input),
            detector.parse_json_text(output),
            progress,
            task_id,
            self._runtime.redactor,
            compare_ids,
        )
        if seen["looping"]:
            LOGGER.debug("%s: %s loop, %s", agent_id, seen["level"], seen["reason"])
        return seen

    async def record_state(
        self, agent_id: str, state_data: Any, task_id: Optional[str] = None
    ) -> CheckResult:
        """Records a state that the agent is in; states that come round are a loop too. Returns as
        record_step does.
        """
        return await self.record_step(agent_id, STATE, input=state_data, task_id=task_id)

    async def check_for_loop(
        self, error_context: ErrorContext, action_data: Optional[Mapping[str, Any]] = None
    ) -> bool:
        """Records an error as a step of its agent; whether that agent loops now.

        :param action_data: {action, input, output, progress} of the step that failed, in place of
            the error.
        """
        step = dict(action_data or {})
        failure = error_context.failure
        error = {"type": failure.type, "cause": failure.cause, "message": failure.message}
        seen = await self._record(
            error_context.agent_id,
            str(step.get("action") or "error"),
            step.get("input", step if step else error),
            step.get("output"),
            step.get("progress"),
            error_context.task_id,
            compare_ids=bool(step),
        )
        return bool(seen["level"] == patterns.CRITICAL)

    async def is_agent_paused(self, agent_id: str) -> bool:
        """Whether the agent is to be left alone now."""
        return await self.get_pause(agent_id) is not None

    async def get_pause(self, agent_id: str) -> Optional[pauses.PublicPause]:
        """The agent's pause; None without one."""
        env = self._runtime.environment()
        paused = await self._runtime.read_write(
            pauses.pause_of, env.store, agent_id, self._runtime.now()
        )
        return pauses.public_pause(paused)

    async def pause_agent(
        self, agent_id: str, reason: str, seconds: Optional[float] = None
    ) -> bool:
        """Pauses the agent; whether that could be recorded.

        :param seconds: default: loop_detection.pause_seconds.
        """
        env = self._runtime.environment()
        paused = await self._runtime.read_write(
            pauses.pause, env.store, agent_id, self._runtime.now(), reason,
            seconds or self.limits.pause_seconds, redactor=self._runtime.redactor,
        )
        return paused is not None

    async def get_loop_patterns(self, agent_id: Optional[str] = None) -> list[AgentPattern]:
        """The patterns that were seen, newest first: of one agent, or of all.

        :raises DatastoreUnavailable: the datastore is unavailable.
        """
        env = self._runtime.environment()

        def read() -> list[AgentPattern]:
            agents = detector.agents(env.store) if agent_id is None else [agent_id]
            patterns: list[AgentPattern] = [
                {"agent_id": agent, **pattern}
                for agent in agents
                for pattern in detector.patterns(env.store, agent)
            ]
            require_available(env.store)
            return patterns

        patterns = await self._runtime.read_write(read)
        return sorted(patterns, key=lambda pattern: pattern["last_seen"], reverse=True)

    async def reset_agent(self, agent_id: str) -> bool:
        """Forgets the agent's window and ends all its pauses; whether there was one to end. The
        patterns stay on record.
        """
        env, now = self._runtime.environment(), self._runtime.now()

        def reset() -> bool:
            _, resumed = detector.reset(env.store, agent_id, now)
            return bool(pauses.resume(env.store, agent_id, now)) or resumed

        resumed = await self._runtime.read_write(reset)
        LOGGER.debug("%s is reset%s", agent_id, ", and no longer paused" if resumed else "")
        return resumed
