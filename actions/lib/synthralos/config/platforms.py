"""The entries `platforms` and `agents.<id>.platform`: where agents run, under which names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from synthralos.config.connection import Connection, connection
from synthralos.config.reader import default_if_none, read_int, read_list
from synthralos.core.errors import InvalidInput
from synthralos.core.header_values import find_header_fault
from synthralos.core.identifiers import require_identifier

DEFAULT_API = "synthralos"
# The entries that only one API has; calls.agent_platforms implements the APIs.
ENTRIES_OF_API = {
    "synthralos": (
        "execute_path", "replay_path", "execution_path", "health_path", "restore_path",
        "failure_webhook",
    ),
    "langgraph": ("input_key", "output"),
    "a2a": ("protocol_version", "binding", "card_path", "agent_path"),
    "openai_responses": ("background",),
}
PLATFORM_APIS = tuple(ENTRIES_OF_API)
HOLD_SECONDS = 20
MAX_RUN_SECONDS = 24 * 3600
OUTPUTS = ("last_message", "state")
PROTOCOL_VERSIONS = ("1.0", "0.3")
BINDINGS = ("JSONRPC", "HTTP+JSON")
# The header of a token that is not a bearer token, where an API's servers expect one.
_TOKEN_HEADERS = {"langgraph": "x-api-key"}
_CREDENTIALS = ("token", "token_from", "headers", "headers_from")


@dataclass(frozen=True)
class Platform:
    """A platform that runs agents, or a standby of one: the same platform at another address.

    :ivar api: one of PLATFORM_APIS; the other entries are described by their API, see
        ENTRIES_OF_API and config.schema.yaml.
    :ivar standby_of: the name of the platform that this is a further address of, or None.
    :ivar run_seconds: the limit of one run of an agent; None for what the run of the pack has left.
    :ivar hold_seconds: how long the first round waits for an agent; later rounds only ask.
    :ivar token_header: the header that carries the token as it is; None for a bearer token.
    """

    name: str
    connection: Connection
    api: str = DEFAULT_API
    standby_of: Optional[str] = None
    run_seconds: Optional[int] = None
    hold_seconds: int = HOLD_SECONDS
    token_header: Optional[str] = None
    execute_path: str = "/api/v1/agents/execute"
    replay_path: str = "/api/v1/executions/{execution_id}/replay"
    execution_path: str = "/api/v1/executions/{execution_id}"
    health_path: str = "/health"
    restore_path: Optional[str] = None
    failure_webhook: Optional[str] = None
    input_key: str = "messages"
    output: str = "last_message"
    protocol_version: Optional[str] = None
    binding: Optional[str] = None
    card_path: Optional[str] = None
    agent_path: str = ""
    background: bool = True


@dataclass(frozen=True)
class AgentName:
    """What an agent is called at a platform.

    :ivar agent: None if it has its own id there.
    :ivar path: of the entry, for messages.
    """

    platform: str
    agent: Optional[str]
    path: str


@dataclass(frozen=True)
class AgentEndpoint:
    """An agent at one address of a platform, by its name there."""

    platform: Platform
    agent: str


def read_platforms(config: Mapping[str, Any], timeout: float, connect: float) -> list[Platform]:
    """Read the entry `platforms`; each platform is followed by its standbys.

    :param timeout, connect: seconds, for entries without their own.
    :raises InvalidInput: an entry is not valid; names it.
    """
    platforms = []
    for path, entry in read_list(config, "platforms"):
        main = _platform(entry, path, timeout, connect)
        platforms.append(main)
        for standby_path, standby in read_list(entry, "fallbacks", path + "."):
            full_entry = _with_main_defaults(standby, entry, main)
            platforms.append(_platform(full_entry, standby_path, timeout, connect, main.name))
    names = [platform.name for platform in platforms]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput("platforms", name, "is a duplicate", "Names must be unique")
    return platforms


def read_agent_names(entry: Mapping[str, Any], path: str) -> tuple[AgentName, ...]:
    """Read `platform`, `agent` and `fallbacks` of an agent."""
    fallbacks = [
        _agent_name(fallback, fallback_path)
        for fallback_path, fallback in read_list(entry, "fallbacks", path + ".")
    ]
    if entry.get("platform"):
        return (_agent_name(entry, path), *fallbacks)
    for name in ("agent", "fallbacks"):
        if entry.get(name):
            hint = "Set %s.platform to the platform that runs the agent first" % path
            raise InvalidInput("%s.%s" % (path, name), entry[name], "needs a platform", hint)
    return ()


def require_known(names: tuple[AgentName, ...], platforms: list[Platform]) -> None:
    """Raise InvalidInput if a platform that an agent names is not configured."""
    known_names = [platform.name for platform in platforms]
    for name in names:
        if name.platform not in known_names:
            hint = "Known platforms: %s" % (", ".join(known_names) or "none")
            raise InvalidInput(name.path + ".platform", name.platform, "is not configured", hint)


def endpoints_of(
    agent_id: str, names: tuple[AgentName, ...], platforms: list[Platform]
) -> list[AgentEndpoint]:
    """Return where an agent runs, in the order of attempts: each platform, then its standbys.

    :param names: of the agent; empty for the first platform.
    """
    if not names and platforms:
        names = (AgentName(platforms[0].name, None, ""),)
    endpoints = [
        AgentEndpoint(platform, name.agent or agent_id)
        for name in names
        for platform in platforms
        if name.platform in (platform.name, platform.standby_of)
    ]
    # A standby may be named as a fallback, too: the first counts.
    unique: dict[tuple[str, str], AgentEndpoint] = {}
    for endpoint in endpoints:
        unique.setdefault((endpoint.platform.name, endpoint.agent), endpoint)
    return list(unique.values())


def _agent_name(entry: Mapping[str, Any], path: str) -> AgentName:
    platform = require_identifier(path + ".platform", entry.get("platform"))
    agent = entry.get("agent")
    if agent is not None:
        agent = require_identifier(path + ".agent", agent)
    return AgentName(platform, agent, path)


def _with_main_defaults(
    standby: Mapping[str, Any], main: Mapping[str, Any], platform: Platform
) -> dict[str, Any]:
    """Return a standby's entry with missing entries from the main one: it is the same platform.

    Credentials belong to one address: if the standby has its own, none of the main one's is used.
    """
    dropped = {"fallbacks", "name"}
    if any(standby.get(name) for name in _CREDENTIALS):
        dropped |= set(_CREDENTIALS)
    inherited = {name: value for name, value in main.items() if name not in dropped}
    return dict(inherited, **dict(standby, api=platform.api))


def _platform(
    entry: Mapping[str, Any],
    path: str,
    timeout: float,
    connect: float,
    standby_of: Optional[str] = None,
) -> Platform:
    api = entry.get("api") or DEFAULT_API
    _choice(entry, "api", path, PLATFORM_APIS)
    for other, names in ENTRIES_OF_API.items():
        for name in names if other != api else ():
            if entry.get(name) is not None:
                reason = "is not used with `api: %s`" % api
                hint = "Remove it, or set api to %s" % other
                raise InvalidInput("%s.%s" % (path, name), entry[name], reason, hint)
    own = {
        name: entry[name]
        for name in ENTRIES_OF_API[api]
        if entry.get(name) is not None and entry[name] != ""
    }
    _choice(own, "output", path, OUTPUTS)
    _choice(own, "protocol_version", path, PROTOCOL_VERSIONS)
    _choice(own, "binding", path, BINDINGS)
    return Platform(
        name=require_identifier(path + ".name", entry.get("name") or (not standby_of and api)),
        connection=connection(entry, path, "token", timeout, connect),
        api=api,
        standby_of=standby_of,
        run_seconds=_run_seconds(entry, path),
        hold_seconds=read_int(entry, "hold_seconds", HOLD_SECONDS, 0, 600, path + "."),
        token_header=_token_header(entry, path, api),
        **own,
    )


def _run_seconds(entry: Mapping[str, Any], path: str) -> Optional[int]:
    if entry.get("run_seconds") is None:
        return None
    return read_int(entry, "run_seconds", None, 1, MAX_RUN_SECONDS, path + ".")


def _choice(entry: Mapping[str, Any], name: str, path: str, allowed: tuple[str, ...]) -> None:
    if entry.get(name) and entry[name] not in allowed:
        hint = "Use one of " + ", ".join(allowed)
        raise InvalidInput("%s.%s" % (path, name), entry[name], "is not a known value", hint)


def _token_header(entry: Mapping[str, Any], path: str, api: str) -> Optional[str]:
    header = default_if_none(entry.get("token_header"), _TOKEN_HEADERS.get(api))
    if header is None or str(header).lower() == "authorization":
        return None
    if not str(header).replace("-", "").isalnum() or find_header_fault(str(header)):
        hint = "Use a name such as x-api-key; Authorization carries a bearer token"
        raise InvalidInput(path + ".token_header", header, "is not the name of a header", hint)
    return str(header)
