"""The live output of an action: one line per event of telemetry/log_events.py.

It contains no caller's text. `event key=value ...` for people, or JSON if it is configured.
"""

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_safe_word
from synthralos.core.timestamps import to_iso

TEXT, JSON = FORMATS = ("text", "json")

# None is left out.
Fact = Union[str, int, float, bool, None]


@dataclass(frozen=True)
class LogConfig:
    """The entry `logs` of the configuration.

    :ivar format: of the live output, one of FORMATS.
    :ivar file: the file that gets every line as JSON too, or None.
    """

    format: str = TEXT
    file: Optional[str] = None

    @classmethod
    def from_config(cls, entry: Mapping[str, Any]) -> "LogConfig":
        """Read the entry `logs` of the configuration.

        :raises InvalidInput: an entry is not valid; names it.
        """
        form, file = entry.get("format") or TEXT, entry.get("file") or None
        if form not in FORMATS:
            raise InvalidInput(
                "logs.format", form, "is not a known format", "Use one of " + ", ".join(FORMATS)
            )
        if file is not None and not (isinstance(file, str) and os.path.isabs(file)):
            raise InvalidInput(
                "logs.file", file, "is not an absolute path", "Write it as /var/log/..."
            )
        return cls(form, file)


@dataclass
class _LogOutput:
    logs: LogConfig
    redact: Callable[[str], str]
    now: Callable[[], float]
    about: dict[str, Fact]


def _default_output() -> _LogOutput:
    return _LogOutput(LogConfig(), lambda text: text, time.time, {})


_sink = _default_output()


@contextlib.contextmanager
def output_to(
    logs: Optional[LogConfig] = None,
    redact: Optional[Callable[[str], str]] = None,
    now: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Write the lines of the block as `logs` configures.

    :param redact: (text) -> text without secrets; now: the clock of the JSON lines.
    """
    global _sink
    previous = _sink
    _sink = _LogOutput(logs or LogConfig(), redact or previous.redact, now, {})
    try:
        yield
    finally:
        _sink = previous


def configure(logs: LogConfig) -> None:
    """Write as `logs` configures from now on, until the block of `output_to` ends."""
    _sink.logs = logs


def bind(**facts: Fact) -> None:
    """Add `run` and `agent` to every further line, until the block of `output_to` ends."""
    _sink.about.update(facts)


def emit(event: str, **facts: Fact) -> None:
    """Write the event at once, without the facts that are None.

    Facts are numbers, enums and names; any other text is shown as `(text)`.
    """
    printable = {
        key: _format_value(value)
        for key, value in dict(facts, **_sink.about).items()
        if value is not None
    }
    if _sink.logs.format == JSON or _sink.logs.file:
        timestamp = to_iso(_sink.now(), milliseconds=True)
        encoded = _sink.redact(json.dumps(dict(time=timestamp, event=event, **printable)))
    if _sink.logs.format == JSON:
        text = encoded
    else:
        text = _sink.redact(" ".join([event] + ["%s=%s" % pair for pair in printable.items()]))
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    if _sink.logs.file:
        _append(_sink.logs.file, encoded)


def write_traceback(redact: Optional[Callable[[str], str]] = None) -> None:
    """Write the traceback of the exception that is being handled to standard error.

    For what is swallowed because it must not end a run: without it a defect of ours would look
    like an outage.

    :param redact: (text) -> text without secrets; default: that of the live output.
    """
    text = traceback.format_exc()
    sys.stderr.write((redact or _sink.redact)(text))
    sys.stderr.flush()


def _append(file: str, text: str) -> None:
    try:
        # One write each: lines of processes that append at once do not mix.
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            os.write(descriptor, text.encode("utf-8", "replace") + b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        _sink.logs = LogConfig(_sink.logs.format)
        sys.stderr.write("logs.file cannot be written: %s\n" % type(error).__name__)


def _format_value(value: Fact) -> Fact:
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, str) and not is_safe_word(value):
        return "(text)"
    return value
