"""The credentials of a connection, from the configuration and from the datastore."""

import json

from synthralos.core.errors import InvalidInput
from synthralos.core.header_values import trim_secret
from synthralos.storage.datastore import DatastoreUnavailable


class Credentials:
    """A callable (connection, fresh) -> (secret or None, headers) for http.Client.

    The secret of a connection with `signing` are AwsCredentials.

    Values read from the datastore are trimmed, cached, and masked by the redactor from then on.

    :param read: a callable (key) -> the decrypted value, or None; may raise DatastoreUnavailable.
    :param redactor: a Redactor.
    """

    def __init__(self, read, redactor):
        self._read_key, self._redactor, self._cache = read, redactor, {}

    def __call__(self, connection, fresh=False):
        """Return the credentials of the connection, read again if `fresh`.

        :raises InvalidInput: a key that the configuration names is missing or unreadable, or there
            are no credentials to sign requests with.
        """
        cache_key = (
            connection.secret, connection.secret_from, connection.headers_from, connection.signing
        )
        if fresh or cache_key not in self._cache:
            secret = connection.secret
            if connection.secret_from:
                secret = trim_secret(self._read(connection.secret_from))
            headers = {}
            if connection.headers_from:
                headers = self._headers(connection.headers_from)
            secrets = [secret] + list(headers.values())
            if connection.signing is not None:
                secret = self._aws_credentials(connection, secret)
                secrets += secret
            for value in secrets:
                self._redactor.add(value)
            self._cache[cache_key] = (secret, headers)
        return self._cache[cache_key]

    def _aws_credentials(self, connection, text):
        from synthralos.calls import aws_signing

        if text is None:
            return aws_signing.host_credentials(connection.signing)
        return aws_signing.parse_credentials(text, connection.secret_from)

    def _read(self, key):
        try:
            value, reason = self._read_key(key), "is not in the datastore"
        except DatastoreUnavailable as error:
            value, reason = None, str(error)
        if value is None:
            raise InvalidInput(
                "config ..._from",
                key,
                reason,
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
                "config headers_from", key, "is not a JSON object", 'Store {"Name": "value"}'
            )
        return {
            str(name): trim_secret(str(header_value)) for name, header_value in headers.items()
        }
