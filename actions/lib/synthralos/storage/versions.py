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
from dataclasses import dataclass
from typing import Optional

from synthralos.config.reader import default_if_none, read_int
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import decode_key_part, encode_key_part, require_identifier
from synthralos.core.timestamps import to_iso
from synthralos.storage import history, records, state_codec
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    DatastoreUnavailable,
    require_available,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.snapshots import checked_metadata
from synthralos.storage.stackstorm_api import StackStormError

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
    def seconds(self):
        """How long a version is stored."""
        return self.ttl_seconds or int(self.retention_days * 24 * 3600)


def history_config(settings):
    """Return the HistoryConfig of the settings.

    :raises InvalidInput: it names the invalid entry.
    """
    entry = getattr(settings, "history", None) or {}
    if isinstance(entry, HistoryConfig):
        return entry
    return HistoryConfig(
        max_versions=read_int(entry, "max_versions", 100, 1, 1000, "history."),
        retention_days=read_int(entry, "retention_days", 30, 1, 3650, "history."),
        compression_enabled=bool(default_if_none(entry.get("compression_enabled"), True)),
        ttl_seconds=(getattr(settings, "retention", None) or {}).get("history"),
    )


def record(store, config, now, agent_id, task_id, state, kind="state", actor=UNKNOWN, metadata=None,
           user=None):
    """Append a version and return its head.

    The head: version, record, agent_id, task_id, at, kind, actor, user, metadata, checksum
    (SHA-256 of the state's canonical JSON), size_bytes; and `deleted`, how many old versions were
    deleted for it, or None if they could not be looked for.

    :param store: a BestEffortDatastore.
    :param config: a HistoryConfig.
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
    head = {
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
    public_head = _public_head(stored_heads[0] if stored_heads else dict(head, record=record_id))
    public_head = dict({"agent_id": agent_id}, **dict(public_head, task_id=task_id))
    if kind != "state":
        _append_to_history(store, config, now, agent_id, public_head)
    return dict(public_head, deleted=_trim(store, config, prefix, rows))


def list_versions(store, config, now, agent_id, task_id=None, kind=None, since=None, limit=50):
    """The heads of the versions of an agent's task, or of all its tasks, newest first.

    Each with `changed`: whether its state differs from that of the version before it, or None if
    that one no longer exists.

    :param since: seconds since the epoch.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    require_identifier("agent_id", agent_id)
    heads = _versions(store, config, now, agent_id, task_id)
    heads.sort(key=lambda head: head["record"], reverse=True)
    matches = [
        dict({"agent_id": agent_id}, **head)
        for head in heads
        if kind in (None, head.get("kind")) and _is_since(head["record"], since)
    ]
    return matches[:limit]


def get(store, config, now, agent_id, task_id, version, field="version"):
    """Return the version called `version` (v0001, or its record): its head and its `state`.

    :param field: the name of the parameter, for errors.
    :raises InvalidInput: it does not exist, or is corrupted.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    require_identifier("agent_id", agent_id)
    heads = _versions(store, config, now, agent_id, require_identifier("task_id", task_id))
    return _read(store, heads, agent_id, task_id, version, field)


def key_of(agent_id, task_id, record_id):
    """The datastore key of a version's encoded state."""
    return _STATES + _key_prefix(agent_id, task_id) + record_id


def compare(store, config, now, agent_id, task_id, before, after):
    """Return the differences between two versions, each v0001 or a record.

    :returns: {from, to: the heads; diff: `json_diff` of the states, with `unified`, a unified diff
        of their pretty canonical JSON, and its additions and deletions in lines; these are None
        if either state has more than DIFF_LINES lines}.
    """
    require_identifier("agent_id", agent_id)
    heads = _versions(store, config, now, agent_id, require_identifier("task_id", task_id))
    old = _read(store, heads, agent_id, task_id, before, "from")
    new = _read(store, heads, agent_id, task_id, after, "to")
    old_state, new_state = old.pop("state"), new.pop("state")
    diff = dict(json_diff(old_state, new_state), unified=None, additions=None, deletions=None)
    lines = unified_diff(old_state, new_state, old["version"], new["version"])
    if lines is not None:
        diff["unified"] = "\n".join(lines)
        diff["additions"] = sum(line.startswith("+") for line in lines[2:])
        diff["deletions"] = sum(line.startswith("-") for line in lines[2:])
    return {"from": old, "to": new, "diff": diff}


def truncate_diff(diff, max_bytes):
    """Return the `diff` of `compare`, or only its counts if its JSON exceeds `max_bytes`.

    The versions themselves are not truncated.
    """
    if len(json.dumps(diff)) <= max_bytes:
        return diff
    counts = {name: len(diff[name]) for name in ("added", "removed", "changed")}
    counts.update({name: diff[name] for name in ("additions", "deletions", "total_changes")})
    return dict(counts, too_large=True)


def timeline(store, agent_id, task_id=None, since=None, limit=50):
    """The newest `limit` errors, interventions and recoveries of an agent, oldest first.

    Each: at, kind, actor (a person, or the workflow that did it), and further fields if known:
    task_id, version, metadata; or workflow, run, cause, reason, attempts.

    :param task_id: only entries of that task; those that workflows write have none.
    :param since: seconds since the epoch.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    entries = []
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


def stackstorm_user(api, execution_id):
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


def json_diff(before, after):
    """Return the differences between two JSON values.

    {added, removed: [{path, value}], changed: [{path, from, to}], total_changes}. Paths are JSON
    pointers (RFC 6901), `` for the whole value. Lists are compared index by index. 1, 1.0 and true
    are three different values.
    """
    diff = {"added": [], "removed": [], "changed": []}
    _differ("", before, after, diff)
    return dict(diff, total_changes=sum(len(entries) for entries in diff.values()))


def unified_diff(before, after, name, other):
    """The lines of a unified diff of two JSON values; None if either has more than DIFF_LINES."""
    texts = [json.dumps(value, indent=2, sort_keys=True).split("\n") for value in (before, after)]
    if max(map(len, texts)) > DIFF_LINES:
        return None
    import difflib

    return list(difflib.unified_diff(texts[0], texts[1], name, other, lineterm=""))


def _differ(path, before, after, diff):
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


def _differ_at(path, before, after, key, was_there, is_there, diff):
    if was_there and is_there:
        _differ(path, before[key], after[key], diff)
    elif is_there:
        diff["added"].append({"path": path, "value": after[key]})
    else:
        diff["removed"].append({"path": path, "value": before[key]})


def _read(store, heads, agent_id, task_id, version, field):
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
    return dict({"agent_id": agent_id}, **dict(head, state=state))


def _no_version(field, version, heads):
    if not _VERSION.match(str(version)) and not _RECORD.match(str(version)):
        reason = "is not a valid version"
    else:
        reason = "does not exist for that agent and task"
    existing = "that agent and task have none"
    if heads:
        existing = "that agent and task have %s to %s" % (heads[-1]["version"], heads[0]["version"])
    hint = "Use a version that synthralos.history.list shows; %s" % existing
    return InvalidInput(field, version, reason, hint)


def _versions(store, config, now, agent_id, task_id):
    """The heads of a task, or of all tasks, that have not expired; newest first within a task."""
    rows = []
    for page in records.iter_pages(store, _HEADS + _key_prefix(agent_id, task_id), MAX_PAGES):
        require_available(store)
        rows += page
    rows_by_task = {}
    for name, text in rows:
        rows_by_task.setdefault(name.rsplit(".", 2)[-2], []).append((name, text))
    public_heads = []
    for key_part, task_rows in rows_by_task.items():
        heads = _assign_numbers(task_rows)
        for head, earlier in zip(heads, heads[1:] + [None]):
            changed = head["number"] == 1 or None
            if earlier is not None:
                changed = head.get("checksum") != earlier.get("checksum")
            if timestamp_of_key(head["record"]) + config.seconds > now:
                task = decode_key_part(key_part)
                public_heads.append(dict(_public_head(head), changed=changed, task_id=task))
    return public_heads


def _assign_numbers(rows):
    """The heads in the rows of a task, newest first, with their numbers."""
    heads, number = [], 0
    for name, text in reversed(rows):
        record_id = name.rsplit(".", 1)[-1]
        if not _RECORD.match(record_id):
            continue
        head = _head(text)
        number = max(number + 1, head.get("number") or 0)
        heads.append(dict(head, number=number, record=record_id))
    return heads[::-1]


def _head(text):
    head = records.decode(text, FORMAT_VERSION)
    if head is None:
        return {"unreadable": True}
    number = head.get("number")
    if not isinstance(number, int) or isinstance(number, bool):
        head["number"] = 0
    return head


def _public_head(head):
    public = {"version": "v%04d" % head["number"], "record": head["record"]}
    public["at"] = to_iso(timestamp_of_key(head["record"]))
    fields = {name: value for name, value in head.items() if name not in ("number", "record")}
    return dict(public, **fields)


def _append_to_history(store, config, now, agent_id, head):
    entry = {name: head.get(name) for name in ("task_id", "version", "actor", "user", "metadata")}
    entry["event"] = head["kind"]
    history.append_entry(store, agent_id, now, entry, config.seconds, head["record"])


def _timeline_entry(entry):
    fields = {name: value for name, value in entry.items() if value is not None}
    event = fields.pop("event", UNKNOWN)
    workflow = fields.get("workflow")
    return dict(
        fields,
        at=to_iso(timestamp_of_key(entry["record"])),
        kind=_EVENTS.get(event, event),
        actor=fields.get("actor") or ("synthralos.%s" % workflow if workflow else UNKNOWN),
    )


def _trim(store, config, prefix, rows):
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


def _key_prefix(agent_id, task_id=None):
    task = "" if task_id is None else encode_key_part(require_identifier("task_id", task_id)) + "."
    return "%s.%s" % (encode_key_part(agent_id), task)


def _kind(kind):
    if kind not in KINDS:
        hint = "Use one of " + ", ".join(KINDS)
        raise InvalidInput("kind", kind, "is not a valid kind of version", hint)
    return kind


def _actor(actor):
    if not isinstance(actor, str) or not actor.strip() or len(actor) > MAX_ACTOR_CHARS:
        hint = "Name a person or a program in at most %d characters" % MAX_ACTOR_CHARS
        raise InvalidInput("actor", actor, "is blank or too long", hint)
    return actor


def _is_since(record_id, since):
    return since is None or timestamp_of_key(record_id) >= since
