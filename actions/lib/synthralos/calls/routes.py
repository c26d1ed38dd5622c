"""Routes: the same request at another region or provider."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, TypedDict
from urllib.parse import unquote, urlsplit

from synthralos.calls import idempotency, span_attributes
from synthralos.calls.http import CallError, Client, Response
from synthralos.calls.relations import Target
from synthralos.config.settings import Route
from synthralos.core import bounded_json, evidence, failures
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier

if TYPE_CHECKING:
    from synthralos.config.settings import Settings

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
_HEADER = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_RESERVED_HEADERS = (
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "authorization",
    "idempotency-key",
)


class RouteRequest(TypedDict):
    """A validated request: the path below a route, the first provider and region, and the model.

    `body` is a JSON value, and `model` is None if the request names none.
    """

    endpoint: str
    method: str
    body: Any
    headers: dict[str, str]
    model: Optional[str]
    provider: str
    region: str


class RouteAnswer(TypedDict):
    """The answer to a request: its body, parsed if it is JSON, and the text in it, or None."""

    status_code: int
    body: Any
    response: Optional[str]
    latency_ms: int


class SkippedRoute(TypedDict):
    """A route that is not attempted, as the ledger would name it, and why, for people."""

    target: str
    reason: str


@dataclass(frozen=True)
class RouteCandidate:
    """One route of a request: where it goes, and the model under which it goes there."""

    route: Route
    model: Optional[str]

    @property
    def target(self) -> str:
        return "route:%s/%s" % (self.route.provider, self.route.region)

    def as_target(self, unsafe_to_repeat: bool) -> Target:
        """Return the route as a Target that a round may call."""
        return Target.over(
            self.route.connection, self.target, self.route.provider, self,
            unsafe_to_repeat=unsafe_to_repeat,
        )


def parse_request(
    raw_request: Mapping[str, Any], settings: "Settings", field: str = "original_request"
) -> RouteRequest:
    """Return the validated request.

    An absolute URL is accepted under a configured route, and is reduced to the path under it.

    :raises InvalidInput: a value is not valid; names its field.
    """
    endpoint = raw_request.get("endpoint")
    if not isinstance(endpoint, str) or not endpoint.strip():
        raise InvalidInput(
            field + ".endpoint",
            endpoint,
            "is missing",
            "Give the path to call, such as /api/v1/llm",
        )
    if not settings.routes:
        raise InvalidInput(
            "config.routes", [], "has no route", "Configure at least one provider and region"
        )
    provider = require_identifier(
        field + ".provider", raw_request.get("provider") or settings.default_provider
    )
    region = require_identifier(
        field + ".region", raw_request.get("region") or settings.default_region
    )
    model = raw_request.get("model")
    if model is not None:
        require_identifier(field + ".model", model)
    body = raw_request.get("body")
    if model is None and isinstance(body, dict) and isinstance(body.get("model"), str):
        model = require_identifier(field + ".body.model", body["model"])
    method = str(
        raw_request.get("method") or ("GET" if body is None and model is None else "POST")
    ).upper()
    if method not in METHODS:
        raise InvalidInput(
            field + ".method",
            raw_request.get("method"),
            "is no method",
            "Use one of " + ", ".join(METHODS),
        )
    return {
        "endpoint": _path(endpoint, settings.routes, field + ".endpoint"),
        "method": method,
        "body": body,
        "headers": _headers(raw_request.get("headers"), field + ".headers"),
        "model": model,
        "provider": provider,
        "region": region,
    }


def _path(endpoint: str, routes: Iterable[Route], field: str) -> str:
    if not endpoint.startswith("/"):
        paths = [
            endpoint[len(route.connection.base_url):]
            for route in routes
            if endpoint.startswith(route.connection.base_url + "/")
        ]
        if not paths:
            raise InvalidInput(
                field,
                endpoint,
                "is outside the configured routes",
                "Give a path that starts with /, or a URL below the base_url of a configured route",
            )
        # The route with the longest matching base_url.
        endpoint = min(paths, key=len)
    path = unquote(unquote(urlsplit("http://host" + endpoint).path))
    if ".." in path.replace("\\", "/").split("/") or re.search(r"[\x00-\x20\x7f]", endpoint):
        raise InvalidInput(
            field, endpoint, "leaves its route or contains white space", "Give a plain path"
        )
    return endpoint


def _headers(headers: object, field: str) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        raise InvalidInput(field, headers, "is not an object", 'Write it as {"X-Tenant": "a"}')
    for name, value in headers.items():
        if not _HEADER.match(str(name)) or name.lower() in _RESERVED_HEADERS:
            raise InvalidInput(
                "%s.%s" % (field, name), value, "cannot be set here", "Leave it out"
            )
        if not isinstance(value, str) or re.search(r"[^\x20-\x7e]", value):
            raise InvalidInput(
                "%s.%s" % (field, name), value, "is not a valid header value", "Use printable ASCII"
            )
    return dict(headers)


def candidate_routes(
    request: RouteRequest, regions: Iterable[str], providers: Iterable[str], settings: "Settings"
) -> tuple[list[RouteCandidate], list[SkippedRoute]]:
    """Return (candidates, skipped): all regions of a provider, then those of the next provider.

    A pair that is not configured, or whose provider has no name for the model, is skipped. There
    are at most `settings.max_routes` candidates.
    """
    configured = {(route.provider, route.region): route for route in settings.routes}
    regions = _unique([request["region"]] + list(regions))
    providers = _unique([request["provider"]] + list(providers))
    candidates: list[RouteCandidate] = []
    skipped: list[SkippedRoute] = []
    for provider in providers:
        model, has_model = _map_model(
            request["model"], request["provider"], provider, settings.model_map
        )
        for region in regions:
            route = configured.get((provider, region))
            if route is None:
                reason = "not configured"
            elif not has_model:
                reason = "model_map has no %s of %s" % (request["model"], provider)
            elif len(candidates) >= settings.max_routes:
                reason = "beyond max_routes"
            else:
                candidates.append(RouteCandidate(route, model))
                continue
            skipped.append({"target": "route:%s/%s" % (provider, region), "reason": reason})
    return candidates, skipped


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _map_model(
    model: Optional[str], home: str, provider: str, model_map: Mapping[str, Mapping[str, str]]
) -> tuple[Optional[str], bool]:
    """Return (the model's name at `provider`, whether it has one)."""
    if model is None or provider == home:
        return model, True
    named = (model_map.get(provider) or {}).get(model)
    return named, named is not None


def call(
    client: Client, candidate: RouteCandidate, request: RouteRequest, seconds: float, run: str
) -> RouteAnswer:
    """Send the request over one route.

    :raises CallError: an error status, no answer, or a truncated one.
    """
    body = _with_model(request["body"], candidate.model)
    method, path = request["method"], request["endpoint"]
    headers = dict(request["headers"])
    if method not in ("GET", "HEAD"):
        headers[idempotency.HEADER] = idempotency.key(run, method, path, body, candidate.model)
    with span_attributes.request(candidate.route.connection, method):
        response = client.request(
            candidate.route.connection, method, path, seconds, body=body, headers=headers
        )
        if not 200 <= response.status < 300:
            raise CallError(client.failure_of(response, _call_kind(candidate)))
    parsed = _parsed(response.text)
    if method != "HEAD":
        _require_answer(client, response, parsed, request, candidate)
    return {
        "status_code": response.status,
        "body": parsed,
        "response": _extract_text(parsed),
        "latency_ms": int(response.latency * 1000),
    }


def _require_answer(
    client: Client,
    response: Response,
    parsed: Any,
    request: RouteRequest,
    candidate: RouteCandidate,
) -> None:
    """Raise CallError if a success is none: its body is only an error, or a page instead of JSON.
    """
    accepted = {name.lower(): value for name, value in request["headers"].items()}.get("accept", "")
    wants_json = not accepted or "json" in accepted.lower()
    if wants_json and isinstance(parsed, str) and evidence.read(parsed).is_html:
        message = "the answer is a web page instead of JSON"
        raise CallError(failures.make_failure("wrong_address", message, response.status))
    if evidence.is_error_body(parsed):
        raise CallError(
            failures.from_answer(
                response.status, response.headers, parsed, client.now(), _call_kind(candidate)
            )
        )


def _call_kind(candidate: RouteCandidate) -> str:
    return "request" if candidate.model is None else "model request"


def _with_model(body: Any, model: Optional[str]) -> Any:
    if model is None or not (body is None or isinstance(body, dict)):
        return body
    return dict(body or {}, model=model)


def _parsed(text: str) -> Any:
    try:
        return bounded_json.loads(text)
    except ValueError:
        return text


def _extract_text(parsed: Any) -> Optional[str]:
    """Return the text of a response in the form of the platform, OpenAI or Anthropic, or None."""
    if isinstance(parsed, str):
        return parsed
    if not isinstance(parsed, dict):
        return None
    text = _first_text(parsed, ("response", "text", "output"))
    if text is not None:
        return text
    for name in ("choices", "content"):
        parts = parsed.get(name)
        first = parts[0] if isinstance(parts, list) and parts else None
        if isinstance(first, dict):
            message = first.get("message")
            text = _first_text(
                message if isinstance(message, dict) else first, ("content", "text")
            )
            if text is not None:
                return text
    return None


def _first_text(entries: Mapping[str, Any], names: Iterable[str]) -> Optional[str]:
    """Return the text under the first of `names` that has one, or None."""
    values = (entries.get(name) for name in names)
    return next((value for value in values if isinstance(value, str)), None)
