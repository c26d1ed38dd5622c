"""The official client of OpenAI, before a server of the Responses API: openai_client.py BASE_URL.

Prints one JSON object: what it read of a response that it created in the background, retrieved and
cancelled. Run with the Python of the SDKs' environment.
"""
import json
import sys

import openai


def main(base_url):
    client = openai.OpenAI(base_url=base_url, api_key="k", max_retries=0)
    created = client.responses.create(model="gpt-4o", input="say hello", background=True)
    response = created
    while response.status in ("queued", "in_progress"):
        response = client.responses.retrieve(created.id)
    started = client.responses.create(model="gpt-4o", input="wait", background=True)
    cancelled = client.responses.cancel(started.id)
    failed = client.responses.create(model="gpt-4o", input="fail", background=False)
    try:
        client.responses.retrieve("resp_unknown")
        unknown = None
    except openai.NotFoundError as error:
        unknown = error.status_code
    print(json.dumps({
        "text": response.output_text, "tokens": response.usage.total_tokens,
        "cancelled": cancelled.status, "failed": [failed.status, failed.error.message],
        "unknown": unknown,
        "models": [model.id for model in client.models.list()],
    }))


main(sys.argv[1])
