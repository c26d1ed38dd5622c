"""Snapshots of agents' states, for restoring after a failure or before a change.

A snapshot is an encoded state under `synthralos.snapshot.<agent>.<time>` and a small head under
`synthralos.snapshot_head.<agent>.<time>`. Lists need only heads: listing the datastore returns
whole values, and a list of states would be megabytes. The state is written first and deleted last,
so that each head has one. The head's content is repeated inside the encoded state, where the
checksum covers it: a head that was tampered with can mislead a list, never a restore.

Datastore calls: create 3, and 2 for each snapshot that is deleted for it; list 1 per 100; get and
restore 1, or up to 13 for a corrupted snapshot, because the latest valid one is looked for; delete
2; cleanup 1 per 100, and 2 for each that is deleted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, TypedDict, cast

from synthralos.config.reader import default_if_none, read_int, read_seconds
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import (
    decode_key_part,
    encode_key_part,
    is_name,
    require_identifier,
)
from synthralos.core.timestamps import to_iso
from synthralos.storage import records, state_codec
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    BestEffortDatastore,
    DatastoreUnavailable,
    Rows,
    require_available,
    timestamp_key,
    timestamp_of_key,
)

if TYPE_CHECKING:
    from synthralos.config.settings import Settings
    from synthralos.storage.stackstorm_api import Api

FORMAT_VERSION = 1
MAX_PAGES = 10
MAX_CHECKED = 10
MAX_METADATA_BYTES = 4096
_STATES = PREFIX + "snapshot."
_HEADS = PREFIX + "snapshot_head."
_TIME = re.compile(r"[0-9]{13}-[0-9a-f]{9}\Z")


@dataclass(frozen=True)
class SnapshotConfig:
    """The entry `rollback` of the configuration.

    :ivar max_snapshots: how many are stored per agent; the oldest are deleted.
    :ivar backup_url: where copies are sent if `backup_to_remote`: PUT <url>/<agent>/<snapshot id>.
    :ivar backup_token_from: the datastore key of the bearer token for that, or None.
    :ivar check_actions: the StackStorm actions that may check a snapshot before a restore.
    :ivar check_timeout: seconds that such an action may take.
    :ivar ttl_seconds: `retention.snapshots`, in place of cleanup_after_hours; None if not set.
    """

    max_snapshots: int = 10
    cleanup_after_hours: int = 24
    compression_enabled: bool = True
    verification_enabled: bool = True
    backup_to_remote: bool = False
    backup_url: Optional[str] = None
    backup_token_from: Optional[str] = None
    check_actions: tuple[str, ...] = ()
    check_timeout: float = 60.0
    ttl_seconds: Optional[int] = None

    @property
    def seconds(self) -> int:
        """How long a snapshot is stored."""
        return self.ttl_seconds or int(self.cleanup_after_hours * 3600)


class SnapshotHead(TypedDict, total=False):
    """What a list shows of a snapshot.

    `created_at` is in ISO 8601, `checksum` the SHA-256 of the state's canonical JSON, `size_bytes`
    the size of that and `stored_bytes` that of its stored form. An unreadable head has only its id,
    its agent, its time and `unreadable`.
    """

    snapshot_id: str
    agent_id: str
    task_id: str
    created_at: str
    metadata: dict[str, Any]
    checksum: str
    size_bytes: int
    stored_bytes: int
    unreadable: bool


class NewSnapshot(SnapshotHead, total=False):
    """The head of a new snapshot.

    `deleted` are the ids of the old snapshots that were deleted for it, or None if they could not
    be looked for.
    """

    deleted: Optional[list[str]]


class Snapshot(TypedDict):
    """A verified snapshot; `state` is a JSON value, and the others as in its head."""

    snapshot_id: str
    agent_id: str
    task_id: str
    created_at: str
    metadata: dict[str, Any]
    checksum: str
    state: Any


# What a cleanup did: the ids of the deleted snapshots, how many others there are, and whether there
# may be more than the MAX_PAGES * PAGE_SIZE newest that were checked. The functional form, because
# one of the keys is no name for code.
Cleanup = TypedDict(  # noqa: UP013
    "Cleanup", {"deleted": list[str], "kept": int, "more": bool}
)


class CheckVerdict(TypedDict, total=False):
    """What an action says of a snapshot: it accepts it by succeeding, unless its result has
    `valid: false`. `reason` is there if it named one.
    """

    action: str
    execution_id: str
    status: str
    accepted: bool
    reason: str


def snapshot_config(settings: "Settings") -> SnapshotConfig:
    """Return the SnapshotConfig of the settings.

    :raises InvalidInput: it names the invalid entry.
    """
    entry = settings.rollback
    return SnapshotConfig(
        max_snapshots=read_int(entry, "max_snapshots", 10, 1, 1000, "rollback."),
        cleanup_after_hours=read_int(entry, "cleanup_after_hours", 24, 1, 8760, "rollback."),
        compression_enabled=bool(default_if_none(entry.get("compression_enabled"), True)),
        verification_enabled=bool(default_if_none(entry.get("verification_enabled"), True)),
        backup_to_remote=bool(entry.get("backup_to_remote")),
        backup_url=entry.get("backup_url") or None,
        backup_token_from=entry.get("backup_token_from") or None,
        check_actions=tuple(entry.get("check_actions") or ()),
        check_timeout=read_seconds(entry, "rollback.check_timeout", 60.0),
        ttl_seconds=settings.retention.get("snapshots"),
    )


def create(
    store: BestEffortDatastore,
    config: SnapshotConfig,
    now: float,
    agent_id: str,
    task_id: str,
    state: Any,
    metadata: Optional[dict[str, Any]] = None,
) -> NewSnapshot:
    """Store a snapshot of `state`, a JSON value without secrets, and return its head.

    :raises DatastoreUnavailable: the datastore is unavailable; then there is no snapshot.
    """
    text = state_codec.canonical_json("state", state)
    metadata = checked_metadata(metadata)
    record_id = timestamp_key(now)
    head: NewSnapshot = {
        "snapshot_id": "%s:%s" % (require_identifier("agent_id", agent_id), record_id),
        "agent_id": agent_id,
        "task_id": require_identifier("task_id", task_id),
        "created_at": to_iso(now),
        "metadata": metadata,
        "checksum": state_codec.checksum(text),
    }
    content = dict(head, v=FORMAT_VERSION, state=state)
    body = state_codec.encode_state("state", content, config.compression_enabled)
    head["size_bytes"], head["stored_bytes"] = len(text), len(body)
    key, ttl_seconds = _key_prefix(agent_id) + record_id, config.seconds
    written = store.put(_STATES + key, body, ttl_seconds) and store.put(
        _HEADS + key, records.encode(head, FORMAT_VERSION, sort_keys=False), ttl_seconds
    )
    if not written:
        raise DatastoreUnavailable("the snapshot was not stored: %s" % store.unavailable_reason)
    head["deleted"] = _trim(store, config, agent_id)
    return head


def list_snapshots(
    store: BestEffortDatastore,
    config: SnapshotConfig,
    now: float,
    agent_id: str,
    task_id: Optional[str] = None,
    limit: int = 50,
) -> list[SnapshotHead]:
    """The heads of the snapshots of an agent, or of one of its tasks, newest first.

    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    require_identifier("agent_id", agent_id)
    heads: list[SnapshotHead] = []
    for head in _heads(store, config, now, _key_prefix(agent_id)):
        if len(heads) >= limit:
            break
        if task_id in (None, head.get("task_id")):
            heads.append(head)
    return heads


def get(
    store: BestEffortDatastore,
    config: SnapshotConfig,
    now: float,
    snapshot_id: str,
    agent_id: Optional[str] = None,
    task_id: Optional[str] = None,
) -> Snapshot:
    """Return the verified snapshot.

    :param agent_id: the agent that it must belong to, or None for any; likewise task_id.
    :raises InvalidInput: it does not exist, is corrupted (the error then names the latest valid
        one), or belongs to another agent or task.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    agent, record_id = _parse_id(snapshot_id)
    key, is_expired = _key_prefix(agent) + record_id, _expired(record_id, config, now)
    text = None if is_expired else store.get(_STATES + key)
    require_available(store)
    try:
        if text is None:
            raise state_codec.CorruptState("its state is missing")
        snapshot = _decode(text, config, snapshot_id, agent)
    except state_codec.CorruptState as error:
        head = None if is_expired else store.get(_HEADS + key)
        if text is None and head is None:
            reason = "does not exist, or is older than %g hours" % (config.seconds / 3600.0)
            hint = "List the snapshots with synthralos.snapshot.list"
            raise InvalidInput("snapshot_id", snapshot_id, reason, hint) from error
        task = task_id or _task_of(head)
        hint = _alternative_hint(store, config, now, agent, task, snapshot_id)
        raise InvalidInput(
            "snapshot_id", snapshot_id, "is corrupted: %s" % error, hint
        ) from error
    if agent_id is not None:
        _require_owner("agent_id", agent_id, snapshot["agent_id"], snapshot_id)
    if task_id is not None:
        _require_owner("task_id", task_id, snapshot["task_id"], snapshot_id)
    return snapshot


def _require_owner(field: str, expected: str, owner: str, snapshot_id: str) -> None:
    if owner != expected:
        reason = "does not match snapshot %s, which belongs to %s" % (snapshot_id, owner)
        hint = "Omit it, or use a snapshot that belongs to it"
        raise InvalidInput(field, expected, reason, hint)


def latest_valid(
    store: BestEffortDatastore,
    config: SnapshotConfig,
    now: float,
    agent_id: str,
    task_id: Optional[str] = None,
    exclude: Optional[str] = None,
) -> Optional[Snapshot]:
    """Return the latest snapshot of the agent, and of the task if not None, that is not corrupted.

    None if the newest MAX_CHECKED have none.

    :param exclude: the id of a snapshot to skip.
    """
    checked = 0
    for head in _heads(store, config, now, _key_prefix(agent_id)):
        if head["snapshot_id"] == exclude or task_id not in (None, head.get("task_id")):
            continue
        if checked == MAX_CHECKED:
            break
        checked += 1
        text = store.get(_STATES + _key_prefix(agent_id) + _parse_id(head["snapshot_id"])[1])
        require_available(store)
        try:
            snapshot = _decode(text or "", config, head["snapshot_id"], agent_id)
        except state_codec.CorruptState:
            continue
        if task_id in (None, snapshot["task_id"]):
            return snapshot
    return None


def delete(store: BestEffortDatastore, snapshot_id: str) -> None:
    """Delete a snapshot.

    :raises InvalidInput: it does not exist.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    agent, record_id = _parse_id(snapshot_id)
    existed = _delete_pair(store, _key_prefix(agent) + record_id)
    require_available(store)
    if not existed:
        hint = "List the snapshots with synthralos.snapshot.list"
        raise InvalidInput("snapshot_id", snapshot_id, "does not exist", hint)


def cleanup(
    store: BestEffortDatastore,
    config: SnapshotConfig,
    now: float,
    agent_id: Optional[str] = None,
) -> Cleanup:
    """Delete the snapshots beyond the configured age or number, of an agent or of all.

    :raises DatastoreUnavailable: the datastore is unavailable; earlier deletions stay.
    """
    prefix = (
        _HEADS
        if agent_id is None
        else _HEADS + _key_prefix(require_identifier("agent_id", agent_id))
    )
    names, more = _names(store, prefix)
    counts: dict[str, int] = {}
    surplus = []
    for name in names:
        agent, record_id = _parse_key(name)
        counts[agent] = counts.get(agent, 0) + 1
        if counts[agent] > config.max_snapshots or _expired(record_id, config, now):
            counts[agent] -= 1
            surplus.append(name)
    for name in surplus:
        _delete_pair(store, name[len(_HEADS):])
        require_available(store)
    return {
        "deleted": ["%s:%s" % _parse_key(name) for name in surplus],
        "kept": len(names) - len(surplus),
        "more": more,
    }


def state_key(snapshot_id: str) -> str:
    """The datastore key of the snapshot's encoded state."""
    agent, record_id = _parse_id(snapshot_id)
    return _STATES + _key_prefix(agent) + record_id


def check_allowed(config: SnapshotConfig, action: str, api: "Optional[Api]") -> None:
    """Raise InvalidInput if `action` may not check snapshots, or cannot be run without an API."""
    if action not in config.check_actions:
        allowed = ", ".join(config.check_actions) or "none"
        hint = "Use one of rollback.check_actions in the config (%s), or add it there" % allowed
        raise InvalidInput("check_action", action, "is not allowed", hint)
    if api is None:
        reason = "requires a StackStorm API to run it"
        raise InvalidInput("check_action", action, reason, "Omit it, or run on StackStorm")


def run_check_action(api: "Api", action: str, snapshot_id: str, seconds: float) -> CheckVerdict:
    """Let the StackStorm action `action`, whose only parameter is the id, check a snapshot.

    :param seconds: how long it may take.
    :raises StackStormError: it cannot be run, or has not ended within `seconds`.
    """
    execution_id = api.start(action, {"snapshot_id": snapshot_id})
    execution = api.wait(execution_id, seconds)
    result = execution.get("result")
    # A Python action has it under `result`, a workflow under `output`.
    result = result.get("result", result.get("output")) if isinstance(result, dict) else None
    result = result if isinstance(result, dict) else {}
    status = execution["status"]
    verdict: CheckVerdict = {
        "action": action,
        "execution_id": execution_id,
        "status": status,
        "accepted": status == "succeeded" and result.get("valid") is not False,
    }
    if result.get("reason"):
        verdict["reason"] = str(result["reason"])
    return verdict


def checked_metadata(metadata: object) -> dict[str, Any]:
    """Return `metadata` if it is a small object, or {} for None.

    :raises InvalidInput: it is not an object, or larger than MAX_METADATA_BYTES as JSON.
    """
    metadata = {} if metadata is None else metadata
    hint = "Use an object of at most %d bytes; put more into the state" % MAX_METADATA_BYTES
    if not isinstance(metadata, dict):
        raise InvalidInput("metadata", metadata, "is not an object", hint)
    if len(state_codec.canonical_json("metadata", metadata)) > MAX_METADATA_BYTES:
        raise InvalidInput("metadata", None, "is too large", hint)
    return metadata


def _decode(text: str, config: SnapshotConfig, snapshot_id: str, agent: str) -> Snapshot:
    """The content of an encoded state, verified if the settings require it.

    :raises CorruptState: it is damaged, or belongs to another snapshot.
    """
    content = state_codec.decode_state(text, config.verification_enabled)
    if (
        not isinstance(content, dict) or
        content.pop("v", None) != FORMAT_VERSION or
        "state" not in content
    ):
        raise state_codec.CorruptState("it is not a snapshot of this format")
    if config.verification_enabled:
        identity = (content.get("snapshot_id"), content.get("agent_id"))
        if identity != (snapshot_id, agent) or not is_name(content.get("task_id")):
            raise state_codec.CorruptState("it belongs to another agent, task or time")
        if (
            state_codec.checksum(state_codec.canonical_json("state", content["state"])) !=
            content["checksum"]
        ):
            raise state_codec.CorruptState("the checksum of its state does not match")
    return cast(Snapshot, content)


def _alternative_hint(
    store: BestEffortDatastore,
    config: SnapshotConfig,
    now: float,
    agent: str,
    task: Optional[str],
    exclude: str,
) -> str:
    snapshot = latest_valid(store, config, now, agent, task, exclude)
    owner = "%s and task %s" % (agent, task) if task else agent
    if snapshot is None:
        return "%s has no other valid snapshot; create one with synthralos.snapshot.create" % owner
    return "The latest valid snapshot of %s is %s" % (owner, snapshot["snapshot_id"])


def _heads(
    store: BestEffortDatastore, config: SnapshotConfig, now: float, prefix: str
) -> Iterator[SnapshotHead]:
    """The heads whose keys go on with `prefix`, newest first, without expired ones."""
    for rows in records.iter_pages(store, _HEADS + prefix, MAX_PAGES):
        require_available(store)
        for name, text in rows:
            agent, record_id = _parse_key(name)
            if _TIME.match(record_id) and not _expired(record_id, config, now):
                yield _head(agent, record_id, text)


def _head(agent: str, record_id: str, text: str) -> SnapshotHead:
    snapshot_id = "%s:%s" % (agent, record_id)
    head = records.decode(text, FORMAT_VERSION)
    if head is None:
        return {
            "snapshot_id": snapshot_id,
            "agent_id": agent,
            "created_at": to_iso(_created_at(record_id)),
            "unreadable": True,
        }
    return cast(SnapshotHead, dict(head, snapshot_id=snapshot_id, agent_id=agent))


def _task_of(text: Optional[str]) -> Optional[str]:
    """The task that a head names, or None."""
    task = (records.decode(text, FORMAT_VERSION) or {}).get("task_id")
    return task if is_name(task) else None


def _names(store: BestEffortDatastore, prefix: str) -> tuple[list[str], bool]:
    """(the keys of heads with a prefix, whether there may be more)."""
    names: list[str] = []
    rows: Rows = []
    for rows in records.iter_pages(store, prefix, MAX_PAGES):
        require_available(store)
        names += [name for name, _ in rows if _TIME.match(_parse_key(name)[1])]
    return names, len(rows) == PAGE_SIZE


def _trim(
    store: BestEffortDatastore, config: SnapshotConfig, agent_id: str
) -> Optional[list[str]]:
    """Delete the snapshots beyond the newest max_snapshots.

    :returns: their ids, or None if the datastore became unavailable.
    """
    rows = store.list(_HEADS + _key_prefix(agent_id), limit=PAGE_SIZE, offset=config.max_snapshots)
    for name, _ in rows:
        _delete_pair(store, name[len(_HEADS):])
    if store.unavailable_reason:
        return None
    return ["%s:%s" % _parse_key(name) for name, _ in rows]


def _delete_pair(store: BestEffortDatastore, key: str) -> bool:
    # The head first: without it the state is no longer listed, should the second call fail.
    head_existed = store.delete(_HEADS + key)
    return store.delete(_STATES + key) or head_existed


def _key_prefix(agent_id: str) -> str:
    return encode_key_part(agent_id) + "."


def _parse_key(name: str) -> tuple[str, str]:
    """(agent, record id) of the key of a head."""
    key_part, _, record_id = name[len(_HEADS):].rpartition(".")
    return decode_key_part(key_part), record_id


def _parse_id(snapshot_id: str) -> tuple[str, str]:
    """(agent, record id) of a snapshot's id.

    :raises InvalidInput: it is not a valid id.
    """
    agent, _, record_id = str(snapshot_id).rpartition(":")
    if not is_name(agent) or not _TIME.match(record_id):
        raise InvalidInput(
            "snapshot_id",
            snapshot_id,
            "is not a valid snapshot ID",
            "Use one that synthralos.snapshot.list shows: <agent>:<13 digits>-<9 digits>",
        )
    return agent, record_id


def _created_at(record_id: str) -> float:
    """The time in a record's id, in seconds since the epoch."""
    return timestamp_of_key(record_id) or 0.0


def _expired(record_id: str, config: SnapshotConfig, now: float) -> bool:
    # The datastore may expire keys a minute late, and the limit may have been lowered.
    return _created_at(record_id) + config.seconds <= now
