"""What runs of infrastructure_repair did to a thing: an entry of its history for each run."""

from collections.abc import Mapping
from typing import Any

from synthralos.core.identifiers import is_name
from synthralos.core.sanitize import sanitize_line
from synthralos.core.timestamps import to_iso
from synthralos.escalation.ticket_evidence import PastRepair
from synthralos.infrastructure import check_records
from synthralos.runtime.environment import Environment
from synthralos.storage import history
from synthralos.storage.datastore import timestamp_of_key

# An entry of the history of a node, besides those of failed runs.
EVENT = "repair"
MAX_NODES, MAX_REPAIRS, MAX_ENTRIES, MAX_LISTED = 20, 10, 5, 40
MAX_CHARS = 200


def record(env: Environment, workflow: str, case: Mapping[str, Any]) -> None:
    """Add an entry to the history of each node that the run has assigned to somebody.

    Nodes whose names are no names of the pack have no history. Costs a call for each node, of at
    most MAX_NODES.
    """
    repairs: dict[str, list[str]] = {}
    for entry in case["assignments"]:
        if is_name(entry["node"]):
            repairs.setdefault(entry["node"], []).append(
                "%s: %s" % (entry["crew"], entry["status"].lower())
            )
    for node in list(repairs)[:MAX_NODES]:
        checks = [check["status"] for check in check_records.of_node(case, node)]
        history.append_entry(env.store, node, env.now(), {
            "event": EVENT,
            "workflow": workflow,
            "run": case["run"],
            "outcome": ", ".join(dict.fromkeys(checks)) or "failed",
            "repairs": repairs[node][-MAX_REPAIRS:],
        })


def recent(env: Environment, node: str) -> list[PastRepair]:
    """Return what was done about a node lately, newest first."""
    if not is_name(node):
        return []

    def clean(value: Any) -> str:
        return sanitize_line(value, env.redactor, MAX_CHARS)

    past: list[PastRepair] = []
    for entry in history.recent_entries(env.store, node, limit=MAX_LISTED):
        if entry.get("event") != EVENT or len(past) >= MAX_ENTRIES:
            continue
        repairs = entry.get("repairs")
        run = entry.get("run")
        past.append({
            "at": to_iso(timestamp_of_key(entry["record"]) or 0.0),
            "run": None if run is None else clean(run),
            "workflow": clean(entry.get("workflow")),
            "outcome": clean(entry.get("outcome")),
            "repairs": [clean(text) for text in (repairs if isinstance(repairs, list) else [])],
        })
    return past
