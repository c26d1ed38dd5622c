"""A server of OpenAI's Responses API with one agent, which works for as long as a function does."""
import re
import time
from urllib.parse import unquote

from sandbox.agent_server import CANCELLED, COMPLETED, FAILED, RUNNING, AgentServer

POLL_SECONDS = 0.01
_RESPONSE = re.compile(r"/v1/responses/([^/?]+)(/cancel)?\Z")
_STATUS = {RUNNING: "in_progress", COMPLETED: "completed", FAILED: "failed", CANCELLED: "cancelled"}


class ResponsesServer(AgentServer):
    """A server of the Responses API, which works in the background where it is asked to.

    :param id_of: a function from a run to the id that a look at it returns, such as that of a
        gateway, which is another one each time; default: the run's own.
    """

    def __init__(self, work, id_of=lambda run: "resp_" + run.id):
        super().__init__(work)
        self._id_of, self._ids = id_of, {}

    @property
    def base_url(self):
        return super().base_url + "/v1"

    def answer(self, method, path, body, headers):
        if path == "/v1/models":
            return 200, {"object": "list", "data": []}
        if path == "/v1/responses":
            return self._create(body, headers)
        match = _RESPONSE.match(path)
        run = self._ids.get(unquote(match.group(1))) if match else None
        if run is None:
            message = "Response with id '%s' not found." % (match.group(1) if match else path)
            error = {"message": message, "type": "invalid_request_error", "param": "id",
                     "code": None}
            return 404, {"error": error}
        if match.group(2):
            self.cancel(run)
        return 200, self._document(run)

    def _create(self, body, headers):
        run = self.start(body["input"], headers.get("Idempotency-Key"))
        while not body.get("background") and run.status == RUNNING:
            time.sleep(POLL_SECONDS)
        return 200, self._document(run, body)

    def _document(self, run, body=None):
        response_id = self._id_of(run)
        self._ids[response_id] = run
        document = {
            "id": response_id, "object": "response", "created_at": int(time.time()),
            "status": _STATUS[run.status], "model": (body or {}).get("model") or "sandbox-agent",
            "background": True, "error": None, "incomplete_details": None, "instructions": None,
            "metadata": {}, "output": [], "parallel_tool_calls": True, "temperature": 1.0,
            "tool_choice": "auto", "tools": [], "top_p": 1.0,
        }
        if run.status == COMPLETED:
            text = {"type": "output_text", "text": run.output, "annotations": []}
            document["output"] = [{
                "id": "msg_" + run.id, "type": "message", "role": "assistant",
                "status": "completed", "content": [text],
            }]
            document["usage"] = {
                "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 1, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 2,
            }
        if run.status == FAILED:
            document["error"] = {"code": "server_error", "message": run.output}
        return document
