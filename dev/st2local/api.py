"""The part of StackStorm's REST API that actions call, on loopback."""
import http.server
import json
import threading
from urllib.parse import parse_qs, unquote, urlsplit

from st2local.datastore import PAGE_SIZE
from st2local.errors import InvalidInput, NotFound, Unauthorized
from st2local.runners import RUNNERS


class Server:
    """Serves `local` on a random port, from a daemon thread, until `close`."""

    def __init__(self, local):
        handler = type("Handler", (_Handler,), {"local": local})
        self._server = _HttpServer(("127.0.0.1", 0), handler)
        self.url = "http://127.0.0.1:%d/v1" % self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True,
            name="api").start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Ignore it: an action may end with an open connection."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it the second of two small writes waits for the first one's acknowledgement.
    disable_nagle_algorithm = True
    local = None

    def do_GET(self):
        self._answer()

    do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_):
        """Log nothing: the progress lines are enough."""

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        try:
            if self.headers.get("X-Auth-Token") != self.local.token:
                raise Unauthorized("Unauthorized - One of Token or API key required.")
            status, document = self._route(body)
        except InvalidInput as error:
            status, document = error.status, {"faultstring": str(error)}
        except Exception as error:
            status, document = 500, {"faultstring": "Internal Server Error: %s" % error}
        self._send(status, document)

    def _route(self, body):
        address = urlsplit(self.path)
        # StackStorm's router treats %2F as a slash too.
        parts = unquote(address.path, "latin-1" if _bad_utf8(address.path) else "utf-8").split(
            "/", 3)[1:]
        query = {name: values[-1] for name, values in
                 parse_qs(address.query, keep_blank_values=True).items()}
        if len(parts) < 2 or parts[0] != "v1":
            raise NotFound("The resource could not be found.")
        rest = parts[2] if len(parts) > 2 else ""
        route = getattr(self, "_%s_%s" % (self.command.lower(), parts[1]), None)
        if route is None or not parts[1].isalpha():
            raise NotFound("The resource could not be found.")
        return route(rest, query, body)

    def _get_executions(self, rest, query, body):
        show = _flag(query, "show_secrets")
        if not rest:
            names = ("parent", "action", "status", "timestamp_gt", "timestamp_lt")
            filters = {name: query[name] for name in names if name in query}
            documents = self.local.store.executions(
                limit=_number(query, "limit", PAGE_SIZE),
                offset=_number(query, "offset", 0),
                **filters,
            )
            return 200, [self._public_view(document, query, show) for document in documents]
        execution_id, _, more = rest.partition("/")
        document = self.local.execution(execution_id, show_secrets=True)
        if more == "children":
            documents = self.local.store.executions(parent=execution_id)
            return 200, [self._public_view(child, query, show) for child in reversed(documents)]
        if more:
            raise NotFound("The resource could not be found.")
        return 200, self._public_view(document, query, show)

    def _public_view(self, document, query, show_secrets):
        if not show_secrets:
            document = self.local.masked(document)
        # StackStorm omits empty attributes.
        document = {name: value for name, value in document.items() if value}
        if query.get("include_attributes"):
            document = _chosen(document, query["include_attributes"].split(","))
        for name in (query.get("exclude_attributes") or "").split(","):
            document.pop(name, None)
        return document

    def _post_executions(self, rest, query, body):
        document = _json(body)
        execution_id, _, more = rest.partition("/")
        if more == "re_run":
            handle = self.local.re_run(execution_id, (document or {}).get("parameters"))
            return 201, self._public_view(
                self.local.execution(handle.id, show_secrets=True), query, False
            )
        if not isinstance(document, dict) or not isinstance(document.get("action"), str):
            raise InvalidInput("'action' is a required property")
        handle = self.local.start(
            document["action"], document.get("parameters") or {}, user=document.get("user"))
        return 201, self._public_view(
            self.local.execution(handle.id, show_secrets=True), query, False
        )

    def _put_executions(self, rest, query, body):
        self.local.set_status(rest, (_json(body) or {}).get("status"))
        return 200, self.local.execution(rest)

    def _delete_executions(self, rest, query, body):
        self.local.cancel(self.local.live(rest))
        return 200, self.local.execution(rest)

    def _get_keys(self, rest, query, body):
        decrypt = _flag(query, "decrypt")
        if rest:
            return 200, self.local.keys.document(rest, decrypt)
        documents = self.local.keys.list(
            query.get("prefix") or query.get("name") or "", query.get("sort"),
            _number(query, "limit", PAGE_SIZE), _number(query, "offset", 0), decrypt)
        if query.get("name"):
            documents = [document for document in documents if document["name"] == query["name"]]
        return 200, documents

    def _put_keys(self, rest, query, body):
        return 200, self.local.keys.put(rest, _json(body))

    def _delete_keys(self, rest, query, body):
        self.local.keys.delete(rest)
        return 204, None

    def _post_webhooks(self, rest, query, body):
        if rest.rstrip("/") != "st2":
            raise NotFound("Webhook not found")
        document = _json(body)
        if not isinstance(document, dict):
            raise InvalidInput("Type for body is invalid: the st2 webhook takes an object")
        if not document.get("trigger"):
            raise InvalidInput("Trigger not specified.")
        self.local.fire(document["trigger"], document.get("payload"))
        return 202, document

    def _get_actions(self, rest, query, body):
        if not rest:
            return 200, [action.document() for action in self.local.pack.actions()]
        action = self.local.find_action(rest)
        if action is None:
            raise NotFound('Resource with a reference or id "%s" not found' % rest)
        return 200, action.document()

    def _get_runnertypes(self, rest, query, body):
        if rest not in RUNNERS:
            raise NotFound('Resource with a name or id "%s" not found' % rest)
        return 200, {"name": rest, "enabled": True, "runner_parameters": RUNNERS[rest]}

    def _get_inquiries(self, rest, query, body):
        documents = self.local.store.executions(
            status="pending", limit=_number(query, "limit", PAGE_SIZE)
        )
        names = ("route", "ttl", "users", "roles", "schema")
        return 200, [
            dict({"id": document["id"]}, **{name: document["result"].get(name) for name in names})
            for document in documents if document["runner"]["name"] == "inquirer"
        ]

    def _put_inquiries(self, rest, query, body):
        response = (_json(body) or {}).get("response")
        self.local.respond(rest, response)
        return 200, {"id": rest, "response": response}

    def _get_user(self, rest, query, body):
        return 200, {
            "username": self.local.user, "rbac": {"enabled": False, "roles": [], "is_admin": True},
            "authentication": {"method": "authentication token", "location": "header"},
        }

    def _send(self, status, document):
        data = b"" if document is None else json.dumps(
            document, ensure_ascii=False).encode("utf-8", "surrogatepass")
        head = ["HTTP/1.1 %d %s" % (status, self.responses.get(status, ("",))[0])]
        head.append("Content-Length: %d" % len(data))
        if document is not None:
            head.append("Content-Type: application/json")
        self.wfile.write("\r\n".join(head + ["", ""]).encode("ascii") + data)


def _bad_utf8(path):
    try:
        unquote(path, errors="strict")
    except UnicodeDecodeError:
        return True
    return False


def _json(body):
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except ValueError as error:
        raise InvalidInput("Failed to parse request body: %s" % error) from None


def _no_constant(name):
    raise ValueError("%s is not JSON" % name)


def _flag(query, name):
    return query.get(name, "").lower() in ("true", "1")


def _number(query, name, default):
    try:
        return int(query.get(name, default))
    except ValueError:
        raise InvalidInput("%r is not of type 'integer'" % query[name]) from None


def _chosen(document, names):
    """Return the named attributes, dotted ones such as `action.parameters` included, and the id."""
    chosen = {"id": document["id"]}
    for name in names:
        source, target, parts = document, chosen, name.strip().split(".")
        for part in parts[:-1]:
            source = source.get(part) if isinstance(source, dict) else None
            if isinstance(source, dict):
                target = target.setdefault(part, {})
        if isinstance(source, dict) and parts[-1] in source:
            target[parts[-1]] = source[parts[-1]]
    return chosen
