"""An A2A server of the official SDK, 1.x, by JSON-RPC and HTTP+JSON, in 1.0 and in 0.3.

Run with the Python of its own environment: a2a_server.py PORT. The first word of a message says
what the agent does; paths below /noauth need no token.
"""
import asyncio
import os
import sys

import httpx
import uvicorn
from a2a.helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import (
    create_agent_card_routes,
    create_jsonrpc_routes,
    create_rest_routes,
)
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Part
from starlette.applications import Starlette
from starlette.responses import JSONResponse

KEY = os.environ["JUDGE_KEY"]
STARTED = []


def text_part(text):
    return Part(text=text)


def leave(line):
    """An agent's effect."""
    with open(os.environ["EFFECTS"], "a") as effects:
        effects.write(line + "\n")


class Executor(AgentExecutor):
    async def execute(self, context, event_queue):
        text = context.get_user_input()
        task = context.current_task
        if task is None:
            task = new_task_from_user_message(context.message)
            await event_queue.enqueue_event(task)
            STARTED.append(text)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        word, _, rest = text.partition(" ")

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
        await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)


def card(port):
    # As behind a proxy: the addresses are not those by which clients come.
    interfaces = [
        ("GRPC", "1.0", "0.0.0.0:50051"),
        ("JSONRPC", "1.0", "http://127.0.0.1:%d/rpc" % port),
        ("HTTP+JSON", "1.0", "http://127.0.0.1:%d/rest" % port),
        ("JSONRPC", "0.3", "http://127.0.0.1:%d/rpc" % port),
        ("HTTP+JSON", "0.3", "http://127.0.0.1:%d/rest" % port),
    ]
    return AgentCard(
        name="judge", description="judge", version="1",
        supported_interfaces=[
            AgentInterface(protocol_binding=binding, protocol_version=version, url=url)
            for binding, version, url in interfaces
        ],
        capabilities=AgentCapabilities(streaming=False, push_notifications=True),
        default_input_modes=["text/plain"], default_output_modes=["text/plain"],
        skills=[AgentSkill(id="s", name="s", description="s", tags=["s"])],
    )


def main(port):
    agent_card = card(port)
    # Those of the environment would send what is meant for loopback to a proxy.
    configs, sender = InMemoryPushNotificationConfigStore(), httpx.AsyncClient(trust_env=False)
    handler = DefaultRequestHandler(
        Executor(), InMemoryTaskStore(), agent_card, push_config_store=configs,
        push_sender=BasePushNotificationSender(sender, configs),
    )
    routes = create_agent_card_routes(agent_card)
    routes += create_jsonrpc_routes(handler, rpc_url="/rpc", enable_v0_3_compat=True)
    routes += create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=True)
    app = Starlette(routes=routes)
    app.add_route("/started", lambda request: JSONResponse(STARTED))
    uvicorn.run(Tokens(app), host="127.0.0.1", port=port, log_level="warning")


main(int(sys.argv[1]))
