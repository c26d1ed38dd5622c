"""What a snapshot means to others: the platform that restores it, the place that keeps a copy."""

from urllib.parse import quote

from synthralos.calls import idempotency
from synthralos.calls.http import CallError
from synthralos.config.settings import Connection
from synthralos.core.errors import InvalidInput

BACKUP_SECONDS = 20.0


def restore_at_platform(client, platforms, snapshot, run):
    """Has the first endpoint that can put the state back: POST {agent_id, snapshot_id, state}.

    The same run sends the same Idempotency-Key to each, so that none restores twice.

    :returns: the name of the platform, or None when none of them has a restore_path.
    :raises CallError: of the last endpoint, when all failed.
    """
    failed = None
    for known in platforms:
        path = getattr(known, "restore_path", None)
        if not path:
            continue
        path = path.replace("{agent_id}", quote(snapshot["agent_id"], safe=""))
        body = {name: snapshot[name] for name in ("agent_id", "snapshot_id", "state")}
        headers = {idempotency.HEADER: idempotency.key(run, "POST", path, body)}
        try:
            _send(client, known.connection, "POST", path, known.connection.timeout, body, headers)
            return known.name
        except CallError as error:
            failed = error
    if failed is not None:
        raise failed
    return None


def upload_backup(client, kept, snapshot):
    """Puts a copy of the snapshot at <backup_url>/<agent>/<snapshot id>.

    :param kept: a Rollback.
    :returns: {done: True}, or {done: False, why}: a snapshot without a copy is better than none.
    """
    path = "".join("/" + quote(snapshot[name], safe="") for name in ("agent_id", "snapshot_id"))
    try:
        if not kept.backup_url:
            way_out = "Set it to an http(s) URL, or backup_to_remote to false"
            raise InvalidInput("config.rollback.backup_url", None, "is missing", way_out)
        connection = Connection(kept.backup_url.rstrip("/"), secret_from=kept.backup_token_from)
        _send(client, connection, "PUT", path, BACKUP_SECONDS, snapshot)
    except CallError as error:
        return {"done": False, "reason": "%s: %s" % (error.failure.cause, error.failure.message)}
    except InvalidInput as error:
        return {"done": False, "reason": str(error)}
    return {"done": True}


def _send(client, connection, method, path, seconds, body, headers=None):
    answer = client.request(connection, method, path, seconds, body=body, headers=headers)
    if not 200 <= answer.status < 300:
        raise CallError(client.failure_of(answer, "request"))
