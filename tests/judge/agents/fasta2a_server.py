"""A server of fasta2a, another implementation of A2A, which answers `submitted` to everything.

Run with the Python of its own environment: fasta2a_server.py PORT. The first word of a message says
what the agent does.
"""
import asyncio
import os
import sys
import uuid
from contextlib import asynccontextmanager

import uvicorn
from fasta2a import FastA2A, Worker
from fasta2a.broker import InMemoryBroker
from fasta2a.storage import InMemoryStorage

KEY = os.environ["JUDGE_KEY"]


def leave(line):
    """An agent's effect."""
    with open(os.environ["EFFECTS"], "a") as effects:
        effects.write(line + "\n")


class Agent(Worker):
    async def run_task(self, params):
        task_id = params["id"]
        await self.storage.update_task(task_id, state="working")
        part = params["message"]["parts"][0]
        word, _, rest = part["text"].partition(" ")
        if word == "raise":
            raise RuntimeError(rest)
        if word == "sleep":
            await asyncio.sleep(float(rest))
        if word == "pay":
            seconds, _, rest = rest.partition(" ")
            leave(rest)
            await asyncio.sleep(float(seconds))
        if word in ("fail", "reject"):
            state = {"fail": "failed", "reject": "rejected"}[word]
            await self.storage.update_task(task_id, state=state)
            return
        parts = [] if word == "blank" else [dict(part, text=rest)]
        artifact = {"artifact_id": str(uuid.uuid4()), "parts": parts}
        await self.storage.update_task(task_id, state="completed", new_artifacts=[artifact])

    async def cancel_task(self, params):
        await self.storage.update_task(params["id"], state="canceled")

    def build_message_history(self, history):
        return history

    def build_artifacts(self, result):
        return []


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
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})


def main(port):
    storage, broker = InMemoryStorage(), InMemoryBroker()
    worker = Agent(broker=broker, storage=storage)

    @asynccontextmanager
    async def lifespan(app):
        async with app.task_manager, worker.run():
            yield

    url = "http://127.0.0.1:%d" % port
    app = FastA2A(storage=storage, broker=broker, url=url, name="judge", lifespan=lifespan)
    uvicorn.run(Tokens(app), host="127.0.0.1", port=port, log_level="warning")


main(int(sys.argv[1]))
