"""Restores a snapshot at the platform, and uploads a backup copy of it.

The state of a snapshot is what its caller gave, or names a checkpoint that the platform itself
keeps: {"checkpoint": {"handle", "id"}}.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional, TypedDict
from urllib.parse import quote

from synthralos.calls import agent_platforms, idempotency
from synthralos.calls.agent_platforms.protocol import Checkpoint, CheckpointKeeper, Handle, is_id
from synthralos.calls.http import CallError, Client
from synthralos.config.connection import Connection
from synthralos.core.errors import InvalidInput

if TYPE_CHECKING:
    from synthralos.config.platforms import Platform
    from synthralos.storage.snapshots import Snapshot, SnapshotConfig

BACKUP_SECONDS = 20.0


class CheckpointName(TypedDict):
    """A checkpoint at its platform: the handle of its run, as a JSON value, and its id there."""

    handle: dict[str, Any]
    id: Optional[str]


class CheckpointState(TypedDict):
    """The state of a snapshot that names a checkpoint."""

    checkpoint: CheckpointName


# Whether a snapshot has a copy, and why not. The functional form, because one of the keys is no
# name for code.
Backup = TypedDict("Backup", {"done": bool, "reason": str}, total=False)  # noqa: UP013


def checkpoint_state(
    client: Client, platforms: "Iterable[Platform]", handle: Handle
) -> CheckpointState:
    """Return the state of a snapshot that names the last checkpoint of a run at its platform.

    :param handle: of the run.
    :raises InvalidInput: the platform keeps no checkpoints.
    :raises CallError: it could not be asked, or the run has left none.
    """
    keeping = _keeper(client, platforms, handle)
    if keeping is None:
        raise InvalidInput(
            "handle.platform", handle.platform, "keeps no checkpoints that can be gone back to",
            "Give the agent's state as `state`",
        )
    keeper, platform = keeping
    checkpoint = keeper.checkpoint(handle, platform.connection.timeout)
    return {"checkpoint": {"handle": handle.as_dict(), "id": checkpoint.id}}


def checkpoint_of(state: object) -> Optional[Checkpoint]:
    """Return the Checkpoint that the state of a snapshot names, or None."""
    entry = state.get("checkpoint") if isinstance(state, dict) and len(state) == 1 else None
    if not isinstance(entry, dict) or set(entry) != {"handle", "id"} or not is_id(entry["id"]):
        return None
    handle = Handle.restore(entry["handle"])
    return None if handle is None else Checkpoint(handle, entry["id"])


def restore_at_platform(
    client: Client, platforms: "Iterable[Platform]", snapshot: "Snapshot", run: str
) -> Optional[str]:
    """Restore the state at the platform that keeps it, else at the first endpoint that can.

    :returns: the name of the platform, or None if none can restore it.
    :raises CallError: of the last endpoint, if all failed.
    """
    checkpoint = checkpoint_of(snapshot["state"])
    if checkpoint is None:
        return _restore_state(client, platforms, snapshot, run)
    keeping = _keeper(client, platforms, checkpoint.handle)
    if keeping is None:
        return None
    keeper, platform = keeping
    keeper.restore(checkpoint, platform.connection.timeout)
    return platform.name


def _keeper(
    client: Client, platforms: "Iterable[Platform]", handle: Handle
) -> "Optional[tuple[CheckpointKeeper, Platform]]":
    """Return (the platform's API, the platform) if it keeps checkpoints, else None."""
    for platform in platforms:
        if (platform.name, platform.api) == (handle.platform, handle.api):
            api = agent_platforms.connect(client, platform)
            if isinstance(api, CheckpointKeeper):
                return api, platform
    return None


def _restore_state(
    client: Client, platforms: "Iterable[Platform]", snapshot: "Snapshot", run: str
) -> Optional[str]:
    """Restore the state at the first endpoint that can: POST {agent_id, snapshot_id, state}.

    The same run sends the same Idempotency-Key to each, so that none restores twice.

    :returns: the name of the platform, or None if none has a restore_path.
    :raises CallError: of the last endpoint, if all failed.
    """
    failed = None
    for platform in platforms:
        path = platform.restore_path
        if not path:
            continue
        path = path.replace("{agent_id}", quote(snapshot["agent_id"], safe=""))
        body = {
            "agent_id": snapshot["agent_id"],
            "snapshot_id": snapshot["snapshot_id"],
            "state": snapshot["state"],
        }
        headers = {idempotency.HEADER: idempotency.key(run, "POST", path, body)}
        try:
            _send(
                client,
                platform.connection,
                "POST",
                path,
                platform.connection.timeout,
                body,
                headers,
            )
            return platform.name
        except CallError as error:
            failed = error
    if failed is not None:
        raise failed
    return None


def upload_backup(
    client: Client, config: "SnapshotConfig", snapshot: Mapping[str, Any]
) -> Backup:
    """Upload a copy of the snapshot to <backup_url>/<agent>/<snapshot id>.

    It does not raise: a snapshot without a copy is better than none.

    :param snapshot: the head of a new snapshot, with its state.
    """
    path = "".join("/" + quote(snapshot[name], safe="") for name in ("agent_id", "snapshot_id"))
    try:
        if not config.backup_url:
            hint = "Set it to an http(s) URL, or backup_to_remote to false"
            raise InvalidInput("config.rollback.backup_url", None, "is missing", hint)
        connection = Connection(
            config.backup_url.rstrip("/"),
            secret_from=config.backup_token_from,
            secret_path="rollback.backup_token",
        )
        _send(client, connection, "PUT", path, BACKUP_SECONDS, snapshot)
    except CallError as error:
        return {"done": False, "reason": "%s: %s" % (error.failure.cause, error.failure.message)}
    except InvalidInput as error:
        return {"done": False, "reason": str(error)}
    return {"done": True}


def _send(
    client: Client,
    connection: Connection,
    method: str,
    path: str,
    seconds: float,
    body: Any,
    headers: Optional[Mapping[str, str]] = None,
) -> None:
    response = client.request(connection, method, path, seconds, body=body, headers=headers)
    if not 200 <= response.status < 300:
        raise CallError(client.failure_of(response, "request"))
