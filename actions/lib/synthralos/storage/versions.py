"""The versioned history of an agent's task: its states, and who did what to it.

A version is an encoded state under `synthralos.version.<agent>.<task>.<time>` and a small head
under `synthralos.version_head...`, because listing the datastore returns whole values. Errors,
interventions and recoveries are also appended to the agent's history (history.py), where the
workflows write theirs; the timeline is that history.

Versions are numbered when they are read: a head contains the number that its writer expected, and
a version has that number or, if it is taken, the next one after its predecessor. So the numbers
rise without duplicates, and do not change when old versions are deleted; only a version that was
written at the same moment as its predecessor takes over that one's number when it is deleted. A
version's `record` never changes, and is accepted wherever a version is.

Datastore calls: record 4, one more unless its kind is state, one more with 100 versions or more,
and 2 for each version that is deleted; list 1 per 100; get 1 more than that, compare 2; timeline 1
per 100 entries of the agent.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, TypedDict, Union, cast

from synthralos.config.reader import default_if_none, read_int
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import decode_key_part, encode_key_part, require_identifier
from synthralos.core.timestamps import to_iso
from synthralos.storage import history, records, state_codec
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
from synthralos.storage.snapshots import checked_metadata
from synthralos.storage.stackstorm_api import Api, StackStormError

if TYPE_CHECKING:
    from synthralos.config.settings import Settings

FORMAT_VERSION = 1
MAX_PAGES = 10
KINDS = ("state", "error", "intervention", "recovery")
MAX_ACTOR_CHARS = 128
UNKNOWN = "unknown"
# A longer text diff is of no use to a reader, and difflib would take seconds for it.
DIFF_LINES = 10000
_NUMBERED = 20
_STATES = PREFIX + "version."
_HEADS = PREFIX + "version_head."
_VERSION = re.compile(r"v[0-9]{4,}\Z")
_RECORD = re.compile(r"[0-9]{13}-[0-9a-f]{9}\Z")
# The kind of each event that the workflows append.
_EVENTS = {"failed": "error", "recovered": "recovery", "restored": "recovery"}


@dataclass(frozen=True)
class HistoryConfig:
    """The entry `history` of the configuration.

    :ivar max_versions: how many are stored per agent and task; the oldest are deleted.
    :ivar ttl_seconds: `retention.history`, in place of retention_days; None if not set.
    """

    max_versions: int = 100
    retention_days: int = 30
    compression_enabled: bool = True
    ttl_seconds: Optional[int] = None

    @property
    def seconds(self) -> int:
        """How long a version is stored."""
        return self.ttl_seconds or int(self.retention_days * 24 * 3600)


class VersionHead(TypedDict, total=False):
    """What a list shows of a version.

    `version` is v0001, v0002 ... of the task, and `record` never changes; `at` is in ISO 8601.
    `actor` is who did it, for people, and `user` the StackStorm user who recorded it, or None.
    `checksum` is the SHA-256 of the state's canonical JSON, `size_bytes` the size of that.
    `changed` is whether the state differs from that of the version before it, or None if that one
    no longer exists. An unreadable head has only its names, its time and `unreadable`.
    """

    version: str
    record: str
    agent_id: str
    task_id: str
    at: str
    kind: str
    actor: str
    user: Optional[str]
    metadata: dict[str, Any]
    checksum: str
    size_bytes: int
    changed: Optional[bool]
    unreadable: bool


class NewVersion(VersionHead, total=False):
    """The head of a new version.

    `deleted` is how many old versions were deleted for it, or None if they could not be looked for.
    """

    deleted: Optional[int]


class Version(VersionHead, total=False):
    """A version with its state, a JSON value."""

    state: Any


class _StoredHead(TypedDict, total=False):
    """A head as it is stored, with the number that its writer expected, and its record."""

    number: int
    record: str
    kind: str
    actor: str
    user: Optional[str]
    metadata: dict[str, Any]
    checksum: str
    size_bytes: int
    unreadable: bool


# The functional form, because `from` is a keyword.
ChangedValue = TypedDict("ChangedValue", {"path": str, "from": Any, "to": Any})


class PathValue(TypedDict):
    """A value that only one of two JSON values has; `path` is a JSON pointer (RFC 6901)."""

    path: str
    value: Any


class JsonDiff(TypedDict):
    """The differences between two JSON values. Paths are JSON pointers, `` for the whole value."""

    added: list[PathValue]
    removed: list[PathValue]
    changed: list[ChangedValue]
    total_changes: int


class VersionDiff(JsonDiff):
    """The differences between two states; the others are None if either is too long for them.

    `unified` is a unified diff of their pretty canonical JSON; `additions` and `deletions` are its
    lines.
    """

    unified: Optional[str]
    additions: Optional[int]
    deletions: Optional[int]


class DiffCounts(TypedDict):
    """The counts of a VersionDiff that is too large to show."""

    added: int
    removed: int
    changed: int
    additions: Optional[int]
    deletions: Optional[int]
    total_changes: int
    too_large: bool


# The heads of the two versions, and how their states differ.
Comparison = TypedDict(
    "Comparison", {"from": VersionHead, "to": VersionHead, "diff": VersionDiff}
)


def history_config(settings: "Settings") -> HistoryConfig:
    """Return the HistoryConfig of the settings.

    :raises InvalidInput: it names the invalid entry.
    """
    entry = settings.history
    return HistoryConfig(
        max_versions=read_int(entry, "max_versions", 100, 1, 1000, "history."),
        retention_days=read_int(entry, "retention_days", 30, 1, 3650, "history."),
        compression_enabled=bool(default_if_none(entry.get("compression_enabled"), True)),
        ttl_seconds=settings.retention.get("history"),
    )


def record(
    store: BestEffortDatastore,
    config: HistoryConfig,
    now: float,
    agent_id: str,
    task_id: str,
    state: Any,
    kind: str = "state",
    actor: str = UNKNOWN,
    metadata: Optional[dict[str, Any]] = None,
    user: Optional[str] = None,
) -> NewVersion:
    """Append a version and return its head.

    :param state: a JSON value without secrets: the state, or the facts of the error.
    :param actor: who did it, for people.
    :param user: the StackStorm user who recorded it, or None.
    :raises DatastoreUnavailable: the datastore is unavailable; then nothing was recorded.
    """
    text = state_codec.canonical_json("state", state)
    prefix = _key_prefix(
        require_identifier("agent_id", agent_id), require_identifier("task_id", task_id)
    )
    earlier_heads = _assign_numbers(store.list(_HEADS + prefix, limit=_NUMBERED))
    require_available(store)
    record_id = timestamp_key(now)
    head: _StoredHead = {
        "number": earlier_heads[0]["number"] + 1 if earlier_heads else 1,
        "kind": _kind(kind),
        "actor": _actor(actor),
        "user": user,
        "metadata": checked_metadata(metadata),
        "checksum": state_codec.checksum(text),
        "size_bytes": len(text),
    }
    content = {"v": FORMAT_VERSION, "agent_id": agent_id, "task_id": task_id, "record": record_id}
    body = state_codec.encode_state("state", dict(content, state=state), config.compression_enabled)
    written = store.put(_STATES + prefix + record_id, body, config.seconds) and store.put(
        _HEADS + prefix + record_id,
        records.encode(head, FORMAT_VERSION, sort_keys=False),
        config.seconds,
    )
    if not written:
        raise DatastoreUnavailable("the version was not recorded: %s" % store.unavailable_reason)
    rows = store.list(_HEADS + prefix)
    # Another process may have taken the number in the meantime.
    stored_heads = [stored for stored in _assign_numbers(rows) if stored["record"] == record_id]
    head["record"] = record_id
    public_head = _public_head(stored_heads[0] if stored_heads else head, agent_id, task_id)
    if kind != "state":
        _append_to_history(store, config, now, agent_id, public_head)
    return cast(NewVersion, dict(public_head, deleted=_trim(store, config, prefix, rows)))


def list_versions(
    store: BestEffortDatastore,
    config: HistoryConfig,
    now: float,
    agent_id: str,
    task_id: Optional[str] = None,
    kind: Optional[str] = None,
    since: Optional[float] = None,
    limit: int = 50,
) -> list[VersionHead]:
    """The heads of the versions of an agent's task, or of all its tasks, newest first.

    :param since: seconds since the epoch.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    require_identifier("agent_id", agent_id)
    heads = _versions(store, config, now, agent_id, task_id)
    heads.sort(key=lambda head: head["record"], reverse=True)
    matches = [
        head
        for head in heads
        if kind in (None, head.get("kind")) and _is_since(head["record"], since)
    ]
    return matches[:limit]


def get(
    store: BestEffortDatastore,
    config: HistoryConfig,
    now: float,
    agent_id: str,
    task_id: str,
    version: str,
    field: str = "version",
) -> Version:
    """Return the version called `version` (v0001, or its record).

    :param field: the name of the parameter, for errors.
    :raises InvalidInput: it does not exist, or is corrupted.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    require_identifier("agent_id", agent_id)
    heads = _versions(store, config, now, agent_id, require_identifier("task_id", task_id))
    return _read(store, heads, agent_id, task_id, version, field)


def key_of(agent_id: str, task_id: str, record_id: str) -> str:
    """The datastore key of a version's encoded state."""
    return _STATES + _key_prefix(agent_id, task_id) + record_id


def compare(
    store: BestEffortDatastore,
    config: HistoryConfig,
    now: float,
    agent_id: str,
    task_id: str,
    before: str,
    after: str,
) -> Comparison:
    """Return the differences between two versions, each v0001 or a record."""
    require_identifier("agent_id", agent_id)
    heads = _versions(store, config, now, agent_id, require_identifier("task_id", task_id))
    old = _read(store, heads, agent_id, task_id, before, "from")
    new = _read(store, heads, agent_id, task_id, after, "to")
    old_state, new_state = old.pop("state"), new.pop("state")
    diff: VersionDiff = {
        **json_diff(old_state, new_state), "unified": None, "additions": None, "deletions": None
    }
    lines = unified_diff(old_state, new_state, old["version"], new["version"])
    if lines is not None:
        diff["unified"] = "\n".join(lines)
        diff["additions"] = sum(line.startswith("+") for line in lines[2:])
        diff["deletions"] = sum(line.startswith("-") for line in lines[2:])
    return {"from": old, "to": new, "diff": diff}


def truncate_diff(diff: VersionDiff, max_bytes: int) -> Union[VersionDiff, DiffCounts]:
    """Return the diff, or only its counts if its JSON exceeds `max_bytes`.

    The versions themselves are not truncated.
    """
    if len(json.dumps(diff)) <= max_bytes:
        return diff
    return {
        "added": len(diff["added"]),
        "removed": len(diff["removed"]),
        "changed": len(diff["changed"]),
        "additions": diff["additions"],
        "deletions": diff["deletions"],
        "total_changes": diff["total_changes"],
        "too_large": True,
    }


def timeline(
    store: BestEffortDatastore,
    agent_id: str,
    task_id: Optional[str] = None,
    since: Optional[float] = None,
    limit: int = 50,
) -> list[records.Fields]:
    """The newest `limit` errors, interventions and recoveries of an agent, oldest first.

    Each: at, kind, actor (a person, or the workflow that did it), and further fields if known:
    task_id, version, metadata; or workflow, run, cause, reason, attempts.

    :param task_id: only entries of that task; those that workflows write have none.
    :param since: seconds since the epoch.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    entries: list[records.Fields] = []
    for entry in history.iter_entries(store, require_identifier("agent_id", agent_id)):
        if timestamp_of_key(entry["record"]) is None:
            # It was added manually.
            continue
        if len(entries) >= limit or not _is_since(entry["record"], since):
            break
        if task_id in (None, entry.get("task_id")):
            entries.append(_timeline_entry(entry))
    require_available(store)
    return entries[::-1]


def stackstorm_user(api: Optional[Api], execution_id: str) -> Optional[str]:
    """Return the StackStorm user who started the execution, or None if unknown.

    Costs one call of StackStorm's API.
    """
    if api is None or not execution_id:
        return None
    try:
        context = api.execution(execution_id, "context").get("context")
    except StackStormError:
        return None
    return context.get("user") if isinstance(context, dict) else None


def json_diff(before: Any, after: Any) -> JsonDiff:
    """Return the differences between two JSON values.

    Lists are compared index by index. 1, 1.0 and true are three different values.
    """
    diff: JsonDiff = {"added": [], "removed": [], "changed": [], "total_changes": 0}
    _differ("", before, after, diff)
    diff["total_changes"] = len(diff["added"]) + len(diff["removed"]) + len(diff["changed"])
    return diff


def unified_diff(before: Any, after: Any, name: str, other: str) -> Optional[list[str]]:
    """The lines of a unified diff of two JSON values; None if either has more than DIFF_LINES."""
    texts = [json.dumps(value, indent=2, sort_keys=True).split("\n") for value in (before, after)]
    if max(map(len, texts)) > DIFF_LINES:
        return None
    import difflib

    return list(difflib.unified_diff(texts[0], texts[1], name, other, lineterm=""))


def _differ(path: str, before: Any, after: Any, diff: JsonDiff) -> None:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(set(before) | set(after)):
            child_path = "%s/%s" % (path, key.replace("~", "~0").replace("/", "~1"))
            _differ_at(child_path, before, after, key, key in before, key in after, diff)
    elif isinstance(before, list) and isinstance(after, list):
        for n in range(max(len(before), len(after))):
            child_path = "%s/%d" % (path, n)
            _differ_at(child_path, before, after, n, n < len(before), n < len(after), diff)
    elif json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True):
        diff["changed"].append({"path": path, "from": before, "to": after})


def _differ_at(
    path: str,
    before: Any,
    after: Any,
    key: Union[str, int],
    was_there: bool,
    is_there: bool,
    diff: JsonDiff,
) -> None:
    if was_there and is_there:
        _differ(path, before[key], after[key], diff)
    elif is_there:
        diff["added"].append({"path": path, "value": after[key]})
    else:
        diff["removed"].append({"path": path, "value": before[key]})


def _read(
    store: BestEffortDatastore,
    heads: list[VersionHead],
    agent_id: str,
    task_id: str,
    version: str,
    field: str,
) -> Version:
    matches = [head for head in heads if version in (head["version"], head["record"])]
    if not matches:
        raise _no_version(field, version, heads)
    head = matches[0]
    text = store.get(_STATES + _key_prefix(agent_id, task_id) + head["record"])
    require_available(store)
    try:
        if text is None:
            raise state_codec.CorruptState("its state is missing")
        content = state_codec.decode_state(text)
        identity = [content.get(name) for name in ("v", "agent_id", "task_id", "record")]
        if identity != [FORMAT_VERSION, agent_id, task_id, head["record"]]:
            raise state_codec.CorruptState("it belongs to another agent, task or time")
        state = content["state"]
    except (state_codec.CorruptState, AttributeError, KeyError) as error:
        reason = "is corrupted: %s" % (
            error if isinstance(error, state_codec.CorruptState) else "it is not a version"
        )
        hint = "Use another version; synthralos.history.list shows them"
        raise InvalidInput(field, version, reason, hint) from error
    return cast(Version, dict(head, state=state))


def _no_version(field: str, version: str, heads: list[VersionHead]) -> InvalidInput:
    if not _VERSION.match(str(version)) and not _RECORD.match(str(version)):
        reason = "is not a valid version"
    else:
        reason = "does not exist for that agent and task"
    existing = "that agent and task have none"
    if heads:
        existing = "that agent and task have %s to %s" % (heads[-1]["version"], heads[0]["version"])
    hint = "Use a version that synthralos.history.list shows; %s" % existing
    return InvalidInput(field, version, reason, hint)


def _versions(
    store: BestEffortDatastore,
    config: HistoryConfig,
    now: float,
    agent_id: str,
    task_id: Optional[str],
) -> list[VersionHead]:
    """The heads of a task, or of all tasks, that have not expired; newest first within a task."""
    rows: Rows = []
    for page in records.iter_pages(store, _HEADS + _key_prefix(agent_id, task_id), MAX_PAGES):
        require_available(store)
        rows += page
    rows_by_task: dict[str, Rows] = {}
    for name, text in rows:
        rows_by_task.setdefault(name.rsplit(".", 2)[-2], []).append((name, text))
    public_heads = []
    for key_part, task_rows in rows_by_task.items():
        heads = _assign_numbers(task_rows)
        earlier_heads: list[Optional[_StoredHead]] = [*heads[1:], None]
        for head, earlier in zip(heads, earlier_heads):
            changed = True if head["number"] == 1 else None
            if earlier is not None:
                changed = head.get("checksum") != earlier.get("checksum")
            if _recorded_at(head["record"]) + config.seconds > now:
                public_head = _public_head(head, agent_id, decode_key_part(key_part))
                public_head["changed"] = changed
                public_heads.append(public_head)
    return public_heads


def _assign_numbers(rows: Rows) -> list[_StoredHead]:
    """The heads in the rows of a task, newest first, with their numbers."""
    heads: list[_StoredHead] = []
    number = 0
    for name, text in reversed(rows):
        record_id = name.rsplit(".", 1)[-1]
        if not _RECORD.match(record_id):
            continue
        head = _head(text)
        number = max(number + 1, head.get("number") or 0)
        head["number"], head["record"] = number, record_id
        heads.append(head)
    return heads[::-1]


def _head(text: str) -> _StoredHead:
    head = records.decode(text, FORMAT_VERSION)
    if head is None:
        return {"unreadable": True}
    number = head.get("number")
    if not isinstance(number, int) or isinstance(number, bool):
        head["number"] = 0
    return cast(_StoredHead, head)


def _public_head(head: _StoredHead, agent_id: str, task_id: str) -> VersionHead:
    identity = {
        "agent_id": agent_id,
        "version": "v%04d" % head["number"],
        "record": head["record"],
        "at": to_iso(_recorded_at(head["record"])),
    }
    fields = {name: value for name, value in head.items() if name not in ("number", "record")}
    return cast(VersionHead, dict(dict(identity, **fields), task_id=task_id))


def _append_to_history(
    store: BestEffortDatastore,
    config: HistoryConfig,
    now: float,
    agent_id: str,
    head: VersionHead,
) -> None:
    entry = {
        "task_id": head["task_id"],
        "version": head["version"],
        "actor": head.get("actor"),
        "user": head.get("user"),
        "metadata": head.get("metadata"),
        "event": head["kind"],
    }
    history.append_entry(store, agent_id, now, entry, config.seconds, head["record"])


def _timeline_entry(entry: Mapping[str, Any]) -> records.Fields:
    fields = {name: value for name, value in entry.items() if value is not None}
    event = fields.pop("event", UNKNOWN)
    workflow = fields.get("workflow")
    return dict(
        fields,
        at=to_iso(_recorded_at(entry["record"])),
        kind=_EVENTS.get(event, event),
        actor=fields.get("actor") or ("synthralos.%s" % workflow if workflow else UNKNOWN),
    )


def _trim(
    store: BestEffortDatastore, config: HistoryConfig, prefix: str, rows: Rows
) -> Optional[int]:
    """Delete the versions beyond the newest max_versions.

    :returns: how many were deleted, or None if the datastore became unavailable.
    """
    if len(rows) == PAGE_SIZE:
        # There may be more than this page.
        surplus = store.list(_HEADS + prefix, limit=PAGE_SIZE, offset=config.max_versions)
    else:
        surplus = rows[config.max_versions:]
    for name, _ in surplus:
        # The head first: without it the state is no longer listed, should the second call fail.
        store.delete(name)
        store.delete(_STATES + name[len(_HEADS):])
    return None if store.unavailable_reason else len(surplus)


def _key_prefix(agent_id: str, task_id: Optional[str] = None) -> str:
    task = "" if task_id is None else encode_key_part(require_identifier("task_id", task_id)) + "."
    return "%s.%s" % (encode_key_part(agent_id), task)


def _kind(kind: str) -> str:
    if kind not in KINDS:
        hint = "Use one of " + ", ".join(KINDS)
        raise InvalidInput("kind", kind, "is not a valid kind of version", hint)
    return kind


def _actor(actor: object) -> str:
    if not isinstance(actor, str) or not actor.strip() or len(actor) > MAX_ACTOR_CHARS:
        hint = "Name a person or a program in at most %d characters" % MAX_ACTOR_CHARS
        raise InvalidInput("actor", actor, "is blank or too long", hint)
    return actor


def _is_since(record_id: str, since: Optional[float]) -> bool:
    return since is None or _recorded_at(record_id) >= since


def _recorded_at(record_id: str) -> float:
    """The time in a record's id, in seconds since the epoch."""
    return timestamp_of_key(record_id) or 0.0
