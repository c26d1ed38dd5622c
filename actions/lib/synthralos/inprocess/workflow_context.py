"""One run of an agentic workflow: its state, history, versions and checkpoints.

Checkpoints are snapshots (storage/snapshots.py) under the workflow's run_id: packed, with a
checksum, and trimmed to MAX_CHECKPOINTS. Their state is the whole context, so a run whose process
has ended continues from its last one if the datastore outlives the process.
"""
from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.core.timestamps import to_iso
from synthralos.storage import snapshots, state_codec
from synthralos.storage.datastore import BestEffortDatastore, Datastore

if TYPE_CHECKING:
    from synthralos.inprocess.workflow import Workflow

MAX_CHECKPOINTS = 200
CHECKPOINT_CONFIG = snapshots.SnapshotConfig(max_snapshots=MAX_CHECKPOINTS, cleanup_after_hours=168)
# An unchanged context is not stored again within this time: who asks every second whether a person
# has approved would push the older versions out.
REUSE_SECONDS = 3600.0
_TICK_SECONDS = 2e-6
# Fields that agents work on, and which a checkpoint brings back.
WORKING_FIELDS = ("input_data", "plan", "critique", "result", "metadata")


class WorkflowState(str, Enum):
    """Where a workflow stands."""

    CREATED = "CREATED"
    PLANNED = "PLANNED"
    CRITIQUED = "CRITIQUED"
    APPROVED = "APPROVED"
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    def __str__(self) -> str:
        return str(self.value)


TERMINAL_STATES = frozenset({WorkflowState.COMPLETED, WorkflowState.FAILED})


# Functional, for `from` is a keyword. `to_iso` is ISO 8601 in UTC; `retry_count` is the number
# of retries that the transition took; `version` is that of the context after it.
StateTransition = TypedDict(
    "StateTransition",
    {"from": str, "to": str, "timestamp": str, "retry_count": int, "version": int},
)


@dataclass
class WorkflowContext:
    """What agents read and change.

    :ivar input_data: what the workflow is about; like plan, critique, result and metadata it holds
        JSON values only.
    :ivar workflow: whose agents, clock and datastore `advance` uses.
    :ivar run_id: an identifier (synthralos.core.identifiers), by default a new UUID.
    :ivar plan, critique, result: what planner, critic and executor returned.
    :ivar error: class and message of the last exception of an agent, or None.
    :ivar retry_count: failed attempts of the transition under way, or that failed.
    :ivar version: counts the states the context has been in, from 1.
    :ivar state_history: transitions, oldest first.
    :ivar checkpoints: {name such as `pre_PLANNED`: id of the snapshot}.
    :ivar versions: {version: id of the snapshot}, of the versions that can be rolled back to.
    :ivar failed_checkpoint: the checkpoint that `recover` restores, or None.
    :ivar started_at: seconds since the epoch, or None before the first `advance`.
    :ivar updated_at: seconds since the epoch of the last checkpoint, or None.
    """

    input_data: dict[str, Any] = field(default_factory=dict)
    workflow: Workflow | None = field(default=None, repr=False, compare=False)
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: WorkflowState = WorkflowState.CREATED
    plan: Any = None
    critique: Any = None
    result: Any = None
    error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    retry_count: int = 0
    version: int = 1
    state_history: list[StateTransition] = field(default_factory=list)
    checkpoints: dict[str, str] = field(default_factory=dict)
    versions: dict[int, str] = field(default_factory=dict)
    failed_checkpoint: str | None = None
    started_at: float | None = None
    updated_at: float | None = None
    # Of the last checkpoint of each name: its version, checksum, and when it was created.
    _stored: dict[str, tuple[int, str, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _lock: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        require_identifier("run_id", self.run_id)
        self.state = WorkflowState(self.state)

    @property
    def is_terminal(self) -> bool:
        """Whether the workflow is COMPLETED or FAILED."""
        return self.state in TERMINAL_STATES

    @property
    def locked(self) -> bool:
        """Whether an `advance` is under way."""
        return self._lock.locked()

    def acquire(self) -> bool:
        """Lock the context unless it is locked; return whether it was not."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        """Unlock the context."""
        self._lock.release()

    def to_dict(self) -> dict[str, Any]:
        """The context as a JSON value, without its workflow."""
        return {
            "run_id": self.run_id,
            "state": self.state.value,
            "input_data": self.input_data,
            "plan": self.plan,
            "critique": self.critique,
            "result": self.result,
            "error": self.error,
            "metadata": self.metadata,
            "retry_count": self.retry_count,
            "version": self.version,
            "state_history": [dict(transition) for transition in self.state_history],
            "checkpoints": dict(self.checkpoints),
            "versions": {str(version): snapshot for version, snapshot in self.versions.items()},
            "failed_checkpoint": self.failed_checkpoint,
            "started_at": self.started_at,
            "updated_at": self.updated_at,
        }

    @classmethod
    def from_dict(
        cls, data: dict[str, Any], workflow: Workflow | None = None
    ) -> WorkflowContext:
        """The context that `to_dict` gave, for a workflow with the same agents."""
        fields = dict(data, state=WorkflowState(data["state"]))
        fields["versions"] = {
            int(version): snapshot for version, snapshot in data["versions"].items()
        }
        return cls(workflow=workflow, **fields)

    def create_checkpoint(self, name: str, datastore: Datastore, now: float) -> str:
        """Store the context under `name`; return the id of the snapshot.

        :param now: seconds since the epoch.
        :raises InvalidInput: a field is not a JSON value, or the context is too large.
        :raises synthralos.storage.datastore.DatastoreUnavailable: the datastore is unavailable.
        """
        working = {
            name: state_codec.canonical_json(name, getattr(self, name)) for name in WORKING_FIELDS
        }
        checksum = state_codec.checksum(state_codec.canonical_json("checkpoint", working))
        version, stored_checksum, created_at = self._stored.get(name, (0, "", 0.0))
        is_recent = abs(now - created_at) < REUSE_SECONDS
        if (version, stored_checksum) == (self.version, checksum) and is_recent:
            return self.checkpoints[name]
        if self.updated_at is not None:
            # Snapshots are ordered by their time: a clock that stands still must not mix them.
            now = max(now, self.updated_at + _TICK_SECONDS)
        head = snapshots.create(
            BestEffortDatastore(datastore), CHECKPOINT_CONFIG, now, self.run_id, name,
            dict(self.to_dict(), updated_at=now),
            {"version": self.version, "state": self.state.value},
        )
        snapshot_id: str = head["snapshot_id"]
        self.updated_at = now
        self._stored[name] = (self.version, checksum, now)
        self.checkpoints[name] = snapshot_id
        self.versions[self.version] = snapshot_id
        return snapshot_id

    def restore_checkpoint(
        self, name: str, datastore: Datastore, now: float
    ) -> dict[str, Any]:
        """Bring back state, input_data, plan, critique, result and metadata of a checkpoint.

        :returns: the whole context of the checkpoint, as `to_dict` gives it.

        :raises InvalidInput: there is no such checkpoint, or it is corrupted or too old.
        :raises synthralos.storage.datastore.DatastoreUnavailable: the datastore is unavailable.
        """
        if name not in self.checkpoints:
            raise InvalidInput("checkpoint", name, "does not exist", "Use one of %s" % (
                ", ".join(self.checkpoints) or "none: the workflow has not been advanced yet"
            ))
        return self._restore(self.checkpoints[name], datastore, now)

    def restore_version(
        self, version: int, datastore: Datastore, now: float
    ) -> dict[str, Any]:
        """As `restore_checkpoint`, of the context as it was at `version`."""
        if version not in self.versions:
            raise InvalidInput("version", version, "is not stored", "Use one of %s" % (
                ", ".join(map(str, sorted(self.versions))) or
                "none: the workflow has not been advanced yet"
            ))
        return self._restore(self.versions[version], datastore, now)

    def record_transition(self, to_state: WorkflowState, now: float) -> StateTransition:
        """Change the state, as the next version; return the entry of the history."""
        self.version += 1
        transition: StateTransition = {
            "from": self.state.value,
            "to": to_state.value,
            "timestamp": to_iso(now, milliseconds=True),
            "retry_count": self.retry_count,
            "version": self.version,
        }
        self.state_history.append(transition)
        self.state = to_state
        return transition

    def _restore(self, snapshot_id: str, datastore: Datastore, now: float) -> dict[str, Any]:
        snapshot = snapshots.get(
            BestEffortDatastore(datastore), CHECKPOINT_CONFIG, now, snapshot_id, self.run_id
        )
        stored: dict[str, Any] = snapshot["state"]
        self.state = WorkflowState(stored["state"])
        for name in WORKING_FIELDS:
            setattr(self, name, stored[name])
        return stored
