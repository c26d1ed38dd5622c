"""The topology: which node depends on which, how critical it is and how many people it serves."""

from dataclasses import dataclass
from typing import Optional

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import SEVERITIES
from synthralos.core.identifiers import require_identifier
from synthralos.infrastructure import node_names

CRITICALITIES = SEVERITIES
MAX_NODES = 10_000
MAX_PEOPLE = 10**9
MAX_REPAIR_SECONDS = 30 * 24 * 3600
_KEYS = ("name", "depends_on", "criticality", "people", "zone", "skills", "repair_seconds")
_WAY_OUT = "Nodes are {name, depends_on, criticality, people, zone, skills, repair_seconds}"


@dataclass(frozen=True)
class Node:
    """:ivar depends_on: the nodes without which it does not work.
    :ivar people: whom it serves itself, whatever depends on it.
    :ivar skills: what a crew must know to repair it.
    :ivar repair_seconds: how long a repair usually takes, or None.
    """

    name: str
    depends_on: tuple = ()
    criticality: str = CRITICALITIES[0]
    people: int = 0
    zone: Optional[str] = None
    skills: tuple = ()
    repair_seconds: Optional[int] = None


class Topology:
    """:param known: Nodes. One that others depend on need not be among them.

    :ivar nodes: {name: Node}.
    """

    def __init__(self, known=()):
        self.nodes = {node.name: node for node in known}
        self._dependents = {}
        for node in self.nodes.values():
            for below in node.depends_on:
                self._dependents.setdefault(below, []).append(node.name)

    @classmethod
    def of(cls, env, config):
        """The topology of the config, with what the datastore holds over it.

        :param config: config.Infrastructure.
        """
        entries = list(config.topology)
        if config.topology_from:
            entries += _stored(env.store, config.topology_from)
        return cls(read("infrastructure.topology", entries))

    def __contains__(self, name):
        return name in self.nodes or name in self._dependents

    def node(self, name):
        """The Node of that name; of one that nobody described, a node with the defaults."""
        return self.nodes.get(name) or Node(name)

    def dependents(self, name):
        """The nodes that depend on `name` directly."""
        return self._dependents.get(name, [])

    def downstream(self, name):
        """All nodes that depend on `name`, directly or not, nearest first, without itself.

        Cycles are tolerated: each node is there once.
        """
        seen, level = {name: None}, [name]
        while level:
            level = [
                above for below in level for above in self.dependents(below) if above not in seen
            ]
            seen.update(dict.fromkeys(level))
        return list(seen)[1:]

    def resolved(self, name):
        """What the topology calls `name`: without its port, where only that is known."""
        host, colon, port = name.rpartition(":")
        if name not in self and colon and port.isdigit() and host in self:
            return host
        return name


def read(where, entries):
    """The Nodes of a list of mappings. InvalidInput names the first that is wrong."""
    if not isinstance(entries, list):
        raise InvalidInput(where, entries, "is no list", _WAY_OUT)
    if len(entries) > MAX_NODES:
        raise InvalidInput(where, len(entries), "is too long", "List at most %d nodes" % MAX_NODES)
    return [_node("%s[%d]" % (where, n), entry) for n, entry in enumerate(entries)]


def _node(where, entry):
    if not isinstance(entry, dict):
        raise InvalidInput(where, entry, "is not an object", _WAY_OUT)
    unknown = sorted(str(name) for name in set(entry) - set(_KEYS))
    if unknown:
        raise InvalidInput("%s.%s" % (where, unknown[0]), None, "is unknown", _WAY_OUT)
    criticality = entry.get("criticality") or CRITICALITIES[0]
    if criticality not in CRITICALITIES:
        way_out = "Use one of " + ", ".join(CRITICALITIES)
        raise InvalidInput(where + ".criticality", criticality, "is no criticality", way_out)
    zone, skills = entry.get("zone"), entry.get("skills") or []
    if not isinstance(skills, list):
        raise InvalidInput(where + ".skills", skills, "is no list", "List names of skills")
    repair = entry.get("repair_seconds")
    return Node(
        name=node_names.checked(where + ".name", entry.get("name")),
        depends_on=tuple(node_names.listed(where + ".depends_on", entry.get("depends_on") or [])),
        criticality=criticality,
        people=_count(where + ".people", entry.get("people") or 0, MAX_PEOPLE),
        zone=None if zone is None else require_identifier(where + ".zone", zone),
        skills=tuple(
            require_identifier("%s.skills[%d]" % (where, n), s) for n, s in enumerate(skills)
        ),
        repair_seconds=(
            None
            if repair is None
            else _count(where + ".repair_seconds", repair, MAX_REPAIR_SECONDS)
        ),
    )


def _count(where, value, most):
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        way_out = "Use a whole number from 0 to %d" % most
        raise InvalidInput(where, value, "is out of bounds", way_out)
    return value


def _stored(store, key):
    """The entries under the datastore key: a JSON list of nodes, or {"nodes": [...]}."""
    where = "infrastructure.topology_from"
    text = store.get(key)
    if text is None:
        why = store.unavailable_reason or "is not in the datastore"
        raise InvalidInput(where, key, why, "Set it with `st2 key set %s JSON`" % key)
    try:
        told = bounded_json.loads(text)
    except ValueError as error:
        raise InvalidInput(where, key, "holds no JSON", 'Store {"nodes": [{...}]}') from error
    told = told.get("nodes") if isinstance(told, dict) else told
    if not isinstance(told, list):
        raise InvalidInput(where, key, "holds no list of nodes", 'Store {"nodes": [{...}]}')
    return told
