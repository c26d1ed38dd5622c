"""Targets, how closely two of them are related, and what the failure of one says about another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlsplit

from synthralos.config.connection import Connection
from synthralos.core.causes import AT_ONCE, NEVER, Scope
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure

# Of reported failures, those after which the call may still have taken effect.
_UNFINISHED = ("timeout", "request_timeout", "truncated_stream")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """An endpoint that a round may call.

    What is None is unknown, and equal to nothing.

    :ivar name: as in the ledger, such as `llm:openai/gpt-4`.
    :ivar seconds: the limit of one attempt.
    :ivar endpoint: the object that the attempt callback calls.
    :ivar window: a model's context window in tokens, or None if it is unknown.
    :ivar account: equal for targets with the same credential.
    :ivar unsafe_to_repeat: whether an attempt of unknown effect must not be repeated anywhere.
    :ivar provider: the name of who runs it.
    :ivar address: its base URL.
    :ivar host: see `host_of`.
    :ivar account_name: `provider@datastore_key` of an account of a pool, which shows no key; None
        for the only account of a provider.
    """

    name: str
    seconds: float
    endpoint: object = None
    window: Optional[int] = None
    account: object = None
    unsafe_to_repeat: bool = False
    provider: Optional[str] = None
    address: Optional[str] = None
    host: Optional[str] = None
    account_name: Optional[str] = None

    @classmethod
    def over(
        cls,
        connection: Connection,
        name: str,
        provider: str,
        endpoint: object,
        window: Optional[int] = None,
        unsafe_to_repeat: bool = False,
        account_name: Optional[str] = None,
    ) -> "Target":
        """Return the target that is called over `connection`."""
        return cls(
            name,
            connection.timeout,
            endpoint,
            window,
            connection.account(provider),
            unsafe_to_repeat,
            provider,
            connection.base_url,
            host_of(connection.base_url),
            account_name,
        )

    @property
    def host_or_name(self) -> str:
        """The host; a target whose host is unknown has it to itself."""
        return self.name if self.host is None else self.host


def host_of(url: str) -> Optional[str]:
    """Return `host:port` of a URL, in lower case, or None if it has none."""
    parts = urlsplit(url)
    try:
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None:
        return None
    name = "[%s]" % parts.hostname if ":" in parts.hostname else parts.hostname
    return "%s:%d" % (name, port)


def may_have_taken_effect(failed: Failure, target: Target) -> bool:
    """Return whether a request that is unsafe to repeat was sent, and may have taken effect.

    An agent that ran may have done anything before it failed, whatever it failed of.
    """
    may_have = failed.policy.may_have_taken_effect or bool(failed.evidence.get("ran"))
    return target.unsafe_to_repeat and may_have and bool(failed.evidence.get("sent", True))


def reject_unknown_effect(field: str, failed: Failure, hint: str) -> None:
    """Raise InvalidInput if the reported call is unsafe to repeat and may have taken effect."""
    if failed.cause in _UNFINISHED:
        raise InvalidInput(
            field,
            failed.cause,
            "may have taken effect, and is marked unsafe_to_repeat",
            "Check whether it did; if not, " + hint,
        )


def timing_after(
    failed: Failure,
    target: Target,
    other: Target,
    overrides: Mapping[str, bool],
    scope: Optional[Scope] = None,
) -> str:
    """Return whether and when `other` may be attempted after `target` failed: one of TIMINGS.

    :param overrides: the entry `fall_over` of the configuration, {cause: whether every other target
        may be attempted at once, or none}.
    :param scope: what the failure speaks of; default: the scope of its cause.
    """
    if failed.evidence.get("live") or may_have_taken_effect(failed, target):
        return NEVER
    if failed.cause == "context_length" and not _may_be_larger(other, target):
        return NEVER
    override = overrides.get(failed.cause)
    if override is not None:
        return AT_ONCE if override else NEVER
    return _timing_in(scope or failed.policy.speaks_of, target, other)


def _timing_in(scope: Scope, target: Target, other: Target) -> str:
    """Return the column of the closest relation that makes a difference in this scope.

    Relations are not nested: an account may have several hosts, and a gateway serves several
    providers. Where a column is the same as that of the next wider relation, the failure does not
    speak of the narrower one: if a host is down, its accounts are worth trying on other hosts.
    """
    columns = (
        ("account", scope.same_account, scope.same_address),
        ("address", scope.same_address, scope.same_host),
        ("host", scope.same_host, scope.same_provider),
        ("provider", scope.same_provider, scope.other_providers),
    )
    for relation, timing, wider_timing in columns:
        if timing != wider_timing and _is_same(getattr(target, relation), getattr(other, relation)):
            return timing
    return scope.other_providers


def _is_same(value: object, other: object) -> bool:
    return value is not None and value == other


def _may_be_larger(other: Target, target: Target) -> bool:
    return other.window is None or target.window is None or other.window > target.window
