"""The credentials of a connection, from the configuration and from the datastore."""

import json
from typing import TYPE_CHECKING, Callable, Optional, Union

from synthralos.calls.http import Resolved
from synthralos.core.errors import InvalidInput
from synthralos.core.header_values import trim_secret
from synthralos.storage.datastore import DatastoreUnavailable

if TYPE_CHECKING:
    from synthralos.calls.aws_signing import AwsCredentials
    from synthralos.config.connection import AwsSigning, Connection
    from synthralos.core.redaction import Redactor


class Credentials:
    """The CredentialsReader of an http.Client.

    Values read from the datastore are trimmed, cached, and masked by the redactor from then on.

    :param read: (key) -> the decrypted value, or None; may raise DatastoreUnavailable.
    """

    def __init__(self, read: Callable[[str], Optional[str]], redactor: "Redactor") -> None:
        self._read_key, self._redactor = read, redactor
        self._cache: dict[object, Resolved] = {}

    def __call__(self, connection: "Connection", fresh: bool = False) -> Resolved:
        """Return the credentials of the connection, read again if `fresh`.

        :raises InvalidInput: a key that the configuration names is missing or unreadable, or there
            are no credentials to sign requests with.
        """
        cache_key = (
            connection.secret, connection.secret_from, connection.headers_from, connection.signing
        )
        if fresh or cache_key not in self._cache:
            text = connection.secret
            if connection.secret_from:
                text = trim_secret(self._read(connection.secret_from))
            headers = {}
            if connection.headers_from:
                headers = self._headers(connection.headers_from)
            secret: Union[str, AwsCredentials, None] = text
            secrets = [text, *headers.values()]
            if connection.signing is not None:
                secret = _aws_credentials(connection.signing, text, connection.secret_from)
                secrets += secret
            for value in secrets:
                self._redactor.add(value)
            self._cache[cache_key] = (secret, headers)
        return self._cache[cache_key]

    def _read(self, key: str) -> str:
        value, reason = None, "is not in the datastore"
        try:
            value = self._read_key(key)
        except DatastoreUnavailable as error:
            reason = str(error)
        if value is None:
            raise InvalidInput(
                "config ..._from",
                key,
                reason,
                "Set it with `st2 key set --encrypt %s VALUE`" % key,
            )
        return value

    def _headers(self, key: str) -> dict[str, str]:
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


def _aws_credentials(
    signing: "AwsSigning", text: Optional[str], key: Optional[str]
) -> "AwsCredentials":
    from synthralos.calls import aws_signing

    if text is None:
        return aws_signing.host_credentials(signing)
    return aws_signing.parse_credentials(text, key or "")
