"""The part of StackStorm's client that st2local's API answers."""
import os
from urllib.parse import quote

from st2client import models


class Client:
    """:param api_url: up to and with `/v1`.

    Like the real one it does not quote ids and has no time-out.
    """

    def __init__(self, api_url=None, token=None, **_):
        import requests

        self._url = (api_url or os.environ["ST2_ACTION_API_URL"]).rstrip("/")
        self._session = requests.Session()
        # Loopback: ignore the host's proxies and .netrc.
        self._session.trust_env = False
        self._session.headers["X-Auth-Token"] = token or ""
        self.keys = _Manager(self, "keys", models.KeyValuePair)
        self.executions = _Manager(self, "executions", models.LiveAction)
        self.liveactions = self.executions
        self.actions = _Manager(self, "actions", models.Action)
        self.webhooks = _Webhooks(self)

    def get_user_info(self):
        return self.call("GET", "/user").json()

    def call(self, method, path, missing=False, **options):
        """Return the response, or None for an accepted 404.

        :param missing: whether 404 is accepted.
        """
        answer = self._session.request(method, self._url + path, **options)
        if answer.status_code == 404 and missing:
            return None
        if answer.status_code >= 400:
            try:
                answer.reason += "\nMESSAGE: %s" % answer.json().get("faultstring")
            except ValueError:
                pass
            answer.raise_for_status()
        return answer


class _Manager:
    def __init__(self, client, name, resource):
        self._client, self._path, self._resource = client, "/" + name, resource

    def get_all(self, limit=None, prefix=None, offset=0, params=None, **more):
        params = dict(params or {}, **more)
        for name, value in (("limit", limit), ("prefix", prefix), ("offset", offset)):
            if value:
                params[name] = value
        answer = self._client.call("GET", self._path, params=params)
        return [self._resource(**item) for item in answer.json()]

    def query(self, **filters):
        return self.get_all(params=filters)

    def get_by_id(self, id, params=None, **_):
        answer = self._client.call("GET", self._at(id), missing=True, params=params)
        return self._resource(**answer.json()) if answer is not None else None

    def get_by_ref_or_id(self, ref_or_id, **options):
        return self.get_by_id(ref_or_id, **options)

    def get_by_name(self, name, **filters):
        matches = self.get_all(params=dict(filters, name=name))
        return matches[0] if matches else None

    def update(self, instance, **_):
        answer = self._client.call("PUT", self._at(instance.id), json=instance.serialize())
        return self._resource(**answer.json())

    def delete(self, instance, params=None, **_):
        self._client.call("DELETE", self._at(instance.id), missing=True, params=params)
        return True

    def _at(self, name):
        # requests quotes what a URL cannot hold, and leaves `?`, `#` and `%` as they are.
        return "%s/%s" % (self._path, quote(name, safe="?#%/:@!$&'()*+,;=[]~"))


class _Webhooks:
    def __init__(self, client):
        self._client = client

    def post_generic_webhook(self, trigger, payload=None, trace_tag=None, **_):
        return self._client.call(
            "POST", "/webhooks/st2", json={"trigger": trigger, "payload": payload or {}}).json()
