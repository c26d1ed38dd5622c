"""A loop as programs have it: requests, and tenacity's three attempts after any exception.

tenacity repeats one call; it has no notion of another provider, so the fallback is never asked.
"""
import requests
import tenacity

from benchmarks.clients.corpus_client import KEY, MESSAGES, MODEL, main
from benchmarks.server import CHAT

ATTEMPTS = 3
CALL_SECONDS = 60


def prepare(order):
    session = requests.Session()
    session.trust_env = False
    body = {"model": MODEL, "messages": MESSAGES}
    headers = {"Authorization": "Bearer " + KEY}

    def asker(url):
        @tenacity.retry(stop=tenacity.stop_after_attempt(ATTEMPTS), reraise=True)
        def ask():
            answer = session.post(url, json=body, headers=headers, timeout=CALL_SECONDS)
            answer.raise_for_status()
            return answer.json()["choices"][0]["message"]["content"]

        return ask

    return {entry_id: asker(order.base_url(entry_id) + CHAT) for entry_id in order.ids}


if __name__ == "__main__":
    main(prepare)
