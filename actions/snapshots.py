from synthralos.calls import snapshot_restore
from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.json_safe import to_json_safe
from synthralos.recovery import checkpoints
from synthralos.runtime import run_parameters
from synthralos.storage import history, snapshots, state_codec, versions
from synthralos_action import ResourceAction


class Snapshots(ResourceAction):
    """`snapshot.*`: states of agents, kept to go back to."""

    def _create(self, env, parameters):
        config = snapshots.snapshot_config(env.settings)
        agent, task = parameters["agent_id"], parameters["task_id"]
        if env.redactor.redact_text("%s:" % agent) != "%s:" % agent:
            reason = "looks like a secret: every result would mask the ids of its snapshots"
            raise InvalidInput("agent_id", None, reason, "Give the agent another name")
        try:
            state, masked = _state(env, parameters)
        except CallError as error:
            summary = "no snapshot: %s" % error.failure.message
            return False, {"summary": summary, "error": error.failure.as_dict()}
        metadata, _ = _clear(env, "metadata", parameters.get("metadata") or {})
        head = snapshots.create(env.store, config, env.now(), agent, task, state, metadata)
        summary = "snapshot %s of task %s" % (head["snapshot_id"], head["task_id"])
        result = dict({"summary": summary}, **dict(head, masked=masked))
        if config.backup_to_remote:
            result["backup"] = snapshot_restore.upload_backup(
                env.client, config, dict(head, state=state)
            )
        return result

    def _list(self, env, parameters):
        heads = snapshots.list_snapshots(
            env.store,
            snapshots.snapshot_config(env.settings),
            env.now(),
            parameters["agent_id"],
            parameters.get("task_id"),
            parameters["limit"],
        )
        return {"summary": "%d snapshots" % len(heads), "snapshots": heads}

    def _get(self, env, parameters):
        snapshot = _read(env, parameters)
        summary = "snapshot %s of task %s" % (snapshot["snapshot_id"], snapshot["task_id"])
        return dict({"summary": summary}, **_public_snapshot(env, snapshot))

    def _restore(self, env, parameters):
        config = snapshots.snapshot_config(env.settings)
        check = parameters.get("check_action")
        if check is not None:
            snapshots.check_allowed(config, check, env.api)
        snapshot = _read(env, parameters)
        label = "snapshot %s" % snapshot["snapshot_id"]
        public = dict(_public_snapshot(env, snapshot), restored=False)
        if check is not None:
            public["check"] = snapshots.run_check_action(
                env.api, check, snapshot["snapshot_id"], config.check_timeout
            )
            if not public["check"]["accepted"]:
                return False, dict({"summary": "%s did not accept %s" % (check, label)}, **public)
        try:
            platform = snapshot_restore.restore_at_platform(
                env.client, env.settings.platforms, snapshot, env.run
            )
        except CallError as error:
            summary = "the platform did not restore " + label
            return False, dict({"summary": summary}, **dict(public, error=error.failure.as_dict()))
        if platform is None:
            summary = "the state of %s; no platform has a restore_path" % label
            return dict({"summary": summary}, **public)
        entry = {"event": "restored", "task_id": snapshot["task_id"], "platform": platform}
        entry.update(snapshot_id=snapshot["snapshot_id"], run=env.run)
        entry["actor"] = versions.stackstorm_user(env.api, env.run) or versions.UNKNOWN
        history.append_entry(env.store, snapshot["agent_id"], env.now(), entry)
        summary = "%s restored %s" % (platform, label)
        return dict({"summary": summary}, **dict(public, restored=True))

    def _delete(self, env, parameters):
        snapshots.delete(env.store, parameters["snapshot_id"])
        summary = "deleted snapshot %s" % parameters["snapshot_id"]
        return {"summary": summary, "snapshot_id": parameters["snapshot_id"], "deleted": True}

    def _cleanup(self, env, parameters):
        config, agent = snapshots.snapshot_config(env.settings), parameters.get("agent_id")
        counts = snapshots.cleanup(env.store, config, env.now(), agent)
        summary = "deleted %d snapshots, kept %d" % (len(counts["deleted"]), counts["kept"])
        return dict({"summary": summary}, **counts)


def _read(env, parameters):
    return snapshots.get(
        env.store,
        snapshots.snapshot_config(env.settings),
        env.now(),
        parameters["snapshot_id"],
        parameters.get("agent_id"),
        parameters.get("task_id"),
    )


def _state(env, parameters):
    """(the state to store, whether it held a secret): given, or a checkpoint at the platform."""
    state, handle = parameters.get("state"), parameters.get("handle")
    if (state is None) == (handle is None):
        reason = "is missing" if handle is None else "is given beside `handle`"
        hint = "Give the agent's state, or `handle`, which names a run at its platform"
        raise InvalidInput("state", None, reason, hint)
    if handle is None:
        return _clear(env, "state", state)
    endpoints = env.settings.agent_endpoints(parameters["agent_id"])
    handle = checkpoints.reported_handle({"handle": handle}, endpoints, "handle")
    platforms = env.settings.platforms
    return snapshot_restore.checkpoint_state(env.client, platforms, handle), False


def _clear(env, field, value):
    """(`value` decoded and without known secrets, whether it held one)."""
    state_codec.canonical_json(field, value)
    value = run_parameters.decode_base64(field, value)
    clear = env.redactor.remove_secrets(value)
    return clear, clear != value


def _public_snapshot(env, snapshot):
    """A snapshot for a result: what a caller worded within `result`, as it is.

    `state_key` names the packed state in the datastore when it is too large for a result, or when
    StackStorm cannot hold it exactly (`altered`).
    """
    public = {name: value for name, value in snapshot.items() if name not in ("state", "metadata")}
    result = {"metadata": snapshot["metadata"], "state": snapshot["state"]}
    size = len(state_codec.canonical_json("state", snapshot["state"]))
    if size > env.settings.max_result_bytes:
        result.update(state=None, state_bytes=size)
        result["state_key"] = snapshots.state_key(snapshot["snapshot_id"])
    elif to_json_safe({"result": result}) != {"result": result}:
        result.update(altered=True, state_key=snapshots.state_key(snapshot["snapshot_id"]))
    return dict(public, result=result)
