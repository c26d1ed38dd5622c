"""The rollback system of a program: snapshots of agents' states, to go back to.

The same snapshots as `snapshot.*` of the pack has, in the program's datastore.
"""
import secrets
from collections.abc import Mapping
from typing import Any, Callable, Optional

from synthralos.calls import snapshot_restore
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.inprocess.runtime import LOGGER, Runtime, result_of
from synthralos.storage import snapshots, state_codec

Validation = Callable[[Any], Any]


class RollbackSystem:
    """Stores snapshots of agents' states and gives them back, verified.

    Every method raises InvalidInput for a name or value that is not valid, and DatastoreUnavailable
    when the datastore is unavailable.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.rules = snapshots.snapshot_config(runtime.settings)

    async def create_snapshot(
        self,
        agent_id: str,
        task_id: str,
        state_data: Any,
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> str:
        """Stores `state_data`, a JSON value, and returns the snapshot's id.

        The oldest beyond max_snapshots go. With backup_to_remote a copy goes to backup_url too; one
        that does not get there is logged, and the snapshot stands.
        """
        redactor = self._runtime.redactor
        state_codec.canonical_json("state_data", state_data)
        state = redactor.remove_secrets(state_data)
        env = self._runtime.environment()
        head = await self._runtime.read_write(
            snapshots.create, env.store, self.rules, self._runtime.now(), agent_id, task_id, state,
            redactor.remove_secrets(dict(metadata or {})),
        )
        LOGGER.debug("snapshot %s of %s, task %s: %d bytes, stored as %d", head["snapshot_id"],
                     agent_id, task_id, head["size_bytes"], head["stored_bytes"])
        if self.rules.backup_to_remote:
            backup = await self._runtime.in_thread(
                snapshot_restore.upload_backup, env.client, self.rules, dict(head, state=state)
            )
            if not backup["done"]:
                LOGGER.warning("snapshot %s has no copy: %s", head["snapshot_id"], backup["reason"])
        return head["snapshot_id"]

    async def rollback_to_snapshot(
        self, snapshot_id: str, validation_callback: Optional[Validation] = None
    ) -> dict[str, Any]:
        """The verified state of a snapshot, for the caller to put back.

        :param validation_callback: a function or coroutine function that is given the state and
            says whether it may be put back: True or False, or {valid, reason}.
        :returns: {success, rollback_id, snapshot_id, agent_id, task_id, state_data, metadata,
            timestamp}; or {success: False, rollback_id: None, snapshot_id, error}: there is no such
            snapshot, it is corrupted, or the callback did not accept it.
        """
        env = self._runtime.environment()
        try:
            stored = await self._runtime.read_write(
                snapshots.get, env.store, self.rules, self._runtime.now(), snapshot_id
            )
        except InvalidInput as error:
            return _refused(snapshot_id, str(error))
        reason = await rejection(stored["state"], validation_callback)
        if reason is not None:
            return _refused(snapshot_id, "the validation did not accept it: %s" % reason)
        LOGGER.debug("rolled %s back to snapshot %s", stored["agent_id"], snapshot_id)
        return {
            "success": True,
            "rollback_id": "rollback_" + secrets.token_hex(8),
            "snapshot_id": snapshot_id,
            "agent_id": stored["agent_id"],
            "task_id": stored["task_id"],
            "state_data": stored["state"],
            "metadata": stored["metadata"],
            "timestamp": to_iso(self._runtime.now()),
        }

    async def get_snapshots(
        self, agent_id: str, task_id: Optional[str] = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """The agent's snapshots, newest first: [{snapshot_id, timestamp, agent_id, task_id,
        metadata, checksum, size_bytes, stored_bytes}].
        """
        env = self._runtime.environment()
        heads = await self._runtime.read_write(
            snapshots.list_snapshots,
            env.store,
            self.rules,
            self._runtime.now(),
            agent_id,
            task_id,
            limit,
        )
        return [
            dict({"timestamp": head["created_at"]},
                 **{name: value for name, value in head.items() if name != "created_at"})
            for head in heads
        ]

    async def delete_snapshot(self, snapshot_id: str) -> bool:
        """Whether there was such a snapshot to delete."""
        env = self._runtime.environment()
        try:
            await self._runtime.read_write(snapshots.delete, env.store, snapshot_id)
        except InvalidInput:
            return False
        return True

    async def cleanup(self, agent_id: Optional[str] = None) -> snapshots.Cleanup:
        """Deletes the snapshots that are too old or too many, of one agent or of all."""
        env = self._runtime.environment()
        return await self._runtime.read_write(
            snapshots.cleanup, env.store, self.rules, self._runtime.now(), agent_id
        )


async def rejection(state: Any, validation_callback: Optional[Validation]) -> Optional[str]:
    """Why the callback does not accept the state, or None where it does. What it raises rejects."""
    if validation_callback is None:
        return None
    try:
        verdict = await result_of(validation_callback(state))
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)
    if isinstance(verdict, Mapping):
        valid, reason = verdict.get("valid", True), verdict.get("reason")
    else:
        valid, reason = verdict is None or bool(verdict), None
    return None if valid else str(reason or "no reason was stated")


def _refused(snapshot_id: str, error: str) -> dict[str, Any]:
    LOGGER.debug("no rollback to %s: %s", snapshot_id, error)
    return {"success": False, "rollback_id": None, "snapshot_id": snapshot_id, "error": error}
