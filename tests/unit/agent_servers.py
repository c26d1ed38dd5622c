"""Servers of agents as the unit tests of their APIs need them: scripted, without a network."""
import json

from synthralos.calls.agent_platforms import connect
from synthralos.calls.agent_platforms.protocol import AgentRequest
from synthralos.calls.http import CallError, Client, Response
from synthralos.config.settings import Settings
from synthralos.core.failures import make_failure

SECONDS = 9.0


class Script(Client):
    """A client that answers from a script.

    :param replies: {"METHOD /path": reply or list of replies}; the last of a list stays. A reply is
        a body, or (status, body), or an exception to raise. A path ends before its "?".
    :ivar sent: [(method, path, body, headers)].
    """

    def __init__(self, replies):
        super().__init__(None, lambda: 0.0)
        self._replies = {
            key: list(reply) if isinstance(reply, list) else [reply]
            for key, reply in replies.items()
        }
        self.sent, self.urls = [], []

    def request(self, connection, method, path, seconds, body=None, headers=None, authorize=None):
        assert seconds <= SECONDS
        secret_headers = (authorize or (lambda secret: {"Authorization": secret}))("secret")
        self.sent.append((method, path, body, dict(headers or {}, **secret_headers)))
        self.urls.append(connection.base_url + path)
        replies = self._replies.get("%s %s" % (method, path.partition("?")[0]))
        if replies is None:
            return Response(404, {}, json.dumps({"detail": "not in the script"}), 0.25)
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, Exception):
            raise reply
        status, content = reply if isinstance(reply, tuple) else (200, reply)
        text = content if isinstance(content, str) else json.dumps(content)
        return Response(status, {}, text, 0.25)

    def bodies(self, method, end):
        """The bodies that were sent to paths with this end."""
        return [body for sent, path, body, _ in self.sent if sent == method and path.endswith(end)]


def platform(api, base_url="https://agents.example/base", **entry):
    entry = dict(entry, api=api, name="p", base_url=base_url)
    return Settings.from_config({"platforms": [entry]}).platforms[0]


def connected(api, replies, **entry):
    """(the platform, its Script)."""
    client = Script(replies)
    return connect(client, platform(api, **entry)), client


def request(query="q", key="key-1", agent="bot", **more):
    return AgentRequest(agent, query, key, **more)


def lost(cause="timeout"):
    """A reply that never came."""
    return CallError(make_failure(cause, "no reply"))
