from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import parse_iso
from synthralos.runtime import run_parameters
from synthralos.storage import state_codec, versions
from synthralos_action import ResourceAction

# What a caller worded stands within an object, never by itself.
_USER_FIELDS = ("state", "metadata", "actor", "user")


class History(ResourceAction):
    """`history.*`: what became of an agent's states, and who did what to it."""

    def _record(self, env, parameters):
        user = versions.stackstorm_user(env.api, env.run)
        head = versions.record(
            env.store,
            versions.history_config(env.settings),
            env.now(),
            parameters["agent_id"],
            parameters["task_id"],
            _clear(env, "state", parameters["state"]),
            kind=parameters["kind"],
            actor=_clear(env, "actor", parameters.get("actor")) or user or versions.UNKNOWN,
            metadata=_clear(env, "metadata", parameters.get("metadata") or {}),
            user=user,
        )
        summary = "%s, %s of task %s" % (head["version"], head["kind"], head["task_id"])
        head["by"] = {name: head.pop(name) for name in ("actor", "user")}
        return dict({"summary": summary}, **head)

    def _list(self, env, parameters):
        heads = versions.list_versions(
            env.store,
            versions.history_config(env.settings),
            env.now(),
            parameters["agent_id"],
            parameters.get("task_id"),
            parameters.get("kind"),
            _since(parameters),
            parameters["limit"],
        )
        return {"summary": "%d versions" % len(heads), "versions": heads}

    def _get(self, env, parameters):
        config, (agent, task) = versions.history_config(env.settings), _whose(parameters)
        version = versions.get(env.store, config, env.now(), agent, task, parameters["version"])
        summary = "%s of task %s" % (version["version"], version["task_id"])
        inside = {name: version.pop(name) for name in _USER_FIELDS if name in version}
        size = len(state_codec.canonical_json("state", inside["state"]))
        if size > env.settings.max_result_bytes:
            key = versions.key_of(agent, task, version["record"])
            inside.update(state=None, state_bytes=size, state_key=key)
        return dict({"summary": summary}, **dict(version, result=inside))

    def _compare(self, env, parameters):
        config, (agent, task) = versions.history_config(env.settings), _whose(parameters)
        comparison = versions.compare(
            env.store, config, env.now(), agent, task, parameters["from"], parameters["to"]
        )
        diff = comparison["diff"]
        counts = (diff["total_changes"], comparison["from"]["version"], comparison["to"]["version"])
        return {
            "summary": "%d changes from %s to %s" % counts,
            "from": comparison["from"],
            "to": comparison["to"],
            "total_changes": diff["total_changes"],
            "result": {"diff": versions.truncate_diff(diff, env.settings.max_result_bytes)},
        }

    def _timeline(self, env, parameters):
        agent, task = parameters["agent_id"], parameters.get("task_id")
        entries = versions.timeline(env.store, agent, task, _since(parameters), parameters["limit"])
        return {"summary": "%d entries of %s" % (len(entries), agent), "timeline": entries}


def _whose(parameters):
    return parameters["agent_id"], parameters["task_id"]


def _clear(env, field, value):
    """`value` decoded and without known secrets."""
    state_codec.canonical_json(field, value)
    return env.redactor.remove_secrets(run_parameters.decode_base64(field, value))


def _since(parameters):
    since = parameters.get("since")
    timestamp = None if since is None else parse_iso(since)
    if since is not None and timestamp is None:
        raise InvalidInput(
            "since", since, "is not a time", "Write it as 2025-01-31T12:00:00Z, in UTC"
        )
    return timestamp
