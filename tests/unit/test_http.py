import signal
import socket
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS, at_least, limit_under_test

from synthralos.calls.http import CallError, Client, Response
from synthralos.config.connection import Connection

from .conftest import http_answer


def client(credentials=lambda connection, fresh: (None, {})):
    return Client(credentials, lambda: 1_700_000_000.0, own_process=True)


PLAIN = client()


def send(url, seconds=PATIENCE_SECONDS, method="POST", client=PLAIN, **more):
    options = {name: more.pop(name) for name in ("body", "headers", "authorize") if name in more}
    return client.request(Connection(url, **more), method, "/x?y=1", seconds, **options)


def failing(url, *arguments, **more):
    with pytest.raises(CallError) as failed:
        send(url, *arguments, **more)
    return failed.value.failure


def test_a_request_is_sent_and_its_answer_read(serve):
    server = serve(http_answer(201, '{"é": 1}', [("X-Name", "v")]))
    response = send(server.url + "/base", body={"a": "é\ud800"}, headers={"X-Mine": "1"})
    assert (response.status, response.headers["x-name"], response.json()) == (201, "v", {"é": 1})
    assert response.latency > 0
    head, _, body = server.requests[0].partition("\r\n\r\n")
    assert head.startswith("POST /base/x?y=1 HTTP/1.1\r\n")
    assert "X-Mine: 1" in head and "Content-Type: application/json" in head
    assert body == '{"a": "\\u00e9\\ud800"}'


def test_a_bearer_token_and_the_connections_headers_go_along(serve):
    server = serve(http_answer())
    with_token = client(lambda connection, fresh: ("abc", {"X-Stored": "s"}))
    send(server.url, client=with_token, headers={"X-Mine": "m"})
    head = server.requests[0]
    assert "Authorization: Bearer abc" in head and "X-Stored: s" in head and "X-Mine: m" in head


def test_the_callers_content_type_holds_however_it_is_spelt(serve):
    server = serve(http_answer())
    send(server.url, body={}, headers={"content-type": "application/vnd.api+json"})
    assert "application/vnd.api+json" in server.requests[0]


def test_an_error_status_is_an_answer(serve):
    server = serve(http_answer(429, "{}", [("Retry-After", "7")]))
    answer = send(server.url)
    assert answer.status == 429
    assert PLAIN.failure_of(answer, "request").retry_after == 7.0


@pytest.mark.parametrize("body", ["", "<html>", '{"a": ', "[" * 50_000])
def test_an_answer_that_is_no_json_says_so(body):
    with pytest.raises(CallError) as failed:
        Response(200, {}, body, 0.1).json()
    assert failed.value.failure.cause == "malformed_answer"


@pytest.mark.parametrize(
    "charset, raw, text",
    [("utf-8", b"\xc3\xa9", "é"), ("iso-8859-1", b"\xe9", "é"), ("nonsense", b"\xc3\xa9", "é"),
     ("base64", b"x", "x"), ("undefined", b"x", "x"), ("idna", b"\xff", "\ufffd"),
     ("utf-8", b"\xff", "\ufffd")],
)
def test_any_charset_is_read(serve, charset, raw, text):
    server = serve(http_answer(200, raw, [("Content-Type", "text/plain; charset=" + charset)]))
    assert send(server.url).text == text


# Time.


def test_a_silent_server_is_a_timeout(serve):
    given_up = threading.Event()
    server = serve(lambda connection, request: given_up.wait(PATIENCE_SECONDS))
    failure = failing(server.url, limit_under_test(0.3))
    given_up.set()
    assert failure.cause == "timeout"


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_a_dripping_server_is_a_timeout_in_all(serve, head):
    given_up = threading.Event()

    def drip(connection, request):
        connection.sendall(head or b"HTTP/1.1 200 OK\r\nX: ")
        while not given_up.wait(limit_under_test(0.1)):
            connection.sendall(b"x")

    server = serve(drip)
    failure = at_least(0.4, lambda: failing(server.url, limit_under_test(0.5)))
    given_up.set()
    assert failure.cause == "timeout"


def test_the_timer_and_the_handler_of_a_host_program_stay(serve):
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    try:
        client = Client(lambda connection, fresh: (None, {}))
        answer = client.request(Connection(serve(http_answer()).url), "GET", "/", 30)
        assert answer.status == 200 and signal.getitimer(signal.ITIMER_REAL)[0] > 0
        signal.raise_signal(signal.SIGALRM)
        assert rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_host_program_has_the_limit_of_each_read(serve):
    given_up = threading.Event()

    def hang(connection, request):
        given_up.wait(PATIENCE_SECONDS)

    with pytest.raises(CallError) as failed:
        client = Client(lambda connection, fresh: (None, {}))
        client.request(Connection(serve(hang).url), "GET", "/", limit_under_test(0.3))
    given_up.set()
    assert failed.value.failure.cause == "timeout"


def test_the_timer_is_gone_after_a_call(serve):
    handler = signal.getsignal(signal.SIGALRM)
    send(serve(http_answer()).url)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == handler


# Connections that break.


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "http://127.0.0.1:%d" % listener.getsockname()[1]


def test_a_refused_connection_was_never_sent():
    failure = failing(closed_port())
    assert failure.cause == "network" and failure.evidence == {"sent": False}


def test_a_proxy_that_is_away_is_the_network(serve):
    server = serve(http_answer())
    assert failing(server.url, proxy=closed_port()).cause == "network"
    assert server.requests == []


def test_a_connection_closed_without_an_answer_may_have_been_sent(serve):
    failure = failing(serve(b"").url)
    assert failure.cause == "network" and failure.evidence.get("sent", True)


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(200, "12345", length=10),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_a_cut_answer_is_a_cut_stream(serve, answer):
    assert failing(serve(answer).url).cause == "truncated_stream"


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"])
def test_what_is_no_http_is_a_failure(serve, answer):
    assert failing(serve(answer).url).policy.retry_other_target


def test_a_head_answer_without_its_body_is_whole(serve):
    assert send(serve(http_answer(200, "", length=10)).url, method="HEAD").status == 200


def test_a_redirect_is_not_followed(serve):
    other = serve(http_answer())
    server = serve(http_answer(302, "", [("Location", other.url)]))
    assert send(server.url).status == 302
    assert other.requests == []


@pytest.mark.parametrize("headers", [{"X": "é\u20ac"}, {"X": "a\r\nY: z"}, {" X": "a"}])
def test_a_header_that_cannot_be_sent_is_the_configurations_fault(serve, headers):
    failure = failing(serve(http_answer()).url, headers=headers)
    assert failure.cause == "configuration"


@pytest.mark.parametrize("value, fault", [
    ("first\nsecond", "control character"), ("a\x7fb", "control character"),
    ("caf\u20ac", "Latin-1"),
])
@pytest.mark.parametrize("build, entry", [
    (lambda value: ({"secret_path": "platform.token"}, (value, {})), "platform.token"),
    (lambda value: ({"secret_path": "platform.token", "secret_from": "k1"}, (value, {})),
     "platform.token_from: k1"),
    (lambda value: ({"headers_from": "k%s"}, (None, {"X-Key": value})), "headers_from: k%s, X-Key"),
    (lambda value: ({"headers": {"X-Key": value}}, (None, {})), "headers: X-Key"),
])
def test_a_secret_that_cannot_be_sent_is_named_by_its_entry(serve, value, fault, build, entry):
    server = serve(http_answer())
    fields, credentials = build(value)
    with pytest.raises(CallError) as failed:
        client(lambda *_: credentials).request(
            Connection(server.url, **fields), "POST", "/x", PATIENCE_SECONDS)
    failure = failed.value.failure
    assert failure.cause == "configuration" and failure.evidence == {"sent": False}
    assert "`%s`" % entry in failure.message and fault in failure.message
    assert value not in failure.message and server.requests == []


def test_latin_and_tabs_can_be_sent(serve):
    assert send(serve(http_answer()).url, headers={"X": "a\tb"}, client=client(
        lambda *_: ("caf\xe9", {}))).status == 200


# Tokens that expire.


class Tokens:
    """Gives `first`, and `later` once it is asked for a fresh one."""

    def __init__(self, first, later):
        self.first, self.later, self.requests = first, later, []

    def __call__(self, connection, fresh):
        self.requests.append(fresh)
        return (self.later if fresh else self.first), {}


def test_after_a_401_a_stored_token_is_read_anew_once(serve):
    def answer(connection, request):
        connection.sendall(http_answer(200 if "Bearer new" in request else 401))

    server, tokens = serve(answer), Tokens("old", "new")
    assert send(server.url, client=client(tokens), secret_from="k").status == 200
    assert tokens.requests == [False, True] and len(server.requests) == 2


def test_a_token_that_stays_refused_is_tried_twice_at_most(serve):
    server = serve(http_answer(401))
    assert send(server.url, client=client(Tokens("a", "b")), secret_from="k").status == 401
    assert len(server.requests) == 2


@pytest.mark.parametrize("tokens, more", [(Tokens("a", "a"), {"secret_from": "k"}),
                                          (Tokens("a", "b"), {"secret": "a"})])
def test_a_token_that_cannot_have_changed_is_not_tried_again(serve, tokens, more):
    server = serve(http_answer(401))
    assert send(server.url, client=client(tokens), **more).status == 401
    assert len(server.requests) == 1


@pytest.fixture
def proxy(serve, monkeypatch):
    """A server that the environment names as the proxy of all requests."""
    server = serve(http_answer(200, '{"by": "the proxy"}'))
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    return server


def test_the_proxy_of_the_environment_is_used_for_every_request(proxy):
    new_client = client()
    for _ in range(2):
        assert send("http://agents.invalid/a", client=new_client).json() == {"by": "the proxy"}
    assert [request.split(" HTTP/")[0] for request in proxy.requests] == [
        "POST http://agents.invalid/a/x?y=1"] * 2


def test_no_proxy_of_the_environment_excludes_hosts(proxy, serve, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server, new_client = serve(http_answer()), client()
    send(server.url, client=new_client)
    send("http://agents.invalid", client=new_client)
    assert (len(server.requests), len(proxy.requests)) == (1, 1)


def test_a_configured_proxy_comes_before_that_of_the_environment(proxy, serve):
    configured, new_client = serve(http_answer()), client()
    send("http://agents.invalid", client=new_client, proxy=configured.url)
    assert (len(configured.requests), len(proxy.requests)) == (1, 0)


def test_a_closable_client_uses_the_proxy_of_the_environment(proxy):
    send("http://agents.invalid", client=client().closable())
    assert len(proxy.requests) == 1


def test_the_ca_bundle_of_the_environment_is_used_unless_another_is_configured(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/environment.pem")
    for more, bundle in (({}, "/nowhere/environment.pem"),
                         ({"verify": "/nowhere/own.pem"}, "/nowhere/own.pem")):
        failure = failing("https://127.0.0.1:9", client=client(), **more)
        assert failure.cause == "configuration" and failure.evidence["sent"] is False
        assert bundle in failure.message and "ca_bundle" in failure.message


def test_no_credentials_are_taken_from_netrc(serve, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server = serve(http_answer())
    send(server.url, client=client())
    assert "Authorization" not in server.requests[0]
