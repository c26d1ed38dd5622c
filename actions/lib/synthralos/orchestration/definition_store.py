"""Roles and orchestrations in the datastore: one current form for each name, and its versions.

    synthralos.role.<id>                    the current role
    synthralos.role_version.<id>.<number>   the role as of that version
    synthralos.orchestration.<id>, synthralos.orchestration_version.<id>.<number>

An id is derived from the name: so the key makes a name unique, the id never changes, and a look-up
by name or by id costs one call. A change holds the lock of its name (storage.locks); when two
clients create the same name at the same time, one of them gets an error. Nothing here expires.
"""

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypedDict, TypeVar

from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.orchestration.orchestration_schema import Orchestration
from synthralos.orchestration.role_schema import Named, Role
from synthralos.storage import locks, state_codec
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    BestEffortDatastore,
    require_available,
)

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

FORMAT_VERSION = 1
# Versions stored of each definition; the oldest ones beyond this are deleted.
MAX_VERSIONS = 50
MAX_PAGES = 20
MAX_ATTEMPTS, RETRY_DELAY_SECONDS = 5, 0.5
AWAY = "the datastore is unavailable: %s"


class Version(TypedDict):
    """When a version of a definition was stored, in ISO 8601, and by whom, or None if unknown."""

    version: int
    updated_at: str
    updated_by: Optional[str]


class Record(Version):
    """What a stored definition has besides its normal form."""

    id: str
    created_at: str
    created_by: Optional[str]


class StoredRole(Role, Record):
    """A role in the datastore."""


# pylint 3.1.1 takes the TypedDict below both for one class.
class StoredOrchestration(Orchestration, Record):  # pylint: disable=duplicate-bases
    """An orchestration in the datastore."""


class Stored(Record):
    """What every stored definition has."""

    name: str


# A normal form, and its stored form.
N = TypeVar("N", bound=Named)
S = TypeVar("S", bound=Stored)


@dataclass(frozen=True)
class DefinitionKind(Generic[N, S]):
    """A kind of definition: roles or orchestrations.

    :ivar noun: its name in error messages, in keys, and in the names of its actions.
    :ivar letter: the first letter of its ids.
    :ivar summary_of: (a stored definition) -> what lists show of it.
    """

    noun: str
    letter: str
    summary_of: Callable[[S], dict[str, Any]]

    def id_of(self, name: str) -> str:
        return self.letter + hashlib.sha256(name.encode("ascii")).hexdigest()[:12]

    def key(self, definition_id: str) -> str:
        return "%s%s.%s" % (PREFIX, self.noun, definition_id)

    def version_key(self, definition_id: str, number: int) -> str:
        return "%s%s_version.%s.%06d" % (PREFIX, self.noun, definition_id, number)

    def ids(self, name_or_id: object) -> list[str]:
        """Return the ids that a name or id may stand for, the likelier one first."""
        if not isinstance(name_or_id, str) or not name_or_id.isascii():
            return []
        candidates = [self.id_of(name_or_id)]
        return candidates + [name_or_id] if _ID.match(name_or_id) else candidates

    def normal_form(self, definition: S) -> N:
        """Return the normal form of a stored definition, without what `Record` adds to it."""
        fields: Any = {
            name: value for name, value in definition.items() if name not in _RECORD
        }
        normal: N = fields
        return normal


def _role_summary(role: StoredRole) -> dict[str, Any]:
    return {
        "model": role["model"],
        "needs": [name for name, needed in role["needs"].items() if needed],
        "tools": role["tools"],
    }


def _orchestration_summary(orchestration: StoredOrchestration) -> dict[str, Any]:
    return {
        "description": orchestration["description"],
        "tags": orchestration["tags"],
        "active": orchestration["active"],
        "steps": [step["name"] for step in orchestration["steps"]],
    }


ROLE: DefinitionKind[Role, StoredRole] = DefinitionKind("role", "R", _role_summary)
ORCHESTRATION: DefinitionKind[Orchestration, StoredOrchestration] = DefinitionKind(
    "orchestration", "O", _orchestration_summary
)
_ID = re.compile(r"[RO][0-9a-f]{12}\Z")


def role_by(store: BestEffortDatastore, name_or_id: str) -> Optional[StoredRole]:
    """Return the role with that name or id, or None; see `find`."""
    return find(store, ROLE, name_or_id)


def orchestration_by(store: BestEffortDatastore, name_or_id: str) -> Optional[StoredOrchestration]:
    """Return the orchestration with that name or id, or None; see `find`."""
    return find(store, ORCHESTRATION, name_or_id)


def find(store: BestEffortDatastore, kind: DefinitionKind[N, S], name_or_id: str) -> Optional[S]:
    """Return what has that name or id, or None.

    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    for definition_id in kind.ids(name_or_id):
        text = store.get(kind.key(definition_id))
        require_available(store, AWAY)
        if text is not None:
            return _decode(kind, definition_id, text)
    return None


def require(
    store: BestEffortDatastore, kind: DefinitionKind[N, S], name_or_id: str, field: str = "name"
) -> S:
    """`find`, or InvalidInput when there is none."""
    definition = find(store, kind, name_or_id)
    if definition is None:
        raise InvalidInput(
            field, name_or_id, "is not a known %s" % kind.noun,
            "List them with `st2 run synthralos.%s.list`" % kind.noun,
        )
    return definition


def list_all(store: BestEffortDatastore, kind: DefinitionKind[N, S]) -> list[S]:
    """Return all definitions of a kind, last changed first."""
    definitions: list[S] = []
    for page in range(MAX_PAGES):
        rows = store.list(kind.key(""), limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        require_available(store, AWAY)
        definitions += [_decode(kind, name.rpartition(".")[2], text) for name, text in rows]
        if len(rows) < PAGE_SIZE:
            break
    return sorted(
        definitions,
        key=lambda definition: (definition["updated_at"], definition["name"]),
        reverse=True,
    )


def versions(
    store: BestEffortDatastore, kind: DefinitionKind[N, S], definition: S
) -> list[Version]:
    """Return the stored versions of `definition`, newest first."""
    rows = store.list(kind.version_key(definition["id"], 0)[:-6], limit=MAX_VERSIONS)
    require_available(store, AWAY)
    stored_versions = [_decode(kind, definition["id"], text) for _, text in rows]
    # A definition that was deleted and created again may have left versions of the first one.
    stored_versions = [
        version for version in stored_versions if version["version"] <= definition["version"]
    ]
    return [
        {
            "version": version["version"],
            "updated_at": version["updated_at"],
            "updated_by": version["updated_by"],
        }
        for version in stored_versions
    ]


def version(
    store: BestEffortDatastore, kind: DefinitionKind[N, S], definition: S, number: int
) -> S:
    """Return `definition` as of version `number`.

    :raises InvalidInput: that version is not stored.
    """
    text = (
        store.get(kind.version_key(definition["id"], number))
        if number <= definition["version"]
        else None
    )
    require_available(store, AWAY)
    if text is None:
        numbers = ", ".join(
            str(stored_version["version"]) for stored_version in versions(store, kind, definition)
        )
        raise InvalidInput(
            "at_version", number, "is not a stored version", "Stored versions: %s" % numbers
        )
    return _decode(kind, definition["id"], text)


def create(
    env: "Environment",
    kind: DefinitionKind[N, S],
    normal: N,
    actor: Optional[str],
    sleep: Callable[[float], None] = time.sleep,
) -> S:
    """Store a new definition and return it as `find` does.

    :param actor: the user who creates it, or None if unknown.
    :raises InvalidInput: its name is in use, or looks like an id.
    """
    name = normal["name"]
    if _ID.match(name):
        raise InvalidInput("name", name, "looks like an id", "Choose another name")
    with locked(env, kind, name, sleep) as existing:
        if existing is not None:
            raise InvalidInput(
                "name",
                name,
                "is already the name of another %s" % kind.noun,
                "Choose another name, or change that %s with synthralos.%s.update" %
                (kind.noun, kind.noun),
            )
        return _write(env, kind, None, normal, actor)


def save_version(
    env: "Environment",
    kind: DefinitionKind[N, S],
    existing: Optional[S],
    normal: N,
    actor: Optional[str],
) -> S:
    """Store a new version of `existing`, which `locked` yielded, and return it.

    Unchanged content makes no new version: then `existing` itself is returned.
    """
    if existing is not None and kind.normal_form(existing) == normal:
        return existing
    return _write(env, kind, existing, normal, actor)


def delete(env: "Environment", kind: DefinitionKind[N, S], existing: S) -> None:
    """Delete `existing`, which `locked` yielded, and its versions."""
    env.store.delete(kind.key(existing["id"]))
    for number in range(existing["version"], max(0, existing["version"] - MAX_VERSIONS), -1):
        env.store.delete(kind.version_key(existing["id"], number))
    require_available(env.store, AWAY)


@contextlib.contextmanager
def locked(
    env: "Environment",
    kind: DefinitionKind[N, S],
    name: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Optional[S]]:
    """Lock a name until the block ends; yield the definition that has it now, or None.

    :raises InvalidInput: other clients kept the lock through all attempts.
    """
    for attempt in range(MAX_ATTEMPTS):
        lock_name = "%s-%s" % (kind.noun, kind.id_of(name))
        with locks.try_lock(env.store, lock_name, env.now, sleep) as acquired:
            require_available(env.store, AWAY)
            if acquired:
                yield find(env.store, kind, name)
                return
        if attempt < MAX_ATTEMPTS - 1:
            sleep(RETRY_DELAY_SECONDS)
    raise InvalidInput("name", name, "is being changed by another client", "Try again")


_RECORD = ("id", "version", "created_at", "created_by", "updated_at", "updated_by")


def _write(
    env: "Environment",
    kind: DefinitionKind[N, S],
    previous: Optional[S],
    normal: N,
    actor: Optional[str],
) -> S:
    definition_id, timestamp = kind.id_of(normal["name"]), to_iso(env.now())
    record: Record = {
        "id": definition_id,
        "version": previous["version"] + 1 if previous else 1,
        "created_at": previous["created_at"] if previous else timestamp,
        "created_by": previous["created_by"] if previous else actor,
        "updated_at": timestamp,
        "updated_by": actor,
    }
    definition: S = env.redactor.remove_secrets({**normal, **record})
    text = state_codec.encode_state(kind.noun, dict(definition, v=FORMAT_VERSION))
    # If this is interrupted between the two, the next change writes that version again.
    env.store.put(kind.version_key(definition_id, record["version"]), text)
    env.store.put(kind.key(definition_id), text)
    require_available(env.store, AWAY)
    if record["version"] > MAX_VERSIONS:
        env.store.delete(kind.version_key(definition_id, record["version"] - MAX_VERSIONS))
    return definition


def _decode(kind: DefinitionKind[N, S], definition_id: str, text: str) -> S:
    try:
        content: Any = state_codec.decode_state(text)
        if content.pop("v") != FORMAT_VERSION or content["id"] != definition_id:
            raise state_codec.CorruptState("it was written by another version of the pack")
    except (state_codec.CorruptState, AttributeError, KeyError, TypeError) as error:
        hint = "Delete the key and create it again"
        raise InvalidInput(
            kind.key(definition_id), None, "is corrupted: %s" % error, hint
        ) from error
    definition: S = content
    return definition
