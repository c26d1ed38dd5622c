"""The topology: dependencies between nodes, their criticality, and the people they serve."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from synthralos.core import bounded_json
from synthralos.core.causes import SEVERITIES
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.infrastructure import node_names

if TYPE_CHECKING:
    from synthralos.infrastructure.config import InfrastructureConfig
    from synthralos.runtime.environment import Environment
    from synthralos.storage.datastore import BestEffortDatastore

CRITICALITIES = SEVERITIES
MAX_NODES = 10_000
MAX_PEOPLE = 10**9
MAX_REPAIR_SECONDS = 30 * 24 * 3600
_KEYS = ("name", "depends_on", "criticality", "people", "zone", "skills", "repair_seconds")
_HINT = "Nodes are {name, depends_on, criticality, people, zone, skills, repair_seconds}"


@dataclass(frozen=True)
class Node:
    """A node of the topology.

    :ivar depends_on: the nodes that it needs to work.
    :ivar people: the number of people it serves directly, without its dependents.
    :ivar skills: the skills that a crew needs to repair it.
    :ivar repair_seconds: how long a repair usually takes, or None if unknown.
    """

    name: str
    depends_on: tuple[str, ...] = ()
    criticality: str = CRITICALITIES[0]
    people: int = 0
    zone: Optional[str] = None
    skills: tuple[str, ...] = ()
    repair_seconds: Optional[int] = None


class Topology:
    """A dependency graph of nodes.

    :param nodes: a node that is only named as a dependency need not be among them.
    :ivar nodes: {name: Node}.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._dependents: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for dependency in node.depends_on:
                self._dependents.setdefault(dependency, []).append(node.name)

    @classmethod
    def load(cls, env: "Environment", config: "InfrastructureConfig") -> "Topology":
        """Return the configured topology; nodes stored in the datastore override it.

        :raises InvalidInput: a node is invalid, or the datastore key is missing or unavailable.
        """
        entries = list(config.topology)
        if config.topology_from:
            entries += _stored(env.store, config.topology_from)
        return cls(read_nodes("infrastructure.topology", entries))

    def __contains__(self, name: str) -> bool:
        return name in self.nodes or name in self._dependents

    def node(self, name: str) -> Node:
        """Return the node with this name, or one with default values if it is not described."""
        return self.nodes.get(name) or Node(name)

    def dependents(self, name: str) -> Sequence[str]:
        """Return the names of the nodes that depend on `name` directly."""
        return self._dependents.get(name, [])

    def downstream(self, name: str) -> list[str]:
        """Return all nodes that depend on `name`, directly or not, nearest first.

        `name` itself is not included. Cycles are allowed: each node is listed once.
        """
        seen: dict[str, None] = {name: None}
        level = [name]
        while level:
            level = [
                above for below in level for above in self.dependents(below) if above not in seen
            ]
            seen.update(dict.fromkeys(level))
        return list(seen)[1:]

    def canonical_name(self, name: str) -> str:
        """Return the topology's name of the node: without the port if only that is known."""
        host, colon, port = name.rpartition(":")
        if name not in self and colon and port.isdigit() and host in self:
            return host
        return name

    def name_of_subject(self, name: str, cluster: Optional[str] = None) -> str:
        """Return the topology's name of what an alert is about.

        It may have the node with its cluster, without it, or without the namespace of `name` too.

        :param name: as alert_subjects.Subject has it.
        """
        short_name = name.rpartition("/")[2] if "://" not in name else name
        names = [name, short_name]
        if cluster is not None:
            names = ["%s/%s" % (cluster, candidate) for candidate in names] + names
        for candidate in names:
            canonical_name = self.canonical_name(candidate)
            if canonical_name in self:
                return canonical_name
        return name

    def clusters_with(self, name: str) -> list[str]:
        """Return the clusters in whose nodes `name` occurs: the nodes are `cluster/name`.

        They may be named without the namespace of `name`, too; see name_of_subject.
        """
        suffix, short_suffix = "/" + name, "/" + name.rpartition("/")[2]
        clusters = [node[:-len(suffix)] for node in self.nodes if node.endswith(suffix)]
        if "://" not in name and short_suffix != suffix:
            prefixes = [
                node[:-len(short_suffix)] for node in self.nodes if node.endswith(short_suffix)
            ]
            namespace = name[:-len(short_suffix)]
            clusters += [prefix for prefix in prefixes if "/" not in prefix and prefix != namespace]
        return clusters


def read_nodes(path: str, entries: Any) -> list[Node]:
    """Parse a list of mappings.

    :raises InvalidInput: an entry is invalid; the error names the first.
    """
    if not isinstance(entries, list):
        raise InvalidInput(path, entries, "must be a list", _HINT)
    if len(entries) > MAX_NODES:
        raise InvalidInput(path, len(entries), "is too long", "List at most %d nodes" % MAX_NODES)
    return [_node("%s[%d]" % (path, n), entry) for n, entry in enumerate(entries)]


def _node(path: str, entry: Any) -> Node:
    if not isinstance(entry, dict):
        raise InvalidInput(path, entry, "must be an object", _HINT)
    unknown = sorted(str(name) for name in set(entry) - set(_KEYS))
    if unknown:
        raise InvalidInput("%s.%s" % (path, unknown[0]), None, "is an unknown field", _HINT)
    criticality = entry.get("criticality") or CRITICALITIES[0]
    if criticality not in CRITICALITIES:
        hint = "Use one of " + ", ".join(CRITICALITIES)
        raise InvalidInput(path + ".criticality", criticality, "is not a criticality", hint)
    zone, skills = entry.get("zone"), entry.get("skills") or []
    if not isinstance(skills, list):
        raise InvalidInput(path + ".skills", skills, "must be a list", "List names of skills")
    repair = entry.get("repair_seconds")
    return Node(
        name=node_names.require_node_name(path + ".name", entry.get("name")),
        depends_on=tuple(
            node_names.require_node_list(path + ".depends_on", entry.get("depends_on") or [])
        ),
        criticality=criticality,
        people=_count(path + ".people", entry.get("people") or 0, MAX_PEOPLE),
        zone=None if zone is None else require_identifier(path + ".zone", zone),
        skills=tuple(
            require_identifier("%s.skills[%d]" % (path, n), s) for n, s in enumerate(skills)
        ),
        repair_seconds=(
            None if repair is None else _count(path + ".repair_seconds", repair, MAX_REPAIR_SECONDS)
        ),
    )


def _count(path: str, value: Any, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        hint = "Use an integer from 0 to %d" % maximum
        raise InvalidInput(path, value, "is out of range", hint)
    return value


def _stored(store: "BestEffortDatastore", key: str) -> list[Any]:
    """Read the entries under the datastore key: a JSON list of nodes, or {"nodes": [...]}."""
    path = "infrastructure.topology_from"
    text = store.get(key)
    if text is None:
        reason = store.unavailable_reason or "is not in the datastore"
        raise InvalidInput(path, key, reason, "Set it with `st2 key set %s JSON`" % key)
    try:
        document = bounded_json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            path, key, "does not contain JSON", 'Store {"nodes": [{...}]}'
        ) from error
    document = document.get("nodes") if isinstance(document, dict) else document
    if not isinstance(document, list):
        raise InvalidInput(
            path, key, "does not contain a list of nodes", 'Store {"nodes": [{...}]}'
        )
    return document
