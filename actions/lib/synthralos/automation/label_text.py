"""The labels of an alert as people type them: `HostDiskFull instance=web-1 mountpoint=/var`."""

import re

from synthralos.core.errors import InvalidInput

MAX_LABELS = 100
_SEPARATORS = " \t\r\n,"
# A value ends at a blank or a comma, unless it is quoted.
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_.]{0,99})[=:][ \t]?(?:"([^"\\]*)"|([^\s,"]+))')
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")


def parse_labels(field: str, text: str) -> dict[str, str]:
    """Return the labels in a text.

    They are `name=value`, as Prometheus shows them, or `name:value`, because StackStorm's ChatOps
    takes what has an equals sign for a parameter. Braces around all of them are left out, and a
    first word alone is the alertname.

    :raises InvalidInput: it contains anything else; names `field`.
    """
    remaining = text.strip()
    if remaining.startswith("{") and remaining.endswith("}"):
        remaining = remaining[1:-1]
    labels: dict[str, str] = {}
    index = 0
    while index < len(remaining) and len(labels) < MAX_LABELS:
        if remaining[index] in _SEPARATORS:
            index += 1
            continue
        match = _LABEL.match(remaining, index)
        if match is not None:
            quoted, bare = match.group(2), match.group(3)
            labels[match.group(1)] = bare if quoted is None else quoted
        else:
            match = None if labels else _WORD.match(remaining, index)
            if match is None:
                break
            labels["alertname"] = match.group()
        index = match.end()
        if index < len(remaining) and remaining[index] not in _SEPARATORS:
            break
    else:
        if labels:
            return labels
    hint = "Write them as HostDiskFull instance=web-1:9100, with quotes around a value with blanks"
    raise InvalidInput(field, None, "are not the labels of an alert", hint)
