"""The credentials of a connection: those in the configuration, and those that the datastore holds.
"""

import json

from synthralos.core.errors import InvalidInput
from synthralos.storage.datastore import DatastoreUnavailable


class Credentials:
    """A callable (connection, fresh) -> (secret or None, headers), as http.Client wants it.

    What it has read from the datastore is remembered, and masked by the redactor from then on.

    :param read: a callable (key) -> the decrypted value, or None. It may raise DatastoreUnavailable.
    """

    def __init__(self, read, redactor):
        self._read_key, self._redactor, self._known = read, redactor, {}

    def __call__(self, connection, fresh=False):
        """InvalidInput when a key that the configuration names is missing, or cannot be read."""
        known = (connection.secret, connection.secret_from, connection.headers_from)
        if fresh or known not in self._known:
            secret = connection.secret
            if connection.secret_from:
                secret = self._read(connection.secret_from)
            headers = {}
            if connection.headers_from:
                headers = self._headers(connection.headers_from)
            for value in [secret] + list(headers.values()):
                self._redactor.add(value)
            self._known[known] = (secret, headers)
        return self._known[known]

    def _read(self, key):
        try:
            value, why = self._read_key(key), "is not in the datastore"
        except DatastoreUnavailable as error:
            value, why = None, str(error)
        if value is None:
            raise InvalidInput(
                "config ..._from",
                key,
                why,
                "Set it with `st2 key set --encrypt %s VALUE`" % key,
            )
        return value

    def _headers(self, key):
        value = self._read(key)
        try:
            headers = json.loads(value)
        except ValueError:
            headers = None
        if not isinstance(headers, dict):
            raise InvalidInput(
                "config headers_from", key, "holds no JSON object", 'Store {"Name": "value"}'
            )
        return {str(name): str(told) for name, told in headers.items()}
