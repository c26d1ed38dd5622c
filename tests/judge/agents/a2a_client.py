"""The official client of A2A 1.0, before a server: a2a_client.py BASE_URL.

Prints one JSON object: what it read of the card and of tasks that it started, polled and cancelled.
Run with the Python of the SDK's environment.
"""
import asyncio
import json
import sys
import uuid

import httpx
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    TaskState,
)

RUNNING = ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")


async def start(client, text):
    message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[Part(text=text)])
    async for event in client.send_message(SendMessageRequest(message=message)):
        return event.task
    return None


async def end_of(client, task):
    while TaskState.Name(task.status.state) in RUNNING:
        await asyncio.sleep(0.05)
        task = await client.get_task(GetTaskRequest(id=task.id))
    return task


async def main(base_url):
    async with httpx.AsyncClient() as http:
        card = await A2ACardResolver(http, base_url).get_agent_card()
        client = await create_client(card, ClientConfig(streaming=False, polling=True))
        completed = await end_of(client, await start(client, "say hello"))
        waiting = await start(client, "wait")
        cancelled = await client.cancel_task(CancelTaskRequest(id=waiting.id))
        failed = await end_of(client, await start(client, "fail"))
        print(json.dumps({
            "card": card.name, "text": completed.artifacts[0].parts[0].text,
            "cancelled": TaskState.Name(cancelled.status.state),
            "failed": TaskState.Name(failed.status.state),
        }))


asyncio.run(main(sys.argv[1]))
