"""Encryption of secret keys at rest, with a key file beside the state.

It protects values against accidental disclosure in a listing or a backup. Anyone who can read the
folder can read the values, as on a StackStorm host.
"""
import hashlib
import hmac
import os


def seal(folder, text):
    """Text -> upper-case hexadecimal, as StackStorm's datastore shows an encrypted value."""
    nonce = os.urandom(16)
    data = text.encode("utf-8")
    body = nonce + _mix(_key(folder), nonce, data)
    return (_tag(_key(folder), body) + body).hex().upper()


def unseal(folder, sealed):
    """Return the text of a sealed value.

    :raises ValueError: if `seal` did not produce it.
    """
    try:
        data = bytes.fromhex(sealed)
    except ValueError:
        raise ValueError("the value is not encrypted") from None
    tag, body = data[:16], data[16:]
    if not hmac.compare_digest(tag, _tag(_key(folder), body)):
        raise ValueError("the value is not encrypted")
    return _mix(_key(folder), body[:16], body[16:]).decode("utf-8")


def _mix(key, nonce, data):
    stream = hashlib.shake_256(key + nonce).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream))


def _tag(key, body):
    return hmac.new(key, body, hashlib.sha256).digest()[:16]


def _key(folder):
    path = os.path.join(folder, "datastore_key")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(32))
    with open(path, "rb") as file:
        return file.read()
