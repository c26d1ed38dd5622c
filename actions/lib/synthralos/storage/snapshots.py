"""Snapshots of agents' states, to go back to before a change or after a failure.

A snapshot is a packed state under `synthralos.snapshot.<agent>.<time>` and, beside it, a small head
under `synthralos.snapshot_head.<agent>.<time>` that lists need: a listing answers whole values, and
a list of states would be megabytes. The state is written first and deleted last, so that each head
has one. What a head says is repeated inside the packed text, where the checksum covers it: a head
that was tampered with can mislead a list, never a restore.

Datastore calls: create 3, and 2 for each snapshot that goes; listing 1 for each 100; get and
restore 1; of a corrupted one up to 13, for it looks for the newest good one; delete 2; cleanup 1
for each 100, and 2 for each that goes.
"""

import json
import re
from dataclasses import dataclass
from typing import Optional

from synthralos.config.reader import default_if_none, read_int, read_seconds
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import (
    decode_key_part,
    encode_key_part,
    is_name,
    require_identifier,
)
from synthralos.core.timestamps import to_iso
from synthralos.storage import state_codec
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    DatastoreUnavailable,
    require_available,
    timestamp_key,
    timestamp_of_key,
)

FORMAT_VERSION = 1
MAX_PAGES = 10
MAX_CHECKED = 10
MAX_METADATA_BYTES = 4096
_STATES = PREFIX + "snapshot."
_HEADS = PREFIX + "snapshot_head."
_TIME = re.compile(r"[0-9]{13}-[0-9a-f]{9}\Z")


@dataclass(frozen=True)
class SnapshotConfig:
    """How many snapshots are kept, for how long, and what a restore may do.

    :ivar max_snapshots: for each agent; the oldest go.
    :ivar backup_url: where copies go when `backup_to_remote`: PUT <url>/<agent>/<snapshot id>.
    :ivar backup_token_from: the datastore key of the bearer token for that, or None.
    :ivar check_actions: the StackStorm actions that a restore may have judge a snapshot.
    :ivar check_timeout: seconds that such an action may take.
    :ivar lifetime: seconds, in place of cleanup_after_hours; None where only these are given.
    """

    max_snapshots: int = 10
    cleanup_after_hours: int = 24
    compression_enabled: bool = True
    verification_enabled: bool = True
    backup_to_remote: bool = False
    backup_url: Optional[str] = None
    backup_token_from: Optional[str] = None
    check_actions: tuple = ()
    check_timeout: float = 60.0
    ttl_seconds: Optional[int] = None

    @property
    def seconds(self):
        return self.ttl_seconds or int(self.cleanup_after_hours * 3600)


def snapshot_config(settings):
    """The Rollback of the settings. InvalidInput names the entry that is wrong."""
    entry = getattr(settings, "rollback", None) or {}
    if isinstance(entry, SnapshotConfig):
        return entry
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
        ttl_seconds=(getattr(settings, "retention", None) or {}).get("snapshots"),
    )


def create(store, config, now, agent_id, task_id, state, metadata=None):
    """Keeps `state`, a JSON value without secrets, and returns the snapshot's head.

    The head: snapshot_id, agent_id, task_id, created_at, metadata, checksum (SHA-256 of the state's
    canonical JSON), size_bytes (of that JSON), stored_bytes; and `deleted`, the ids of the
    snapshots that went for it, or None when those could not be looked for.

    :param store: a BestEffortDatastore datastore.
    :param config: a Rollback.
    :raises DatastoreUnavailable: the datastore is unavailable; then there is no snapshot.
    """
    text = state_codec.canonical_json("state", state)
    metadata = checked_metadata(metadata)
    last = timestamp_key(now)
    facts = {
        "v": FORMAT_VERSION,
        "snapshot_id": "%s:%s" % (require_identifier("agent_id", agent_id), last),
        "agent_id": agent_id,
        "task_id": require_identifier("task_id", task_id),
        "created_at": to_iso(now),
        "metadata": metadata,
        "checksum": state_codec.checksum(text),
    }
    body = state_codec.encode_state("state", dict(facts, state=state), config.compression_enabled)
    head = dict(facts, size_bytes=len(text), stored_bytes=len(body))
    where, lifetime = _key_prefix(agent_id) + last, config.seconds
    written = store.put(_STATES + where, body, lifetime) and store.put(
        _HEADS + where, json.dumps(head, separators=(",", ":")), lifetime
    )
    if not written:
        raise DatastoreUnavailable("the snapshot was not stored: %s" % store.unavailable_reason)
    del head["v"]
    return dict(head, deleted=_trim(store, config, agent_id))


def list_snapshots(store, config, now, agent_id, task_id=None, limit=50):
    """The heads of an agent's snapshots, or of one task's, newest first.

    A head that cannot be read is listed with its id, its agent, its time and `unreadable`.

    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    require_identifier("agent_id", agent_id)
    found = []
    for head in _heads(store, config, now, _key_prefix(agent_id)):
        if len(found) >= limit:
            break
        if task_id in (None, head.get("task_id")):
            found.append(head)
    return found


def get(store, config, now, snapshot_id, agent_id=None, task_id=None):
    """The snapshot, verified: its head's fields and `state`.

    :param agent_id: when given, the agent that it must be of; likewise task_id.
    :raises InvalidInput: there is none, it is corrupted (the newest good one is then named), or it is of
        another agent or task.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    agent, last = _parse_id(snapshot_id)
    where = _key_prefix(agent) + last
    text = None if _expired(last, config, now) else store.get(_STATES + where)
    require_available(store)
    try:
        if text is None:
            raise state_codec.CorruptState("its state is missing")
        found = _decode(text, config, snapshot_id, agent)
    except state_codec.CorruptState as error:
        head = None if _expired(last, config, now) else store.get(_HEADS + where)
        if text is None and head is None:
            why = "is no snapshot, or was older than %g hours" % (config.seconds / 3600.0)
            way_out = "List them with synthralos.snapshot.list"
            raise InvalidInput("snapshot_id", snapshot_id, why, way_out) from error
        task = task_id or _task_of(head)
        way_out = _alternative_hint(store, config, now, agent, task, snapshot_id)
        raise InvalidInput(
            "snapshot_id", snapshot_id, "is corrupted: %s" % error, way_out
        ) from error
    for field, wanted in (("agent_id", agent_id), ("task_id", task_id)):
        if wanted is not None and found[field] != wanted:
            why = "is not the one of snapshot %s, %s" % (snapshot_id, found[field])
            raise InvalidInput(field, wanted, why, "Leave it out, or name a snapshot of it")
    return found


def latest_valid(store, config, now, agent_id, task_id=None, exclude=None):
    """The newest snapshot of the agent, and of the task where one is given, that is not corrupted;
    None when there is none among the newest TRIED.

    :param exclude: the id of a snapshot to pass over.
    """
    tried = 0
    for head in _heads(store, config, now, _key_prefix(agent_id)):
        if head["snapshot_id"] == exclude or task_id not in (None, head.get("task_id")):
            continue
        if tried == MAX_CHECKED:
            break
        tried += 1
        text = store.get(_STATES + _key_prefix(agent_id) + _parse_id(head["snapshot_id"])[1])
        require_available(store)
        try:
            found = _decode(text or "", config, head["snapshot_id"], agent_id)
        except state_codec.CorruptState:
            continue
        if task_id in (None, found["task_id"]):
            return found
    return None


def delete(store, snapshot_id):
    """Deletes a snapshot.

    :raises InvalidInput: there is none; DatastoreUnavailable: the datastore is unavailable.
    """
    agent, last = _parse_id(snapshot_id)
    gone = _delete_pair(store, _key_prefix(agent) + last)
    require_available(store)
    if not gone:
        way_out = "List them with synthralos.snapshot.list"
        raise InvalidInput("snapshot_id", snapshot_id, "is no snapshot", way_out)


def cleanup(store, config, now, agent_id=None):
    """Deletes what is too old or one too many: of one agent, or of all.

    :returns: {deleted: ids, kept: a number, more: whether there may be more than the
        PAGES * PAGE newest that were looked at}.
    :raises DatastoreUnavailable: the datastore is unavailable; what was deleted until then is.
    """
    prefix = (
        _HEADS
        if agent_id is None
        else _HEADS + _key_prefix(require_identifier("agent_id", agent_id))
    )
    names, more = _names(store, prefix)
    counts, gone = {}, []
    for name in names:
        agent, last = _parse_key(name)
        counts[agent] = counts.get(agent, 0) + 1
        if counts[agent] > config.max_snapshots or _expired(last, config, now):
            counts[agent] -= 1
            gone.append(name)
    for name in gone:
        _delete_pair(store, name[len(_HEADS):])
        require_available(store)
    return {
        "deleted": ["%s:%s" % _parse_key(name) for name in gone],
        "kept": len(names) - len(gone),
        "more": more,
    }


def state_key(snapshot_id):
    """The datastore key of the snapshot's packed state."""
    agent, last = _parse_id(snapshot_id)
    return _STATES + _key_prefix(agent) + last


def check_allowed(config, action, api):
    """InvalidInput when the config does not let `action` judge snapshots, or nothing can run it."""
    if action not in config.check_actions:
        known = ", ".join(config.check_actions) or "none"
        way_out = "Use one of rollback.check_actions in the config (%s), or add it there" % known
        raise InvalidInput("check_action", action, "is not allowed", way_out)
    if api is None:
        why = "there is no StackStorm API to run it"
        raise InvalidInput("check_action", action, why, "Leave it out, or run on StackStorm")


def run_check_action(api, action, snapshot_id, seconds):
    """What the StackStorm action `action`, given the id alone, says of a snapshot.

    :returns: {action, execution_id, status, accepted, reason where it gave one}: it accepts by
        succeeding, unless its result has `valid: false`.
    :raises StackStormError: it cannot be run, or has not ended within `read_seconds`.
    """
    execution_id = api.start(action, {"snapshot_id": snapshot_id})
    execution = api.wait(execution_id, seconds)
    told = execution.get("result")
    # Where an action in Python, and where a workflow has it.
    told = told.get("result", told.get("output")) if isinstance(told, dict) else None
    told = told if isinstance(told, dict) else {}
    status = execution["status"]
    found = {"action": action, "execution_id": execution_id, "status": status}
    found["accepted"] = status == "succeeded" and told.get("valid") is not False
    return dict(found, reason=str(told["reason"])) if told.get("reason") else found


def checked_metadata(metadata):
    """`metadata` when it is a small object, {} for None, else InvalidInput."""
    metadata = {} if metadata is None else metadata
    way_out = "Give an object of at most %d bytes; more belongs in the state" % MAX_METADATA_BYTES
    if not isinstance(metadata, dict):
        raise InvalidInput("metadata", metadata, "is not an object", way_out)
    if len(state_codec.canonical_json("metadata", metadata)) > MAX_METADATA_BYTES:
        raise InvalidInput("metadata", None, "is too large", way_out)
    return metadata


def _decode(text, config, snapshot_id, agent):
    """What the packed text holds, verified where the settings say so. Corrupt when it is not whole.
    """
    content = state_codec.decode_state(text, config.verification_enabled)
    if (
        not isinstance(content, dict) or
        content.pop("v", None) != FORMAT_VERSION or
        "state" not in content
    ):
        raise state_codec.CorruptState("it is no snapshot of this format")
    if config.verification_enabled:
        told = (content.get("snapshot_id"), content.get("agent_id"))
        if told != (snapshot_id, agent) or not is_name(content.get("task_id")):
            raise state_codec.CorruptState("it is of another agent, task or time")
        if (
            state_codec.checksum(state_codec.canonical_json("state", content["state"])) !=
            content["checksum"]
        ):
            raise state_codec.CorruptState("the checksum of its state does not match")
    return content


def _alternative_hint(store, config, now, agent, task, exclude):
    good = latest_valid(store, config, now, agent, task, exclude)
    whose = "%s and task %s" % (agent, task) if task else agent
    if good is None:
        return "No other snapshot of %s is good; take a new one with synthralos.snapshot.create" % (
            whose
        )
    return "The newest good one of %s is %s" % (whose, good["snapshot_id"])


def _heads(store, config, now, below):
    """The heads under a place, newest first, without those that are too old."""
    prefix = _HEADS + below
    for page in range(MAX_PAGES):
        rows = store.list(prefix, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        require_available(store)
        for name, text in rows:
            agent, last = _parse_key(name)
            if _TIME.match(last) and not _expired(last, config, now):
                yield _head(agent, last, text)
        if len(rows) < PAGE_SIZE:
            return


def _head(agent, last, text):
    named = {"snapshot_id": "%s:%s" % (agent, last), "agent_id": agent}
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict) or head.pop("v", None) != FORMAT_VERSION:
        return dict(named, created_at=to_iso(timestamp_of_key(last)), unreadable=True)
    return dict(head, **named)


def _task_of(text):
    """The task that a head names, or None."""
    try:
        task = json.loads(text or "")["task_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return task if is_name(task) else None


def _names(store, prefix):
    """(the names below a prefix, whether there may be more)."""
    names = []
    for page in range(MAX_PAGES):
        rows = store.list(prefix, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        require_available(store)
        names += [name for name, _ in rows if _TIME.match(_parse_key(name)[1])]
        if len(rows) < PAGE_SIZE:
            return names, False
    return names, True


def _trim(store, config, agent_id):
    """The ids of the snapshots beyond the newest max_snapshots, deleted; None when the datastore
    went away.
    """
    rows = store.list(_HEADS + _key_prefix(agent_id), limit=PAGE_SIZE, offset=config.max_snapshots)
    for name, _ in rows:
        _delete_pair(store, name[len(_HEADS):])
    if store.unavailable_reason:
        return None
    return ["%s:%s" % _parse_key(name) for name, _ in rows]


def _delete_pair(store, where):
    # The head first: without it nobody finds the state, should the second call fail.
    head = store.delete(_HEADS + where)
    return store.delete(_STATES + where) or head


def _key_prefix(agent_id):
    return encode_key_part(agent_id) + "."


def _parse_key(name):
    """(agent, time) of a head's name."""
    part, _, last = name[len(_HEADS):].rpartition(".")
    return decode_key_part(part), last


def _parse_id(snapshot_id):
    """(agent, time) of a snapshot's id. InvalidInput when it is none."""
    agent, _, last = str(snapshot_id).rpartition(":")
    if not is_name(agent) or not _TIME.match(last):
        raise InvalidInput(
            "snapshot_id",
            snapshot_id,
            "is no snapshot's id",
            "Give one as synthralos.snapshot.list shows it: <agent>:<13 digits>-<9 digits>",
        )
    return agent, last


def _expired(last, config, now):
    # The store may be a minute late with what is over, and the limit may have been lowered.
    return timestamp_of_key(last) + config.seconds <= now
