"""StackStorm's REST API as the pack needs it: executions, keys and triggers.

Plain requests and not st2client: st2client's calls have no time limit, and a run must not hang on
an API that is slow. The address and the token come from whoever has them: an action from its
environment, a sensor from its service.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from urllib.parse import quote

from synthralos.core.timestamps import parse_iso
from synthralos.storage.datastore import PAGE_SIZE, DatastoreUnavailable, KeyInfo

TIMEOUT_SECONDS = 2.0
READ_EXECUTION_SECONDS = 10.0
POLL_SECONDS = 1.0
ENDED = ("succeeded", "failed", "timeout", "canceled", "abandoned")
_EXECUTION = "parameters,trigger_instance,start_timestamp,action.parameters,action.ref,context,rule"
_OBJECT_ID = re.compile(r"[0-9a-f]{24}\Z")


class StackStormError(Exception):
    """StackStorm's API did not answer, or refused.

    :ivar refused: whether it answered; else what was asked for may have happened.
    """

    refused = False


class ExecutionNotFound(StackStormError):
    """There is no such execution, or none any more."""

    refused = True


class Api:
    """:param url: the API's address, up to and with `/v1`; verify: True, False, or a CA bundle.
    :param key_seconds: the time limit of a call to the datastore.
    """

    def __init__(self, url, token=None, session=None, verify=True, key_seconds=TIMEOUT_SECONDS):
        if session is None:
            import requests

            session = requests.Session()
            # Loopback and cluster addresses: a proxy or a .netrc of the host has no say here.
            session.trust_env = False
            session.verify = verify
        self._url, self._session = url.rstrip("/"), session
        self._key_seconds = key_seconds
        self._headers = {"X-Auth-Token": token} if token else {}

    def execution(self, execution_id, attributes=_EXECUTION):
        """The execution as StackStorm holds it: parameters as given, defaults, trigger, start."""
        path = "/executions/" + quote(execution_id, safe="")
        answer = self._call(
            "GET", path, READ_EXECUTION_SECONDS, params={"include_attributes": attributes}
        )
        if answer.status_code == 404:
            raise ExecutionNotFound("there is no execution %s" % execution_id)
        return self._json(answer)

    def children(self, execution_id, attributes):
        """The executions that a workflow has started, in the order of their start."""
        params = {"parent": execution_id, "limit": PAGE_SIZE, "include_attributes": attributes}
        rows = self._json(self._call("GET", "/executions", READ_EXECUTION_SECONDS, params=params))
        with _understood(StackStormError):
            return sorted(rows, key=lambda row: row["start_timestamp"])

    def executions(self, attributes, **filters):
        """At most PAGE executions; filters: action, status, timestamp_gt, sort_asc, offset ..."""
        params = dict(filters, limit=PAGE_SIZE, include_attributes=attributes)
        return self._json(self._call("GET", "/executions", READ_EXECUTION_SECONDS, params=params))

    def set_status(self, execution_id, status, result=None):
        """Gives an execution that has not ended another status: abandoned, timeout, canceled or
        resuming.

        :returns: False when it has ended meanwhile.
        """
        body = {"status": status}
        if result is not None:
            body["result"] = result
        path = "/executions/" + quote(execution_id, safe="")
        answer = self._call("PUT", path, READ_EXECUTION_SECONDS, json=body)
        if answer.status_code in (400, 404):
            return False
        self._json(answer)
        return True

    def cancel(self, execution_id):
        """Asks for the end of an execution; False when it has ended meanwhile."""
        path = "/executions/" + quote(execution_id, safe="")
        answer = self._call("DELETE", path, READ_EXECUTION_SECONDS)
        if answer.status_code in (200, 400, 404):
            return answer.status_code == 200
        self._json(answer)
        return True

    def inquiries(self, offset=0):
        """The approvals that are asked for: [{id, schema, ttl, users, roles}], at most PAGE."""
        params = {"limit": PAGE_SIZE, "offset": offset}
        return self._json(
            self._call("GET", "/inquiries", READ_EXECUTION_SECONDS, params=params)
        )

    def respond(self, inquiry_id, response):
        """Answers an inquiry. Raises StackStormError: StackStorm did not take the answer."""
        path = "/inquiries/" + quote(inquiry_id, safe="")
        body = {"id": inquiry_id, "response": response}
        self._json(self._call("PUT", path, READ_EXECUTION_SECONDS, json=body))

    def action(self, ref):
        """The metadata of the action `pack.action`, or None when there is none."""
        answer = self._call("GET", "/actions/" + quote(ref, safe=""), TIMEOUT_SECONDS)
        return None if answer.status_code == 404 else self._json(answer)

    def start(self, action, parameters):
        """Requests an execution of `action`, such as `pack.action`, and returns its id."""
        body = {"action": action, "parameters": parameters}
        told = self._json(self._call("POST", "/executions", READ_EXECUTION_SECONDS, json=body))
        if not isinstance(told, dict) or not isinstance(told.get("id"), str):
            raise StackStormError("StackStorm's API named no execution of %s" % action)
        return told["id"]

    def wait(self, execution_id, seconds, sleep=time.sleep, now=time.monotonic):
        """The execution once it has ended: id, status, one of ENDED, and result.

        :raises StackStormError: it has not ended within `seconds`; it goes on.
        """
        until = now() + seconds
        while True:
            execution = self.execution(execution_id, "status,result")
            if execution.get("status") in ENDED:
                return execution
            if now() >= until:
                raise StackStormError(
                    "execution %s has not ended within %d s" % (execution_id, seconds)
                )
            sleep(POLL_SECONDS)

    def fire(self, trigger, payload):
        """Dispatches a trigger instance; `payload` is a JSON object of ids, enums and numbers."""
        answer = self._call(
            "POST", "/webhooks/st2", TIMEOUT_SECONDS, json={"trigger": trigger, "payload": payload}
        )
        self._json(answer)

    def get(self, name, decrypt=False):
        params = {"decrypt": "true"} if decrypt else None
        answer = self._key("GET", name, params=params)
        if answer.status_code == 404:
            return None
        row = self._json(answer, DatastoreUnavailable)
        with _understood(DatastoreUnavailable):
            return row["value"]

    def put(self, name, value, ttl=None):
        body = {"name": name, "value": value}
        if ttl is not None:
            body["ttl"] = int(ttl)
        self._json(self._key("PUT", name, json=body), DatastoreUnavailable)

    def list(self, prefix, limit=PAGE_SIZE, offset=0):
        # Without `sort` StackStorm promises no order, and the newest might be missing from a page.
        params = {"prefix": prefix, "sort": "-name", "limit": limit, "offset": offset}
        rows = self._json(
            self._call("GET", "/keys", self._key_seconds, DatastoreUnavailable, params=params),
            DatastoreUnavailable,
        )
        with _understood(DatastoreUnavailable):
            return [(row["name"], row["value"]) for row in rows]

    def list_keys(self, prefix, limit=PAGE_SIZE, offset=0):
        """As `list`, without the values: [datastore.Fact]."""
        params = {"prefix": prefix, "sort": "-name", "limit": limit, "offset": offset}
        rows = self._json(
            self._call("GET", "/keys", self._key_seconds, DatastoreUnavailable, params=params),
            DatastoreUnavailable,
        )
        with _understood(DatastoreUnavailable):
            return [
                KeyInfo(
                    row["name"], len(row["value"].encode("utf-8", "surrogatepass")),
                    parse_iso(row.get("expire_timestamp")), _created_at(row.get("id")),
                )
                for row in rows
            ]

    def delete(self, name):
        answer = self._key("DELETE", name)
        if answer.status_code == 404:
            return False
        if answer.status_code >= 400:
            raise DatastoreUnavailable("StackStorm's datastore answered %d" % answer.status_code)
        return True

    def _key(self, method, name, **options):
        return self._call(
            method,
            "/keys/" + quote(name, safe=""),
            self._key_seconds,
            DatastoreUnavailable,
            **options,
        )

    def _call(self, method, path, seconds, error_class=StackStormError, **options):
        import requests

        try:
            return self._session.request(
                method, self._url + path, headers=self._headers, timeout=seconds, **options
            )
        except requests.RequestException as error:
            raise error_class("StackStorm's API is away: %s" % type(error).__name__) from error
        except UnicodeError as error:
            # Of the token or the address: whatever else a request has is ASCII.
            told = "StackStorm's API cannot be asked: %s" % type(error).__name__
            raise error_class(told) from error

    @staticmethod
    def _json(answer, error_class=StackStormError):
        if answer.status_code >= 400:
            what = "forbade it" if answer.status_code in (401, 403) else "answered"
            error = error_class("StackStorm's API %s (%d)" % (what, answer.status_code))
            error.refused = True
            raise error
        try:
            return answer.json()
        except ValueError as error:
            raise error_class("StackStorm's API answered no JSON") from error


@contextlib.contextmanager
def _understood(error_class: type[Exception]) -> Iterator[None]:
    """Raise `error_class` where the response that the block reads has another form than it should.

    The block holds nothing else: a defect of ours must not be told as StackStorm's.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = "unexpected response from StackStorm's API (%s)" % type(error).__name__
        raise error_class(why) from error


def _created_at(key_id):
    """When the key with that id, MongoDB's, was first written; None where it does not say."""
    return int(key_id[:8], 16) if isinstance(key_id, str) and _OBJECT_ID.match(key_id) else None
