"""A client of StackStorm's REST API: executions, keys and triggers.

It uses requests and not st2client, because st2client's calls have no time limit, and a run must not
hang on a slow API. The caller passes the address and the token: an action has them in its
environment, a sensor in its service.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable, Optional, Union
from urllib.parse import quote

from synthralos.core.timestamps import parse_iso
from synthralos.storage.datastore import (
    PAGE_SIZE,
    DatastoreUnavailable,
    KeyInfo,
    Keys,
    Rows,
)

if TYPE_CHECKING:
    import requests

TIMEOUT_SECONDS = 2.0
READ_EXECUTION_SECONDS = 10.0
POLL_SECONDS = 1.0
ENDED = ("succeeded", "failed", "timeout", "canceled", "abandoned")
_EXECUTION = "parameters,trigger_instance,start_timestamp,action.parameters,action.ref,context,rule"
_OBJECT_ID = re.compile(r"[0-9a-f]{24}\Z")

# What StackStorm returns: an object of its API, of which a request may name the attributes.
Row = dict[str, Any]
Page = list[Row]


class StackStormError(Exception):
    """StackStorm's API did not respond, or refused.

    :ivar refused: whether it responded; if not, the request may have been carried out.
    """

    refused = False


class ExecutionNotFound(StackStormError):
    """The execution does not exist, or no longer does."""

    refused = True


def has_ended(api: "Api", execution_id: str) -> bool:
    """Return whether an execution has ended; one that does not exist any more has.

    :raises StackStormError: StackStorm is unavailable, so that nobody knows.
    """
    try:
        return api.execution(execution_id, "status").get("status") in ENDED
    except ExecutionNotFound:
        return True


class Api:
    """StackStorm's API, also as a Datastore.

    Methods raise StackStormError when the API does not respond or refuses; the datastore's methods
    raise DatastoreUnavailable.

    :param url: the API's address, up to and including `/v1`.
    :param verify: True, False, or a CA bundle.
    :param key_seconds: the time limit of a call to the datastore.
    """

    def __init__(
        self,
        url: str,
        token: Optional[str] = None,
        session: "Optional[requests.Session]" = None,
        verify: Union[bool, str] = True,
        key_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        if session is None:
            import requests

            session = requests.Session()
            # Loopback and cluster addresses: the host's proxy and .netrc must not apply.
            session.trust_env = False
            session.verify = verify
        self._url, self._session = url.rstrip("/"), session
        self._key_seconds = key_seconds
        self._headers = {"X-Auth-Token": token} if token else {}

    def execution(self, execution_id: str, attributes: str = _EXECUTION) -> Row:
        """Return the execution: its parameters, the action's defaults, trigger, start.

        :raises ExecutionNotFound: it does not exist.
        """
        path = "/executions/" + quote(execution_id, safe="")
        response = self._call(
            "GET", path, READ_EXECUTION_SECONDS, params={"include_attributes": attributes}
        )
        if response.status_code == 404:
            raise ExecutionNotFound("execution %s does not exist" % execution_id)
        return _row(self._json(response))

    def children(self, execution_id: str, attributes: str) -> Page:
        """Return the executions that a workflow has started, in the order of their start."""
        params = {"parent": execution_id, "limit": PAGE_SIZE, "include_attributes": attributes}
        rows = _page(
            self._json(self._call("GET", "/executions", READ_EXECUTION_SECONDS, params=params))
        )
        with _expected_form(StackStormError):
            return sorted(rows, key=lambda row: row["start_timestamp"])

    def executions(self, attributes: str, **filters: Union[str, int]) -> Page:
        """Return a page of executions.

        :param filters: action, status, timestamp_gt, sort_asc, offset ...
        """
        params = dict(filters, limit=PAGE_SIZE, include_attributes=attributes)
        return _page(
            self._json(self._call("GET", "/executions", READ_EXECUTION_SECONDS, params=params))
        )

    def set_status(
        self, execution_id: str, status: str, result: Optional[Mapping[str, Any]] = None
    ) -> bool:
        """Set the status of an execution that has not ended.

        :param status: abandoned, timeout, canceled or resuming.
        :returns: False if it has ended in the meantime.
        """
        body: dict[str, Any] = {"status": status}
        if result is not None:
            body["result"] = result
        path = "/executions/" + quote(execution_id, safe="")
        response = self._call("PUT", path, READ_EXECUTION_SECONDS, json=body)
        if response.status_code in (400, 404):
            return False
        self._json(response)
        return True

    def cancel(self, execution_id: str) -> bool:
        """Cancel an execution. Return False if it has ended in the meantime."""
        path = "/executions/" + quote(execution_id, safe="")
        response = self._call("DELETE", path, READ_EXECUTION_SECONDS)
        if response.status_code in (200, 400, 404):
            return response.status_code == 200
        self._json(response)
        return True

    def inquiries(self, offset: int = 0) -> Page:
        """Return a page of the open inquiries: [{id, schema, ttl, users, roles}]."""
        params = {"limit": PAGE_SIZE, "offset": offset}
        return _page(
            self._json(self._call("GET", "/inquiries", READ_EXECUTION_SECONDS, params=params))
        )

    def respond(self, inquiry_id: str, response: Mapping[str, Any]) -> None:
        """Respond to an inquiry."""
        path = "/inquiries/" + quote(inquiry_id, safe="")
        body = {"id": inquiry_id, "response": response}
        self._json(self._call("PUT", path, READ_EXECUTION_SECONDS, json=body))

    def action(self, ref: str) -> Optional[Row]:
        """Return the metadata of the action `pack.action`, or None if it does not exist."""
        response = self._call("GET", "/actions/" + quote(ref, safe=""), TIMEOUT_SECONDS)
        return None if response.status_code == 404 else _row(self._json(response))

    def runner_parameters(self, runner: str) -> Optional[dict[str, Any]]:
        """Return {name: schema} of the parameters that a runner adds to its actions, or None if it
        does not exist, or the user may not see it.
        """
        path = "/runnertypes/" + quote(runner, safe="")
        response = self._call("GET", path, TIMEOUT_SECONDS)
        if response.status_code in (403, 404):
            return None
        return _row(self._json(response)).get("runner_parameters") or {}

    def start(self, action: str, parameters: Mapping[str, Any]) -> str:
        """Request an execution of `action`, such as `pack.action`, and return its id."""
        body = {"action": action, "parameters": parameters}
        return self._start("/executions", body, "starting %s" % action)

    def re_run(self, execution_id: str, parameters: Mapping[str, Any]) -> str:
        """Request an execution again, and return the id of the new one.

        :param parameters: in place of those that it had under these names; it keeps the others.
        """
        path = "/executions/%s/re_run" % quote(execution_id, safe="")
        return self._start(path, {"parameters": parameters}, "running %s again" % execution_id)

    def _start(self, path: str, body: Mapping[str, Any], purpose: str) -> str:
        execution = self._json(self._call("POST", path, READ_EXECUTION_SECONDS, json=body))
        if not isinstance(execution, dict) or not isinstance(execution.get("id"), str):
            raise StackStormError("StackStorm's API returned no execution ID when %s" % purpose)
        return str(execution["id"])

    def wait(
        self,
        execution_id: str,
        seconds: float,
        sleep: Callable[[float], object] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> Row:
        """Wait for the end of an execution and return it: id, status (one of ENDED), result.

        :raises StackStormError: it has not ended within `seconds`; it is still running.
        """
        deadline = now() + seconds
        while True:
            execution = self.execution(execution_id, "status,result")
            if execution.get("status") in ENDED:
                return execution
            if now() >= deadline:
                raise StackStormError(
                    "execution %s has not ended within %d s" % (execution_id, seconds)
                )
            sleep(POLL_SECONDS)

    def fire(self, trigger: str, payload: Mapping[str, Any]) -> None:
        """Dispatch a trigger instance; `payload` is a JSON object of ids, enums and numbers."""
        response = self._call(
            "POST", "/webhooks/st2", TIMEOUT_SECONDS, json={"trigger": trigger, "payload": payload}
        )
        self._json(response)

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        params = {"decrypt": "true"} if decrypt else None
        response = self._key("GET", name, params=params)
        if response.status_code == 404:
            return None
        row = self._json(response, DatastoreUnavailable)
        with _expected_form(DatastoreUnavailable):
            value: Optional[str] = row["value"]
        return value

    def put(self, name: str, value: str, ttl: Optional[int] = None) -> Optional[str]:
        body: dict[str, Any] = {"name": name, "value": value}
        if ttl is not None:
            body["ttl"] = int(ttl)
        self._json(self._key("PUT", name, json=body), DatastoreUnavailable)
        return None

    def list(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Rows:
        # Without `sort` StackStorm does not guarantee an order, and a page might lack the newest.
        params = {"prefix": prefix, "sort": "-name", "limit": limit, "offset": offset}
        rows = self._json(
            self._call("GET", "/keys", self._key_seconds, DatastoreUnavailable, params=params),
            DatastoreUnavailable,
        )
        with _expected_form(DatastoreUnavailable):
            return [(row["name"], row["value"]) for row in rows]

    def list_keys(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Keys:
        """Like `list`, without the values."""
        params = {"prefix": prefix, "sort": "-name", "limit": limit, "offset": offset}
        rows = self._json(
            self._call("GET", "/keys", self._key_seconds, DatastoreUnavailable, params=params),
            DatastoreUnavailable,
        )
        with _expected_form(DatastoreUnavailable):
            return [
                KeyInfo(
                    row["name"], len(row["value"].encode("utf-8", "surrogatepass")),
                    parse_iso(row.get("expire_timestamp")), _created_at(row.get("id")),
                )
                for row in rows
            ]

    def delete(self, name: str) -> bool:
        response = self._key("DELETE", name)
        if response.status_code == 404:
            return False
        if response.status_code >= 400:
            raise DatastoreUnavailable("StackStorm's datastore returned %d" % response.status_code)
        return True

    def _key(self, method: str, name: str, **options: Any) -> "requests.Response":
        return self._call(
            method,
            "/keys/" + quote(name, safe=""),
            self._key_seconds,
            DatastoreUnavailable,
            **options,
        )

    def _call(
        self,
        method: str,
        path: str,
        seconds: float,
        error_class: type[Exception] = StackStormError,
        **options: Any,
    ) -> "requests.Response":
        import requests

        try:
            return self._session.request(
                method, self._url + path, headers=self._headers, timeout=seconds, **options
            )
        except requests.RequestException as error:
            message = "StackStorm's API is unavailable: %s" % type(error).__name__
            raise error_class(message) from error
        except UnicodeError as error:
            # The token or the address: everything else in a request is ASCII.
            message = "StackStorm's API cannot be called: %s" % type(error).__name__
            raise error_class(message) from error

    @staticmethod
    def _json(response: "requests.Response", error_class: type[Exception] = StackStormError) -> Any:
        if response.status_code >= 400:
            outcome = "denied access" if response.status_code in (401, 403) else "returned an error"
            error = error_class("StackStorm's API %s (%d)" % (outcome, response.status_code))
            if isinstance(error, StackStormError):
                error.refused = True
            raise error
        try:
            return response.json()
        except ValueError as error:
            raise error_class("StackStorm's API did not return JSON") from error


@contextlib.contextmanager
def _expected_form(error_class: type[Exception]) -> Iterator[None]:
    """Raise `error_class` if the response that the block reads has an unexpected form.

    The block contains nothing else: a defect of ours must not be reported as StackStorm's.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = "unexpected response from StackStorm's API (%s)" % type(error).__name__
        raise error_class(message) from error


def _row(value: Any) -> Row:
    if not isinstance(value, dict):
        raise _unexpected_form(value)
    return value


def _page(value: Any) -> Page:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise _unexpected_form(value)
    return value


def _unexpected_form(value: Any) -> StackStormError:
    message = "unexpected response from StackStorm's API (%s)" % type(value).__name__
    return StackStormError(message)


def _created_at(key_id: object) -> Optional[int]:
    """When the key with this MongoDB id was first written; None if the id does not contain it."""
    return int(key_id[:8], 16) if isinstance(key_id, str) and _OBJECT_ID.match(key_id) else None
