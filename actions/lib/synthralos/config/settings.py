"""The pack's configuration: read once, with defaults; errors name the entry that is not valid."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional
from urllib.parse import urlsplit

from synthralos.config import retention
from synthralos.config.budget import BudgetConfig
from synthralos.config.connection import AwsSigning, Connection, connection
from synthralos.config.platforms import (
    AgentEndpoint,
    AgentName,
    Platform,
    endpoints_of,
    read_agent_names,
    read_platforms,
    require_known,
)
from synthralos.config.reader import (
    default_if_none,
    not_an_object,
    read_int,
    read_list,
    read_number,
    read_object,
    read_seconds,
)
from synthralos.core.causes import CAUSES
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.core.redaction import Redaction

MAX_TOKEN_PRICE = 1_000_000
MAX_CONTEXT_WINDOW = 1_000_000_000
_CURRENCY = re.compile(r"[A-Z]{3}\Z")
CAPABILITIES = (
    "vision", "reasoning", "coding", "tools", "json", "uncensored", "image_generation",
)
# The wire formats of LLM providers; calls.llm_wires implements them.
APIS = ("openai", "openai_responses", "anthropic", "gemini", "bedrock")
# How the requests to a provider are authorized.
AUTHS = API_KEY, IAM = ("api_key", "iam")
# Such as bedrock-runtime.eu-west-1.amazonaws.com, or the name of an endpoint in a VPC.
_REGION_OF_HOST = re.compile(r"(?:^|\.)bedrock(?:-runtime)?(?:-fips)?\.([a-z]+(?:-[a-z0-9]+)+)\.")
STRATEGIES = ("exponential", "linear", "fixed", "immediate", "adaptive")


@dataclass(frozen=True)
class Price:
    """The cost of a million tokens, in the configuration's `currency`."""

    input: float
    output: float


@dataclass(frozen=True)
class Model:
    """A model of a provider.

    :ivar context_window: tokens, or None if it is not configured.
    :ivar capabilities: some of CAPABILITIES, or None if they are not configured.
    """

    name: str
    context_window: Optional[int] = None
    price: Optional[Price] = None
    capabilities: Optional[tuple[str, ...]] = None


@dataclass(frozen=True)
class Account:
    """An account of a provider.

    :ivar name: the datastore key of its API key, or None if the provider has no other account.
    """

    name: Optional[str]
    connection: Connection


@dataclass(frozen=True)
class Provider:
    """An LLM provider.

    :ivar accounts: at least one, in order of preference.
    """

    name: str
    api: str
    accounts: tuple[Account, ...]
    models: list[Model]


@dataclass(frozen=True)
class Route:
    provider: str
    region: str
    connection: Connection
    unsafe_to_repeat: bool = False


@dataclass(frozen=True)
class Agent:
    """An agent of the configuration.

    :ivar names: the platforms that run it, the first and its fallbacks; empty for the first
        platform that is configured.
    """

    names: tuple[AgentName, ...] = ()
    agent_type: Optional[str] = None
    config: dict[str, Any] = field(default_factory=dict)
    execute_path: Optional[str] = None
    unsafe_to_repeat: bool = False


@dataclass(frozen=True)
class Backoff:
    strategy: str = "exponential"
    base_delay: float = 2.0
    max_delay: float = 60.0


@dataclass(frozen=True)
class Breaker:
    """Opens at `failures` in a row that are at least half of the last ten; all times in seconds."""

    failures: int = 5
    open_seconds: float = 60.0
    probes: int = 3


@dataclass(frozen=True)
class Retry:
    """How handle_error lets a recovery retry; times in seconds.

    :ivar adaptive_learning: whether past recoveries of the same failure type count.
    :ivar success_rate_threshold: below this rate nothing is retried.
    """

    max_retries: int = 3
    base_delay: float = 1.0
    backoff_multiplier: float = 2.0
    max_delay: float = 30.0
    adaptive_learning: bool = True
    success_rate_threshold: float = 0.3


@dataclass(frozen=True)
class Settings:
    """The pack's configuration.

    :ivar rollback, history, loop_detection, escalation, automation, sensors, infrastructure,
        orchestration, metrics, tracing, logs: entries that their own modules read.
    :ivar fall_over: {cause: whether all other targets may be attempted at once, or none}.
    :ivar ask_next_after: seconds without an answer after which a model on the next host is asked,
        too; 0 for never.
    :ivar retention: {group of keys: seconds}, for groups with a lifetime other than the default.
    :ivar store_user_text: whether callers' text is stored in the datastore.
    """

    platforms: list[Platform]
    providers: list[Provider]
    routes: list[Route]
    agents: dict[str, Agent]
    model_map: dict[str, dict[str, str]]
    currency: str
    default_provider: str
    default_region: str
    max_routes: int
    max_retries: int
    max_result_bytes: int
    fall_over: dict[str, bool]
    ask_next_after: float
    planner_model: Optional[str]
    backoff: Backoff
    breaker: Breaker
    retry: Retry
    rollback: dict[str, Any]
    history: dict[str, Any]
    loop_detection: dict[str, Any]
    escalation: dict[str, Any]
    automation: dict[str, Any]
    sensors: dict[str, Any]
    infrastructure: dict[str, Any]
    orchestration: dict[str, Any]
    metrics: dict[str, Any]
    budget: BudgetConfig
    redaction: Redaction
    retention: dict[str, int]
    store_user_text: bool
    tracing: dict[str, Any]
    logs: dict[str, Any]

    @classmethod
    def from_config(cls, config: Optional[Mapping[str, Any]]) -> "Settings":
        """Read the pack's configuration.

        :raises InvalidInput: an entry is not valid; names it.
        """
        config = dict(config or {})
        agents = read_object(config, "agents")
        model_map = read_object(config, "model_map")
        limits = read_object(config, "attempt_timeouts")
        connect = read_seconds(limits, "attempt_timeouts.connect", 5.0)
        platforms = read_platforms(
            config, read_seconds(limits, "attempt_timeouts.agent", 60.0), connect
        )
        llm_timeout = read_seconds(limits, "attempt_timeouts.llm", 60.0)
        request_timeout = read_seconds(limits, "attempt_timeouts.request", 20.0)
        providers = [
            _provider(entry, path, llm_timeout, connect)
            for path, entry in read_list(config, "providers")
        ]
        routes = [
            _route(entry, path, request_timeout, connect)
            for path, entry in read_list(config, "routes")
        ]
        _unique("providers", [provider.name for provider in providers])
        _unique("routes", ["%s/%s" % (route.provider, route.region) for route in routes])
        return cls(
            platforms=platforms,
            providers=providers,
            routes=routes,
            agents={
                name: _agent(read_object(agents, name, "agents."), "agents.%s" % name, platforms)
                for name in agents
            },
            model_map={name: read_object(model_map, name, "model_map.") for name in model_map},
            currency=_currency(config.get("currency")),
            default_provider=config.get("default_provider") or "openai",
            default_region=config.get("default_region") or "us-east-1",
            max_routes=read_int(config, "max_routes", 12, 1, 50),
            max_retries=read_int(config, "max_retries", 3, 0, 10),
            max_result_bytes=read_int(config, "max_result_bytes", 256 * 1024, 1, 2**31),
            fall_over=_fall_over(read_object(config, "fall_over")),
            ask_next_after=read_seconds(config, "ask_next_after", 20.0, minimum=0.0),
            planner_model=read_object(config, "planner").get("model") or None,
            backoff=_backoff(read_object(config, "backoff")),
            breaker=_breaker(read_object(config, "breaker")),
            retry=_retry(read_object(config, "retry")),
            rollback=read_object(config, "rollback"),
            history=read_object(config, "history"),
            loop_detection=read_object(config, "loop_detection"),
            escalation=read_object(config, "escalation"),
            automation=read_object(config, "automation"),
            sensors=read_object(config, "sensors"),
            infrastructure=read_object(config, "infrastructure"),
            orchestration=read_object(config, "orchestration"),
            metrics=read_object(config, "metrics"),
            budget=BudgetConfig.from_config(read_object(config, "budget")),
            redaction=Redaction.from_config(read_object(config, "redaction")),
            retention=retention.read_retention(read_object(config, "retention")),
            store_user_text=bool(default_if_none(config.get("store_user_text"), True)),
            tracing=read_object(config, "tracing"),
            logs=read_object(config, "logs"),
        )

    def agent_endpoints(self, agent_id: str) -> list[AgentEndpoint]:
        """Return where an agent runs, in the order of attempts; empty without a platform."""
        agent = self.agents.get(agent_id)
        return endpoints_of(agent_id, agent.names if agent else (), self.platforms)

    def secrets(self) -> list[str]:
        """Return every literal secret of the configuration, for redaction."""
        connections = [platform.connection for platform in self.platforms]
        connections += [
            account.connection for provider in self.providers for account in provider.accounts
        ]
        connections += [route.connection for route in self.routes]
        secrets: list[Any] = []
        for address in connections:
            secrets.append(address.secret)
            secrets.extend(address.headers.values())
            secrets.append(_password_of(address.proxy))
        for channel in ("mail", "slack", "webhook"):
            entry = self.escalation.get(channel)
            entry = entry if isinstance(entry, dict) else {}
            secrets.extend(entry.get(name) for name in ("password", "url", "token", "routing_key"))
            secrets.append(_password_of(entry.get("proxy")))
        watched = [
            self.sensors.get(name) for name in ("alertmanager", "agent_errors", "agent_events")
        ]
        for entry in watched + [self.metrics.get("pushgateway")]:
            entry = entry if isinstance(entry, dict) else {}
            headers = entry.get("headers")
            secrets.extend(headers.values() if isinstance(headers, dict) else ())
            secrets.append(entry.get("token"))
            secrets += [_password_of(entry.get(name)) for name in ("proxy", "url")]
        headers = self.tracing.get("headers")
        secrets.extend(headers.values() if isinstance(headers, dict) else ())
        secrets.append(self.tracing.get("token"))
        secrets += [_password_of(self.tracing.get(name)) for name in ("proxy", "endpoint")]
        return [secret for secret in secrets if isinstance(secret, str) and secret]


def _provider(entry: Mapping[str, Any], path: str, timeout: float, connect: float) -> Provider:
    api = entry.get("api") or "openai"
    if api not in APIS:
        raise InvalidInput(
            path + ".api", api, "is not a known wire format", "Use one of " + ", ".join(APIS)
        )
    models = []
    for n, model in enumerate(entry.get("models") or []):
        model = {"name": model} if isinstance(model, str) else model
        if not isinstance(model, dict):
            raise not_an_object("%s.models[%d]" % (path, n), model)
        name = require_identifier("%s.models[%d].name" % (path, n), model.get("name"))
        price = _price(model, "%s.models[%d]." % (path, n))
        capabilities = _capabilities(
            "%s.models[%d].capabilities" % (path, n), model.get("capabilities")
        )
        window = _context_window(model, "%s.models[%d]." % (path, n))
        models.append(Model(name, window, price, capabilities))
    return Provider(
        name=require_identifier(path + ".name", entry.get("name")),
        api=api,
        accounts=_accounts(entry, api, path, timeout, connect),
        models=models,
    )


def _accounts(
    entry: Mapping[str, Any], api: str, path: str, timeout: float, connect: float
) -> tuple[Account, ...]:
    """Return the accounts of a provider: one, or one for each of `api_keys_from`."""
    if _uses_iam(entry, api, path):
        signing = AwsSigning(_aws_region(entry, path), path + ".auth")
        address = connection(entry, path, "iam_credentials", timeout, connect)
        return (Account(None, replace(address, signing=signing)),)
    keys, field = entry.get("api_keys_from") or [], path + ".api_keys_from"
    if not keys:
        return (Account(None, connection(entry, path, "api_key", timeout, connect)),)
    if not isinstance(keys, list):
        raise InvalidInput(field, keys, "is not a list", "List datastore keys, one an account")
    for name in ("api_key", "api_key_from"):
        if entry.get(name):
            raise InvalidInput(
                "%s.%s" % (path, name), None, "stands beside api_keys_from", "Set one of them"
            )
    names = [
        require_identifier("%s[%d]" % (field, index), key) for index, key in enumerate(keys)
    ]
    _unique(field, names)
    return tuple(
        Account(
            name,
            connection(
                dict(entry, api_key_from=name), path, "api_key", timeout, connect
            ),
        )
        for name in names
    )


def _uses_iam(entry: Mapping[str, Any], api: str, path: str) -> bool:
    """Return whether requests are signed with AWS credentials.

    :raises InvalidInput: the entries contradict each other.
    """
    auth: object = entry.get("auth") or API_KEY
    if auth not in AUTHS:
        raise InvalidInput(
            path + ".auth", auth, "is not known", "Use one of " + ", ".join(AUTHS)
        )
    unused: tuple[str, ...] = ("api_key", "api_key_from", "api_keys_from")
    if auth == API_KEY:
        unused = ("iam_credentials_from", "region")
    elif api != "bedrock":
        raise InvalidInput(path + ".auth", auth, "is for api: bedrock only", "Use an API key")
    for name in unused:
        if entry.get(name):
            raise InvalidInput(
                "%s.%s" % (path, name), None, "stands beside auth: %s" % auth,
                "Remove it, or change auth",
            )
    return auth == IAM


def _aws_region(entry: Mapping[str, Any], path: str) -> str:
    region = entry.get("region")
    if region:
        return require_identifier(path + ".region", region)
    match = _REGION_OF_HOST.search(urlsplit(str(entry.get("base_url"))).hostname or "")
    if match is None:
        raise InvalidInput(
            path + ".region", None, "is missing, and base_url does not name one",
            "Give the AWS region of the models, such as eu-west-1",
        )
    return match.group(1)


def _context_window(model: Mapping[str, Any], path: str) -> Optional[int]:
    if model.get("context_window") is None:
        return None
    return read_int(model, "context_window", None, 1, MAX_CONTEXT_WINDOW, path)


def _price(model: Mapping[str, Any], path: str) -> Optional[Price]:
    entry = read_object(model, "price", path)
    if not entry:
        return None
    for name in ("input", "output"):
        if entry.get(name) is None:
            hint = "Set the cost of a million tokens, input and output; 0 is free"
            raise InvalidInput("%sprice.%s" % (path, name), None, "is missing", hint)
    bounds = 0.0, MAX_TOKEN_PRICE
    return Price(
        read_number(entry, "input", None, *bounds, prefix=path + "price."),
        read_number(entry, "output", None, *bounds, prefix=path + "price."),
    )


def _currency(value: Any) -> str:
    currency = default_if_none(value, "USD")
    if not isinstance(currency, str) or not _CURRENCY.match(currency):
        hint = "Use a code of ISO 4217, such as USD"
        raise InvalidInput("currency", currency, "is not a currency code", hint)
    return currency


def _capabilities(path: str, value: object) -> Optional[tuple[str, ...]]:
    # StackStorm passes a missing list as an empty one.
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise InvalidInput(path, value, "is not a list", "See config.schema.yaml")
    for capability in value:
        if capability not in CAPABILITIES:
            hint = "Use some of " + ", ".join(CAPABILITIES)
            raise InvalidInput(path, capability, "is not a known capability", hint)
    return tuple(value)


def _route(entry: Mapping[str, Any], path: str, timeout: float, connect: float) -> Route:
    return Route(
        provider=require_identifier(path + ".provider", entry.get("provider")),
        region=require_identifier(path + ".region", entry.get("region")),
        connection=connection(entry, path, "token", timeout, connect),
        unsafe_to_repeat=bool(entry.get("unsafe_to_repeat")),
    )


def _agent(entry: Mapping[str, Any], path: str, platforms: list[Platform]) -> Agent:
    names = read_agent_names(entry, path)
    require_known(names, platforms)
    return Agent(
        names=names,
        agent_type=entry.get("agent_type") or None,
        config=read_object(entry, "config"),
        execute_path=entry.get("execute_path") or None,
        unsafe_to_repeat=bool(entry.get("unsafe_to_repeat")),
    )


def _fall_over(entry: Mapping[str, Any]) -> dict[str, bool]:
    for cause, value in entry.items():
        path = "fall_over.%s" % cause
        if cause not in CAUSES:
            raise InvalidInput(
                path, value, "is not a known cause", "Use some of " + ", ".join(CAUSES)
            )
        if not isinstance(value, bool) and value is not None:
            hint = "true: all other targets are attempted at once; false: none is"
            raise InvalidInput(path, value, "must be true or false", hint)
    return {cause: value for cause, value in entry.items() if value is not None}


def _backoff(entry: Mapping[str, Any]) -> Backoff:
    strategy = entry.get("strategy") or "exponential"
    if strategy not in STRATEGIES:
        raise InvalidInput(
            "backoff.strategy",
            strategy,
            "is not a known strategy",
            "Use one of " + ", ".join(STRATEGIES),
        )
    return Backoff(
        strategy,
        read_seconds(entry, "backoff.base_delay", 2.0, minimum=0.0),
        read_seconds(entry, "backoff.max_delay", 60.0),
    )


def _retry(entry: Mapping[str, Any]) -> Retry:
    return Retry(
        max_retries=read_int(entry, "max_retries", 3, 0, 10, "retry."),
        base_delay=read_seconds(entry, "retry.base_delay", 1.0, minimum=0.0),
        backoff_multiplier=read_number(entry, "backoff_multiplier", 2.0, 1.0, 10.0, "retry."),
        max_delay=read_seconds(entry, "retry.max_delay", 30.0, minimum=0.0),
        adaptive_learning=bool(default_if_none(entry.get("adaptive_learning"), True)),
        success_rate_threshold=read_number(
            entry, "success_rate_threshold", 0.3, 0.0, 1.0, "retry."
        ),
    )


def _breaker(entry: Mapping[str, Any]) -> Breaker:
    return Breaker(
        failures=read_int(entry, "failures", 5, 1, 10, "breaker."),
        open_seconds=read_seconds(entry, "breaker.open_seconds", 60.0),
        probes=read_int(entry, "probes", 3, 1, 10, "breaker."),
    )


def _unique(path: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(
                path, name, "is a duplicate", "Names must be unique"
            )


def _password_of(url: object) -> Optional[str]:
    try:
        return urlsplit(url).password if isinstance(url, str) else None
    except ValueError:
        return None
