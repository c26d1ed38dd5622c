from synthralos.config.retention import seconds_of_duration
from synthralos.core.errors import InvalidInput
from synthralos.storage import usage
from synthralos.storage.keyspace import CLEARABLE
from synthralos_action import ResourceAction

_EVERY = "all"


class Storage(ResourceAction):
    """`state.*`: what the pack keeps in the datastore."""

    # Nobody waits for it, and a page of large states takes its time.
    key_seconds = 20.0

    def _usage(self, env, parameters):
        deadline = env.now() + parameters["seconds"]
        report = usage.storage_usage(env.store, env.now, deadline, env.settings.retention)
        keys = sum(usage_of_kind["keys"] for usage_of_kind in report["kinds"].values())
        size = sum(usage_of_kind["bytes"] for usage_of_kind in report["kinds"].values())
        summary = "%d keys of %d kinds, %d bytes" % (keys, len(report["kinds"]), size)
        if not report["complete"]:
            summary += "; the time was up before all were counted"
        return dict({"summary": summary, "keys": keys, "bytes": size}, **report)

    def _clear(self, env, parameters):
        deadline = env.now() + parameters["seconds"]
        groups = self._groups(parameters["kinds"])
        older_than = parameters.get("older_than")
        if older_than is not None:
            older_than = seconds_of_duration("older_than", older_than)
        live = None if parameters["force"] else usage.active_run_ids(env.api)
        dry_run = parameters["dry_run"]
        report = usage.clear_storage(
            env.store, env.now, deadline, groups, env.settings.retention, older_than, live, dry_run
        )
        complete = dry_run or (report["complete"] and not report["left"])
        summary = usage.clear_summary(report, dry_run, older_than)
        return complete, dict({"summary": summary, "dry_run": dry_run}, **report)

    @staticmethod
    def _groups(kinds):
        allowed = (_EVERY,) + CLEARABLE
        if not kinds or not all(kind in allowed for kind in kinds):
            hint = "Name at least one of " + ", ".join(allowed)
            raise InvalidInput("kinds", kinds, "names nothing that can be cleared", hint)
        return CLEARABLE if _EVERY in kinds else tuple(dict.fromkeys(kinds))
