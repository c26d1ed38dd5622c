"""Where traces go: a collector that takes OTLP over HTTP, as JSON.

Tracing never fails a run, and costs it little: one request at the end of an action, within
`timeout` seconds, and after one that failed none for PAUSE_SECONDS by any action on this host.
"""

import os
import time
from dataclasses import dataclass

from synthralos.calls.http import CallError
from synthralos.config.reader import default_if_none, read_seconds
from synthralos.config.settings import Connection, connection
from synthralos.core.errors import InvalidInput
from synthralos.telemetry import otlp_json, run_log

PATH = "/v1/traces"
PAUSE_SECONDS = 60.0
MAX_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Tracing:
    """:ivar share: of the traces that are recorded, 0 to 1."""

    connection: Connection
    service_name: str = "synthralos"
    sample_ratio: float = 1.0

    @classmethod
    def from_config(cls, entry):
        """From the entry `tracing` of the configuration; None where it names no endpoint. InvalidInput
        names what is wrong.
        """
        if not entry.get("endpoint"):
            return None
        timeout = read_seconds(entry, "tracing.timeout", 1.0)
        if timeout > MAX_TIMEOUT_SECONDS:
            hint = "Use a number from 0.1 to %d" % MAX_TIMEOUT_SECONDS
            raise InvalidInput("tracing.timeout", timeout, "is too long", hint)
        sample_ratio = default_if_none(entry.get("sample_ratio"), 1.0)
        if (
            not isinstance(sample_ratio, (int, float)) or
            isinstance(sample_ratio, bool) or
            not 0 <= sample_ratio <= 1
        ):
            raise InvalidInput(
                "tracing.sample_ratio", sample_ratio, "is no share", "Use a number from 0 to 1"
            )
        tracing_connection = connection(entry, "tracing", "token", timeout, timeout, "endpoint")
        return cls(
            tracing_connection, entry.get("service_name") or "synthralos", float(sample_ratio)
        )


def export(client, tracing, tracer, redactor):
    """Sends what the tracer has recorded; whether the collector took it. Nothing is raised."""
    cooldown_file = _cooldown_file(tracing)
    if _in_cooldown(cooldown_file):
        return False
    try:
        response = client.request(
            tracing.connection, "POST", _path(tracing), tracing.connection.timeout,
            body=redactor.remove_secrets(otlp_json.request(tracer, tracing.service_name)),
        )
        cause = None if 200 <= response.status < 300 else "status_%d" % response.status
    except CallError as error:
        cause = error.failure.cause
    except InvalidInput:
        cause = "configuration"
    except Exception as error:
        # Whatever it is: the run has its result, and keeps it.
        run_log.write_traceback(redactor.redact_text)
        cause = type(error).__name__
    if cause is not None:
        _start_cooldown(cooldown_file)
        run_log.emit("traces_not_sent", cause=cause, pause_seconds=int(PAUSE_SECONDS))
    return cause is None


def check(client, tracing):
    """The answer to a request without spans. Raises CallError, InvalidInput."""
    seconds, nothing = tracing.connection.timeout, {"resourceSpans": []}
    return client.request(tracing.connection, "POST", _path(tracing), seconds, body=nothing)


def _path(tracing):
    """An endpoint may be given as OTEL_EXPORTER_OTLP_ENDPOINT is, or with the path."""
    return "" if tracing.connection.base_url.endswith(PATH) else PATH


def _cooldown_file(tracing):
    """The file whose age says when this host has last failed to reach the collector.

    Each action is a process, and the datastore would cost every one of them a request.
    """
    import hashlib
    import tempfile

    endpoint = hashlib.sha256(tracing.connection.base_url.encode()).hexdigest()[:12]
    name = "synthralos-%d-%s-traces-away" % (os.getuid(), endpoint)
    return os.path.join(tempfile.gettempdir(), name)


def _in_cooldown(cooldown_file):
    try:
        file_status = os.lstat(cooldown_file)
    except OSError:
        return False
    # The folder is everybody's: only a mark of one's own counts.
    return (
        file_status.st_uid == os.getuid() and
        0 <= time.time() - file_status.st_mtime < PAUSE_SECONDS
    )


def _start_cooldown(cooldown_file):
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(cooldown_file, flags, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        # Then the next action asks the collector again, which is no harm but its time.
        pass
