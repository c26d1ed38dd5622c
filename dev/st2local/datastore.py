"""The key-value store, with the errors of StackStorm's REST API."""
from st2local import sealing
from st2local.errors import InvalidInput, NotFound
from st2local.ids import new_id, timestamp

SYSTEM_SCOPE = "st2kv.system"
_SCOPES = (None, "all", "system", SYSTEM_SCOPE)
PAGE_SIZE = 100
MAX_VALUE_BYTES = 16 * 1024 * 1024


class Datastore:
    """Strings under names, system scope only.

    :param clock: a function that returns the seconds since 1970.
    """

    def __init__(self, store, clock):
        self._store, self._clock = store, clock

    def get(self, name, decrypt=False):
        """Return the value.

        :raises NotFound: if the key does not exist.
        """
        return self.document(name, decrypt)["value"]

    def set(self, name, value, ttl=None, encrypt=False):
        """Write a string and return the API's document.

        :param ttl: in whole seconds.
        """
        body = {"name": name, "value": value, "secret": encrypt}
        if ttl is not None:
            body["ttl"] = ttl
        return self.put(name, body)

    def delete(self, name):
        """Delete a key.

        :raises NotFound: if it does not exist.
        """
        self._check_name(name)
        if not self._store.delete_key(name):
            raise _missing(name)

    def list(self, prefix="", sort=None, limit=PAGE_SIZE, offset=0, decrypt=False):
        """Return the API's documents.

        :param sort: `name` or `-name`; without it they are unordered.
        """
        self._check_range(prefix)
        rows = self._store.keys(prefix, self._clock())
        if sort in ("name", "-name"):
            rows.sort(key=lambda row: row[0], reverse=sort == "-name")
        elif sort:
            raise InvalidInput("Invalid sort: %s" % sort)
        rows = rows[offset:] if limit == -1 else rows[offset:offset + limit]
        return [self._document(row, decrypt) for row in rows]

    def document(self, name, decrypt=False):
        """Return the answer of GET /v1/keys/<name>.

        :raises NotFound: if the key does not exist.
        """
        self._check_name(name)
        row = self._store.key(name, self._clock())
        if row is None:
            raise _missing(name)
        return self._document(row, decrypt)

    def put(self, name, body):
        """Write a key as PUT /v1/keys/<name> does with its JSON body."""
        self._check_name(name)
        if not isinstance(body, dict):
            raise InvalidInput("%r is not of type 'object'" % (body,))
        _check_fields(body)
        value, secret = body["value"], bool(body.get("secret") or body.get("encrypted"))
        if body.get("encrypted"):
            try:
                sealing.unseal(self._store.folder, value)
            except ValueError:
                raise InvalidInput(
                    'Failed to verify the integrity of the provided value for key "%s". Ensure'
                    " that the value is encrypted with the correct key and not corrupted." % name
                ) from None
        elif secret:
            value = sealing.seal(self._store.folder, value)
        now = self._clock()
        # A ttl of 0 is accepted and means none; with a negative one the key has expired at once.
        expires = now + body["ttl"] if body.get("ttl") else None
        self._store.put_key(name, new_id(), value, secret, expires, now)
        self._store.forget_expired_keys(now)
        # StackStorm returns the written key even if it has already expired.
        row = (name, new_id(), value, secret, expires)
        return self._document(self._store.key(name, now) or row, False)

    def encrypted_text(self, value):
        """Return the clear text of an encrypted value.

        :raises ValueError: if it is not encrypted.
        """
        return sealing.unseal(self._store.folder, value)

    def raw(self, name):
        """Return the value as stored, or "" without one, as `{{ st2kv.system.x }}` renders it."""
        row = self._store.key(name, self._clock())
        return row[2] if row else ""

    def _document(self, row, decrypt):
        name, key_id, value, secret, expires = row
        document = {
            "id": key_id,
            "uid": "key_value_pair:%s:%s" % (SYSTEM_SCOPE, name),
            "name": name,
            "value": sealing.unseal(self._store.folder, value) if secret and decrypt else value,
            "secret": bool(secret),
            "encrypted": bool(secret) and not decrypt,
            "scope": SYSTEM_SCOPE,
        }
        if expires is not None:
            document["expire_timestamp"] = timestamp(expires)
        return document

    def _check_name(self, name):
        if "/" in name:
            # The router treats the rest as a further part of the path, quoted or not.
            raise NotFound("The resource could not be found.")
        self._check_range(name)

    def _check_range(self, text):
        if ".." in text:
            raise InvalidInput(
                "Datetime value does not match expected format: two dots are a range"
            )
        try:
            text.encode("latin-1")
        except UnicodeEncodeError:
            raise InvalidInput("the name must have Latin-1 characters only") from None


def _missing(name):
    return NotFound("KeyValuePair with name: %s and scope: %s not found" % (name, SYSTEM_SCOPE))


_FIELDS = {
    "id": str, "uid": str, "name": str, "description": str, "value": str, "secret": bool,
    "encrypted": bool, "scope": str, "expire_timestamp": str, "ttl": int, "user": str,
}
_TYPES = {str: "string", bool: "boolean", int: "integer"}


def _check_fields(body):
    for field, value in body.items():
        if field not in _FIELDS:
            raise InvalidInput(
                "Additional properties are not allowed (%r was unexpected)" % field
            )
        expected_type = _FIELDS[field]
        if value is None and field not in ("value", "ttl"):
            continue
        if not isinstance(value, expected_type) or (
            expected_type is int and isinstance(value, bool)
        ):
            raise InvalidInput("%r is not of type %r" % (value, _TYPES[expected_type]))
    if "value" not in body:
        raise InvalidInput("'value' is a required property")
    if body.get("scope") not in _SCOPES:
        raise InvalidInput("Invalid scope %r: st2local has the system scope only" % body["scope"])
    try:
        size = len(body["value"].encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidInput("the value must not contain a lone surrogate") from None
    if size > MAX_VALUE_BYTES:
        error = InvalidInput("the value must be at most 16 MB, the limit of a document")
        error.status = 500
        raise error
