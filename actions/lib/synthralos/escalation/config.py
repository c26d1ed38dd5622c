"""Reads and validates the entry `escalation` of the pack's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union
from urllib.parse import urlsplit

from synthralos.config.reader import read_int, read_number, require_object
from synthralos.core.causes import ALIASES
from synthralos.core.errors import InvalidInput
from synthralos.core.header_values import trim_secret
from synthralos.core.identifiers import require_identifier
from synthralos.storage.tickets import LEVELS

CHANNELS = ("mail", "slack", "webhook", "announcement")
# The name of the channel in the original system.
_CHANNEL_ALIASES = {"email": "mail"}
_ENABLED_BY_DEFAULT = {"mail": True, "slack": False, "webhook": False, "announcement": False}
MAX_TIMEOUT_SECONDS = 7 * 24 * 3600
MAX_IMPACT = 10


@dataclass(frozen=True)
class MailConfig:
    """How to send mail.

    :ivar encryption: starttls, ssl or none.
    :ivar password_from: the datastore key that holds the password, encrypted.
    :ivar sender: the address of the sender.
    :ivar to: the addresses of the recipients.
    :ivar ca_bundle: file of the certificate authorities to trust, or None for the host's.
    """

    host: str
    port: int
    encryption: str
    sender: str
    to: list[str]
    username: Optional[str] = None
    password: Optional[str] = None
    password_from: Optional[str] = None
    ca_bundle: Optional[str] = None


@dataclass(frozen=True)
class WebhookConfig:
    """A webhook; `url_from` and the like are datastore keys that hold the value.

    :ivar routing_key: is sent in the body, as PagerDuty requires it.
    :ivar token: a bearer token.
    """

    url: Optional[str] = None
    url_from: Optional[str] = None
    token: Optional[str] = None
    token_from: Optional[str] = None
    routing_key: Optional[str] = None
    routing_key_from: Optional[str] = None
    verify: Union[bool, str] = True
    proxy: Optional[str] = None


@dataclass(frozen=True)
class EscalationConfig:
    """When tickets are escalated, and on which channels people are notified.

    :ivar max_auto_recovery_attempts: the number of failed recoveries of the same problem after
        which a person has to intervene.
    :ivar supervisor_review_after: the number of them after which a supervisor has to review it.
    :ivar escalation_timeout: seconds after which an open ticket is escalated; 0 is never.
    :ivar critical_error_types: causes, or other error handlers' names for failure types, whose
        tickets are critical at once.
    :ivar importance: {name: impact from 0 to 10 of a failure of that agent, model or route}.
    :ivar notify_from: the lowest level for which notifications are sent.
    :ivar on: the enabled channels.
    """

    max_auto_recovery_attempts: int = 5
    supervisor_review_after: int = 3
    escalation_timeout: float = 300.0
    critical_error_types: tuple[str, ...] = ("infinite_loop", "resource_error")
    importance: dict[str, float] = field(default_factory=dict)
    notify_from: str = "supervisor_review"
    on: tuple[str, ...] = ("mail",)
    mail: Optional[MailConfig] = None
    slack: Optional[WebhookConfig] = None
    webhook: Optional[WebhookConfig] = None

    @classmethod
    def from_config(cls, entry: object) -> "EscalationConfig":
        """Parse the mapping under `escalation`.

        :raises InvalidInput: an entry is invalid; the error names it.
        """
        fields = require_object("escalation", entry)
        max_attempts = read_int(fields, "max_auto_recovery_attempts", 5, 1, 100, "escalation.")
        level = fields.get("notify_from") or "supervisor_review"
        if level not in LEVELS:
            raise InvalidInput(
                "escalation.notify_from", level, "is not a level", "Use one of " + ", ".join(LEVELS)
            )
        return cls(
            max_auto_recovery_attempts=max_attempts,
            supervisor_review_after=read_int(
                fields, "supervisor_review_after", min(3, max_attempts), 1, 100, "escalation."
            ),
            escalation_timeout=read_number(
                fields, "escalation_timeout", 300, 0, MAX_TIMEOUT_SECONDS, "escalation."
            ),
            critical_error_types=_names(
                fields, "critical_error_types", cls.critical_error_types
            ),
            importance=_importance(fields),
            notify_from=level,
            on=_channels(fields),
            mail=_mail(fields.get("mail")),
            slack=_hook("slack", fields.get("slack")),
            webhook=_hook("webhook", fields.get("webhook")),
        )

    def secrets(self) -> list[str]:
        """Return all literal secrets, for redaction. A webhook's URL is a secret too."""
        values = [self.mail.password] if self.mail else []
        for hook in (self.slack, self.webhook):
            if hook:
                values += [hook.url, hook.token, hook.routing_key]
        return [secret for secret in values if secret]

    def critical(self, failure_type: Optional[str], cause: Optional[str]) -> bool:
        """Return whether the type or cause of a failure is one of the critical types."""
        names = set(self.critical_error_types)
        causes = {ALIASES[name][1] for name in names if name in ALIASES}
        return failure_type in names or cause in names or (cause is not None and cause in causes)

    def state(self, channel: str) -> str:
        """Return the state of a channel: off, not_configured or ready."""
        if channel not in self.on:
            return "off"
        configured = channel == "announcement" or getattr(self, channel) is not None
        return "ready" if configured else "not_configured"


def _channels(entry: Mapping[str, Any]) -> tuple[str, ...]:
    path = "escalation.notification_channels"
    switches = require_object(path, entry.get("notification_channels"))
    enabled = dict(_ENABLED_BY_DEFAULT)
    for name, value in switches.items():
        channel = _CHANNEL_ALIASES.get(name, name)
        path = "escalation.notification_channels.%s" % name
        if channel not in CHANNELS:
            raise InvalidInput(path, value, "is not a channel", "Use one of " + ", ".join(CHANNELS))
        if value is not None and not isinstance(value, bool):
            raise InvalidInput(path, value, "must be true or false", "Use true or false")
        enabled[channel] = enabled[channel] if value is None else value
    return tuple(channel for channel in CHANNELS if enabled[channel])


def _mail(value: object) -> Optional[MailConfig]:
    entry = require_object("escalation.mail", value)
    if not entry.get("host"):
        return None
    ssl, starttls = bool(entry.get("ssl")), entry.get("starttls")
    encryption = "ssl" if ssl else "none" if starttls is False else "starttls"
    if ssl and starttls:
        raise InvalidInput(
            "escalation.mail.starttls", True, "cannot be combined with ssl", "Set one of the two"
        )
    if encryption == "none" and entry.get("username"):
        raise InvalidInput(
            "escalation.mail.username",
            None,
            "the password would be sent in the clear",
            "Leave starttls on or set ssl, or remove the username",
        )
    to = entry.get("to")
    to = [to] if isinstance(to, str) else to
    if not isinstance(to, list) or not to:
        raise InvalidInput(
            "escalation.mail.to", to, "must name at least one recipient", "List e-mail addresses"
        )
    port = read_int(
        entry, "port", {"ssl": 465, "starttls": 587, "none": 25}[encryption], 1, 65535,
        "escalation.mail.",
    )
    return MailConfig(
        host=_line("escalation.mail.host", entry["host"]),
        port=port,
        encryption=encryption,
        sender=_address("escalation.mail.from", entry.get("from")),
        to=[_address("escalation.mail.to[%d]" % n, address) for n, address in enumerate(to)],
        username=entry.get("username") or None,
        password=entry.get("password") or None,
        password_from=entry.get("password_from") or None,
        ca_bundle=entry.get("ca_bundle") or None,
    )


def _hook(name: str, value: object) -> Optional[WebhookConfig]:
    path = "escalation." + name
    entry = require_object(path, value)
    if not entry.get("url") and not entry.get("url_from"):
        return None
    if entry.get("url"):
        check_url(path + ".url", entry["url"])
    verify = entry.get("verify")
    return WebhookConfig(
        url=entry.get("url") or None,
        url_from=entry.get("url_from") or None,
        token=trim_secret(entry.get("token") or "") or None,
        token_from=entry.get("token_from") or None,
        routing_key=entry.get("routing_key") or None,
        routing_key_from=entry.get("routing_key_from") or None,
        verify=entry.get("ca_bundle") or (True if verify is None else verify),
        proxy=entry.get("proxy") or None,
    )


def check_url(path: str, value: object) -> str:
    """Return `value` if it is a URL.

    :raises InvalidInput: it is not; the error does not show it, as it is a secret.
    """
    if isinstance(value, str):
        try:
            parts = urlsplit(value)
            if parts.scheme in ("http", "https") and parts.netloc:
                return value
        except ValueError:
            pass
    raise InvalidInput(path, None, "is not a valid URL", "Write it as https://host[:port][/path]")


def _importance(entry: Mapping[str, Any]) -> dict[str, float]:
    path = "escalation.importance"
    importance: dict[str, float] = require_object(path, entry.get("importance"))
    for name, value in importance.items():
        path = "escalation.importance.%s" % require_identifier("escalation.importance", name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= MAX_IMPACT:
            raise InvalidInput(path, value, "must be between 0 and %d" % MAX_IMPACT, "Use a number")
    return importance


def _names(entry: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = entry.get(name)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(
            "escalation." + name, value, "must be a list of names", "List failure types"
        )
    return tuple(value)


def _address(path: str, value: object) -> str:
    address = _line(path, value)
    name, separator, host = address.rpartition("@")
    if not name or not separator or not host or " " in address:
        raise InvalidInput(
            path, address, "is not an e-mail address", "Write it as name@example.com"
        )
    return address


def _line(path: str, value: object) -> str:
    # A line break in an address would start a new header.
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise InvalidInput(path, value, "must be a single line of text", "See config.schema.yaml")
    return value.strip()
