"""Targets of calls, and the patterns that cover them.

Every call has one target:

    platform, platform:b            a run of an agent, or a replay
    platform/webhooks, /health, /errors, /executions, /restore     its other routes, after either
    llm:PROVIDER/MODEL              a completion; `llm:PROVIDER` for the list of models
    route:PROVIDER/REGION           anything below a region
    prometheus                      an instant query
    hook:NAME                       a webhook for notifications of people
    unknown                         any other path

A pattern covers the target that it names. `llm:PROVIDER` also covers the provider's models,
`route:PROVIDER` its regions, and a trailing `*` everything with that prefix (`route:*`,
`platform*`). `platform` does not cover the other routes: a failure reported to a webhook must not
use up a step that was meant for the agent. A killed platform is killed with all its routes, though.
"""
import re

_PATTERN = re.compile(r"(platform[^\s]*|prometheus\*?|(llm|route|hook):[^\s]+|\*)\Z")


def checked(pattern):
    """Return the pattern.

    :raises ValueError: if it cannot cover any target.
    """
    if not isinstance(pattern, str) or not _PATTERN.match(pattern):
        raise ValueError(
            "%r is not a valid target: use platform, platform:NAME, llm:PROVIDER/MODEL, "
            "llm:PROVIDER, route:PROVIDER/REGION, route:PROVIDER, prometheus, hook:NAME, or a "
            "prefix of one with a trailing *" % (pattern,)
        )
    return pattern


def covers(pattern, target):
    """Whether a script for `pattern`, or a question about it, is about `target`."""
    if pattern.endswith("*"):
        return target.startswith(pattern[:-1])
    if pattern == target:
        return True
    return pattern.startswith(("llm:", "route:")) and target.startswith(pattern + "/")


def silences(pattern, target):
    """Whether killing `pattern` kills `target`: as `covers`, and a platform with all its routes."""
    return covers(pattern, target) or target.startswith(pattern + "/")


def closeness(pattern):
    """Sort key, greater for the more specific pattern: a full name before any prefix of it."""
    return len(pattern.rstrip("*")), not pattern.endswith("*")
