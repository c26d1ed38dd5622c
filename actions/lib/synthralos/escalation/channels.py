"""The ways on which people are told: mail, Slack, a webhook, StackStorm's announcements.

Each is a function (env, config, notice, seconds) that returns when the notice was taken. It raises
Again when another try may help, and DeliveryError or InvalidInput when none will. A notice is a mapping of
ids, enums, numbers and harmless text; see notifications.notice.
"""

import email.message
import email.utils
import smtplib
import ssl
import time

from synthralos.calls.http import CallError
from synthralos.config.settings import Connection
from synthralos.escalation.config import check_url
from synthralos.storage.stackstorm_api import StackStormError

ANNOUNCEMENT = "core.announcement"
MAX_SUBJECT_CHARS = 200
MAX_DEDUP_KEY_CHARS = 255
MAX_SUMMARY_CHARS = 1024
MAX_SLACK_CHARS = 12_000
# PagerDuty's severities.
_SEVERITY = {"low": "info", "medium": "warning", "high": "error", "critical": "critical"}
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class DeliveryError(Exception):
    """A notice was not taken; the message says why and holds no secret."""


class RetryableDeliveryError(DeliveryError):
    """The same, but another try may help."""


def mail(env, config, notice, seconds):
    settings = config.mail
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
        _send_smtp(settings, password, message, seconds)
    except smtplib.SMTPResponseException as error:
        # 4xx is for now, 5xx for good (RFC 5321, 4.2.1).
        kind = RetryableDeliveryError if 400 <= error.smtp_code < 500 else DeliveryError
        what = type(error).__name__
        raise kind("the mail server answered %d (%s)" % (error.smtp_code, what)) from error
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({answer[0] for answer in error.recipients.values()})
        kind = RetryableDeliveryError if all(400 <= code < 500 for code in codes) else DeliveryError
        told = ", ".join(str(code) for code in codes)
        raise kind("the mail server refused every recipient (%s)" % told) from error
    except smtplib.SMTPNotSupportedError as error:
        raise DeliveryError(
            "the mail server does not support what is configured: %s" % error
        ) from error
    except ssl.SSLCertVerificationError as error:
        told = "the mail server's certificate was not accepted; a private CA needs `ca_bundle`"
        raise DeliveryError(told) from error
    except (OSError, smtplib.SMTPException) as error:
        told = "the mail server is away: %s" % type(error).__name__
        raise RetryableDeliveryError(told) from error


def _send_smtp(settings, password, message, seconds):
    ends = time.monotonic() + seconds
    tls = None
    if settings.encryption != "none":
        tls = ssl.create_default_context(cafile=settings.ca_bundle)
    if settings.encryption == "ssl":
        kind, more = _DeadlineSMTP_SSL, {"context": tls}
    else:
        kind, more = _DeadlineSMTP, {}
    with kind(ends, settings.host, settings.port, timeout=seconds, **more) as server:
        if settings.encryption == "starttls":
            server.starttls(context=tls)
        if settings.username:
            server.login(settings.username, password or "")
        server.send_message(message)


class _DeadlineSMTP(smtplib.SMTP):
    """Ends at `ends` (time.monotonic) as a whole: smtplib's own limit is per read."""

    def __init__(self, ends, *arguments, **options):
        self._ends = ends
        super().__init__(*arguments, **options)

    def getreply(self):
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        if self.sock is not None:
            self.sock.settimeout(left)
        return super().getreply()


class _DeadlineSMTP_SSL(_DeadlineSMTP, smtplib.SMTP_SSL):
    pass


def slack(env, config, notice, seconds):
    hook = config.slack
    # `<!channel>` and the like would call everybody (Slack, "Formatting text for app surfaces").
    text = "*%s*\n%s" % (notice["title"].translate(_SLACK), notice["text"].translate(_SLACK))
    _post(env, "slack", hook, {"text": text[:MAX_SLACK_CHARS]}, seconds)


def webhook(env, config, notice, seconds):
    """Posts what PagerDuty's Events API v2 takes, and any webhook that reads JSON."""
    hook = config.webhook
    body = {
        "event_action": notice["action"],
        "dedup_key": ("synthralos:%s" % notice["ticket"])[:MAX_DEDUP_KEY_CHARS],
        "client": "synthralos",
        "payload": {
            "summary": notice["title"][:MAX_SUMMARY_CHARS],
            "severity": _SEVERITY.get(notice["severity"], "warning"),
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


def announcement(env, config, notice, seconds):
    """Starts core.announcement, whose message StackStorm sends to all that listen to its stream."""
    if env.api is None:
        raise DeliveryError("there is no StackStorm API")
    message = dict(notice["facts"], action=notice["action"], title=notice["title"])
    try:
        env.api.start(ANNOUNCEMENT, {"message": message})
    except StackStormError as error:
        raise RetryableDeliveryError(str(error)) from error


def _post(env, channel, hook, body, seconds):
    url = hook.url or _secret(env, None, hook.url_from)
    check_url("escalation.%s.url" % channel, url)
    connection = Connection(
        base_url=url, secret=hook.token, secret_from=hook.token_from, verify=hook.verify,
        proxy=hook.proxy,
    )
    try:
        answer = env.client.request(connection, "POST", "", seconds, body=body)
    except CallError as error:
        raise _delivery_error(error.failure) from error
    if not 200 <= answer.status < 300:
        raise _delivery_error(env.client.failure_of(answer, "request"))


def _delivery_error(failure):
    status = " (%d)" % failure.status if failure.status else ""
    kind = RetryableDeliveryError if failure.policy.retry_same_target else DeliveryError
    # The message of an error is the other side's: not needed, and nobody knows what is in it.
    return kind("%s%s" % (failure.cause, status))


def _secret(env, literal, key):
    """The secret: literal, or what the datastore holds now under `key`. InvalidInput when it is not
    there.
    """
    if not literal and not key:
        return None
    connection = Connection(base_url="", secret=literal, secret_from=key)
    return env.credentials(connection, fresh=True)[0]


def sender_for(channel):
    """The function that sends on `channel`."""
    return {"mail": mail, "slack": slack, "webhook": webhook, "announcement": announcement}[channel]
