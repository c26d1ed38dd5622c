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
        until = env.now() + parameters["seconds"]
        found = usage.storage_usage(env.store, env.now, until, env.settings.retention)
        keys = sum(one["keys"] for one in found["kinds"].values())
        size = sum(one["bytes"] for one in found["kinds"].values())
        summary = "%d keys of %d kinds, %d bytes" % (keys, len(found["kinds"]), size)
        if not found["complete"]:
            summary += "; the time was up before all were counted"
        return dict({"summary": summary, "keys": keys, "bytes": size}, **found)

    def _clear(self, env, parameters):
        until = env.now() + parameters["seconds"]
        groups = self._groups(parameters["kinds"])
        older_than = parameters.get("older_than")
        if older_than is not None:
            older_than = seconds_of_duration("older_than", older_than)
        live = None if parameters["force"] else usage.active_run_ids(env.api)
        dry_run = parameters["dry_run"]
        done = usage.clear_storage(
            env.store, env.now, until, groups, env.settings.retention, older_than, live, dry_run
        )
        complete = dry_run or (done["complete"] and not done["left"])
        summary = usage.clear_summary(done, dry_run, older_than)
        return complete, dict({"summary": summary, "dry_run": dry_run}, **done)

    @staticmethod
    def _groups(given):
        known = (_EVERY,) + CLEARABLE
        if not given or not all(kind in known for kind in given):
            way_out = "Name at least one of " + ", ".join(known)
            raise InvalidInput("kinds", given, "names nothing that can be cleared", way_out)
        return CLEARABLE if _EVERY in given else tuple(dict.fromkeys(given))
