"""An A2A agent's card: by which binding and version it is called, and under which path.

The card comes from the other side, so it may choose neither the host nor the scheme: the token goes
to the configured address only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional
from urllib.parse import quote, urlsplit

from synthralos.calls.agent_platforms.session import Reply, Session
from synthralos.calls.http import CallError
from synthralos.config.connection import Connection
from synthralos.config.platforms import BINDINGS, PROTOCOL_VERSIONS, Platform
from synthralos.core import failures

CARD_PATH = "/.well-known/agent-card.json"


@dataclass(frozen=True)
class Interface:
    """How an agent is called.

    :ivar connection: with the agent's address as its base URL.
    :ivar binding: one of BINDINGS; version: one of PROTOCOL_VERSIONS.
    :ivar tenant: of the agent's own, or an empty text.
    :ivar remark: for people, where the card names another address than the one that is called.
    """

    connection: Connection
    binding: str
    version: str
    tenant: str = ""
    remark: str = ""


def configured_interface(platform: Platform, agent: str) -> Optional[Interface]:
    """Return the Interface that the configuration describes, or None if it takes a card."""
    if platform.binding is None or platform.protocol_version is None:
        return None
    connection = connection_of_agent(platform, agent)
    return Interface(connection, platform.binding, platform.protocol_version)


def read_interface(session: Session, platform: Platform, agent: str) -> Interface:
    """Return the Interface of the agent's card. Costs one request, or two.

    :raises CallError: there is no card, or it offers nothing that the pack speaks.
    """
    connection = connection_of_agent(platform, agent)
    card = session.require(_card(session, platform, connection))
    offers = list(_offers(card))
    for url, binding, version, tenant in offers:
        is_possible = platform.binding in (None, binding)
        if is_possible and platform.protocol_version in (None, version):
            return _interface(connection, url, binding, version, tenant)
    offered = ", ".join("%s %s" % (binding, version) for _, binding, version, _ in offers)
    message = "the agent's card offers %s, which is not configured" % (offered or "no interface")
    raise CallError(failures.make_failure("configuration", message))


def _card(session: Session, platform: Platform, connection: Connection) -> Reply:
    if platform.card_path:
        return session.request("GET", platform.card_path, connection=connection)
    reply = session.request("GET", CARD_PATH, connection=connection)
    root = replace(connection, base_url=_origin(connection.base_url))
    if reply.status == 404 and root != connection:
        return session.request("GET", CARD_PATH, connection=root)
    return reply


def _offers(card: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (url, binding, version, tenant) of what a card offers and the pack speaks, in its
    order. Cards of 0.3 have an address of their own, and further ones.
    """
    interfaces = card.get("supportedInterfaces")
    entries = [
        (entry.get("url"), entry.get("protocolBinding"), entry.get("protocolVersion"),
         entry.get("tenant"))
        for entry in (interfaces if isinstance(interfaces, list) else ())
        if isinstance(entry, dict)
    ]
    if not entries:
        version = card.get("protocolVersion")
        entries = [(card.get("url"), card.get("preferredTransport") or "JSONRPC", version, None)]
        further = card.get("additionalInterfaces")
        entries += [
            (entry.get("url"), entry.get("transport"), version, None)
            for entry in (further if isinstance(further, list) else ())
            if isinstance(entry, dict)
        ]
    for url, binding, version, tenant in entries:
        # Patch releases do not change the protocol: 0.3.0 is 0.3.
        short_version = ".".join(str(version).split(".")[:2])
        if isinstance(url, str) and binding in BINDINGS and short_version in PROTOCOL_VERSIONS:
            yield url, binding, short_version, tenant if isinstance(tenant, str) else ""


def _interface(
    connection: Connection, url: str, binding: str, version: str, tenant: str
) -> Interface:
    try:
        parts = urlsplit(url)
        host: Optional[str] = parts.hostname
    except ValueError:
        return Interface(connection, binding, version, tenant, "the card's url is not valid")
    origin = _origin(connection.base_url)
    if host != urlsplit(connection.base_url).hostname:
        # Behind a proxy an agent does not know its own address; the path would be of another one.
        remark = "the card names another host; base_url is used"
        return Interface(connection, binding, version, tenant, remark)
    remark = ""
    if "%s://%s" % (parts.scheme, parts.netloc) != origin:
        remark = "the card names another scheme or port; those of base_url are used"
    path = quote(parts.path.rstrip("/"), safe="/:@!$&'()*+,;=~%-._")
    return Interface(replace(connection, base_url=origin + path), binding, version, tenant, remark)


def connection_of_agent(platform: Platform, agent: str) -> Connection:
    """Return the connection to an agent, by the configuration alone."""
    path = platform.agent_path.replace("{agent}", quote(agent, safe="")).rstrip("/")
    connection = platform.connection
    return replace(connection, base_url=connection.base_url + path) if path else connection


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return "%s://%s" % (parts.scheme, parts.netloc)
