"""The live output of an action: a line per attempt. It carries no caller's text."""

import sys


def line(event, **facts):
    """Writes `event key=value ...` to standard output at once; facts that are None are left out.

    Facts are numbers, enums and names, so that the live output needs no redaction.
    """
    told = " ".join(
        "%s=%s" % (key, _short(value)) for key, value in facts.items() if value is not None
    )
    sys.stdout.write("%s %s\n" % (event, told))
    sys.stdout.flush()


def _short(value):
    return "%.2f" % value if isinstance(value, float) else value
