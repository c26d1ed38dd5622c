from synthralos.calls import snapshot_restore
from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.json_safe import storable
from synthralos.runtime import run_parameters
from synthralos.storage import history, snapshots, state_codec, versions
from synthralos_action import ResourceAction


class Snapshots(ResourceAction):
    """`snapshot.*`: states of agents, kept to go back to."""

    def _create(self, env, parameters):
        kept = snapshots.snapshot_config(env.settings)
        agent, task = parameters["agent_id"], parameters["task_id"]
        if env.redactor.redact_text("%s:" % agent) != "%s:" % agent:
            why = "looks like a secret: every result would mask the ids of its snapshots"
            raise InvalidInput("agent_id", None, why, "Give the agent another name")
        state, masked = _clear(env, "state", parameters["state"])
        metadata, _ = _clear(env, "metadata", parameters.get("metadata") or {})
        head = snapshots.create(env.store, kept, env.now(), agent, task, state, metadata)
        summary = "snapshot %s of task %s" % (head["snapshot_id"], head["task_id"])
        told = dict({"summary": summary}, **dict(head, masked=masked))
        if kept.backup_to_remote:
            told["backup"] = snapshot_restore.upload_backup(
                env.client, kept, dict(head, state=state)
            )
        return told

    def _list(self, env, parameters):
        found = snapshots.list_snapshots(
            env.store,
            snapshots.snapshot_config(env.settings),
            env.now(),
            parameters["agent_id"],
            parameters.get("task_id"),
            parameters["limit"],
        )
        return {"summary": "%d snapshots" % len(found), "snapshots": found}

    def _get(self, env, parameters):
        found = _read(env, parameters)
        summary = "snapshot %s of task %s" % (found["snapshot_id"], found["task_id"])
        return dict({"summary": summary}, **_shown(env, found))

    def _restore(self, env, parameters):
        kept = snapshots.snapshot_config(env.settings)
        check = parameters.get("check_action")
        if check is not None:
            snapshots.check_allowed(kept, check, env.api)
        found = _read(env, parameters)
        named = "snapshot %s" % found["snapshot_id"]
        shown = dict(_shown(env, found), restored=False)
        if check is not None:
            shown["check"] = snapshots.run_check_action(
                env.api, check, found["snapshot_id"], kept.check_timeout
            )
            if not shown["check"]["accepted"]:
                return False, dict({"summary": "%s did not accept %s" % (check, named)}, **shown)
        try:
            platform = snapshot_restore.restore_at_platform(
                env.client, env.settings.platforms, found, env.run
            )
        except CallError as error:
            summary = "the platform did not restore " + named
            return False, dict({"summary": summary}, **dict(shown, error=error.failure.as_dict()))
        if platform is None:
            summary = "the state of %s; no platform.restore_path is configured" % named
            return dict({"summary": summary}, **shown)
        entry = {"event": "restored", "task_id": found["task_id"], "platform": platform}
        entry.update(snapshot_id=found["snapshot_id"], run=env.run)
        entry["actor"] = versions.stackstorm_user(env.api, env.run) or versions.UNKNOWN
        history.append_entry(env.store, found["agent_id"], env.now(), entry)
        summary = "%s restored %s" % (platform, named)
        return dict({"summary": summary}, **dict(shown, restored=True))

    def _delete(self, env, parameters):
        snapshots.delete(env.store, parameters["snapshot_id"])
        summary = "deleted snapshot %s" % parameters["snapshot_id"]
        return {"summary": summary, "snapshot_id": parameters["snapshot_id"], "deleted": True}

    def _cleanup(self, env, parameters):
        kept, agent = snapshots.snapshot_config(env.settings), parameters.get("agent_id")
        done = snapshots.cleanup(env.store, kept, env.now(), agent)
        summary = "deleted %d snapshots, kept %d" % (len(done["deleted"]), done["kept"])
        return dict({"summary": summary}, **done)


def _read(env, parameters):
    return snapshots.get(
        env.store,
        snapshots.snapshot_config(env.settings),
        env.now(),
        parameters["snapshot_id"],
        parameters.get("agent_id"),
        parameters.get("task_id"),
    )


def _clear(env, field, value):
    """(`value` decoded and without known secrets, whether it held one)."""
    state_codec.canonical_json(field, value)
    value = run_parameters.decode_base64(field, value)
    clear = env.redactor.remove_secrets(value)
    return clear, clear != value


def _shown(env, found):
    """A snapshot for a result: what a caller worded within `result`, as it is.

    `state_key` names the packed state in the datastore when it is too large for a result, or when
    StackStorm cannot hold it exactly (`altered`).
    """
    shown = {name: value for name, value in found.items() if name not in ("state", "metadata")}
    inside = {"metadata": found["metadata"], "state": found["state"]}
    size = len(state_codec.canonical_json("state", found["state"]))
    if size > env.settings.max_result_bytes:
        inside.update(state=None, state_bytes=size)
        inside["state_key"] = snapshots.state_key(found["snapshot_id"])
    elif storable({"result": inside}) != {"result": inside}:
        inside.update(altered=True, state_key=snapshots.state_key(found["snapshot_id"]))
    return dict(shown, result=inside)
