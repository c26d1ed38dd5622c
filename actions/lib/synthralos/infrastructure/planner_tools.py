"""The tools of the crew planner: a table of read-only, bounded functions.

The arguments of a tool call are validated against the kinds that the tool declares; anything else
in a response of the LLM is rejected. `assign_repair_crew` is not a tool but the final decision.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import quote

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import crews

if TYPE_CHECKING:
    from synthralos.escalation.ticket_evidence import Evidence
    from synthralos.infrastructure.config import Crew, InfrastructureConfig
    from synthralos.infrastructure.topology import Topology
    from synthralos.runtime.environment import Environment

ASSIGN = "assign_repair_crew"
DAY_BEGINS, EVENING_BEGINS, NIGHT_BEGINS = 6, 18, 22
MAX_WEATHER_BYTES = 2000


@dataclass(frozen=True)
class PlannerFacts:
    """The data that the tools read.

    :ivar failures: the failed nodes.
    :ivar loads: {crew: number of nodes assigned to it}.
    :ivar exclude: {node: names of the crews whose repair did not help it}.
    :ivar evidence: of the failures, for the prompt.
    """

    env: "Environment"
    config: "InfrastructureConfig"
    topology: "Topology"
    failures: tuple[str, ...]
    loads: Mapping[str, int]
    exclude: Mapping[str, Sequence[str]] = field(default_factory=dict)
    evidence: "Sequence[Evidence]" = field(default_factory=list)

    def zones(self) -> list[str]:
        """Return the zones that the configuration names anywhere."""
        named = [crew.zone for crew in self.config.crews]
        named += [node.zone for node in self.topology.nodes.values()]
        for origin, destinations in self.config.travel_seconds.items():
            named += [origin] + list(destinations)
        return sorted({zone for zone in named if zone is not None})


@dataclass(frozen=True)
class Tool:
    """A tool that the planner may call.

    :ivar arguments: {name: kind}, all required; a kind is a key of ARGUMENT_KINDS.
    :ivar run: called with (facts, **arguments); returns a JSON value.
    """

    description: str
    run: Callable[..., Any]
    arguments: Mapping[str, str] = field(default_factory=dict)


def _available_crews(facts: PlannerFacts) -> list[dict[str, Any]]:
    return [_crew(facts, crew) for crew in facts.config.crews if _free(facts, crew)]


def _crew(facts: PlannerFacts, crew: "Crew") -> dict[str, Any]:
    load = facts.loads.get(crew.name, 0)
    return {
        "crew_id": crew.name,
        "location": crew.zone,
        "skills": list(crew.skills),
        "assigned": load,
        "room": crews.free_capacity(crew, load),
        "requires_approval": crew.requires_approval,
    }


def _configured_crew(facts: PlannerFacts, crew_id: str) -> "Crew":
    """Return the crew of a valid argument."""
    crew = facts.config.crew(crew_id)
    assert crew is not None
    return crew


def _free(facts: PlannerFacts, crew: "Crew") -> bool:
    return crews.is_free(crew, facts.loads.get(crew.name, 0))


def _is_available(facts: PlannerFacts, crew_id: str) -> dict[str, Any]:
    return {"crew_id": crew_id, "is_available": _free(facts, _configured_crew(facts, crew_id))}


def _location(facts: PlannerFacts, crew_id: str) -> dict[str, Any]:
    return {"crew_id": crew_id, "location": _configured_crew(facts, crew_id).zone}


def _travel(facts: PlannerFacts, origin: str, destination: str) -> dict[str, Any]:
    travel_seconds = facts.config.travel_seconds
    seconds = travel_seconds.get(origin, {}).get(
        destination, travel_seconds.get(destination, {}).get(origin)
    )
    if origin == destination and seconds is None:
        seconds = 0
    return {"origin": origin, "destination": destination, "seconds": seconds}


def _repair(facts: PlannerFacts, node: str) -> dict[str, Any]:
    return {"node": node, "seconds": facts.topology.node(node).repair_seconds}


def _time_of_day(facts: PlannerFacts, hour: int) -> str:
    if DAY_BEGINS <= hour < EVENING_BEGINS:
        return "daytime"
    return "evening" if EVENING_BEGINS <= hour < NIGHT_BEGINS else "overnight"


def _is_weekend(facts: PlannerFacts, date: str) -> dict[str, Any]:
    return {"date": date, "is_weekend": datetime.date.fromisoformat(date).weekday() >= 5}


def _is_holiday(facts: PlannerFacts, date: str) -> dict[str, Any]:
    return {"date": date, "is_holiday": date in facts.config.holidays}


def _weather(facts: PlannerFacts, location: str) -> dict[str, Any]:
    weather = facts.config.weather
    # See available_tools.
    assert weather is not None
    path = weather.path.replace("{location}", quote(location, safe=""))
    try:
        response = facts.env.client.request(
            weather.connection, "GET", path, weather.connection.timeout
        )
        weather_info: Any = (
            response.json() if 200 <= response.status < 300 else {"error": response.status}
        )
    except CallError as error:
        weather_info = {"error": error.failure.cause}
    if len(json.dumps(weather_info)) > MAX_WEATHER_BYTES:
        weather_info = {"error": "the response is too large"}
    return {"location": location, "weather": weather_info}


TOOLS = {
    "get_available_crews": Tool("The crews with free capacity.", _available_crews),
    "is_crew_available": Tool(
        "Whether a crew has free capacity.", _is_available, {"crew_id": "crew"}
    ),
    "get_crew_location": Tool("The zone of a crew.", _location, {"crew_id": "crew"}),
    "estimate_travel_time": Tool(
        "Travel time in seconds between two zones; null if unknown.",
        _travel,
        {"origin": "zone", "destination": "zone"},
    ),
    "estimate_repair_time": Tool(
        "Repair time of the node in seconds; null if unknown.",
        _repair,
        {"node": "node"},
    ),
    "get_time_of_day": Tool("daytime, evening or overnight.", _time_of_day, {"hour": "hour"}),
    "is_weekend": Tool("Whether a date is on a weekend.", _is_weekend, {"date": "date"}),
    "is_holiday": Tool("Whether a date is a holiday.", _is_holiday, {"date": "date"}),
    "get_weather_at_location": Tool("The weather in a zone.", _weather, {"location": "zone"}),
}


def available_tools(config: "InfrastructureConfig") -> list[str]:
    """Return the names of the tools that this configuration supports."""
    return [
        name for name in TOOLS if name != "get_weather_at_location" or config.weather is not None
    ]


def run_tool(facts: PlannerFacts, name: str, arguments: Mapping[str, Any]) -> Any:
    """Return the tool's result.

    :raises InvalidInput: the tool or an argument is unknown, missing or invalid.
    """
    allowed = available_tools(facts.config)
    if name not in allowed:
        raise InvalidInput(
            "action", name, "is not a tool", "Use one of " + ", ".join(allowed + [ASSIGN])
        )
    tool = TOOLS[name]
    for argument in list(arguments) + list(tool.arguments):
        path = "arguments.%s" % argument
        if argument not in tool.arguments:
            hint = "Its arguments: " + (", ".join(tool.arguments) or "none")
            raise InvalidInput(path, arguments[argument], "is not an argument of %s" % name, hint)
        if argument not in arguments:
            raise InvalidInput(
                path, None, "is missing", "Give %s" % ARGUMENT_KINDS[tool.arguments[argument]][0]
            )
        expected, is_valid = ARGUMENT_KINDS[tool.arguments[argument]]
        if not is_valid(facts, arguments[argument]):
            raise InvalidInput(path, arguments[argument], "is not valid", "Give " + expected)
    return tool.run(facts, **arguments)


def _is_date(facts: PlannerFacts, value: Any) -> bool:
    try:
        return bool(datetime.date.fromisoformat(value).isoformat() == value)
    except (TypeError, ValueError):
        return False


# kind: (expected value, a callable (facts, value) -> whether the value is valid).
ARGUMENT_KINDS: dict[str, tuple[str, Callable[[PlannerFacts, Any], bool]]] = {
    "crew": (
        "the crew_id of a configured crew",
        lambda facts, value: isinstance(value, str) and facts.config.crew(value) is not None,
    ),
    "node": (
        "a failed node or a node of the topology",
        lambda facts, value: isinstance(value, str) and (
            value in facts.failures or value in facts.topology
        ),
    ),
    "zone": (
        "the zone of a crew or of a node",
        lambda facts, value: isinstance(value, str) and value in facts.zones(),
    ),
    "date": ("a date as YYYY-MM-DD", _is_date),
    "hour": (
        "an integer from 0 to 23",
        lambda facts, value: (
            isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 23
        ),
    ),
}


def tool_descriptions(config: "InfrastructureConfig") -> list[str]:
    """Return a line for each available tool: name(argument: kind) - description."""
    return [
        "%s(%s) - %s" % (
            name,
            ", ".join("%s: %s" % pair for pair in TOOLS[name].arguments.items()),
            TOOLS[name].description,
        )
        for name in available_tools(config)
    ]
