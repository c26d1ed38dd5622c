"""Roles and orchestrations as the datastore keeps them: one of each name, and its versions.

    synthralos.role.<id>                    the role as it is
    synthralos.role_version.<id>.<number>   the role as it became with that version
    synthralos.orchestration.<id>, synthralos.orchestration_version.<id>.<number>

An id is derived from the name: so a name is unique by its key, the id stays the same for ever, and
name and id each cost one call. Who changes one has its claim (escalation.claims); of two that
create the same name at the same moment one is told that it exists. Nothing here expires.
"""

import contextlib
import hashlib
import re
import time
from dataclasses import dataclass

from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.storage import locks, state_codec
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, require_available

FORMAT_VERSION = 1
# As many versions of each are kept: going back further than that nobody has asked for.
VERSIONS = 50
MAX_PAGES = 20
MAX_ATTEMPTS, RETRY_DELAY_SECONDS = 5, 0.5
AWAY = "the datastore is away: %s"


@dataclass(frozen=True)
class DefinitionKind:
    """:ivar noun: what it is called in refusals, in keys, and in the names of its actions."""

    noun: str
    letter: str

    def id_of(self, name):
        return self.letter + hashlib.sha256(name.encode("ascii")).hexdigest()[:12]

    def key(self, found):
        return "%s%s.%s" % (PREFIX, self.noun, found)

    def version_key(self, found, number):
        return "%s%s_version.%s.%06d" % (PREFIX, self.noun, found, number)

    def ids(self, name_or_id):
        """The ids that it may have, the likelier one first."""
        if not isinstance(name_or_id, str) or not name_or_id.isascii():
            return []
        found = [self.id_of(name_or_id)]
        return found + [name_or_id] if _ID.match(name_or_id) else found


ROLE, ORCHESTRATION = DefinitionKind("role", "R"), DefinitionKind("orchestration", "O")
_ID = re.compile(r"[RO][0-9a-f]{12}\Z")


def role_by(store, name_or_id):
    """The role of that name or id, or None; see `find`."""
    return find(store, ROLE, name_or_id)


def orchestration_by(store, name_or_id):
    """The orchestration of that name or id, or None; see `find`."""
    return find(store, ORCHESTRATION, name_or_id)


def find(store, kind, name_or_id):
    """The normal form of what has that name or id, or None; besides, it has id, version,
    created_at, created_by, updated_at and updated_by.

    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    for found in kind.ids(name_or_id):
        text = store.get(kind.key(found))
        require_available(store, AWAY)
        if text is not None:
            return _opened(kind, found, text)
    return None


def require(store, kind, name_or_id, field="name"):
    """`find`, or InvalidInput when there is none."""
    found = find(store, kind, name_or_id)
    if found is None:
        raise InvalidInput(
            field, name_or_id, "is no %s" % kind.noun,
            "List them with `st2 run synthralos.%s.list`" % kind.noun,
        )
    return found


def list_all(store, kind):
    """All of a kind, the one changed last first."""
    found = []
    for page in range(MAX_PAGES):
        rows = store.list(kind.key(""), limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        require_available(store, AWAY)
        found += [_opened(kind, name.rpartition(".")[2], text) for name, text in rows]
        if len(rows) < PAGE_SIZE:
            break
    return sorted(found, key=lambda one: (one["updated_at"], one["name"]), reverse=True)


def versions(store, kind, one):
    """The versions that are kept of `one`, newest first: [{version, updated_at, updated_by}]."""
    rows = store.list(kind.version_key(one["id"], 0)[:-6], limit=VERSIONS)
    require_available(store, AWAY)
    kept = [_opened(kind, one["id"], text) for _, text in rows]
    # What was deleted and made again may have left versions of its first life.
    kept = [version for version in kept if version["version"] <= one["version"]]
    return [
        {name: version[name] for name in ("version", "updated_at", "updated_by")}
        for version in kept
    ]


def version(store, kind, one, number):
    """`one` as it was with version `number`. InvalidInput when that is not kept."""
    text = store.get(kind.version_key(one["id"], number)) if number <= one["version"] else None
    require_available(store, AWAY)
    if text is None:
        known = ", ".join(str(kept["version"]) for kept in versions(store, kind, one))
        raise InvalidInput("at_version", number, "is not kept", "Versions of it are %s" % known)
    return _opened(kind, one["id"], text)


def create(env, kind, normal, by, sleep=time.sleep):
    """Keeps what is new, and returns it as `find` does. InvalidInput when its name is taken.

    :param normal: the normal form; by: the user who did it, or None.
    """
    name = normal["name"]
    if _ID.match(name):
        raise InvalidInput("name", name, "looks like an id", "Give it another name")
    with locked(env, kind, name, sleep) as there:
        if there is not None:
            raise InvalidInput(
                "name", name, "is the name of another %s" % kind.noun,
                "Choose another, or change that one with synthralos.%s.update" % kind.noun,
            )
        return _write(env, kind, None, normal, by)


def save_version(env, kind, there, normal, by):
    """Keeps a further version of `there`, which `locked` gave; the same content is none, and
    `there` is then returned.
    """
    if there is not None and definition_fields(there) == normal:
        return there
    return _write(env, kind, there, normal, by)


def delete(env, kind, there):
    """Deletes what `locked` gave, and its versions."""
    env.store.delete(kind.key(there["id"]))
    for number in range(there["version"], max(0, there["version"] - VERSIONS), -1):
        env.store.delete(kind.version_key(there["id"], number))
    require_available(env.store, AWAY)


@contextlib.contextmanager
def locked(env, kind, name, sleep=time.sleep):
    """Gives what has that name now, or None, to the one that may change it until the block ends.

    InvalidInput when others keep changing it.
    """
    for attempt in range(MAX_ATTEMPTS):
        what = "%s-%s" % (kind.noun, kind.id_of(name))
        with locks.try_lock(env.store, what, env.now, sleep) as mine:
            require_available(env.store, AWAY)
            if mine:
                yield find(env.store, kind, name)
                return
        if attempt < MAX_ATTEMPTS - 1:
            sleep(RETRY_DELAY_SECONDS)
    raise InvalidInput("name", name, "is being changed by others at this moment", "Try again")


def definition_fields(one):
    """The normal form alone of what `find` gave."""
    return {name: value for name, value in one.items() if name not in _RECORD}


_RECORD = ("id", "version", "created_at", "created_by", "updated_at", "updated_by")


def _write(env, kind, before, normal, by):
    found, at = kind.id_of(normal["name"]), to_iso(env.now())
    record = {
        "id": found,
        "version": before["version"] + 1 if before else 1,
        "created_at": before["created_at"] if before else at,
        "created_by": before["created_by"] if before else by,
        "updated_at": at,
        "updated_by": by,
    }
    one = env.redactor.remove_secrets(dict(normal, **record))
    text = state_codec.encode_state(kind.noun, dict(one, v=FORMAT_VERSION))
    # Cut off between the two, the next change writes that version again.
    env.store.put(kind.version_key(found, record["version"]), text)
    env.store.put(kind.key(found), text)
    require_available(env.store, AWAY)
    if record["version"] > VERSIONS:
        env.store.delete(kind.version_key(found, record["version"] - VERSIONS))
    return one


def _opened(kind, found, text):
    try:
        one = state_codec.decode_state(text)
        if one.pop("v") != FORMAT_VERSION or one["id"] != found:
            raise state_codec.CorruptState("it is of another version of the pack")
    except (state_codec.CorruptState, AttributeError, KeyError, TypeError) as error:
        way_out = "Delete the key and create it again"
        raise InvalidInput(kind.key(found), None, "is corrupted: %s" % error, way_out) from error
    return one
