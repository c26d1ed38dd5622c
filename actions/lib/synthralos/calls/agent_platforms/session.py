"""Requests to one platform that share a time limit, and how their responses are read."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from synthralos.calls.agent_platforms.protocol import CheckResult
from synthralos.calls.http import CallError, Client, Response
from synthralos.config.connection import Connection
from synthralos.config.platforms import Platform
from synthralos.core import bounded_json, evidence, failures
from synthralos.core.failures import Failure

MIN_SECONDS = 0.1


@dataclass(frozen=True)
class Reply:
    """A response and its JSON value; None where it is not JSON."""

    response: Response
    body: Any

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def succeeded(self) -> bool:
        return 200 <= self.response.status < 300


class Session:
    """Requests that share a limit.

    :param call_kind: of failures.CALL_KINDS, by which error statuses are read.
    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        client: Client,
        platform: Platform,
        seconds: float,
        call_kind: str = "agent",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._platform, self._call_kind = client, platform, call_kind
        self._clock, self._ends_at = clock, clock() + seconds
        self.latency = 0.0

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Optional[Mapping[str, str]] = None,
        connection: Optional[Connection] = None,
    ) -> Reply:
        """Send a request and return the Reply, whatever its status.

        :param connection: default: the platform's.
        :raises CallError: there is no response in time.
        """
        response = self._client.request(
            connection or self._platform.connection,
            method,
            path,
            max(MIN_SECONDS, self._ends_at - self._clock()),
            body=body,
            headers=headers,
            authorize=authorize(self._platform),
        )
        self.latency += response.latency
        try:
            return Reply(response, bounded_json.loads(response.text))
        except ValueError:
            return Reply(response, None)

    def failure_of(self, reply: Reply) -> Failure:
        """Return the failure of a reply with an error status."""
        failure: Failure = self._client.failure_of(reply.response, self._call_kind)
        return failure

    def require(self, reply: Reply, kind: type = dict) -> Any:
        """Return the JSON value of a reply.

        :raises CallError: its status is an error, or it is not a value of this kind.
        """
        if not reply.succeeded:
            raise CallError(self.failure_of(reply))
        if not isinstance(reply.body, kind):
            raise CallError(malformed(reply))
        return reply.body


def authorize(platform: Platform) -> Optional[Callable[[str], dict[str, str]]]:
    """Return secret -> headers for a platform; None for a bearer token."""
    header = platform.token_header
    if header is None:
        return None
    return lambda secret: {str(header): secret}


def malformed(reply: Reply, message: str = "") -> Failure:
    """Return the failure of a success that has not the API's form."""
    if evidence.read(reply.response.text).is_html:
        page = "the response is a web page instead of JSON"
        return failures.make_failure("wrong_address", page, reply.status)
    message = message or "the platform's response does not have the form of its API"
    return failures.make_failure("malformed_answer", message, reply.status)


def check_reply(
    reply: Reply, connection: Connection, path: str, secret: str = "token"
) -> CheckResult:
    """Return what the response to a check says.

    :param secret: the configuration entry of the credential.
    """
    details = "answered %d in %d ms" % (reply.status, int(reply.response.latency * 1000))
    if reply.status in (401, 403):
        return CheckResult(False, details, "Set %s or %s_from" % (secret, secret))
    if not reply.succeeded:
        hint = "Check base_url: %s%s" % (connection.base_url, path)
        return CheckResult(False, details, hint, is_up=reply.status < 500)
    return CheckResult(True, details)
