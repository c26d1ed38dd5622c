"""The datastore as the configuration wants it used: how long each kind of fact is kept, and whether
what callers worded is kept at all.

Everything that the pack writes goes through here, so that no new fact is forgotten. Without text
(`store_user_text: false`) facts are reduced to ids, names, enums, numbers and times, field by field as
KEPT_FIELDS lists them: what is not listed is not kept.
"""

import json

from synthralos.core.identifiers import is_name
from synthralos.storage.datastore import PREFIX, WITHHELD
from synthralos.storage.keyspace import KINDS

# Of kinds that the configured lifetime does not fit: a window's steps, marks that outlive it. The
# ledger looks at it itself, for what an operator forced lasts as long as the operator says.
_OWN_LIFETIME = ("outcome", "loop_step", "reaped_run", "cached")
# Without these nothing is lost but the text itself.
_NOT_WITHOUT_TEXT = ("query", "answer", "cached")
# What a run needs while it lives: the longest takes an hour, an orchestration a day.
MAX_RUN_SECONDS, ORCHESTRATION_SECONDS = 3600, 24 * 3600
RECORD_SECONDS, ASKING_SECONDS = 600, 3600
FIELDS_WITHOUT_TEXT = {
    "history": (
        "v", "event", "workflow", "run", "type", "cause", "attempts", "step", "task_id", "version",
        "user", "actor", "metadata", "snapshot_id", "platform", "error",
    ),
    "ticket": (
        "v", "workflow", "subject", "type", "cause", "severity", "run", "at", "time", "period",
        "occurrences", "attempts", "opened_at", "impact", "level", "level_since", "priority",
        "taken_by", "taken_at", "status", "before", "resolved_by", "resolved_at", "resolution",
        "kind", "by", "why", "summary", "details",
    ),
}
FIELDS_WITHOUT_TEXT["ticket_event"] = FIELDS_WITHOUT_TEXT["ticket"]
_OF_ERRORS = ("cause", "type", "severity", "status", "retry_after", "field", "step")
# Its summary and details are what somebody wants a ticket to say.
_BY_HAND = "ticket.create"


def with_retention(datastore, settings):
    """The Keeping of `datastore` that the settings want; None for None."""
    if datastore is None:
        return None
    asking = settings.automation.get("approval_timeout")
    whole = isinstance(asking, int) and not isinstance(asking, bool) and asking > 0
    if not whole:
        # 0 is for ever; what is wrong is refused where it is read.
        asking = ASKING_SECONDS if asking is None else ORCHESTRATION_SECONDS
    return RetentionDatastore(datastore, settings.retention, settings.store_user_text, asking)


class RetentionDatastore:
    """:param datastore: whose calls raise DatastoreUnavailable.
    :param lifetimes: {group: seconds} of what is not kept as long as its module says.
    :param text: whether what callers worded is kept.
    :param asking_seconds: how long a run may wait for a person.
    """

    def __init__(self, datastore, lifetimes, store_text=True, approval_seconds=ASKING_SECONDS):
        self._datastore, self._lifetimes, self._text = datastore, lifetimes, store_text
        self._asking = approval_seconds

    def __getattr__(self, name):
        return getattr(self._datastore, name)

    def put(self, name, value, ttl=None):
        """As the datastore has it; WITHHELD when it is text that is not kept."""
        kind = name[len(PREFIX):].split(".", 1)[0] if name.startswith(PREFIX) else None
        if kind in KINDS and kind not in _OWN_LIFETIME:
            ttl = self._lifetimes.get(KINDS[kind].group, ttl)
        if self._text or kind not in KINDS:
            return self._datastore.put(name, value, ttl)
        if kind in _NOT_WITHOUT_TEXT:
            return WITHHELD
        longest = self._max_text_ttl(kind)
        if longest is not None:
            ttl = longest if ttl is None else min(ttl, longest)
        if kind in FIELDS_WITHOUT_TEXT:
            value = _strip_text(kind, value)
        return self._datastore.put(name, value, ttl)

    def _max_text_ttl(self, kind):
        """Seconds for which a run that lives may need a fact with text in it; None without one."""
        if not KINDS[kind].belongs_to_run or not KINDS[kind].text:
            return None
        orchestrated = KINDS[kind].group == "orchestrations"
        longest = ORCHESTRATION_SECONDS if orchestrated else MAX_RUN_SECONDS
        return longest + self._asking + RECORD_SECONDS


def _strip_text(kind, text):
    fact = json.loads(text)
    if fact.get("workflow") == _BY_HAND:
        return text
    told = {name: fact[name] for name in FIELDS_WITHOUT_TEXT[kind] if name in fact}
    if "summary" in told:
        told["summary"] = "%s of %s failed: %s" % (
            told.get("workflow"), told.get("subject"), told.get("cause")
        )
    for name in ("error", "details"):
        if isinstance(told.get(name), dict):
            told[name] = error_without_text(told[name])
    return json.dumps(told, separators=(",", ":"), sort_keys=True)


def error_without_text(error):
    """Of an error what no caller worded: cause, numbers, and which parameter is wrong."""
    told = {name: error[name] for name in _OF_ERRORS if _is_text_free(error.get(name))}
    if isinstance(error.get("field"), str):
        # What stands below a parameter may be a caller's own key.
        told["field"] = error["field"].split(".")[0].split("[")[0]
    return {name: value for name, value in told.items() if _is_text_free(value)}


def _is_text_free(value):
    return is_name(value) or (isinstance(value, (int, float)) and not isinstance(value, bool))
