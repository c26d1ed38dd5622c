"""An A2A server (1.0, JSON-RPC) with one agent, which works for as long as a function does."""
from sandbox.agent_server import CANCELLED, COMPLETED, FAILED, RUNNING, AgentServer

CARD_PATH = "/.well-known/agent-card.json"
_STATES = {RUNNING: "WORKING", COMPLETED: "COMPLETED", FAILED: "FAILED", CANCELLED: "CANCELED"}
_NOT_FOUND, _NOT_CANCELABLE = (-32001, "Task not found"), (-32002, "Task cannot be canceled")
_NO_METHOD = (-32601, "Method not found")


class A2AServer(AgentServer):
    """An A2A server; the id of a message is the key of the task that it starts."""

    def answer(self, method, path, body, headers):
        if path == CARD_PATH:
            return 200, self._card()
        if method != "POST":
            return 404, {"error": "Not found"}
        result = self._call(body["method"], body.get("params") or {})
        if isinstance(result, tuple):
            reply = {"error": {"code": result[0], "message": result[1]}}
        else:
            reply = {"result": result}
        return 200, dict(reply, jsonrpc="2.0", id=body.get("id"))

    def _call(self, name, params):
        """Return the result of a method, or (code, message) of its error."""
        if name == "SendMessage":
            message = params["message"]
            text = "\n".join(part["text"] for part in message["parts"] if "text" in part)
            return {"task": self._task(self.start(text, message["messageId"]))}
        if name == "ListTasks":
            tasks = [self._task(run) for run in reversed(self.runs)]
            return {"tasks": tasks, "nextPageToken": "", "totalSize": len(tasks)}
        if name not in ("GetTask", "CancelTask"):
            return _NO_METHOD
        run = self.find(params.get("id"))
        if run is None:
            return _NOT_FOUND
        if name == "CancelTask":
            if run.status != RUNNING:
                return _NOT_CANCELABLE
            self.cancel(run)
        return self._task(run)

    def _card(self):
        interface = {
            "url": self.base_url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0",
        }
        return {
            "name": "sandbox", "description": "An agent of the sandbox.", "version": "1",
            "supportedInterfaces": [interface], "capabilities": {"streaming": False},
            "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
            "skills": [{"id": "s", "name": "s", "description": "s", "tags": ["s"]}],
        }

    def _task(self, run):
        message = {"messageId": run.key, "role": "ROLE_USER", "parts": [{"text": run.query}]}
        status = {"state": "TASK_STATE_" + _STATES[run.status]}
        if run.status == FAILED:
            status["message"] = {
                "messageId": run.id, "role": "ROLE_AGENT", "parts": [{"text": run.output}],
            }
        task = {"id": run.id, "contextId": "context-" + run.id, "status": status,
                "history": [message]}
        if run.status == COMPLETED:
            task["artifacts"] = [{"artifactId": "answer", "parts": [{"text": run.output}]}]
        return task
