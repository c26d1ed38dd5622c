"""A2A on the wire: JSON-RPC and HTTP+JSON, in 1.0 and in 0.3.

Over JSON-RPC every failure is a success of HTTP, with a code; over HTTP+JSON it has a status, and
the same meaning as a reason.
"""

from collections.abc import Mapping
from typing import Any, Optional
from urllib.parse import quote, urlencode

from synthralos.calls.agent_platforms.a2a_card import Interface
from synthralos.calls.agent_platforms.agent_failures import agent_failure
from synthralos.calls.agent_platforms.session import Reply, Session, malformed
from synthralos.calls.http import CallError
from synthralos.core import evidence, failures
from synthralos.core.failures import Failure

VERSION_HEADER = "A2A-Version"
OUTPUT_MODES = ["text/plain", "application/json"]
SEND, GET, CANCEL, LIST = "send", "get", "cancel", "list"
LIST_PAGE = 50

_METHODS = {
    "1.0": {SEND: "SendMessage", GET: "GetTask", CANCEL: "CancelTask", LIST: "ListTasks"},
    "0.3": {SEND: "message/send", GET: "tasks/get", CANCEL: "tasks/cancel"},
}
# The specification, section 5.4: {code of JSON-RPC: reason of HTTP+JSON, cause}.
_ERRORS = {
    -32001: ("TASK_NOT_FOUND", "not_found"),
    -32002: ("TASK_NOT_CANCELABLE", "conflict"),
    -32003: ("PUSH_NOTIFICATION_NOT_SUPPORTED", "configuration"),
    -32004: ("UNSUPPORTED_OPERATION", "configuration"),
    -32005: ("CONTENT_TYPE_NOT_SUPPORTED", "bad_request"),
    -32006: ("INVALID_AGENT_RESPONSE", "malformed_answer"),
    -32007: ("EXTENDED_AGENT_CARD_NOT_CONFIGURED", "configuration"),
    -32008: ("EXTENSION_SUPPORT_REQUIRED", "configuration"),
    -32009: ("VERSION_NOT_SUPPORTED", "configuration"),
    -32700: ("", "bad_request"),
    -32600: ("", "bad_request"),
    -32601: ("", "wrong_address"),
    -32602: ("", "bad_request"),
}
_CODE_OF_REASON = {reason: code for code, (reason, _) in _ERRORS.items() if reason}
NOT_FOUND, NOT_CANCELABLE, UNSUPPORTED, NO_METHOD = -32001, -32002, -32004, -32601
# A gateway's own, whatever body it sends.
_STATUSES_OF_GATEWAYS = (401, 403, 407, 429, 502, 503, 504)


class A2AError(CallError):
    """An error that the agent's server named; `code` is the one of JSON-RPC."""

    def __init__(self, failure: Failure, code: int) -> None:
        super().__init__(failure)
        self.code = code


def call(session: Session, interface: Interface, operation: str, params: Mapping[str, Any]) -> Any:
    """Return the result of an operation.

    :param operation: SEND, with the parameters of `message_params`; GET or CANCEL, with `id`; LIST.
    :raises A2AError: the server named an error; CallError: there is no result.
    """
    if interface.binding == "JSONRPC":
        return _call_rpc(session, interface, operation, params)
    return _call_rest(session, interface, operation, params)


def message_params(
    interface: Interface, text: str, message_id: str, metadata: Mapping[str, Any], **ids: str
) -> dict[str, Any]:
    """Return the parameters of SEND for a text of the user; the call does not wait for the task.

    :param ids: contextId and taskId, where the message continues a task.
    """
    message: dict[str, Any] = dict(ids, messageId=message_id)
    if interface.version == "1.0":
        message.update(role="ROLE_USER", parts=[{"text": text}])
        configuration: dict[str, Any] = {"returnImmediately": True}
    elif interface.binding == "JSONRPC":
        message.update(kind="message", role="user", parts=[{"kind": "text", "text": text}])
        configuration = {"blocking": False}
    else:
        message.update(role="ROLE_USER", content=[{"text": text}])
        configuration = {"blocking": False}
    configuration["acceptedOutputModes"] = OUTPUT_MODES
    params: dict[str, Any] = {"message": message, "configuration": configuration}
    return dict(params, metadata=dict(metadata)) if metadata else params


def _call_rpc(
    session: Session, interface: Interface, operation: str, params: Mapping[str, Any]
) -> Any:
    method = _METHODS[interface.version].get(operation)
    if method is None:
        raise A2AError(failures.make_failure("configuration", "A2A 0.3 has no list"), UNSUPPORTED)
    if interface.tenant:
        params = dict(params, tenant=interface.tenant)
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)}
    reply = session.request("POST", "", body, _headers(interface), interface.connection)
    error = reply.body.get("error") if isinstance(reply.body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and reply.status not in _STATUSES_OF_GATEWAYS:
        raise A2AError(_failure_of_code(code, error, reply.status), code)
    result = session.require(reply).get("result")
    if not isinstance(result, dict):
        raise CallError(_shapeless(reply))
    return result


def _call_rest(
    session: Session, interface: Interface, operation: str, params: Mapping[str, Any]
) -> Any:
    method, path, body = _rest_request(interface, operation, params)
    reply = session.request(method, path, body, _headers(interface), interface.connection)
    if not reply.succeeded:
        code = _code_of(reply, operation)
        if code is None:
            raise CallError(session.failure_of(reply))
        raise A2AError(_failure_of_code(code, reply.body, reply.status), code)
    if not isinstance(reply.body, dict):
        raise CallError(_shapeless(reply))
    return reply.body


def _rest_request(
    interface: Interface, operation: str, params: Mapping[str, Any]
) -> tuple[str, str, Optional[dict[str, Any]]]:
    """Return (method, path, body)."""
    prefix = "/v1" if interface.version == "0.3" else ""
    if interface.tenant:
        prefix += "/" + quote(interface.tenant, safe="")
    if operation == SEND:
        return "POST", prefix + "/message:send", dict(params)
    if operation == LIST:
        return "GET", "%s/tasks?%s" % (prefix, urlencode(params)), None
    task_path = "%s/tasks/%s" % (prefix, quote(str(params["id"]), safe=""))
    return ("GET", task_path, None) if operation == GET else ("POST", task_path + ":cancel", {})


def _headers(interface: Interface) -> dict[str, str]:
    # Servers take a request without it for one of 0.3.
    return {VERSION_HEADER: "1.0"} if interface.version == "1.0" else {}


def _code_of(reply: Reply, operation: str) -> Optional[int]:
    """Return the code of JSON-RPC for an error status of HTTP+JSON; None for a gateway's error."""
    for name in evidence.read(reply.body).names:
        if name in _CODE_OF_REASON:
            return _CODE_OF_REASON[name]
    return NOT_FOUND if reply.status == 404 and operation in (GET, CANCEL) else None


def _failure_of_code(code: int, error: Any, status: int) -> Failure:
    words = agent_failure(error, status, "error %d" % code)
    if code in _ERRORS:
        return failures.make_failure(_ERRORS[code][1], words.message, status)
    # An agent's own exception, or the server's: what it did before is not known.
    return words if words.cause != "agent_failed" else failures.make_failure(
        "server_error", words.message, status
    )


def _shapeless(reply: Reply) -> Failure:
    return malformed(reply, "the response does not have the form of A2A")
