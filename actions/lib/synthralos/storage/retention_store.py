"""A datastore that applies the configuration: the TTL of each kind, whether user text is stored.

Everything that the pack writes goes through here, so that a new kind of fact cannot bypass it.
Without user text (`store_user_text: false`) facts are reduced to ids, names, enums, numbers and
times, field by field: a field that FIELDS_WITHOUT_TEXT does not list is not stored.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from synthralos.core import sealing
from synthralos.core.identifiers import is_name
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, WITHHELD, Datastore, Keys, Rows
from synthralos.storage.keyspace import KINDS

if TYPE_CHECKING:
    from synthralos.config.settings import Settings

# Kinds that the configured TTL does not apply to: a window's steps, marks that outlive it, hosts
# that come last for as long as a breaker stays open, accounts until they are renewed, claims
# without which runs would be started twice. The ledger applies it itself, because a forced state
# lasts as long as the operator says.
_OWN_LIFETIME = (
    "outcome", "host_failure", "account_failure", "loop_step", "reaped_run", "cached",
    "redrive_claim", "redriven_run",
)
# Kinds that consist of user text, and are not stored at all without it.
_NOT_WITHOUT_TEXT = ("query", "answer", "cached")
# How long most runs may take, and how long those of agents and orchestrations.
SHORT_RUN_SECONDS, MAX_RUN_SECONDS = 3600, 24 * 3600
_OF_LONG_RUNS = ("cases", "orchestrations")
RECORD_SECONDS, APPROVAL_SECONDS = 600, 3600
# What approvals without a time limit count as: as much as the longest limit. Without user text it
# is a day.
UNLIMITED_APPROVAL_SECONDS = 30 * 24 * 3600
# What a run needs that waits for a person.
_OF_ASKING_RUNS = ("case", "inquiry")
FIELDS_WITHOUT_TEXT: dict[str, tuple[str, ...]] = {
    "history": (
        "v", "event", "workflow", "run", "type", "cause", "attempts", "step", "task_id", "version",
        "user", "actor", "metadata", "snapshot_id", "platform", "error", "outcome", "repairs",
    ),
    "ticket": (
        "v", "workflow", "subject", "type", "cause", "severity", "run", "at", "time", "period",
        "occurrences", "attempts", "opened_at", "impact", "level", "level_since", "priority",
        "taken_by", "taken_at", "status", "before", "resolved_by", "resolved_at", "resolution",
        "kind", "by", "why", "summary", "details",
    ),
}
FIELDS_WITHOUT_TEXT["ticket_event"] = FIELDS_WITHOUT_TEXT["ticket"]
_ERROR_FIELDS = ("cause", "type", "severity", "status", "retry_after", "field", "step")
# A ticket that was created manually: its summary and details are what a person wants it to say.
# That of a redrive: they consist of ids, names and numbers.
_UNSTRIPPED_TICKETS = ("ticket.create", "recovery.redrive")


def with_retention(
    datastore: Optional[Datastore], settings: "Settings"
) -> "Optional[RetentionDatastore]":
    """Return the datastore that the settings require, or None without a datastore."""
    if datastore is None:
        return None
    return RetentionDatastore(
        datastore, settings.retention, settings.store_user_text, approval_seconds(settings)
    )


def case_seconds(settings: "Settings", run_seconds: float) -> int:
    """Return how long the case of a run is stored, in seconds.

    :param run_seconds: what the run may still take, without approvals.
    """
    if settings.store_user_text:
        return sealing.BODY_TTL_SECONDS
    return int(max(run_seconds, 0)) + approval_seconds(settings) + RECORD_SECONDS


def approval_seconds(settings: "Settings") -> int:
    """Return for how many seconds what a run needs is stored while it waits for a person."""
    seconds: object = settings.automation.get("approval_timeout")
    if isinstance(seconds, int) and not isinstance(seconds, bool) and seconds > 0:
        return seconds
    # 0 means forever; an invalid value is rejected where it is used.
    if seconds is None:
        return APPROVAL_SECONDS
    return UNLIMITED_APPROVAL_SECONDS if settings.store_user_text else MAX_RUN_SECONDS


class RetentionDatastore:
    """A datastore with configured TTLs, optionally without user text.

    :param datastore: what is written to.
    :param lifetimes: {group: seconds} of the groups whose TTL differs from the table in keyspace.
    :param store_text: whether user text is stored.
    :param approval_seconds: how long a run may wait for a person.
    """

    def __init__(
        self,
        datastore: Datastore,
        lifetimes: Mapping[str, int],
        store_text: bool = True,
        approval_seconds: int = APPROVAL_SECONDS,
    ) -> None:
        self._datastore, self._lifetimes, self._store_text = datastore, lifetimes, store_text
        self._approval_seconds = approval_seconds

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        return self._datastore.get(name, decrypt)

    def list(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Rows:
        return self._datastore.list(prefix, limit, offset)

    def list_keys(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Keys:
        return self._datastore.list_keys(prefix, limit, offset)

    def delete(self, name: str) -> bool:
        return self._datastore.delete(name)

    def put(self, name: str, value: str, ttl: Optional[int] = None) -> Optional[str]:
        """Like `Datastore.put`. Return WITHHELD if it is user text that may not be stored."""
        kind = name[len(PREFIX):].split(".", 1)[0] if name.startswith(PREFIX) else None
        if kind is None or kind not in KINDS:
            return self._datastore.put(name, value, ttl)
        if kind not in _OWN_LIFETIME:
            ttl = self._lifetimes.get(KINDS[kind].group, ttl)
        if self._store_text:
            if kind in _OF_ASKING_RUNS and ttl is not None:
                # The run that it belongs to may wait for a person first.
                ttl = max(ttl, SHORT_RUN_SECONDS + self._approval_seconds + RECORD_SECONDS)
            return self._datastore.put(name, value, ttl)
        if kind in _NOT_WITHOUT_TEXT:
            return WITHHELD
        max_ttl = self._max_text_ttl(kind)
        if max_ttl is not None:
            ttl = max_ttl if ttl is None else min(ttl, max_ttl)
        if kind in FIELDS_WITHOUT_TEXT:
            value = _strip_text(kind, value)
        return self._datastore.put(name, value, ttl)

    def _max_text_ttl(self, kind: str) -> Optional[int]:
        """Seconds for which a running run may need a fact with user text in it; None for others."""
        if not KINDS[kind].belongs_to_run or not KINDS[kind].holds_user_text:
            return None
        is_long = KINDS[kind].group in _OF_LONG_RUNS and kind != "inquiry"
        run_seconds = MAX_RUN_SECONDS if is_long else SHORT_RUN_SECONDS
        return run_seconds + self._approval_seconds + RECORD_SECONDS


def _strip_text(kind: str, text: str) -> str:
    """The row `text` of this kind without user text."""
    fact = json.loads(text)
    if fact.get("workflow") in _UNSTRIPPED_TICKETS:
        return text
    stripped = {name: fact[name] for name in FIELDS_WITHOUT_TEXT[kind] if name in fact}
    if "summary" in stripped:
        stripped["summary"] = "%s of %s failed: %s" % (
            stripped.get("workflow"), stripped.get("subject"), stripped.get("cause")
        )
    for name in ("error", "details"):
        if isinstance(stripped.get(name), dict):
            stripped[name] = error_without_text(stripped[name])
    # Not records.encode: the row keeps whatever version its writer gave it.
    return json.dumps(stripped, separators=(",", ":"), sort_keys=True)


def error_without_text(error: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an error that are not user text: cause, numbers, the invalid parameter."""
    fields = {name: error[name] for name in _ERROR_FIELDS if _is_text_free(error.get(name))}
    if isinstance(error.get("field"), str):
        # A path below a parameter may contain a caller's own key.
        fields["field"] = error["field"].split(".")[0].split("[")[0]
    return {name: value for name, value in fields.items() if _is_text_free(value)}


def _is_text_free(value: object) -> bool:
    return is_name(value) or (isinstance(value, (int, float)) and not isinstance(value, bool))
