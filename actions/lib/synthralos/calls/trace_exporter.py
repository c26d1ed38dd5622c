"""Exports traces to a collector that accepts OTLP over HTTP, as JSON.

Tracing never fails a run, and costs little: one request at the end of an action, within `timeout`
seconds, and after a failed one no request for PAUSE_SECONDS by any action on this host.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from synthralos.calls.http import CallError, Client, Response
from synthralos.config.connection import Connection, connection
from synthralos.config.reader import default_if_none, out_of_range, read_seconds
from synthralos.core.errors import InvalidInput
from synthralos.telemetry import otlp_json, run_log

if TYPE_CHECKING:
    from synthralos.core.redaction import Redactor
    from synthralos.telemetry.tracing import Tracer

PATH = "/v1/traces"
PAUSE_SECONDS = 60.0
MAX_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Tracing:
    """The entry `tracing` of the configuration.

    :ivar sample_ratio: the share of traces that is recorded, 0 to 1.
    """

    connection: Connection
    service_name: str = "synthralos"
    sample_ratio: float = 1.0

    @classmethod
    def from_config(cls, entry: Mapping[str, Any]) -> "Optional[Tracing]":
        """Read the entry `tracing` of the configuration; return None if it has no endpoint.

        :raises InvalidInput: an entry is not valid; names it.
        """
        if not entry.get("endpoint"):
            return None
        timeout = read_seconds(entry, "tracing.timeout", 1.0)
        if timeout > MAX_TIMEOUT_SECONDS:
            raise out_of_range(
                "tracing.timeout", timeout, "a number of seconds", 0.1, MAX_TIMEOUT_SECONDS
            )
        sample_ratio = default_if_none(entry.get("sample_ratio"), 1.0)
        if (
            not isinstance(sample_ratio, (int, float)) or
            isinstance(sample_ratio, bool) or
            not 0 <= sample_ratio <= 1
        ):
            raise out_of_range("tracing.sample_ratio", sample_ratio, "a number", 0, 1)
        tracing_connection = connection(entry, "tracing", "token", timeout, timeout, "endpoint")
        return cls(
            tracing_connection, entry.get("service_name") or "synthralos", float(sample_ratio)
        )


def export(
    client: Client, tracing: Tracing, tracer: "Tracer", redactor: "Redactor"
) -> bool:
    """Send the recorded spans; return whether the collector accepted them. Never raises."""
    cooldown_file = _cooldown_file(tracing)
    if _in_cooldown(cooldown_file):
        return False
    try:
        response = client.request(
            tracing.connection, "POST", _path(tracing), tracing.connection.timeout,
            body=redactor.remove_secrets(otlp_json.request(tracer, tracing.service_name)),
        )
        cause = "" if 200 <= response.status < 300 else "status_%d" % response.status
    except CallError as error:
        cause = error.failure.cause
    except InvalidInput:
        cause = "configuration"
    except Exception as error:
        # Whatever failed: the run keeps its result.
        run_log.write_traceback(redactor.redact_text)
        cause = type(error).__name__
    if cause:
        _start_cooldown(cooldown_file)
        run_log.emit("traces_not_sent", cause=cause, pause_seconds=int(PAUSE_SECONDS))
    return not cause


def check(client: Client, tracing: Tracing) -> Response:
    """Return the collector's response to a request without spans.

    :raises CallError, InvalidInput: it could not be called.
    """
    nothing: dict[str, object] = {"resourceSpans": []}
    return client.request(
        tracing.connection, "POST", _path(tracing), tracing.connection.timeout, body=nothing
    )


def _path(tracing: Tracing) -> str:
    """Return the path to add: an endpoint may be configured with it or, as in
    OTEL_EXPORTER_OTLP_ENDPOINT, without it.
    """
    return "" if tracing.connection.base_url.endswith(PATH) else PATH


def _cooldown_file(tracing: Tracing) -> str:
    """Return the file whose age is the time since this host last failed to reach the collector.

    Each action is a process, and the datastore would cost every process a request.
    """
    import hashlib
    import tempfile

    endpoint = hashlib.sha256(tracing.connection.base_url.encode()).hexdigest()[:12]
    name = "synthralos-%d-%s-traces-away" % (os.getuid(), endpoint)
    return os.path.join(tempfile.gettempdir(), name)


def _in_cooldown(cooldown_file: str) -> bool:
    try:
        file_status = os.lstat(cooldown_file)
    except OSError:
        return False
    # Every user can write to the folder: only a file of this user counts.
    return (
        file_status.st_uid == os.getuid() and
        0 <= time.time() - file_status.st_mtime < PAUSE_SECONDS
    )


def _start_cooldown(cooldown_file: str) -> None:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(cooldown_file, flags, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        # Then the next action calls the collector again, which costs only its time.
        pass
