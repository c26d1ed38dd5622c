"""What the planner may look up before it assigns: a table of read-only, bounded functions.

A tool is called with arguments of the kinds that it declares, checked before; whatever else an
answer of the LLM names is refused. `assign_repair_crew` is no tool: it is the decision.
"""

import datetime
import json
from dataclasses import dataclass, field
from typing import Any, Callable
from urllib.parse import quote

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import crews

ASSIGN = "assign_repair_crew"
DAY_BEGINS, EVENING_BEGINS, NIGHT_BEGINS = 6, 18, 22
MAX_WEATHER_BYTES = 2000


@dataclass(frozen=True)
class PlannerFacts:
    """What the tools look at.

    :ivar failures: the failed nodes; loads: {crew: nodes it has}.
    """

    env: Any
    config: Any
    topology: Any
    failures: tuple
    loads: dict

    def zones(self):
        """The zones that the configuration names anywhere."""
        named = [crew.zone for crew in self.config.crews]
        named += [node.zone for node in self.topology.nodes.values()]
        for origin, below in self.config.travel_seconds.items():
            named += [origin] + list(below)
        return sorted({zone for zone in named if zone is not None})


@dataclass(frozen=True)
class Tool:
    """:ivar arguments: {name: kind}, all of them required; a kind is a key of KINDS.
    :ivar run: a callable (facts, **arguments) -> a JSON value.
    """

    description: str
    run: Callable
    arguments: dict = field(default_factory=dict)


def _available_crews(facts):
    return [_crew(facts, crew) for crew in facts.config.crews if _free(facts, crew)]


def _crew(facts, crew):
    told = {"crew_id": crew.name, "location": crew.zone, "skills": list(crew.skills)}
    told["assigned"] = facts.loads.get(crew.name, 0)
    told["room"] = crews.free_capacity(crew, told["assigned"])
    return dict(told, requires_approval=crew.requires_approval)


def _free(facts, crew):
    return crews.is_free(crew, facts.loads.get(crew.name, 0))


def _is_available(facts, crew_id):
    return {"crew_id": crew_id, "is_available": _free(facts, facts.config.crew(crew_id))}


def _location(facts, crew_id):
    return {"crew_id": crew_id, "location": facts.config.crew(crew_id).zone}


def _travel(facts, origin, destination):
    known = facts.config.travel_seconds
    seconds = known.get(origin, {}).get(destination, known.get(destination, {}).get(origin))
    if origin == destination and seconds is None:
        seconds = 0
    return {"origin": origin, "destination": destination, "seconds": seconds}


def _repair(facts, node):
    return {"node": node, "seconds": facts.topology.node(node).repair_seconds}


def _time_of_day(facts, hour):
    if DAY_BEGINS <= hour < EVENING_BEGINS:
        return "daytime"
    return "evening" if EVENING_BEGINS <= hour < NIGHT_BEGINS else "overnight"


def _is_weekend(facts, date):
    return {"date": date, "is_weekend": datetime.date.fromisoformat(date).weekday() >= 5}


def _is_holiday(facts, date):
    return {"date": date, "is_holiday": date in facts.config.holidays}


def _weather(facts, location):
    weather = facts.config.weather
    path = weather.path.replace("{location}", quote(location, safe=""))
    try:
        answer = facts.env.client.request(
            weather.connection, "GET", path, weather.connection.timeout
        )
        told = answer.json() if 200 <= answer.status < 300 else {"error": answer.status}
    except CallError as error:
        told = {"error": error.failure.cause}
    if len(json.dumps(told)) > MAX_WEATHER_BYTES:
        told = {"error": "the answer is too large"}
    return {"location": location, "weather": told}


TOOLS = {
    "get_available_crews": Tool("The crews that can take more nodes.", _available_crews),
    "is_crew_available": Tool("Whether a crew can.", _is_available, {"crew_id": "crew"}),
    "get_crew_location": Tool("The zone of a crew.", _location, {"crew_id": "crew"}),
    "estimate_travel_time": Tool(
        "Seconds from a zone to another; null when nobody knows.",
        _travel,
        {"origin": "zone", "destination": "zone"},
    ),
    "estimate_repair_time": Tool(
        "Seconds that a repair of the node takes; null when nobody knows.",
        _repair,
        {"node": "node"},
    ),
    "get_time_of_day": Tool("daytime, evening or overnight.", _time_of_day, {"hour": "hour"}),
    "is_weekend": Tool("Whether a date is on a weekend.", _is_weekend, {"date": "date"}),
    "is_holiday": Tool("Whether a date is a holiday.", _is_holiday, {"date": "date"}),
    "get_weather_at_location": Tool("The weather in a zone.", _weather, {"location": "zone"}),
}


def available_tools(config):
    """The names of the tools that this configuration can answer."""
    return [
        name for name in TOOLS if name != "get_weather_at_location" or config.weather is not None
    ]


def run_tool(facts, name, arguments):
    """What the tool says. InvalidInput names a tool or an argument that is none."""
    known = available_tools(facts.config)
    if name not in known:
        raise InvalidInput(
            "action", name, "is no tool", "Use one of " + ", ".join(known + [ASSIGN])
        )
    tool = TOOLS[name]
    for argument in list(arguments) + list(tool.arguments):
        where = "arguments.%s" % argument
        if argument not in tool.arguments:
            way_out = "It takes " + (", ".join(tool.arguments) or "none")
            raise InvalidInput(where, arguments[argument], "%s does not take it" % name, way_out)
        if argument not in arguments:
            raise InvalidInput(
                where, None, "is missing", "Give %s" % ARGUMENT_KINDS[tool.arguments[argument]][0]
            )
        told, good = ARGUMENT_KINDS[tool.arguments[argument]]
        if not good(facts, arguments[argument]):
            raise InvalidInput(where, arguments[argument], "is not known", "Give " + told)
    return tool.run(facts, **arguments)


def _is_date(facts, value):
    try:
        return datetime.date.fromisoformat(value).isoformat() == value
    except (TypeError, ValueError):
        return False


# kind: (what to give, a callable (facts, value) -> whether it is one).
ARGUMENT_KINDS = {
    "crew": (
        "the crew_id of a crew that is configured",
        lambda facts, value: isinstance(value, str) and facts.config.crew(value) is not None,
    ),
    "node": (
        "a failed node, or one of the topology",
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
        "a whole number from 0 to 23",
        lambda facts, value: (
            isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 23
        ),
    ),
}


def tool_descriptions(config):
    """A line for each tool that is offered: name(argument: kind) - what it tells."""
    return [
        "%s(%s) - %s" % (
            name,
            ", ".join("%s: %s" % pair for pair in TOOLS[name].arguments.items()),
            TOOLS[name].description,
        )
        for name in available_tools(config)
    ]
