"""How a base URL is reached: its credential, TLS, proxy and time limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union
from urllib.parse import urlsplit

from synthralos.config.reader import default_if_none, read_object, read_seconds
from synthralos.core.errors import InvalidInput
from synthralos.core.header_values import trim_secret


@dataclass(frozen=True)
class AwsSigning:
    """That requests are signed with AWS credentials, instead of carrying a secret.

    :ivar region: for which they are signed, such as eu-west-1.
    :ivar path: the configuration entry that asks for it, for messages: `providers[0].auth`.
    """

    region: str
    path: str = field(compare=False)


@dataclass(frozen=True)
class Connection:
    """How to reach one base URL.

    :ivar secret: the credential, literal; or
    :ivar secret_from: the datastore key that holds it, encrypted, read again at each attempt.
    :ivar secret_path: the configuration entry of the secret, for messages: `providers[0].api_key`.
    :ivar signing: how requests are signed with AWS credentials, which `secret_from` then names; or
        None.
    :ivar headers_from: the datastore key of a JSON object of further headers.
    :ivar verify: True, False, or the path of a CA bundle.
    :ivar timeout: seconds for one attempt; connect_timeout: seconds of these for connecting.
    """

    base_url: str
    secret: Optional[str] = None
    secret_from: Optional[str] = None
    headers: dict[str, str] = field(default_factory=dict)
    headers_from: Optional[str] = None
    verify: Union[bool, str] = True
    proxy: Optional[str] = None
    timeout: float = 60.0
    connect_timeout: float = 5.0
    secret_path: str = field(default="token", compare=False)
    signing: Optional[AwsSigning] = None

    def account(self, owner: str) -> tuple[Any, ...]:
        """Return a key that is equal for connections with the same credential and `owner`."""
        headers = tuple(sorted(self.headers.items()))
        return (owner, self.secret, self.secret_from, self.headers_from, headers)


def connection(
    entry: Mapping[str, Any],
    path: str,
    secret: str,
    timeout: float,
    connect: float,
    address: str = "base_url",
) -> Connection:
    """Return the Connection that `entry`, found at `path`, describes.

    :param secret, address: the names of the entries that hold the credential and the URL.
    :param timeout, connect: seconds, used if the entry has none.
    :raises InvalidInput: the URL or the timeout is not valid.
    """
    base_url = entry.get(address)
    if not _is_url(base_url):
        raise _invalid_url("%s.%s" % (path, address), base_url)
    return Connection(
        base_url=str(base_url).rstrip("/"),
        secret=trim_secret(_text(entry, secret, path) or "") or None,
        secret_from=_text(entry, secret + "_from", path),
        headers={
            str(name): trim_secret(str(value))
            for name, value in read_object(entry, "headers", path + ".").items()
        },
        headers_from=_text(entry, "headers_from", path),
        verify=entry.get("ca_bundle") or default_if_none(entry.get("verify"), True),
        proxy=_text(entry, "proxy", path),
        timeout=read_seconds(entry, path + ".timeout", timeout),
        connect_timeout=connect,
        secret_path="%s.%s" % (path, secret),
    )


def _text(entry: Mapping[str, Any], name: str, path: str) -> Optional[str]:
    """Return the text under `name`, or None if it is blank; its value is not shown."""
    value = entry.get(name) or None
    if value is not None and not isinstance(value, str):
        raise InvalidInput("%s.%s" % (path, name), None, "must be text", "Put it in quotes")
    return value


def _is_url(text: Any) -> bool:
    try:
        parts = urlsplit(text) if isinstance(text, str) else None
    except ValueError:
        return False
    return parts is not None and parts.scheme in ("http", "https") and bool(parts.netloc)


def _invalid_url(path: str, value: Any) -> InvalidInput:
    return InvalidInput(path, value, "is not a valid URL", "Write it as https://host[:port][/path]")
