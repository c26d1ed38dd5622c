"""The datastore as an action's `action_service` uses it."""
import os

from st2client.client import Client
from st2client.models import KeyValuePair

_PAGE = 100


class ActionDatastoreService:
    """Names are local to the pack and the class unless `local=False`; values are strings."""

    def __init__(self, logger, pack_name, class_name, auth_token):
        self._logger, self._auth_token = logger, auth_token
        self._prefix = "%s.%s:" % (pack_name, class_name)
        self._client = None

    def get_api_client(self):
        if self._client is None:
            self._client = Client(
                api_url=os.environ["ST2_ACTION_API_URL"], token=self._auth_token)
        return self._client

    def get_user_info(self):
        return self.get_api_client().get_user_info()

    def list_values(self, local=True, prefix=None, limit=None, offset=0):
        prefix = self._name(prefix or "", local) or None
        return self.get_api_client().keys.get_all(
            prefix=prefix, limit=limit or _PAGE, offset=offset)

    def get_value(self, name, local=True, scope="system", decrypt=False):
        _check(scope)
        try:
            pair = self.get_api_client().keys.get_by_id(
                id=self._name(name, local),
                params={"decrypt": str(decrypt).lower(), "scope": scope})
        except Exception as error:
            # StackStorm swallows every error here, and so must this.
            self._logger.exception(
                "Exception retrieving value from datastore (name=%s): %s", name, error)
            return None
        return pair.value if pair else None

    def set_value(self, name, value, ttl=None, local=True, scope="system", encrypt=False):
        _check(scope)
        pair = KeyValuePair(name=self._name(name, local), value=str(value), scope=scope)
        if encrypt:
            pair.secret = True
        if ttl:
            pair.ttl = ttl
        self.get_api_client().keys.update(instance=pair)
        return True

    def delete_value(self, name, local=True, scope="system"):
        _check(scope)
        pair = KeyValuePair(name=self._name(name, local))
        try:
            self.get_api_client().keys.delete(instance=pair, params={"scope": scope})
        except Exception as error:
            self._logger.exception(
                "Exception deleting value from datastore (name=%s): %s", name, error)
            return False
        return True

    def _name(self, name, local):
        return self._prefix + name if local else name


def _check(scope):
    if scope != "system":
        raise ValueError("Scope %s is unsupported." % scope)
