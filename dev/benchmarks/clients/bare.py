"""The floor of a fallback: two POSTs over one requests.Session, the second one because of a 429."""
import requests

from benchmarks.server import CHAT, HEALTHY, LIMITED

KEY = "sk-benchmark"
MESSAGES = [{"role": "user", "content": "Say hello"}]
HEADERS = {"Authorization": "Bearer " + KEY}


def floor(base):
    """Return a callable that makes both calls once."""
    session = requests.Session()
    body = {"model": "bench", "messages": MESSAGES}

    def once():
        answer = session.post(base + LIMITED + CHAT, json=body, headers=HEADERS, timeout=60)
        assert answer.status_code == 429
        answer = session.post(base + HEALTHY + CHAT, json=body, headers=HEADERS, timeout=60)
        assert answer.json()["choices"][0]["message"]["content"] == "hello"

    return once
