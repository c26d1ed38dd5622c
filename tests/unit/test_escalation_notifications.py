"""Notifications at a real SMTP server, a real HTTP server and a stand-in for StackStorm's API."""
import contextlib
import email
import email.policy
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import threading
import types
import zlib

import pytest
from fixtures.waiting import PATIENCE_SECONDS, limit_under_test, until

from synthralos.escalation import channels, notifications, ticketing
from synthralos.escalation.config import EscalationConfig
from synthralos.storage import locks, tickets
from synthralos.storage.keyspace import kind_of_key
from synthralos.storage.stackstorm_api import Api, StackStormError

from .conftest import http_answer
from .test_escalation import HOSTILE, MARKS

controller = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed")

FAILURE = {"type": "llm_error", "cause": "authentication", "severity": "high"}
OFF = {"mail": False}


class Mailbox:
    """What a mail server got; it answers DATA with `answers` first, then takes everything."""

    def __init__(self, *answers):
        self.envelopes, self.tries, self._answers = [], 0, list(answers)

    async def handle_DATA(self, server, session, envelope):
        self.tries += 1
        if self._answers:
            return self._answers.pop(0)
        self.envelopes.append(envelope)
        return "250 OK"

    @property
    def messages(self):
        return [
            email.message_from_bytes(notification.content, policy=email.policy.default)
            for notification in self.envelopes
        ]


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    # The servers of these tests answer, however busy the machine is.
    monkeypatch.setattr(ticketing, "NOTIFY_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(notifications, "TIMEOUT_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def post_office():
    """post_office(mailbox, **options) -> the port of a mail server on loopback."""
    running = []

    def start(mailbox, **options):
        server = controller.Controller(
            mailbox, hostname="127.0.0.1", port=_free(), ready_timeout=PATIENCE_SECONDS, **options)
        server.start()
        running.append(server)
        return server.port

    yield start
    for server in running:
        server.stop()


def _free():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def by_mail(port, **more):
    mail = {"host": "127.0.0.1", "port": port, "starttls": False, "from": "bot@example.com",
            "to": ["ops@example.com", "boss@example.com"]}
    return {"mail": dict(mail, **more)}


def by_hook(channel, url, **more):
    return {"notification_channels": dict(OFF, **{channel: True}), channel: dict(more, url=url)}


class Sleeps(list):
    def __call__(self, seconds):
        self.append(seconds)


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
def opened(make_env, clock, sleeps):
    """opened(entry, ...) -> (env, config, what desk.open_ticket told)."""

    def make(entry, summary="llm_retry of gpt-4 failed: 401", failure=FAILURE, env=None, **more):
        env = env or make_env(**more)
        config = ticketing.load_config(env, entry)
        clock.forward(1)
        opened_ticket = ticketing.open_ticket(
            env, config, "llm_retry", "gpt-4", failure, summary, sleep=sleeps, attempts=4)
        return env, config, opened_ticket

    return make


def result_of(ticket, channel):
    return next(
        notification
        for notification in ticket["notifications"]
        if notification["channel"] == channel
    )


def body_of(server, n=0):
    return json.loads(server.requests[n].partition("\r\n\r\n")[2])


def test_a_mail_arrives(opened, post_office):
    mailbox = Mailbox()
    _, _, opened_ticket = opened(by_mail(post_office(mailbox)))
    assert result_of(opened_ticket, "mail") == {
        "action": "trigger", "channel": "mail", "status": "sent", "tries": 1, "error": None}
    assert {
        notification["channel"]: notification["status"]
        for notification in opened_ticket["notifications"]
    } == {"mail": "sent", "slack": "off", "webhook": "off", "announcement": "off"}
    envelope, message = mailbox.envelopes[0], mailbox.messages[0]
    assert envelope.rcpt_tos == ["ops@example.com", "boss@example.com"]
    assert envelope.mail_from == message["From"] == "bot@example.com"
    # Folded after its name, which a reader does not show.
    assert message["Subject"].strip() == "[synthralos] supervisor_review %s: %s" % (
        opened_ticket["ticket"], "llm_retry of gpt-4 failed: 401")
    assert message["Auto-Submitted"] == "auto-generated" and message["Message-ID"]
    body = message.get_content()
    assert "providers[].api_key_from" in body and "1 occurrence with 4 attempts" in body


@pytest.mark.parametrize("hostile", HOSTILE + ["a\r\nBcc: all@example.com\r\n\r\nbody", "x" * 5000])
def test_no_text_gets_into_a_header_or_is_left_for_a_template(opened, post_office, hostile):
    mailbox = Mailbox()
    opened(by_mail(post_office(mailbox)), summary=hostile)
    message = mailbox.messages[0]
    assert set(message.keys()) >= {"Subject", "From", "To"} and message["Bcc"] is None
    assert mailbox.envelopes[0].rcpt_tos == ["ops@example.com", "boss@example.com"]
    text = message["Subject"] + "\n" + message.get_content()
    assert not any(mark in text for mark in MARKS)
    assert len(message["Subject"]) <= channels.MAX_SUBJECT_CHARS


def test_a_mail_that_is_refused_for_now_is_tried_again(opened, post_office, sleeps):
    mailbox = Mailbox("451 later", "421 busy")
    _, _, opened_ticket = opened(by_mail(post_office(mailbox)))
    assert (
        result_of(opened_ticket, "mail")["status"],
        result_of(opened_ticket, "mail")["tries"],
    ) == ("sent", 3)
    assert len(mailbox.envelopes) == 1
    assert len(sleeps) == 2 and 1 <= sleeps[0] <= 2 and 2 <= sleeps[1] <= 3


@pytest.mark.parametrize("answers, tries, error_text", [
    (("451 later",) * 9, 3, "451"), (("554 never",), 1, "554"),
])
def test_a_mail_that_is_not_taken_is_reported(opened, post_office, answers, tries, error_text):
    mailbox = Mailbox(*answers)
    _, _, opened_ticket = opened(by_mail(post_office(mailbox)))
    result = result_of(opened_ticket, "mail")
    assert (result["status"], result["tries"]) == ("failed", tries) and error_text in result[
        "error"
    ]
    assert opened_ticket["ticket"]


def test_a_mail_server_that_is_away_is_reported(opened):
    _, _, opened_ticket = opened(by_mail(_free()))
    result = result_of(opened_ticket, "mail")
    assert (result["status"], result["tries"]) == ("failed", 3) and "unavailable" in result["error"]


def test_a_mail_server_that_never_answers_costs_no_more_than_its_time(make_env, clock, sleeps):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = make_env()
        config = ticketing.load_config(env, by_mail(silent.getsockname()[1]))
        opened_ticket = tickets.record_occurrence(env.store, clock(), "w", "bot", FAILURE, "r", "s",
                              prioritize=lambda ticket: ("critical_alert", 90))
        ticket = tickets.get(env.store, opened_ticket["ticket"])
        report = {"markdown": "m", "recommendations": []}
        result = notifications.send_due(env, config, ticket, lambda: report, 1.2, sleeps)
    assert result[0]["status"] == "failed" and result[0]["error"]


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out",
         "cert.pem"], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context, str(tmp_path / "cert.pem")


@pytest.mark.parametrize("password", ["right-password", "wrong-password"])
def test_a_mail_goes_over_starttls_with_a_login_from_the_datastore(
    opened, post_office, certificate, datastore, password
):
    from aiosmtpd.smtp import AuthResult

    def authenticate(server, session, envelope, mechanism, login):
        good = (login.login, login.password) == (b"bot", b"right-password")
        return AuthResult(success=good, handled=False)

    context, bundle = certificate
    mailbox = Mailbox()
    port = post_office(mailbox, tls_context=context, require_starttls=True, auth_required=True,
                       authenticator=authenticate)
    datastore.put("mail_password", password)
    entry = by_mail(port, starttls=True, username="bot", password_from="mail_password",
                    ca_bundle=bundle)
    _, _, opened_ticket = opened(entry)
    result = result_of(opened_ticket, "mail")
    if password == "right-password":
        assert result["status"] == "sent" and len(mailbox.envelopes) == 1
    else:
        assert (result["status"], result["tries"]) == ("failed", 1) and "535" in result["error"]
    assert password not in str(opened_ticket)


def test_a_certificate_of_nobody_is_not_accepted(opened, post_office, certificate):
    mailbox = Mailbox()
    port = post_office(mailbox, tls_context=certificate[0])
    _, _, opened_ticket = opened(by_mail(port, starttls=True))
    result = result_of(opened_ticket, "mail")
    assert (result["status"], result["tries"]) == ("failed", 1) and "ca_bundle" in result["error"]
    assert mailbox.envelopes == []


def test_a_password_that_is_not_in_the_datastore_is_named(opened, post_office):
    mailbox = Mailbox()
    entry = by_mail(post_office(mailbox), password_from="no_such_key")
    result = result_of(opened(entry)[2], "mail")
    assert result["status"] == "failed" and "st2 key set --encrypt no_such_key" in result["error"]


def test_slack_gets_text_that_calls_nobody(opened, serve):
    server = serve(http_answer(200, "ok"))
    _, _, opened_ticket = opened(
        by_hook("slack", server.url + "/services/secret"), summary="<!channel> <@U1> {{ x }} a & b")
    assert result_of(opened_ticket, "slack")["status"] == "sent"
    text = body_of(server)["text"]
    assert "&lt;!channel&gt;" in text and "a &amp; b" in text and "<" not in text
    assert "{{" not in text and "template marks were broken" in text
    assert server.requests[0].startswith("POST /services/secret ")


def test_an_address_comes_from_the_datastore_and_is_shown_nowhere(opened, serve, datastore):
    server = serve(http_answer(404, "no_team"))
    datastore.put("slack_url", server.url + "/very-secret")
    entry = {"notification_channels": dict(OFF, slack=True), "slack": {"url_from": "slack_url"}}
    _, _, opened_ticket = opened(entry)
    assert server.requests[0].startswith("POST /very-secret ")
    assert result_of(opened_ticket, "slack")["tries"] == 1 and "very-secret" not in str(
        opened_ticket
    )


def test_a_webhook_gets_what_pagerduty_takes(opened, serve):
    server = serve(http_answer(202, "{}"))
    entry = by_hook("webhook", server.url + "/v2/enqueue", routing_key="the-key", token="the-token")
    _, _, opened_ticket = opened(entry, summary="{{ x }} failed")
    body = body_of(server)
    assert (body["event_action"], body["routing_key"]) == ("trigger", "the-key")
    assert body["dedup_key"] == "synthralos:" + opened_ticket["ticket"]
    payload = body["payload"]
    assert (payload["severity"], payload["source"], payload["component"]) == (
        "error", "gpt-4", "llm_retry")
    details = payload["custom_details"]
    assert (
        details["level"] == "supervisor_review" and details["priority"] == opened_ticket["priority"]
    )
    assert details["recommendations"] and "{{" not in json.dumps(body)
    assert "Authorization: Bearer the-token" in server.requests[0]


def answering(*statuses):
    left = list(statuses)

    def answer(connection, request):
        connection.sendall(http_answer(left.pop(0) if len(left) > 1 else left[0]))

    return answer


@pytest.mark.parametrize("statuses, status, tries", [
    ((500, 503, 200), "sent", 3), ((500,), "failed", 3), ((429, 200), "sent", 2),
    ((400,), "failed", 1), ((401,), "failed", 1), ((302,), "failed", 1),
])
def test_a_webhook_is_tried_again_where_that_may_help(opened, serve, statuses, status, tries):
    server = serve(answering(*statuses))
    result = result_of(opened(by_hook("webhook", server.url))[2], "webhook")
    assert (result["status"], result["tries"], len(server.requests)) == (status, tries, tries)
    assert (result["error"] is None) == (status == "sent")


LOGIN_PAGE = '<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>ok</body></html>'
TEAMS = ("Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error "
         "429 with ContextId tcid=0.")


@pytest.mark.parametrize("channel", ["slack", "webhook"])
@pytest.mark.parametrize("body, cause, tries", [
    ('{"ok": false, "error": "no_team"}', "bad_request", 1),
    ('{"ok":false,"error":"invalid_auth"}', None, 1),
    ("no_team", "bad_request", 1), ("invalid_payload", "bad_request", 1),
    (LOGIN_PAGE, "wrong_address", 1), ("\ufeff\r\n<html>log in", "wrong_address", 1),
    (TEAMS, "rate_limit", 3),
    ('{"status": "invalid event", "message": "Event object is invalid", "errors": ["x"]}',
     "bad_request", 1),
    ('{"status":"throttled"}', None, None), ('{"success": false}', "bad_request", 1),
    ('{"errcode":310000,"errmsg":"keywords not in content"}', "bad_request", 1),
    ('{"code":19001,"msg":"param invalid: incoming webhook access token invalid"}', None, 1),
    ('[{"error": "quota"}]', None, 1), ('"no_service"', "bad_request", 1),
    ('{"status": 503}', "server_error", 3), ('{"result":"error","msg":"Invalid key"}', None, 1),
])
def test_an_answer_of_200_that_was_not_delivered(
    opened, serve, channel, body, cause, tries
):
    server = serve(http_answer(200, body.encode("utf-8")))
    result = result_of(opened(by_hook(channel, server.url))[2], channel)
    assert result["status"] == "failed" and "did not accept it" in result["error"]
    assert cause is None or result["error"].startswith(cause)
    assert tries is None or result["tries"] == tries
    # Whatever the other side says is not shown.
    assert "param" not in result["error"] and "Teams" not in result["error"]


@pytest.mark.parametrize("channel, body", [
    ("slack", "ok"), ("slack", "ok\n"), ("slack", ""), ("slack", "1"), ("slack", '{"ok":true}'),
    ("slack", '{"success": true}'), ("webhook", ""), ("webhook", "accepted, 0 errors"),
    ("webhook", '{"status":"success","message":"Event processed","dedup_key":"x"}'),
    ("webhook", '{"error": null, "errors": [], "code": 0, "msg": "success"}'),
    ("webhook", '{"errcode":0,"errmsg":"ok"}'), ("webhook", '{"message": "Workflow was started"}'),
    ("webhook", '{"payload": {"severity": "error", "ok": false}}'), ("webhook", "42"),
    ("webhook", '{"result":"Request will be processed"}'), ("webhook", '{"code":200,"msg":"ok"}'),
])
def test_an_answer_that_was_delivered(opened, serve, channel, body):
    # Slack says text/html of its `ok`.
    server = serve(http_answer(200, body, headers=[("Content-Type", "text/html")]))
    result = result_of(opened(by_hook(channel, server.url))[2], channel)
    assert (result["status"], result["error"]) == ("sent", None)


@pytest.mark.parametrize("charset, encoding", [
    ("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("utf-16-le", None),
    ("utf-8", "gzip"), ("utf-8", "deflate"), ("utf-8", ""),
])
def test_an_answer_is_read_however_it_is_encoded(opened, serve, charset, encoding):
    body = '{"ok": false, "error": "no_team"}'.encode(charset)
    headers = [("Content-Encoding", encoding)] if encoding else []
    if encoding == "deflate":
        body = zlib.compress(body)
    elif encoding is not None:
        body = gzip.compress(body)
    server = serve(http_answer(200, body, headers=headers))
    assert result_of(opened(by_hook("slack", server.url))[2], "slack")["status"] == "failed"


def test_some_recipients_are_refused(opened, post_office):
    class Picky(Mailbox):
        async def handle_RCPT(self, server, session, envelope, address, options):
            if address.startswith("gone"):
                return "550 no such user"
            envelope.rcpt_tos.append(address)
            return "250 OK"

    mailbox = Picky()
    entry = by_mail(post_office(mailbox), to=["ann@example.com", "gone@example.com"])
    result = result_of(opened(entry)[2], "mail")
    assert (result["status"], result["tries"], len(mailbox.envelopes)) == ("sent", 1, 1)
    assert result["error"] == "the mail server refused 1 of 2 recipients (550)"


def test_taken_and_resolved_is_told_to_the_webhook_that_had_the_trigger(opened, serve, clock):
    server = serve(http_answer(202))
    env, config, opened_ticket = opened(by_hook("webhook", server.url))
    clock.forward(1)
    acknowledged = ticketing.take(env, config, opened_ticket["ticket"], "ann")
    assert [notification["action"] for notification in acknowledged["notifications"]] == [
        "acknowledge"
    ]
    clock.forward(1)
    resolved = ticketing.resolve(env, config, opened_ticket["ticket"], "{{ fixed }}", "ann")
    assert [notification["action"] for notification in resolved["notifications"]] == ["resolve"]
    assert (
        ticketing.resolve(env, config, opened_ticket["ticket"], "again", "bob")["notifications"] ==
        []
    )
    bodies = [body_of(server, n) for n in range(3)]
    assert [body["event_action"] for body in bodies] == ["trigger", "acknowledge", "resolve"]
    assert len({body["dedup_key"] for body in bodies}) == 1
    assert bodies[2]["payload"]["custom_details"]["resolved_by"] == "ann"
    assert "{{" not in json.dumps(bodies)


def test_a_webhook_that_never_heard_of_it_hears_nothing_of_its_end(opened, serve, clock):
    env, _, opened_ticket = opened({"notification_channels": OFF})
    server = serve(http_answer(202))
    config = ticketing.load_config(env, by_hook("webhook", server.url))
    clock.forward(1)
    assert (
        ticketing.resolve(env, config, opened_ticket["ticket"], "done", "ann")["notifications"] ==
        []
    )
    assert server.requests == []


ANNOUNCED = {"notification_channels": dict(OFF, announcement=True)}


def test_an_announcement_is_started_through_the_api(opened, serve):
    server = serve(http_answer(201, '{"id": "5f0c0000000000000000beef"}'))
    _, _, opened_ticket = opened(
        ANNOUNCED, summary="{{ x }} <% ctx() %>", api=Api(server.url + "/v1", "t")
    )
    assert result_of(opened_ticket, "announcement")["status"] == "sent"
    assert server.requests[0].startswith("POST /v1/executions ")
    body = body_of(server)
    assert body["action"] == "core.announcement" and set(body["parameters"]) == {"message"}
    message = body["parameters"]["message"]
    assert message["ticket"] == opened_ticket["ticket"] and message["action"] == "trigger"
    assert not any(mark in json.dumps(list(message.values())) for mark in ("{{", "<%", "%>"))


class AwayApi:
    def fire(self, trigger, payload):
        raise StackStormError("StackStorm's API is away")

    def start(self, action, parameters):
        raise StackStormError("StackStorm's API is away")


@pytest.mark.parametrize("api, tries, error_text", [
    (None, 1, "no StackStorm API"), (AwayApi(), 3, "away"),
])
def test_an_announcement_that_cannot_be_started_is_reported(opened, api, tries, error_text):
    result = result_of(opened(ANNOUNCED, api=api)[2], "announcement")
    assert (result["status"], result["tries"]) == ("failed", tries) and error_text in result[
        "error"
    ]


def test_what_is_on_but_not_configured_is_reported_and_no_error(opened):
    on = {"mail": True, "slack": True, "webhook": True}
    _, _, opened_ticket = opened({"notification_channels": on})
    assert {
        notification["channel"]: notification["status"]
        for notification in opened_ticket["notifications"]
    } == {
        "mail": "not_configured",
        "slack": "not_configured",
        "webhook": "not_configured",
        "announcement": "off",
    }


def test_one_channel_that_fails_does_not_keep_the_others(opened, serve, post_office):
    mailbox, server = Mailbox(), serve(http_answer(500))
    entry = by_mail(post_office(mailbox))
    entry["notification_channels"] = {"slack": True}
    entry["slack"] = {"url": server.url}
    _, _, opened_ticket = opened(entry)
    assert result_of(opened_ticket, "slack")["status"] == "failed"
    assert result_of(opened_ticket, "mail")["status"] == "sent" and len(mailbox.envelopes) == 1


def everywhere(port, slack, webhook):
    """An entry with all four channels."""
    return dict(
        by_mail(port), slack={"url": slack}, webhook={"url": webhook},
        notification_channels=dict.fromkeys(("mail", "slack", "webhook", "announcement"), True))


class SlowApi:
    """Whose executions start once `wait` returns."""

    def __init__(self, wait):
        self._wait = wait

    def start(self, action, parameters):
        self._wait(PATIENCE_SECONDS)

    def fire(self, trigger, payload):
        pass


def test_channels_take_the_time_of_one_together(make_env, serve, post_office):
    """Each takes its notice only once all have been offered theirs."""
    all_asked = threading.Barrier(4)

    class SlowMailbox(Mailbox):
        async def handle_DATA(self, server, session, envelope):
            all_asked.wait(PATIENCE_SECONDS)
            return await super().handle_DATA(server, session, envelope)

    def slow(connection, request):
        all_asked.wait(PATIENCE_SECONDS)
        connection.sendall(http_answer(200))

    env = make_env(api=SlowApi(all_asked.wait))
    entry = everywhere(post_office(SlowMailbox()), serve(slow).url, serve(slow).url)
    opened_ticket = ticketing.open_ticket(
        env, ticketing.load_config(env, entry), "llm_retry", "gpt-4", FAILURE, "failed")
    assert {
        notification["channel"]: notification["status"]
        for notification in opened_ticket["notifications"]
    } == dict.fromkeys(("mail", "slack", "webhook", "announcement"), "sent")


def test_channels_that_hang_are_given_up(make_env, monkeypatch):
    monkeypatch.setattr(ticketing, "NOTIFY_SECONDS", limit_under_test(1.5))
    given_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = "http://127.0.0.1:%d" % port
        env = make_env(api=SlowApi(given_up.wait))
        config = ticketing.load_config(env, everywhere(port, url, url))
        opened_ticket = ticketing.open_ticket(env, config, "llm_retry", "gpt-4", FAILURE, "failed")
    given_up.set()
    assert {
        notification["channel"]: notification["status"]
        for notification in opened_ticket["notifications"]
    } == dict.fromkeys(("mail", "slack", "webhook", "announcement"), "failed")
    assert all(notification["error"] for notification in opened_ticket["notifications"])


def test_one_channel_that_hangs_keeps_none_of_the_others(make_env, clock, serve, post_office):
    mailbox, server = Mailbox(), serve(http_answer(200))

    def hang(connection, request):
        # It says nothing until the others have had theirs, and then hangs up.
        until(lambda: mailbox.envelopes and server.requests, "the others were told")

    env = make_env()
    entry = by_mail(post_office(mailbox))
    entry["notification_channels"] = {"slack": True, "webhook": True}
    entry["slack"] = {"url": serve(hang).url}
    entry["webhook"] = {"url": server.url}
    config = ticketing.load_config(env, entry)
    opened_ticket = tickets.record_occurrence(env.store, clock(), "w", "bot", FAILURE, "r", "s",
                          prioritize=lambda ticket: ("critical_alert", 90))
    ticket = tickets.get(env.store, opened_ticket["ticket"])
    result = notifications.send_due(
        env, config, ticket, lambda: {"markdown": "m", "recommendations": []}, PATIENCE_SECONDS,
        sleep=lambda seconds: None)
    assert [(notification["channel"], notification["status"]) for notification in result[:3]] == [
        ("mail", "sent"), ("slack", "failed"), ("webhook", "sent")]
    again = notifications.due_notifications(
        config, env.store, tickets.get(env.store, opened_ticket["ticket"])
    )
    assert again == [("trigger", "slack")]


def test_channels_that_hang_do_not_keep_ticket_process_from_its_end(
    make_env, clock, monkeypatch, serve
):
    stopwatch = [0.0]

    def hang(connection, request):
        stopwatch[0] += 20
        connection.sendall(http_answer(400))

    monkeypatch.setattr(ticketing, "time", types.SimpleNamespace(monotonic=lambda: stopwatch[0]))
    monkeypatch.setattr(ticketing, "PROCESS_SECONDS", 40.5)
    monkeypatch.setattr(notifications, "TIMEOUT_SECONDS", 20.0)
    env = make_env()
    config = ticketing.load_config(env, by_hook("webhook", serve(hang).url))
    for n in range(5):
        clock.forward(1)
        tickets.record_occurrence(env.store, clock(), "w", "bot-%d" % n, FAILURE, "r", "s",
                       prioritize=lambda ticket: ("supervisor_review", 50))
    summaries = ticketing.process_due(env, config)
    clock.forward(301)
    assert len(summaries["tickets"]) == 2 and summaries["open"] == 5
    monkeypatch.setattr(ticketing, "PROCESS_SECONDS", 0.0)
    assert ticketing.process_due(env, config)["raised"] == 5


def test_a_level_is_told_of_once(opened, serve):
    server = serve(http_answer(200))
    entry = by_hook("webhook", server.url)
    for sent in (1, 1, 1):
        opened(entry)
        assert len(server.requests) == sent
    opened(entry, failure=dict(FAILURE, severity="critical"))
    assert len(server.requests) == 2
    assert body_of(server, 1)["payload"]["custom_details"]["level"] == "critical_alert"


def test_nobody_is_told_of_what_the_next_run_may_cure(opened, serve):
    server = serve(http_answer(200))
    failure = dict(FAILURE, severity="medium")
    _, _, opened_ticket = opened(by_hook("webhook", server.url), failure=failure)
    assert (opened_ticket["level"], opened_ticket["notifications"]) == ("auto_recovery", [])
    everything = dict(by_hook("webhook", server.url), notify_from="auto_recovery")
    opened(everything, failure=failure)
    assert len(server.requests) == 1


def test_a_problem_that_comes_back_is_told_of_anew(opened, serve, clock):
    server = serve(http_answer(200))
    entry = by_hook("webhook", server.url)
    env, config, opened_ticket = opened(entry)
    clock.forward(1)
    ticketing.resolve(env, config, opened_ticket["ticket"], "done", "ann")
    opened(entry)
    actions = [body_of(server, n)["event_action"] for n in range(3)]
    assert actions == ["trigger", "resolve", "trigger"]


def test_what_was_not_sent_is_due_the_next_time(opened, serve, clock, sleeps):
    server = serve(answering(400, 200))
    env, config, opened_ticket = opened(by_hook("webhook", server.url))
    assert result_of(opened_ticket, "webhook")["status"] == "failed"
    clock.forward(1)
    summaries = ticketing.process_due(env, config, sleeps)
    assert summaries["tickets"][0]["notifications"][0]["status"] == "sent"
    assert ticketing.process_due(env, config, sleeps)["tickets"] == []
    assert len(server.requests) == 2


def test_a_secret_is_in_no_notification(opened, serve, make_env):
    server = serve(http_answer(200))
    env = make_env({"platforms": [{"base_url": "http://h", "token": "very-secret"}]})
    opened(by_hook("webhook", server.url), summary="token very-secret", env=env)
    assert "very-secret" not in server.requests[0]


def test_a_process_that_died_while_sending_blocks_it_for_a_while_only(opened, serve, clock, store):
    server = serve(http_answer(200))
    env, config, opened_ticket = opened({"notification_channels": OFF})
    config = ticketing.load_config(env, by_hook("webhook", server.url))
    ticket = tickets.get(store, opened_ticket["ticket"])
    lock_name = "%s-0-%s-open" % (opened_ticket["ticket"], ticket["level"])
    with contextlib.ExitStack() as dead:
        assert dead.enter_context(locks.try_lock(store, lock_name, clock))
        assert ticketing.process_due(env, config)["tickets"] == []
        clock.forward(locks.LOCK_TTL_SECONDS + 1)
        assert ticketing.process_due(env, config)["tickets"]
    assert len(server.requests) == 1


def test_one_of_many_has_the_claim(store, clock):
    for _ in range(20):
        won, ready = [], threading.Barrier(8)

        def ask(won=won, ready=ready):
            ready.wait()
            with locks.try_lock(store, "x", clock, lambda seconds: None) as mine:
                won.append(mine)
                ready.wait()

        run_at_once(ask, 8)
        assert won.count(True) <= 1 and len(won) == 8
    with locks.try_lock(store, "x", clock) as mine:
        assert mine


def test_there_is_no_claim_without_a_datastore(store, clock, datastore):
    datastore.away = True
    with locks.try_lock(store, "x", clock) as mine:
        assert not mine


def run_at_once(work, times):
    threads = [threading.Thread(target=work) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)


def test_twenty_that_process_at_once_send_each_notification_once(
    make_env, clock, datastore, serve, post_office
):
    from synthralos.storage.datastore import BestEffortDatastore

    mailbox, server = Mailbox(), serve(http_answer(200))
    entry = by_mail(post_office(mailbox))
    entry["notification_channels"] = {"webhook": True}
    entry["webhook"] = {"url": server.url}
    quiet = make_env()
    names = []
    for subject in ("a", "b", "c"):
        clock.forward(1)
        names.append(tickets.record_occurrence(
            quiet.store, clock(), "w", subject, FAILURE, "r", "s",
            prioritize=lambda ticket: ("supervisor_review", 50))["ticket"])
    ready, summaries, wrong = threading.Barrier(20), [], []

    def notification():
        env = make_env(store=BestEffortDatastore(datastore))
        try:
            ready.wait()
            summaries.append(ticketing.process_due(env, EscalationConfig.from_config(entry)))
        except Exception as error:
            wrong.append(error)

    run_at_once(notification, 20)
    assert not wrong and len(summaries) == 20
    dedup_keys = [body_of(server, n)["dedup_key"] for n in range(len(server.requests))]
    assert sorted(dedup_keys) == sorted("synthralos:" + name for name in names)
    assert len(mailbox.envelopes) == 3
    assert [key for key in datastore.names() if ".claim_notification." in key] == []


def test_what_was_sent_is_stored_with_the_tickets(opened, serve, datastore):
    opened(by_hook("webhook", serve(http_answer(202)).url))
    kinds = {kind_of_key(name) for name, _ in datastore.list("synthralos.")}
    assert "notification" in kinds and None not in kinds
