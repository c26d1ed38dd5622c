"""HTTP calls under a time limit, and the classification of their failures."""

import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict, Union

from synthralos.core import bounded_json, failures
from synthralos.core.header_values import find_header_fault
from synthralos.telemetry import tracing

if TYPE_CHECKING:
    from types import FrameType

    import requests

    from synthralos.calls.aws_signing import AwsCredentials
    from synthralos.calls.budget_guard import BudgetGuard
    from synthralos.calls.closable import ClosableClient
    from synthralos.config.connection import Connection
    from synthralos.telemetry.llm_pricing import LlmCall

MAX_RESPONSE_BYTES = 20 * 1024 * 1024
USER_AGENT = "synthralos"
# What requests decompresses; other encodings only where a library for them is installed.
_DECODED = ("gzip", "x-gzip", "deflate", "identity")
_GZIP_MAGIC = b"\x1f\x8b"
# zlib's number for a gzip header.
_GZIP_WINDOW = 31

# What a connection needs beside its address: the secret, and headers. The secret of a connection
# with `signing` are AwsCredentials.
Resolved = tuple[Union[str, "AwsCredentials", None], Mapping[str, str]]
# (connection, whether to read them again) -> its credentials.
CredentialsReader = Callable[["Connection", bool], Resolved]
# (secret) -> the headers that carry it.
Authorize = Callable[[str], Mapping[str, str]]
# (seconds) -> a block that may take so long.
_Limit = Callable[[float], contextlib.AbstractContextManager[None]]


class _Surroundings(TypedDict):
    """The proxies of a connection by scheme, and how its certificate is verified."""

    proxies: dict[str, str]
    verify: Union[bool, str]


class CallError(Exception):
    """A call that did not return the requested result; `.failure` is the reason."""

    def __init__(self, failure: failures.Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


class CallNotMade(CallError):
    """A call that the pack itself did not make."""


@dataclass(frozen=True)
class Response:
    """A response, whatever its status.

    :ivar headers: with names in lower case.
    :ivar text: the body.
    :ivar latency: seconds.
    """

    status: int
    headers: dict[str, str]
    text: str
    latency: float

    def json(self) -> Any:
        """Return the body as JSON.

        :raises CallError: it is not JSON (`malformed_answer`).
        """
        try:
            return bounded_json.loads(self.text)
        except ValueError as error:
            message = "the answer is not JSON"
            encoding = self.headers.get("content-encoding", "").strip().lower()
            if encoding and encoding not in _DECODED:
                # It was not asked for, and nobody here can read it.
                message = "the answer is compressed (%s)" % encoding[:40]
            raise CallError(
                failures.make_failure("malformed_answer", message, status=self.status)
            ) from error


class Client:
    """Sends requests over connections from the settings.

    :param credentials: resolves the `*_from` entries of a connection.
    :param now: a callable that returns seconds since the epoch.
    :ivar llm_calls: the LLM calls made with it; the code that counts them clears it.
    :ivar guard: None if LLM calls have no budget.
    :param own_process: whether the process exists for these calls only, as an action's does. Then a
        timer signal limits each call as a whole. In another program, whose timer and signal
        handler that would replace, only each read is limited.
    """

    def __init__(
        self,
        credentials: CredentialsReader,
        now: Callable[[], float] = time.time,
        session: "Optional[requests.Session]" = None,
        own_process: bool = False,
    ) -> None:
        self._credentials, self._now, self._session = credentials, now, session
        self._limit: _Limit = _hard_timeout if own_process else _no_limit
        self._surroundings: dict[object, _Surroundings] = {}
        self.llm_calls: list[LlmCall] = []
        self.guard: Optional[BudgetGuard] = None

    def request(
        self,
        connection: "Connection",
        method: str,
        path: str,
        seconds: float,
        body: Any = None,
        headers: Optional[Mapping[str, str]] = None,
        authorize: Optional[Authorize] = None,
    ) -> Response:
        """Send a request and return its Response, whatever its status.

        :param seconds: the limit of the whole call, connecting and reading included; without
            `own_process` it is checked after each read.
        :param body: a JSON value; bytes, which are sent as they are; or None.
        :param authorize: default: a bearer token.
        :raises CallError: timeout, network, truncated_stream, configuration.
        """
        credentials = self._credentials(connection, False)
        response = self._send_once(
            connection, method, path, seconds, body, headers, authorize, credentials
        )
        if response.status in _renewal_statuses(connection):
            # An expired token may have been replaced in the datastore by the job that renews it.
            fresh = self._credentials(connection, True)
            seconds_left = seconds - response.latency
            if fresh != credentials and seconds_left > 0:
                response = self._send_once(
                    connection, method, path, seconds_left, body, headers, authorize, fresh
                )
        return response

    def closable(self) -> "ClosableClient":
        """Return a client for one call in another thread, which its `close` ends from any thread.

        It shares the credentials and the clock, but neither the session nor the list of calls.
        """
        from synthralos.calls.closable import ClosableClient

        return ClosableClient(self._credentials, self._now)

    @contextlib.contextmanager
    def stream(
        self, connection: "Connection", path: str, seconds: float, headers: Mapping[str, str]
    ) -> "Iterator[requests.Response]":
        """Send a GET and yield its response, whose body has not been read yet.

        :param seconds: the limit of each read, including those in the block.
        :raises CallError: timeout, network, truncated_stream, configuration; also in the block.
        """
        with _translate_errors(seconds):
            credentials = self._credentials(connection, False)
            response = self._open(connection, path, seconds, headers, credentials)
            if response.status_code in _renewal_statuses(connection):
                response.close()
                fresh = self._credentials(connection, True)
                response = self._open(connection, path, seconds, headers, fresh)
            with contextlib.closing(response):
                yield response

    def _open(
        self,
        connection: "Connection",
        path: str,
        seconds: float,
        headers: Mapping[str, str],
        credentials: Resolved,
    ) -> "requests.Response":
        sent = _headers(connection, credentials, headers, None)
        return self._response(connection, "GET", path, seconds, None, sent, credentials[0])

    def _send_once(
        self,
        connection: "Connection",
        method: str,
        path: str,
        seconds: float,
        body: Any,
        headers: Optional[Mapping[str, str]],
        authorize: Optional[Authorize],
        credentials: Resolved,
    ) -> Response:
        sent = _with_trace_headers(_headers(connection, credentials, headers, authorize))
        data = body if isinstance(body, bytes) else None
        if body is not None and data is None:
            # ensure_ascii keeps lone surrogates as escapes, which UTF-8 could not carry.
            data = json.dumps(body).encode("ascii")
            if not any(name.lower() == "content-type" for name in sent):
                sent["Content-Type"] = "application/json"
        return self._request(connection, method, path, seconds, data, sent, credentials[0])

    def _request(
        self,
        connection: "Connection",
        method: str,
        path: str,
        seconds: float,
        data: Optional[bytes],
        headers: dict[str, str],
        secret: "Union[str, AwsCredentials, None]",
    ) -> Response:
        started_at = time.monotonic()
        with _translate_errors(seconds), self._limit(seconds):
            response = self._response(connection, method, path, seconds, data, headers, secret)
            with contextlib.closing(response):
                raw = _read_body(response, started_at, seconds)
        latency = time.monotonic() - started_at
        tracing.set_attributes({"http.response.status_code": response.status_code})
        received = lower_case(response.headers)
        return Response(response.status_code, received, _text(raw, received), latency)

    def _response(
        self,
        connection: "Connection",
        method: str,
        path: str,
        seconds: float,
        data: Optional[bytes],
        headers: dict[str, str],
        secret: "Union[str, AwsCredentials, None]",
    ) -> "requests.Response":
        return self._requests_session().request(
            method,
            connection.base_url + path,
            data=data,
            headers=headers,
            timeout=(min(connection.connect_timeout, seconds), seconds),
            auth=_auth(connection, secret),
            # A redirect would carry the credentials to an address that is not configured.
            allow_redirects=False,
            stream=True,
            **self._surroundings_of(connection)
        )

    def _surroundings_of(self, connection: "Connection") -> _Surroundings:
        """Return the proxies and the CA bundle of a connection: its own, or the environment's.

        requests would read the whole environment twice for each request, a fifth of the time of a
        request to this host.
        """
        key = (connection.base_url, connection.proxy, connection.verify)
        if key not in self._surroundings:
            import requests

            settings = requests.Session().merge_environment_settings(
                connection.base_url, _proxies(connection.proxy), True, connection.verify, None
            )
            self._surroundings[key] = {
                "proxies": settings["proxies"], "verify": settings["verify"]
            }
        return self._surroundings[key]

    def _requests_session(self) -> "requests.Session":
        if self._session is None:
            import requests

            self._session = requests.Session()
            # See _surroundings_of.
            self._session.trust_env = False
        return self._session

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._now()

    def failure_of(self, response: Response, call_kind: str) -> failures.Failure:
        """Return the failure of a response with an error status; `call_kind` as in from_http."""
        return failures.from_http(
            response.status, response.headers, response.text, self._now(), call_kind
        )


def lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def _headers(
    connection: "Connection",
    credentials: Resolved,
    headers: Optional[Mapping[str, str]],
    authorize: Optional[Authorize],
) -> dict[str, str]:
    """Return the headers of a request.

    :raises CallError: a value that the configuration or the datastore holds cannot be a header's
        (`configuration`); names its entry and its key, never the value.
    """
    secret, extra_headers = credentials
    _check_secrets(connection, secret, extra_headers)
    sent = {"User-Agent": USER_AGENT, "Accept": "application/json"}
    sent.update(connection.headers)
    sent.update(extra_headers)
    if isinstance(secret, str) and secret and connection.signing is None:
        sent.update((authorize or _bearer)(secret))
    sent.update(headers or {})
    return sent


def _check_secrets(
    connection: "Connection",
    secret: "Union[str, AwsCredentials, None]",
    extra_headers: Mapping[str, str],
) -> None:
    entry = connection.secret_path
    if connection.secret_from:
        entry = "%s_from: %s" % (entry, connection.secret_from)
    values: list[tuple[str, str]] = []
    # Credentials that sign are no value of a header.
    if isinstance(secret, str) and connection.signing is None:
        values.append((entry, secret))
    for name, value in extra_headers.items():
        values.append(("headers_from: %s, %s" % (connection.headers_from, name), value))
    for name, value in connection.headers.items():
        values.append(("headers: %s" % name, value))
    for entry, value in values:
        fault = find_header_fault(str(value))
        if fault is not None:
            message = "the value of `%s` %s, so it cannot be sent in a header" % (entry, fault)
            failure = failures.make_failure("configuration", message)
            raise CallError(failures.with_evidence(failure, sent=False))


def _with_trace_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `headers` with those of the trace, which replace the caller's: these name its span."""
    trace_headers = tracing.headers()
    caller_headers = {
        name: value for name, value in headers.items() if name.lower() not in trace_headers
    }
    return dict(caller_headers, **trace_headers)


def _renewal_statuses(connection: "Connection") -> tuple[int, ...]:
    """Return the statuses after which the credentials are read again: they may be renewed."""
    if connection.signing is not None:
        # AWS answers 403 when temporary credentials have expired.
        return (401, 403)
    return (401,) if connection.secret_from or connection.headers_from else ()


@contextlib.contextmanager
def _translate_errors(seconds: float) -> Iterator[None]:
    """Turn the exceptions of requests in the block into CallError."""
    import requests

    try:
        yield
    except requests.ConnectTimeout as error:
        raise CallError(
            failures.with_evidence(
                failures.make_failure("timeout", "no connection in time"), sent=False
            )
        ) from error
    except (requests.Timeout, _HardTimeout) as error:
        raise CallError(
            failures.make_failure("timeout", "no answer within %.1f s" % seconds)
        ) from error
    except requests.exceptions.InvalidURL as error:
        raise CallError(
            failures.make_failure("wrong_address", "the address is not valid")
        ) from error
    except requests.exceptions.InvalidHeader as error:
        raise CallError(
            failures.make_failure("configuration", "a header is not valid")
        ) from error
    except requests.RequestException as error:
        raise CallError(_classify_network_error(error)) from error
    except OSError as error:
        # requests looks for the CA bundle before it connects.
        message = "%s; set ca_bundle to an existing file" % error
        raise CallError(
            failures.with_evidence(failures.make_failure("configuration", message), sent=False)
        ) from error
    except UnicodeError as error:
        raise CallError(
            failures.make_failure(
                "configuration", "a header contains characters that HTTP cannot carry"
            )
        ) from error


def _auth(
    connection: "Connection", secret: "Union[str, AwsCredentials, None]"
) -> "Callable[[requests.PreparedRequest], requests.PreparedRequest]":
    """Return what requests does to a prepared request: signs it, or nothing."""
    if connection.signing is None:
        # Without it requests would use the credentials of the host's .netrc.
        return _no_auth
    from synthralos.calls.aws_signing import AwsCredentials, Signer

    assert isinstance(secret, AwsCredentials)
    return Signer(secret, connection.signing)


def _no_auth(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    return request


def _bearer(secret: str) -> dict[str, str]:
    return {"Authorization": "Bearer " + secret}


def _text(raw: bytes, headers: Mapping[str, str]) -> str:
    """Return the text of a body.

    JSON is UTF-8 or says otherwise by its first bytes (RFC 8259, section 8.1; RFC 4627, section 3);
    the declared charset counts for what is not valid by these.
    """
    if raw[:2] == _GZIP_MAGIC:
        raw = _gunzip(raw)
    match = re.search(r"(?i)charset=[\"']?([\w.-]+)", headers.get("content-type", ""))
    for charset in (json.detect_encoding(raw), match.group(1) if match else "utf-8"):
        try:
            return raw.decode(charset)
        except (LookupError, UnicodeError):
            continue
    return raw.decode("utf-8", "replace")


def _gunzip(raw: bytes) -> bytes:
    """Return the content of a body that a proxy compressed without saying so."""
    import zlib

    try:
        return zlib.decompressobj(_GZIP_WINDOW).decompress(raw, MAX_RESPONSE_BYTES)
    except zlib.error:
        return raw


def _proxies(proxy: Optional[str]) -> dict[str, str]:
    return {"http": proxy, "https": proxy} if proxy else {}


def _read_body(response: "requests.Response", started_at: float, seconds: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_content(64 * 1024):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_RESPONSE_BYTES:
            raise CallError(
                failures.make_failure(
                    "malformed_answer", "the answer is larger than %d bytes" % MAX_RESPONSE_BYTES
                )
            )
        if time.monotonic() - started_at > seconds:
            raise _HardTimeout()
    content_length = response.headers.get("Content-Length", "")
    # urllib3 before 2.0 does not notice a body that ends early.
    if (
        content_length.isdigit() and
        response.request.method != "HEAD" and
        response.raw.tell() < int(content_length)
    ):
        raise CallError(
            failures.make_failure(
                "truncated_stream", "the answer was truncated", status=response.status_code
            )
        )
    return b"".join(chunks)


def _classify_network_error(error: "requests.RequestException") -> failures.Failure:
    import requests

    error_text = str(error)
    if (
        isinstance(error, requests.exceptions.ChunkedEncodingError) or
        "IncompleteRead" in error_text
    ):
        return failures.make_failure("truncated_stream", "the answer was truncated")
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return failures.make_failure("malformed_answer", "the answer could not be decompressed")
    if isinstance(error, requests.exceptions.SSLError):
        return failures.with_evidence(
            failures.make_failure("wrong_address", "TLS failed; a private CA needs `ca_bundle`"),
            sent=False,
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return failures.make_failure(
            "network", "the proxy refused the connection or is unavailable"
        )
    if "NewConnectionError" in error_text or "NameResolutionError" in error_text:
        return failures.with_evidence(failures.make_failure("network", "no connection"), sent=False)
    return failures.make_failure("network", "the connection was closed without an answer")


class _HardTimeout(Exception):
    pass


def _no_limit(seconds: float) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def _hard_timeout(seconds: float) -> Iterator[None]:
    """End the block after `seconds`, whatever it waits for.

    The limits of requests are per read: a server that sends a byte now and then could keep the call
    open forever. An action's process calls from its main thread, where a timer signal can end it;
    in other threads only the limit per read applies.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(signum: int, frame: "Optional[FrameType]") -> None:
        raise _HardTimeout()

    previous_handler = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
