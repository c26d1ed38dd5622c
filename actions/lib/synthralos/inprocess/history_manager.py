"""The history manager of a program: versions of agents' states, errors and interventions.

The same versions as `history.*` of the pack has, in the program's datastore.
"""
from collections.abc import Mapping
from typing import Any, Optional

from synthralos.core.timestamps import to_iso
from synthralos.inprocess.errors import ErrorContext
from synthralos.inprocess.runtime import LOGGER, Runtime
from synthralos.storage import versions

ACTOR = "error_handling"


class HistoryManager:
    """Records and reads versions of agents' states, errors and interventions.

    Every method raises InvalidInput for a name or value that is not valid, and DatastoreUnavailable
    when the datastore is unavailable.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.rules = versions.history_config(runtime.settings)

    async def record_state(
        self,
        agent_id: str,
        task_id: str,
        state_data: Any,
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> str:
        """Stores a state, a JSON value, and returns its version: v0001, v0002 ... of the task."""
        return await self._record(agent_id, task_id, "state", state_data, metadata)

    async def record_error(self, error_context: ErrorContext) -> str:
        """Records an error and returns its version."""
        error = {
            "type": str(error_context.error_type),
            "severity": str(error_context.severity),
            "error_id": error_context.error_id,
        }
        if self._runtime.settings.store_user_text:
            error["message"] = error_context.error_message
        content = {"error": error, "cause": error_context.cause}
        return await self._record(
            error_context.agent_id, error_context.task_id, "error", content, None
        )

    async def record_intervention(
        self,
        agent_id: str,
        task_id: str,
        intervention_type: str,
        before_state: Any,
        after_state: Any,
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> str:
        """Records what somebody did to an agent, with the states before and after and their
        difference, and returns its version.
        """
        content = {
            "intervention_type": intervention_type,
            "before_state": before_state,
            "after_state": after_state,
            "diff": versions.json_diff(before_state, after_state),
        }
        metadata = dict(metadata or {}, intervention_type=intervention_type)
        return await self._record(agent_id, task_id, "intervention", content, metadata)

    async def record_recovery(
        self,
        agent_id: str,
        task_id: str,
        recovery_data: Mapping[str, Any],
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> str:
        """Records a recovery and returns its version."""
        return await self._record(agent_id, task_id, "recovery", dict(recovery_data), metadata)

    async def get_state(self, agent_id: str, task_id: str, version: str) -> Any:
        """The state that was recorded as `version`."""
        env, now = self._runtime.environment(), self._runtime.now()
        stored = await self._runtime.read_write(
            versions.get, env.store, self.rules, now, agent_id, task_id, version
        )
        return stored["state"]

    async def compare_versions(
        self, agent_id: str, task_id: str, version1: str, version2: str
    ) -> dict[str, Any]:
        """What changed from version1 to version2.

        {version1, version2: each {version, timestamp, entry_type, metadata}; diff: {added, removed,
        changed, total_changes, unified, additions, deletions} as versions.compare has it;
        comparison_timestamp}.
        """
        env, now = self._runtime.environment(), self._runtime.now()
        compared = await self._runtime.read_write(
            versions.compare, env.store, self.rules, now, agent_id, task_id, version1, version2
        )
        return {
            "version1": _head(compared["from"]),
            "version2": _head(compared["to"]),
            "diff": compared["diff"],
            "comparison_timestamp": to_iso(now),
        }

    async def get_version_history(self, agent_id: str, task_id: str) -> list[dict[str, Any]]:
        """The task's versions, newest first: [{version, timestamp, entry_type, metadata, entry_id,
        parent_version, has_changes}]; has_changes is None where the version before is gone.
        """
        heads = await self._heads(agent_id, task_id, None, None, self.rules.max_versions)
        parents = [head["version"] for head in heads[1:]] + [None]
        return [dict(head, parent_version=parent) for head, parent in zip(heads, parents)]

    async def get_history(
        self,
        agent_id: str,
        task_id: Optional[str] = None,
        entry_type: Optional[str] = None,
        limit: int = 50,
        since: Optional[float] = None,
    ) -> list[dict[str, Any]]:
        """The agent's versions, newest first, as get_version_history shows them, with task_id.

        :param entry_type: state, error, intervention or recovery.
        :param since: seconds since the epoch.
        """
        return await self._heads(agent_id, task_id, entry_type, since, limit)

    async def get_intervention_timeline(
        self, agent_id: str, task_id: Optional[str] = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Errors, interventions and recoveries, the oldest first: [{timestamp, entry_type,
        intervention_type, actor, version, task_id, has_before_after, metadata}].
        """
        env = self._runtime.environment()
        entries = await self._runtime.read_write(
            versions.timeline, env.store, agent_id, task_id, None, limit
        )
        return [
            {
                "timestamp": entry["at"],
                "entry_type": entry["kind"],
                "intervention_type": (entry.get("metadata") or {}).get("intervention_type"),
                "actor": entry["actor"],
                "version": entry.get("version"),
                "task_id": entry.get("task_id"),
                "has_before_after": entry["kind"] == "intervention",
                "metadata": entry.get("metadata") or {},
            }
            for entry in entries
        ]

    async def _record(
        self,
        agent_id: str,
        task_id: str,
        kind: str,
        state: Any,
        metadata: Optional[Mapping[str, Any]],
    ) -> str:
        env = self._runtime.environment()
        head = await self._runtime.read_write(
            versions.record,
            env.store,
            self.rules,
            self._runtime.now(),
            agent_id,
            task_id,
            self._runtime.redactor.remove_secrets(state),
            kind=kind,
            actor=ACTOR,
            metadata=self._runtime.redactor.remove_secrets(dict(metadata or {})),
        )
        LOGGER.debug("%s of %s, task %s, is recorded as %s", kind, agent_id, task_id,
                     head["version"])
        return str(head["version"])

    async def _heads(
        self,
        agent_id: str,
        task_id: Optional[str],
        entry_type: Optional[str],
        since: Optional[float],
        limit: int,
    ) -> list[dict[str, Any]]:
        env, now = self._runtime.environment(), self._runtime.now()
        heads = await self._runtime.read_write(
            versions.list_versions,
            env.store,
            self.rules,
            now,
            agent_id,
            task_id,
            entry_type,
            since,
            limit,
        )
        return [
            dict(_head(head), entry_id=head["record"], has_changes=head["changed"],
                 task_id=head["task_id"])
            for head in heads
        ]


def _head(head: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": head["version"],
        "timestamp": head["at"],
        "entry_type": head["kind"],
        "metadata": head.get("metadata") or {},
    }
