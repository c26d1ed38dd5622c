"""The entry `escalation` of the pack's configuration, with defaults and refusals that name it."""

from dataclasses import dataclass, field
from typing import Optional
from urllib.parse import urlsplit

from synthralos.config.reader import read_int, read_number
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import ALIASES
from synthralos.core.identifiers import require_identifier
from synthralos.storage.tickets import LEVELS

CHANNELS = ("mail", "slack", "webhook", "announcement")
# The original's name of the channel.
_CHANNEL_ALIASES = {"email": "mail"}
_ENABLED_BY_DEFAULT = {"mail": True, "slack": False, "webhook": False, "announcement": False}
MAX_TIMEOUT_SECONDS = 7 * 24 * 3600
MAX_IMPACT = 10


@dataclass(frozen=True)
class MailConfig:
    """How to send mail.

    :ivar encryption: starttls, ssl or none.
    :ivar password_from: the datastore key that holds the password, encrypted.
    :ivar sender: the address it is from; to: the addresses it is for.
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
    """An address to post to; `url_from` and the like are datastore keys that hold the value.

    :ivar routing_key: goes into the body, as PagerDuty wants it; token: a bearer token.
    """

    url: Optional[str] = None
    url_from: Optional[str] = None
    token: Optional[str] = None
    token_from: Optional[str] = None
    routing_key: Optional[str] = None
    routing_key_from: Optional[str] = None
    verify: object = True
    proxy: Optional[str] = None


@dataclass(frozen=True)
class EscalationConfig:
    """When a ticket rises and who is told.

    :ivar max_auto_recovery_attempts: runs of one problem that failed to recover, from which on a
        person has to intervene; supervisor_review_after: from which on one has to look.
    :ivar escalation_timeout: seconds after which a ticket that nobody took rises; 0 is never.
    :ivar critical_error_types: causes, or other error handlers' names for failure types, whose
        tickets are critical at once.
    :ivar importance: impact, 0 to 10, of the failure of an agent, model or route, by name.
    :ivar notify_from: the lowest level of which anybody is told.
    :ivar on: the channels that are switched on.
    """

    max_auto_recovery_attempts: int = 5
    supervisor_review_after: int = 3
    escalation_timeout: float = 300.0
    critical_error_types: tuple = ("infinite_loop", "resource_error")
    importance: dict = field(default_factory=dict)
    notify_from: str = "supervisor_review"
    on: tuple = ("mail",)
    mail: Optional[MailConfig] = None
    slack: Optional[WebhookConfig] = None
    webhook: Optional[WebhookConfig] = None

    @classmethod
    def from_config(cls, entry):
        """From the mapping under `escalation`. InvalidInput names the entry that is wrong."""
        entry = _object("escalation", entry)
        most = read_int(entry, "max_auto_recovery_attempts", 5, 1, 100, "escalation.")
        level = entry.get("notify_from") or "supervisor_review"
        if level not in LEVELS:
            raise InvalidInput(
                "escalation.notify_from", level, "is no level", "Use one of " + ", ".join(LEVELS)
            )
        return cls(
            max_auto_recovery_attempts=most,
            supervisor_review_after=read_int(
                entry, "supervisor_review_after", min(3, most), 1, 100, "escalation."
            ),
            escalation_timeout=read_number(
                entry, "escalation_timeout", 300, 0, MAX_TIMEOUT_SECONDS, "escalation."
            ),
            critical_error_types=tuple(_names(entry, "critical_error_types", cls)),
            importance=_importance(entry),
            notify_from=level,
            on=_channels(entry),
            mail=_mail(entry.get("mail")),
            slack=_hook("slack", entry.get("slack")),
            webhook=_hook("webhook", entry.get("webhook")),
        )

    def secrets(self):
        """Every literal secret of the entry, for redaction. An address of a hook is one too."""
        found = [self.mail.password] if self.mail else []
        for hook in (self.slack, self.webhook):
            if hook:
                found += [hook.url, hook.token, hook.routing_key]
        return [secret for secret in found if secret]

    def critical(self, failure_type, cause):
        """Whether a failure is of one of the critical types."""
        names = set(self.critical_error_types)
        causes = {ALIASES[name][1] for name in names if name in ALIASES}
        return failure_type in names or cause in names or (cause is not None and cause in causes)

    def state(self, channel):
        """off, not_configured or ready."""
        if channel not in self.on:
            return "off"
        configured = channel == "announcement" or getattr(self, channel) is not None
        return "ready" if configured else "not_configured"


def _channels(entry):
    given = _object("escalation.notification_channels", entry.get("notification_channels"))
    on = dict(_ENABLED_BY_DEFAULT)
    for name, value in given.items():
        channel = _CHANNEL_ALIASES.get(name, name)
        where = "escalation.notification_channels.%s" % name
        if channel not in CHANNELS:
            raise InvalidInput(where, value, "is no channel", "Use one of " + ", ".join(CHANNELS))
        if value is not None and not isinstance(value, bool):
            raise InvalidInput(where, value, "is neither true nor false", "Use true or false")
        on[channel] = on[channel] if value is None else value
    return tuple(channel for channel in CHANNELS if on[channel])


def _mail(entry):
    entry = _object("escalation.mail", entry)
    if not entry.get("host"):
        return None
    ssl, starttls = bool(entry.get("ssl")), entry.get("starttls")
    encryption = "ssl" if ssl else "none" if starttls is False else "starttls"
    if ssl and starttls:
        raise InvalidInput("escalation.mail.starttls", True, "excludes ssl", "Set one of the two")
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
        raise InvalidInput("escalation.mail.to", to, "names nobody", "List e-mail addresses")
    port = read_int(
        entry, "port", {"ssl": 465, "starttls": 587, "none": 25}[encryption], 1, 65535,
        "escalation.mail.",
    )
    return MailConfig(
        host=_line("escalation.mail.host", entry["host"]),
        port=port,
        encryption=encryption,
        sender=_address("escalation.mail.from", entry.get("from")),
        to=[_address("escalation.mail.to[%d]" % n, one) for n, one in enumerate(to)],
        username=entry.get("username") or None,
        password=entry.get("password") or None,
        password_from=entry.get("password_from") or None,
        ca_bundle=entry.get("ca_bundle") or None,
    )


def _hook(name, entry):
    where = "escalation." + name
    entry = _object(where, entry)
    if not entry.get("url") and not entry.get("url_from"):
        return None
    if entry.get("url"):
        check_url(where + ".url", entry["url"])
    verify = entry.get("verify")
    return WebhookConfig(
        url=entry.get("url") or None,
        url_from=entry.get("url_from") or None,
        token=entry.get("token") or None,
        token_from=entry.get("token_from") or None,
        routing_key=entry.get("routing_key") or None,
        routing_key_from=entry.get("routing_key_from") or None,
        verify=entry.get("ca_bundle") or (True if verify is None else verify),
        proxy=entry.get("proxy") or None,
    )


def check_url(where, value):
    """InvalidInput, without showing the value, when it is no URL: an address of a hook is a secret."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidInput(where, None, "is no URL", "Write it as https://host[:port][/path]")


def _importance(entry):
    given = _object("escalation.importance", entry.get("importance"))
    for name, value in given.items():
        where = "escalation.importance.%s" % require_identifier("escalation.importance", name)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not 0 <= value <= MAX_IMPACT:
            raise InvalidInput(where, value, "is out of bounds", "Use 0 to %d" % MAX_IMPACT)
    return given


def _names(entry, name, defaults):
    value = entry.get(name)
    if value is None:
        return getattr(defaults, name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidInput("escalation." + name, value, "is no list of names", "List failure types")
    return value


def _address(where, value):
    value = _line(where, value)
    name, at, host = value.rpartition("@")
    if not name or not at or not host or " " in value:
        raise InvalidInput(where, value, "is no e-mail address", "Write it as name@example.com")
    return value


def _line(where, value):
    # A line break in an address would begin a header of its own.
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise InvalidInput(where, value, "is not one line of text", "See config.schema.yaml")
    return value.strip()


def _object(where, value):
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(where, value, "is not an object", "See config.schema.yaml")
    return value
