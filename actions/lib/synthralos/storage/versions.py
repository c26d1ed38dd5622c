"""The versioned history of an agent's task: its states, and who did what to it.

A version is a packed state under `synthralos.version.<agent>.<task>.<time>` and a small head beside
it under `synthralos.version_head...`, for listings answer whole values. Errors, interventions and
recoveries are also appended to the agent's history (history.py), where the workflows write theirs;
the timeline is that history.

Versions are numbered when they are read: a head holds the number that its writer expected, and a
version has that number or, where it is taken, the next one after its predecessor. So the numbers
rise without doubles, and stay as they are when old versions go; only a version that was written at
the same moment as its predecessor takes that one's number when it goes. A version's `record` never
changes, and is accepted wherever a version is.

Datastore calls: record 4, one more unless its kind is state, one more from 100 versions on, and 2
for each version that goes; listing 1 for each 100; get 1 more than that, compare 2; timeline 1 for
each 100 entries of the agent.
"""

import json
import re
from dataclasses import dataclass
from typing import Optional

from synthralos.config.reader import default_if_none, read_int
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import decode_key_part, encode_key_part, require_identifier
from synthralos.core.timestamps import to_iso
from synthralos.storage import history, state_codec
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
# A text of more differences nobody reads, and difflib would take seconds for it.
DIFF_LINES = 10000
_NUMBERED = 20
_STATES = PREFIX + "version."
_HEADS = PREFIX + "version_head."
_VERSION = re.compile(r"v[0-9]{4,}\Z")
_RECORD = re.compile(r"[0-9]{13}-[0-9a-f]{9}\Z")
# What the workflows call it, and what it is.
_EVENTS = {"failed": "error", "recovered": "recovery", "restored": "recovery"}


@dataclass(frozen=True)
class HistoryConfig:
    """:ivar max_versions: for each agent and task; the oldest go.
    :ivar lifetime: seconds, in place of retention_days; None where only these are given.
    """

    max_versions: int = 100
    retention_days: int = 30
    compression_enabled: bool = True
    ttl_seconds: Optional[int] = None

    @property
    def seconds(self):
        return self.ttl_seconds or int(self.retention_days * 24 * 3600)


def history_config(settings):
    """The History of the settings. InvalidInput names the entry that is wrong."""
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
    """Appends a version and returns its head.

    The head: version, record, agent_id, task_id, at, kind, actor, user, metadata, checksum
    (SHA-256 of the state's canonical JSON), size_bytes; and `deleted`, how many old versions went
    for it, or None when those could not be looked for.

    :param store: a BestEffortDatastore datastore.
    :param config: a History.
    :param state: a JSON value without secrets: the state, or what is known of the error.
    :param actor: who did it, for people; user: the StackStorm user who wrote it down, or None.
    :raises DatastoreUnavailable: the datastore is unavailable; then nothing was recorded.
    """
    text = state_codec.canonical_json("state", state)
    place = _place(require_identifier("agent_id", agent_id), require_identifier("task_id", task_id))
    before = _assign_numbers(store.list(_HEADS + place, limit=_NUMBERED))
    require_available(store)
    last = timestamp_key(now)
    head = {
        "v": FORMAT_VERSION,
        "number": before[0]["number"] + 1 if before else 1,
        "kind": _kind(kind),
        "actor": _actor(actor),
        "user": user,
        "metadata": checked_metadata(metadata),
        "checksum": state_codec.checksum(text),
        "size_bytes": len(text),
    }
    content = {"v": FORMAT_VERSION, "agent_id": agent_id, "task_id": task_id, "record": last}
    body = state_codec.encode_state("state", dict(content, state=state), config.compression_enabled)
    written = store.put(_STATES + place + last, body, config.seconds) and store.put(
        _HEADS + place + last, json.dumps(head, separators=(",", ":")), config.seconds
    )
    if not written:
        raise DatastoreUnavailable("the version was not recorded: %s" % store.unavailable_reason)
    rows = store.list(_HEADS + place)
    made = [known for known in _assign_numbers(rows) if known["record"] == last]
    # Another process may have taken the number in the meantime.
    shown = dict(_public_head(made[0] if made else dict(head, record=last)), task_id=task_id)
    shown = dict({"agent_id": agent_id}, **shown)
    if kind != "state":
        _append_to_history(store, config, now, agent_id, shown)
    return dict(shown, deleted=_trim(store, config, place, rows))


def list_versions(store, config, now, agent_id, task_id=None, kind=None, since=None, limit=50):
    """The heads of the versions of an agent's task, or of all its tasks, newest first.

    Each with `changed`: whether its state differs from that of the version before it, None when
    that one is gone.

    :param since: seconds since the epoch.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    require_identifier("agent_id", agent_id)
    found = _versions(store, config, now, agent_id, task_id)
    found.sort(key=lambda head: head["record"], reverse=True)
    chosen = [
        dict({"agent_id": agent_id}, **head)
        for head in found
        if kind in (None, head.get("kind")) and _is_since(head["record"], since)
    ]
    return chosen[:limit]


def get(store, config, now, agent_id, task_id, version, field="version"):
    """The version called `version` (v0001, or its record): its head and its `state`.

    :raises InvalidInput: there is none, or it is corrupted.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    require_identifier("agent_id", agent_id)
    known = _versions(store, config, now, agent_id, require_identifier("task_id", task_id))
    return _read(store, known, agent_id, task_id, version, field)


def key_of(agent_id, task_id, record_id):
    """The datastore key of a version's packed state."""
    return _STATES + _place(agent_id, task_id) + record_id


def compare(store, config, now, agent_id, task_id, before, after):
    """What changed between two versions, each v0001 or a record.

    :returns: {from, to: the heads; diff: `json_diff` of the states, with `unified_diff`, a unified diff
        of their pretty canonical JSON, and its additions and deletions in lines; these are None
        when either state has more than DIFF_LINES lines}.
    """
    require_identifier("agent_id", agent_id)
    known = _versions(store, config, now, agent_id, require_identifier("task_id", task_id))
    old = _read(store, known, agent_id, task_id, before, "from")
    new = _read(store, known, agent_id, task_id, after, "to")
    was, is_now = old.pop("state"), new.pop("state")
    diff = dict(json_diff(was, is_now), unified=None, additions=None, deletions=None)
    lines = unified_diff(was, is_now, old["version"], new["version"])
    if lines is not None:
        diff["unified"] = "\n".join(lines)
        diff["additions"] = sum(line.startswith("+") for line in lines[2:])
        diff["deletions"] = sum(line.startswith("-") for line in lines[2:])
    return {"from": old, "to": new, "diff": diff}


def truncate_diff(diff, max_bytes):
    """The `diff` of `compare`, or only how much there is of what when it takes more than `max_bytes`
    bytes as JSON. The versions themselves stay whole.
    """
    if len(json.dumps(diff)) <= max_bytes:
        return diff
    counts = {name: len(diff[name]) for name in ("added", "removed", "changed")}
    counts.update({name: diff[name] for name in ("additions", "deletions", "total_changes")})
    return dict(counts, too_large=True)


def timeline(store, agent_id, task_id=None, since=None, limit=50):
    """The newest `limit` errors, interventions and recoveries of an agent, the oldest first.

    Each: at, kind, actor (a person, or the workflow that did it), and what else is known: task_id,
    version, metadata; or workflow, run, cause, reason, attempts.

    :param task_id: only what was recorded for that task; what the workflows write has none.
    :param since: seconds since the epoch.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    found = []
    for entry in history.iter_entries(store, require_identifier("agent_id", agent_id)):
        if timestamp_of_key(entry["record"]) is None:
            # A hand wrote it.
            continue
        if len(found) >= limit or not _is_since(entry["record"], since):
            break
        if task_id in (None, entry.get("task_id")):
            found.append(_timeline_entry(entry))
    require_available(store)
    return found[::-1]


def stackstorm_user(api, execution_id):
    """The StackStorm user whose execution this is, or None where nobody can tell.

    One call of StackStorm's API.
    """
    if api is None or not execution_id:
        return None
    try:
        context = api.execution(execution_id, "context").get("context")
    except StackStormError:
        return None
    return context.get("user") if isinstance(context, dict) else None


def json_diff(before, after):
    """{added, removed: [{path, value}], changed: [{path, from, to}], total_changes} of two JSON
    values.

    Paths are JSON pointers (RFC 6901), `` for the whole. Lists are compared place by place. 1, 1.0
    and true are three different values.
    """
    found = {"added": [], "removed": [], "changed": []}
    _differ("", before, after, found)
    return dict(found, total_changes=sum(len(entries) for entries in found.values()))


def unified_diff(before, after, name, other):
    """The lines of a unified diff of two JSON values; None when either has too many."""
    texts = [json.dumps(value, indent=2, sort_keys=True).split("\n") for value in (before, after)]
    if max(map(len, texts)) > DIFF_LINES:
        return None
    import difflib

    return list(difflib.unified_diff(texts[0], texts[1], name, other, lineterm=""))


def _differ(path, before, after, found):
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(set(before) | set(after)):
            below = "%s/%s" % (path, key.replace("~", "~0").replace("/", "~1"))
            _differ_at(below, before, after, key, key in before, key in after, found)
    elif isinstance(before, list) and isinstance(after, list):
        for n in range(max(len(before), len(after))):
            below = "%s/%d" % (path, n)
            _differ_at(below, before, after, n, n < len(before), n < len(after), found)
    elif json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True):
        found["changed"].append({"path": path, "from": before, "to": after})


def _differ_at(path, before, after, key, was, is_now, found):
    if was and is_now:
        _differ(path, before[key], after[key], found)
    elif is_now:
        found["added"].append({"path": path, "value": after[key]})
    else:
        found["removed"].append({"path": path, "value": before[key]})


def _read(store, known, agent_id, task_id, version, field):
    wanted = [head for head in known if version in (head["version"], head["record"])]
    if not wanted:
        raise _no_version(field, version, known)
    head = wanted[0]
    text = store.get(_STATES + _place(agent_id, task_id) + head["record"])
    require_available(store)
    try:
        if text is None:
            raise state_codec.CorruptState("its state is missing")
        content = state_codec.decode_state(text)
        told = [content.get(name) for name in ("v", "agent_id", "task_id", "record")]
        if told != [FORMAT_VERSION, agent_id, task_id, head["record"]]:
            raise state_codec.CorruptState("it is of another agent, task or time")
        state = content["state"]
    except (state_codec.CorruptState, AttributeError, KeyError) as error:
        why = "is corrupted: %s" % (
            error if isinstance(error, state_codec.CorruptState) else "no version"
        )
        way_out = "Name another version; synthralos.history.list shows them"
        raise InvalidInput(field, version, why, way_out) from error
    return dict({"agent_id": agent_id}, **dict(head, state=state))


def _no_version(field, version, known):
    if not _VERSION.match(str(version)) and not _RECORD.match(str(version)):
        why = "is no version"
    else:
        why = "is no version of that agent and task"
    there = "there are none of that agent and task"
    if known:
        there = "there are %s to %s" % (known[-1]["version"], known[0]["version"])
    way_out = "Name one that synthralos.history.list shows; %s" % there
    return InvalidInput(field, version, why, way_out)


def _versions(store, config, now, agent_id, task_id):
    """The heads of a task, or of all tasks, that are not too old; of each task newest first."""
    place = _place(agent_id, task_id)
    rows = []
    for page in range(MAX_PAGES):
        some = store.list(_HEADS + place, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        require_available(store)
        rows += some
        if len(some) < PAGE_SIZE:
            break
    tasks = {}
    for name, text in rows:
        tasks.setdefault(name.rsplit(".", 2)[-2], []).append((name, text))
    found = []
    for part, of_task in tasks.items():
        heads = _assign_numbers(of_task)
        for head, earlier in zip(heads, heads[1:] + [None]):
            changed = head["number"] == 1 or None
            if earlier is not None:
                changed = head.get("checksum") != earlier.get("checksum")
            if timestamp_of_key(head["record"]) + config.seconds > now:
                shown = dict(_public_head(head), changed=changed, task_id=decode_key_part(part))
                found.append(shown)
    return found


def _assign_numbers(rows):
    """The heads in rows of one task, newest first, with their numbers."""
    heads, number = [], 0
    for name, text in reversed(rows):
        last = name.rsplit(".", 1)[-1]
        if not _RECORD.match(last):
            continue
        head = _head(text)
        number = max(number + 1, head.get("number") or 0)
        heads.append(dict(head, number=number, record=last))
    return heads[::-1]


def _head(text):
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict) or head.pop("v", None) != FORMAT_VERSION:
        return {"unreadable": True}
    number = head.get("number")
    if not isinstance(number, int) or isinstance(number, bool):
        head["number"] = 0
    return head


def _public_head(head):
    shown = {"version": "v%04d" % head["number"], "record": head["record"]}
    shown["at"] = to_iso(timestamp_of_key(head["record"]))
    return dict(shown, **{k: v for k, v in head.items() if k not in ("v", "number", "record")})


def _append_to_history(store, config, now, agent_id, shown):
    entry = {name: shown.get(name) for name in ("task_id", "version", "actor", "user", "metadata")}
    entry["event"] = shown["kind"]
    history.append_entry(store, agent_id, now, entry, config.seconds, shown["record"])


def _timeline_entry(entry):
    told = {name: value for name, value in entry.items() if value is not None}
    event = told.pop("event", UNKNOWN)
    workflow = told.get("workflow")
    return dict(
        told,
        at=to_iso(timestamp_of_key(entry["record"])),
        kind=_EVENTS.get(event, event),
        actor=told.get("actor") or ("synthralos.%s" % workflow if workflow else UNKNOWN),
    )


def _trim(store, config, place, rows):
    """How many versions beyond the newest max_versions were deleted; None when the datastore went
    away.
    """
    if len(rows) == PAGE_SIZE:
        # The page may not show them all.
        surplus = store.list(_HEADS + place, limit=PAGE_SIZE, offset=config.max_versions)
    else:
        surplus = rows[config.max_versions:]
    for name, _ in surplus:
        # The head first: without it nobody finds the state, should the second call fail.
        store.delete(name)
        store.delete(_STATES + name[len(_HEADS):])
    return None if store.unavailable_reason else len(surplus)


def _place(agent_id, task_id=None):
    task = "" if task_id is None else encode_key_part(require_identifier("task_id", task_id)) + "."
    return "%s.%s" % (encode_key_part(agent_id), task)


def _kind(kind):
    if kind not in KINDS:
        raise InvalidInput("kind", kind, "is no kind of version", "Use one of " + ", ".join(KINDS))
    return kind


def _actor(actor):
    if not isinstance(actor, str) or not actor.strip() or len(actor) > MAX_ACTOR_CHARS:
        way_out = "Name a person or a program in at most %d characters" % MAX_ACTOR_CHARS
        raise InvalidInput("actor", actor, "is blank or too long", way_out)
    return actor


def _is_since(record_id, since):
    return since is None or timestamp_of_key(record_id) >= since
