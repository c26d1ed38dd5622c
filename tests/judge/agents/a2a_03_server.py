"""An A2A server of the official SDK before 1.0: JSON-RPC, or HTTP+JSON.

Run with the Python of its own environment: a2a_03_server.py PORT [rest]. The first word of a
message says what the agent does.
"""
import asyncio
import os
import sys

import httpx
import uvicorn
from a2a.server.agent_execution import AgentExecutor
from a2a.server.apps import A2ARESTFastAPIApplication, A2AStarletteApplication
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentSkill,
    DataPart,
    Part,
    TextPart,
    TransportProtocol,
)
from a2a.utils import new_agent_text_message, new_task

KEY = os.environ["JUDGE_KEY"]


def text_part(text):
    return Part(root=TextPart(text=text))


def leave(line):
    """An agent's effect."""
    with open(os.environ["EFFECTS"], "a") as effects:
        effects.write(line + "\n")


class Executor(AgentExecutor):
    async def execute(self, context, event_queue):
        word, _, rest = context.get_user_input().partition(" ")
        if word == "direct":
            await event_queue.enqueue_event(new_agent_text_message(rest))
            return
        task = context.current_task
        if task is None:
            task = new_task(context.message)
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)

        def message(content):
            return updater.new_agent_message([text_part(content)])

        if word == "raise":
            raise RuntimeError(rest)
        await updater.start_work(message("working on {{ it }}"))
        if word == "fail":
            await updater.failed(message(rest))
        elif word == "reject":
            await updater.reject(message(rest))
        elif word == "ask":
            await updater.requires_input(message(rest))
        elif word == "auth":
            await updater.requires_auth(message(rest))
        elif word == "cancelled":
            await updater.cancel(message(rest))
        elif word == "blank":
            await updater.complete()
        elif word == "spoken":
            await updater.complete(message(rest))
        elif word == "data":
            await updater.add_artifact([Part(root=DataPart(data={"total": 5}))])
            await updater.complete()
        else:
            if word == "sleep":
                await asyncio.sleep(float(rest))
            if word == "pay":
                seconds, _, rest = rest.partition(" ")
                leave(rest)
                await asyncio.sleep(float(seconds))
            await updater.add_artifact([text_part(rest), text_part("end")], name="answer")
            await updater.complete()

    async def cancel(self, context, event_queue):
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.cancel()


class Tokens:
    """Lets nobody in without the token, except for the card."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        headers = dict(scope.get("headers") or ())
        is_open = scope["type"] != "http" or scope["path"].startswith("/.well-known/")
        if is_open or headers.get(b"authorization") == b"Bearer " + KEY.encode():
            await self._app(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": 401, "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})


def main(port, rest):
    transport = TransportProtocol.http_json if rest else TransportProtocol.jsonrpc
    card = AgentCard(
        name="judge", description="judge", version="1", url="http://0.0.0.0:%d/" % port,
        preferred_transport=transport,
        capabilities=AgentCapabilities(streaming=False, push_notifications=True),
        default_input_modes=["text/plain"], default_output_modes=["text/plain"],
        skills=[AgentSkill(id="s", name="s", description="s", tags=["s"])],
    )
    configs, sender = InMemoryPushNotificationConfigStore(), httpx.AsyncClient(trust_env=False)
    handler = DefaultRequestHandler(
        Executor(), InMemoryTaskStore(), push_config_store=configs,
        push_sender=BasePushNotificationSender(sender, configs),
    )
    application = A2ARESTFastAPIApplication if rest else A2AStarletteApplication
    app = application(agent_card=card, http_handler=handler).build()
    uvicorn.run(Tokens(app), host="127.0.0.1", port=port, log_level="warning")


main(int(sys.argv[1]), "rest" in sys.argv[2:])
