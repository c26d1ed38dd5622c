"""The causes of failures, and what a failure of each cause says about other attempts.

`CAUSES` is the one table: the rounds of attempts, the playbooks, the documentation and the tests
all read it. A failure speaks of something: of a moment, of the model, of its account, its host or
its provider, or of the request itself. Whatever it does not speak of is still worth trying.
"""

from dataclasses import dataclass
from typing import Optional

TYPES = ("timeout", "error", "invalid_output", "tool_failure", "llm_error", "unknown")
SEVERITIES = ("low", "medium", "high", "critical")

# Whether, and when, a further attempt may be made.
AT_ONCE = "at once"
# After its back-off, or after the hint in its response.
LATER = "after back-off"
# Only after every target that the failure does not speak of.
LAST = "last"
NEVER = "never"

TIMINGS = (AT_ONCE, LATER, LAST, NEVER)


@dataclass(frozen=True)
class Scope:
    """What failures that speak of one thing say about other attempts.

    Each target is judged by the closest relation that it has to the one that failed.

    :ivar subject: for people, what is broken.
    :ivar same_target: one of TIMINGS, for the target that failed.
    :ivar same_account: for other targets with its credential.
    :ivar same_address: for other targets with its base URL and another credential.
    :ivar same_host: for other targets on its host, with another base URL.
    :ivar same_provider: for other targets of its provider, on another host.
    :ivar other_providers: for all the others.
    :ivar redrivable: whether the same request may be answered later, once what is broken works
        again.
    """

    subject: str
    same_target: str
    same_account: str
    same_address: str
    same_host: str
    same_provider: str
    other_providers: str
    redrivable: bool


SCOPES = {
    "moment": Scope(
        "a moment",
        same_target=LATER,
        same_account=AT_ONCE,
        same_address=AT_ONCE,
        same_host=AT_ONCE,
        same_provider=AT_ONCE,
        other_providers=AT_ONCE,
        redrivable=True,
    ),
    "model": Scope(
        "the model",
        same_target=NEVER,
        same_account=AT_ONCE,
        same_address=AT_ONCE,
        same_host=AT_ONCE,
        same_provider=AT_ONCE,
        other_providers=AT_ONCE,
        redrivable=False,
    ),
    "account": Scope(
        "the account",
        same_target=NEVER,
        same_account=NEVER,
        same_address=AT_ONCE,
        same_host=AT_ONCE,
        same_provider=AT_ONCE,
        other_providers=AT_ONCE,
        redrivable=True,
    ),
    "host": Scope(
        "the host",
        same_target=LATER,
        same_account=LAST,
        same_address=LAST,
        same_host=LAST,
        same_provider=AT_ONCE,
        other_providers=AT_ONCE,
        redrivable=True,
    ),
    "setup": Scope(
        "the configured address",
        same_target=NEVER,
        same_account=NEVER,
        same_address=NEVER,
        same_host=AT_ONCE,
        same_provider=AT_ONCE,
        other_providers=AT_ONCE,
        redrivable=False,
    ),
    "policy": Scope(
        "the policy",
        same_target=NEVER,
        same_account=NEVER,
        same_address=NEVER,
        same_host=NEVER,
        same_provider=NEVER,
        other_providers=NEVER,
        redrivable=False,
    ),
    # What holds the state may be this run's own earlier attempt, which ends.
    "state": Scope(
        "the state",
        same_target=LATER,
        same_account=AT_ONCE,
        same_address=AT_ONCE,
        same_host=AT_ONCE,
        same_provider=AT_ONCE,
        other_providers=AT_ONCE,
        redrivable=True,
    ),
    # A provider that refuses the request refuses it from all of its models; the wire of another
    # provider may know what this one does not.
    "request": Scope(
        "the request",
        same_target=NEVER,
        same_account=NEVER,
        same_address=NEVER,
        same_host=NEVER,
        same_provider=NEVER,
        other_providers=AT_ONCE,
        redrivable=False,
    ),
    # What asks on one platform would be told by nobody on another, or would go on unasked.
    "person": Scope(
        "a person's decision",
        same_target=NEVER,
        same_account=NEVER,
        same_address=NEVER,
        same_host=NEVER,
        same_provider=NEVER,
        other_providers=NEVER,
        redrivable=False,
    ),
    "run": Scope(
        "the run",
        same_target=NEVER,
        same_account=NEVER,
        same_address=NEVER,
        same_host=NEVER,
        same_provider=NEVER,
        other_providers=NEVER,
        redrivable=False,
    ),
}


@dataclass(frozen=True)
class Cause:
    """How failures of one cause are treated.

    :ivar type: the failure type it belongs to by default.
    :ivar severity: one of SEVERITIES.
    :ivar scope: a key of SCOPES.
    :ivar description: one line for people.
    :ivar may_have_taken_effect: whether the request may have taken effect, or may be refused for
        itself: where it is `unsafe_to_repeat`, it is then sent nowhere else.
    :ivar counts_for_breaker: whether it counts against the target's breaker.
    :ivar redrivable: in place of what its scope says of that; None leaves it to the scope.
    """

    type: str
    severity: str
    scope: str
    description: str
    may_have_taken_effect: bool = False
    counts_for_breaker: bool = False
    redrivable: Optional[bool] = None

    @property
    def speaks_of(self) -> Scope:
        """The scope itself."""
        return SCOPES[self.scope]

    @property
    def retry_same_target(self) -> bool:
        """Whether the same target may be tried again, after a wait."""
        return self.speaks_of.same_target != NEVER

    @property
    def is_redrivable(self) -> bool:
        """Whether a run that failed with it may succeed unchanged after an outage."""
        return self.speaks_of.redrivable if self.redrivable is None else self.redrivable

    @property
    def retry_other_target(self) -> bool:
        """Whether any other target may be tried."""
        return self.speaks_of.other_providers != NEVER


CAUSES = {
    # A moment.
    "rate_limit": Cause(
        "llm_error", "medium", "moment", "Too many requests or tokens in a short time"
    ),
    "overloaded": Cause(
        "llm_error", "high", "moment", "The provider has no capacity now", counts_for_breaker=True
    ),
    "server_error": Cause(
        "error", "high", "moment", "The server failed",
        may_have_taken_effect=True, counts_for_breaker=True,
    ),
    "request_timeout": Cause(
        "timeout", "medium", "moment", "The server gave up on receiving the request",
        may_have_taken_effect=True,
    ),
    "truncated_stream": Cause(
        "llm_error", "medium", "moment", "The answer was cut off",
        may_have_taken_effect=True, counts_for_breaker=True,
    ),
    "malformed_answer": Cause(
        "invalid_output", "medium", "moment", "The answer does not have the expected form",
        may_have_taken_effect=True,
    ),
    "blank_output": Cause(
        "invalid_output", "medium", "moment", "The answer is empty", may_have_taken_effect=True
    ),
    "schema_mismatch": Cause(
        "invalid_output", "medium", "moment", "The output does not match the schema",
        may_have_taken_effect=True,
    ),
    "invalid_output": Cause(
        "invalid_output", "low", "moment", "The model's output could not be used"
    ),
    "agent_failed": Cause(
        "error", "high", "moment", "The agent ended as failed", may_have_taken_effect=True
    ),
    # Its platform answered all the time, so neither the host nor the platform is at fault.
    "agent_timeout": Cause(
        "timeout", "high", "moment", "The agent took too long, and was cancelled",
        may_have_taken_effect=True,
    ),
    "tool_failure": Cause("tool_failure", "medium", "moment", "A tool of the agent failed"),
    "resource": Cause("error", "critical", "moment", "Memory or disk ran out"),
    "infinite_loop": Cause(
        "error", "critical", "moment", "The agent went round in circles",
        may_have_taken_effect=True,
    ),
    "unknown": Cause("unknown", "medium", "moment", "Not recognized"),
    # The model.
    "model_not_found": Cause(
        "llm_error", "high", "model", "The model does not exist, or no longer"
    ),
    "context_length": Cause(
        "llm_error", "medium", "model", "The request is longer than the model's context window"
    ),
    "output_limit": Cause(
        "invalid_output", "medium", "model",
        "The model spent all of max_tokens before it answered anything",
    ),
    "model_quota": Cause(
        "llm_error", "high", "model",
        "A limit of the model per day, or one that the request's size exceeds, is spent",
        redrivable=True,
    ),
    "permission": Cause(
        "llm_error", "high", "model", "The account has no access to the model or the resource"
    ),
    "unsupported_parameter": Cause(
        "llm_error", "medium", "model", "The model does not take a parameter of the request"
    ),
    "unsupported_content": Cause(
        "llm_error", "medium", "model", "The model does not take a part of the content"
    ),
    # The account.
    "authentication": Cause("llm_error", "high", "account", "The credential is not valid"),
    "quota": Cause("llm_error", "high", "account", "The account's credit or quota is used up"),
    "configuration": Cause("error", "high", "account", "The configuration is incomplete"),
    # The host.
    "timeout": Cause(
        "timeout", "high", "host", "No answer in time",
        may_have_taken_effect=True, counts_for_breaker=True,
    ),
    "network": Cause(
        "llm_error", "high", "host", "The host cannot be reached, or closed the connection",
        may_have_taken_effect=True, counts_for_breaker=True,
    ),
    # The address.
    "wrong_address": Cause(
        "error", "high", "setup", "The address answers, but is not the API that was called"
    ),
    "request_too_large": Cause(
        "error", "medium", "setup", "The server accepts no request of this size"
    ),
    "content_policy": Cause(
        "llm_error", "medium", "policy", "A policy of the provider forbids the request or answer"
    ),
    "conflict": Cause("error", "medium", "state", "Something else is under way there"),
    "input_required": Cause(
        "error", "medium", "person", "The agent asks a question, and nobody has answered it",
        may_have_taken_effect=True,
    ),
    # The request.
    "bad_request": Cause(
        "error", "medium", "request", "The request was refused", may_have_taken_effect=True
    ),
    "not_found": Cause(
        "error", "medium", "request", "What the request names does not exist",
        may_have_taken_effect=True,
    ),
    # The effect of what was sent first under that key is not known to whoever sends the second.
    "idempotency_key_reused": Cause(
        "error", "high", "request",
        "One Idempotency-Key came with two different requests: a fault of this pack",
        may_have_taken_effect=True,
    ),
    # The run itself.
    "budget": Cause(
        "llm_error", "high", "run", "The pack's own budget allows no further call",
        redrivable=True,
    ),
    "cancelled": Cause("error", "low", "run", "The run was cancelled"),
}

CAUSE_OF_TYPE = {
    "timeout": "timeout",
    "error": "agent_failed",
    "invalid_output": "invalid_output",
    "tool_failure": "tool_failure",
    "llm_error": "unknown",
    "unknown": "unknown",
}
# Names that other error handlers use, accepted wherever a failure type is: (type, cause).
ALIASES: dict[str, tuple[str, Optional[str]]] = {
    "agent_failure": ("error", "agent_failed"),
    "communication_error": ("llm_error", "network"),
    "timeout_error": ("timeout", "timeout"),
    "validation_error": ("invalid_output", "schema_mismatch"),
    "infinite_loop": ("error", "infinite_loop"),
    "resource_error": ("error", "resource"),
    "configuration_error": ("error", "configuration"),
    "unknown_error": ("unknown", None),
}


def resolve_type(raw_type: object) -> Optional[tuple[str, Optional[str]]]:
    """Return (type, cause or None) of one of TYPES or ALIASES; None if it is neither."""
    name = str(raw_type).strip().lower()
    if name in TYPES:
        return name, None
    return ALIASES.get(name)
