"""The notification channels: mail, Slack, a webhook, StackStorm's announcements.

Each is a function (env, config, notice, seconds) that returns once the notice was accepted: None,
or what was not accepted, if others have received it. It raises RetryableDeliveryError if a retry
may help, and DeliveryError or InvalidInput if not. The channel must be configured.
"""

import email.message
import email.utils
import smtplib
import ssl
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Callable, Optional

from synthralos.calls import delivery_receipts
from synthralos.calls.http import CallError
from synthralos.config.connection import Connection
from synthralos.core.failures import Failure
from synthralos.escalation.config import EscalationConfig, MailConfig, WebhookConfig, check_url
from synthralos.storage.stackstorm_api import StackStormError

if TYPE_CHECKING:
    from synthralos.escalation.notifications import Notice
    from synthralos.runtime.environment import Environment

# (env, config, notice, seconds) -> None, or what was not accepted; see above.
Sender = Callable[["Environment", EscalationConfig, "Notice", float], Optional[str]]
# {recipient: (code, reason)} of those that a mail server refused.
Refusals = dict[str, tuple[int, bytes]]
ANNOUNCEMENT = "core.announcement"
MAX_SUBJECT_CHARS = 200
MAX_DEDUP_KEY_CHARS = 255
MAX_SUMMARY_CHARS = 1024
MAX_SLACK_CHARS = 12_000
# PagerDuty's severities.
_SEVERITY = {"low": "info", "medium": "warning", "high": "error", "critical": "critical"}
# The texts by which Slack, and what is compatible with it, accept a message.
_SLACK_ACCEPTED = frozenset(("ok", "success", "accepted", "true", "1"))
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class DeliveryError(Exception):
    """A notice was not accepted; the message gives the reason and contains no secret."""


class RetryableDeliveryError(DeliveryError):
    """A notice was not accepted, but a retry may help."""


def mail(
    env: "Environment", config: EscalationConfig, notice: "Notice", seconds: float
) -> Optional[str]:
    """Send a mail over SMTP."""
    settings = config.mail
    assert settings is not None
    password = _secret(env, settings.password, settings.password_from)
    message = email.message.EmailMessage()
    message["Subject"] = notice["title"][:MAX_SUBJECT_CHARS]
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Date"] = email.utils.formatdate()
    message["Message-ID"] = email.utils.make_msgid(domain=settings.sender.rpartition("@")[2])
    # No out-of-office answers.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice["text"])
    try:
        refused = _send_smtp(settings, password, message, seconds)
    except smtplib.SMTPResponseException as error:
        # 4xx is transient, 5xx permanent (RFC 5321, 4.2.1).
        error_class = RetryableDeliveryError if 400 <= error.smtp_code < 500 else DeliveryError
        error_name = type(error).__name__
        raise error_class(
            "the mail server responded with %d (%s)" % (error.smtp_code, error_name)
        ) from error
    except smtplib.SMTPRecipientsRefused as error:
        all_codes = sorted({answer[0] for answer in error.recipients.values()})
        is_transient = all(400 <= code < 500 for code in all_codes)
        error_class = RetryableDeliveryError if is_transient else DeliveryError
        codes_text = ", ".join(str(code) for code in all_codes)
        raise error_class("the mail server refused every recipient (%s)" % codes_text) from error
    except smtplib.SMTPNotSupportedError as error:
        raise DeliveryError(
            "the mail server does not support the configured settings: %s" % error
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise DeliveryError(
            "the mail server's certificate was not accepted; set `ca_bundle` for a private CA"
        ) from error
    except (OSError, smtplib.SMTPException) as error:
        raise RetryableDeliveryError(
            "the mail server is unavailable: %s" % type(error).__name__
        ) from error
    if not refused:
        return None
    # The others have received it: a retry would send it to them again.
    codes = ", ".join(str(code) for code in sorted({answer[0] for answer in refused.values()}))
    return "the mail server refused %d of %d recipients (%s)" % (
        len(refused), len(settings.to), codes
    )


def _send_smtp(
    settings: MailConfig,
    password: Optional[str],
    message: email.message.EmailMessage,
    seconds: float,
) -> Refusals:
    """Send a message; return who of its recipients was refused."""
    deadline = time.monotonic() + seconds
    tls = None
    if settings.encryption != "none":
        tls = ssl.create_default_context(cafile=settings.ca_bundle)
    connect: Callable[..., smtplib.SMTP] = _DeadlineSMTP
    options: dict[str, Any] = {"timeout": seconds}
    if settings.encryption == "ssl":
        connect, options = _DeadlineSMTP_SSL, dict(options, context=tls)
    with connect(deadline, settings.host, settings.port, **options) as server:
        if settings.encryption == "starttls":
            server.starttls(context=tls)
        if settings.username:
            server.login(settings.username, password or "")
        return server.send_message(message)


class _DeadlineSMTP(smtplib.SMTP):
    """An SMTP connection with a total deadline (time.monotonic): smtplib's timeout is per read."""

    def __init__(self, deadline: float, *arguments: Any, **options: Any) -> None:
        self._deadline = deadline
        super().__init__(*arguments, **options)

    def getreply(self) -> tuple[int, bytes]:
        seconds_left = self._deadline - time.monotonic()
        if seconds_left <= 0:
            raise TimeoutError("the deadline was reached")
        if self.sock is not None:
            self.sock.settimeout(seconds_left)
        return super().getreply()


class _DeadlineSMTP_SSL(_DeadlineSMTP, smtplib.SMTP_SSL):
    """The same over TLS."""


def slack(env: "Environment", config: EscalationConfig, notice: "Notice", seconds: float) -> None:
    """Post to a Slack webhook."""
    hook = config.slack
    assert hook is not None
    # `<!channel>` and the like would notify everybody (Slack, "Formatting text for app surfaces").
    text = "*%s*\n%s" % (notice["title"].translate(_SLACK), notice["text"].translate(_SLACK))
    _post(env, "slack", hook, {"text": text[:MAX_SLACK_CHARS]}, seconds, _SLACK_ACCEPTED)


def webhook(
    env: "Environment", config: EscalationConfig, notice: "Notice", seconds: float
) -> None:
    """Post the JSON body of PagerDuty's Events API v2 to a webhook."""
    hook = config.webhook
    assert hook is not None
    body: dict[str, Any] = {
        "event_action": notice["action"],
        "dedup_key": ("synthralos:%s" % notice["ticket"])[:MAX_DEDUP_KEY_CHARS],
        "client": "synthralos",
        "payload": {
            "summary": notice["title"][:MAX_SUMMARY_CHARS],
            "severity": _SEVERITY.get(notice["severity"] or "", "warning"),
            "source": notice["subject"],
            "component": notice["workflow"],
            "class": notice["cause"],
            "timestamp": notice["at"],
            "custom_details": dict(notice["facts"], recommendations=notice["recommendations"]),
        },
    }
    routing_key = _secret(env, hook.routing_key, hook.routing_key_from)
    if routing_key:
        body["routing_key"] = routing_key
    _post(env, "webhook", hook, body, seconds)


def announcement(
    env: "Environment", config: EscalationConfig, notice: "Notice", seconds: float
) -> None:
    """Run core.announcement, whose message StackStorm sends to all listeners of its stream."""
    if env.api is None:
        raise DeliveryError("no StackStorm API is available")
    message = dict(notice["facts"], action=notice["action"], title=notice["title"])
    try:
        env.api.start(ANNOUNCEMENT, {"message": message})
    except StackStormError as error:
        raise RetryableDeliveryError(str(error)) from error


def _post(
    env: "Environment",
    channel: str,
    hook: WebhookConfig,
    body: Mapping[str, Any],
    seconds: float,
    accepted_texts: Optional[Collection[str]] = None,
) -> None:
    """Post `body` to a webhook.

    :param accepted_texts: see delivery_receipts.refusal_of.
    """
    url = check_url(
        "escalation.%s.url" % channel, hook.url or _secret(env, None, hook.url_from)
    )
    connection = Connection(
        base_url=url, secret=hook.token, secret_from=hook.token_from, verify=hook.verify,
        proxy=hook.proxy, secret_path="escalation.%s.token" % channel,
    )
    try:
        response = env.client.request(connection, "POST", "", seconds, body=body)
    except CallError as error:
        raise _delivery_error(error.failure) from error
    if not 200 <= response.status < 300:
        raise _delivery_error(env.client.failure_of(response, "request"))
    refusal = delivery_receipts.refusal_of(response, accepted_texts)
    if refusal is not None:
        raise _delivery_error(refusal, "; it answered %d, and did not accept it" % response.status)


def _delivery_error(failure: Failure, note: str = "") -> DeliveryError:
    status = note or (" (%d)" % failure.status if failure.status else "")
    error_class = RetryableDeliveryError if failure.policy.retry_same_target else DeliveryError
    # The error text comes from the other side, and may contain anything: only the cause is used.
    return error_class("%s%s" % (failure.cause, status))


def _secret(env: "Environment", literal: Optional[str], key: Optional[str]) -> Optional[str]:
    """Return the literal secret, or the value stored in the datastore under `key`.

    :raises InvalidInput: the key does not exist.
    """
    if not literal and not key:
        return None
    connection = Connection(base_url="", secret=literal, secret_from=key)
    secret, _ = env.credentials(connection, fresh=True)
    return secret if isinstance(secret, str) else None


def sender_for(channel: str) -> Sender:
    """Return the function that sends on `channel`."""
    senders: dict[str, Sender] = {
        "mail": mail, "slack": slack, "webhook": webhook, "announcement": announcement
    }
    return senders[channel]
