"""What becomes of a reported incident."""

from collections.abc import Mapping
from typing import Any

STARTED, DUPLICATE, RUNNING = "started", "duplicate", "running"
# In the mode observe: recorded, with what would have been done.
OBSERVED = "observed"
RECURRED, STILL_FAILING, TOO_MANY, NO_QUERY = "recurred", "still_failing", "too_many", "no_query"
RESOLVED, NOTHING_OPEN, NO_WORKFLOW = "resolved", "nothing_open", "no_workflow"
AMBIGUOUS, NOT_EVALUATED, TRUNCATED = "ambiguous", "not_evaluated", "truncated"
SECRET_REQUEST, UNSAFE = "secret_request", "unsafe_to_repeat"
FAILED, OVER_LIMIT, SWITCHED_OFF = "failed", "over_limit", "switched_off"
# A resolved alert that leaves its incident open: another alert still reports it, or its data
# stopped.
STILL_FIRING, UNCONFIRMED = "still_firing", "unconfirmed"
# A failure that a run of this pack has met: it is handled there.
OWN_EXECUTION = "own_execution"
# A run at a platform that is of no configured agent; one whose records have expired.
NOT_CONFIGURED, EXPIRED = "not_configured", "expired"
# Why an incident is left to a person, in words.
REASONS = {
    RECURRED: "it recurred after a successful repair",
    STILL_FAILING: "it continues after a successful repair",
    TOO_MANY: "the hourly limit of automatic runs is reached",
    NO_QUERY: "there is no query to run again",
    SECRET_REQUEST: "what would be run again is a secret parameter, which StackStorm does not show",
    UNSAFE: "the agent is marked unsafe_to_repeat, and may have had effects before it failed",
    NO_WORKFLOW: "no workflow fits it",
    AMBIGUOUS: "several clusters have a thing of this name, and the alert names no cluster",
    NOT_EVALUATED: "the rule could not be evaluated",
    TRUNCATED: "the notification does not contain them",
    OVER_LIMIT: "one notification may not start that many runs",
}


def describe(result: Mapping[str, Any], subject: str) -> str:
    """Return a result as a line: `started: agent-1, run ...`.

    :param result: {outcome, run, ticket}, as admission.admit returns it.
    """
    text = "%s: %s" % (result["outcome"], subject)
    for name in ("run", "ticket"):
        if result[name]:
            text += ", %s %s" % (name, result[name])
    return text
