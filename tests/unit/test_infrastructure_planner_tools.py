import pytest

from synthralos.calls.http import CallError, Response
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import make_failure
from synthralos.infrastructure import planner_tools
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.topology import Topology

CREWS = [
    {"name": "free", "zone": "east", "channels": ["mail"], "capacity": 2, "skills": ["x"]},
    {"name": "full", "zone": "west", "channels": ["mail"], "capacity": 1},
    {"name": "away", "channels": ["mail"], "available": False},
]


@pytest.fixture
def facts(infra):
    def make(**more):
        config = load_config(infra.configure(dict({"crews": CREWS}, **more)))
        topology = Topology.load(infra.env, config)
        return planner_tools.PlannerFacts(
            infra.env, config, topology, ("db", "moon"), {"free": 1, "full": 1}
        )

    return make


@pytest.mark.parametrize("tool, arguments, expected", [
    ("get_available_crews", {}, [{"crew_id": "free", "location": "east", "skills": ["x"],
                                  "assigned": 1, "room": 1, "requires_approval": False}]),
    ("is_crew_available", {"crew_id": "free"}, {"crew_id": "free", "is_available": True}),
    ("is_crew_available", {"crew_id": "full"}, {"crew_id": "full", "is_available": False}),
    ("is_crew_available", {"crew_id": "away"}, {"crew_id": "away", "is_available": False}),
    ("get_crew_location", {"crew_id": "away"}, {"crew_id": "away", "location": None}),
    ("estimate_travel_time", {"origin": "east", "destination": "west"},
     {"origin": "east", "destination": "west", "seconds": 1800}),
    ("estimate_travel_time", {"origin": "west", "destination": "east"},
     {"origin": "west", "destination": "east", "seconds": 1800}),
    ("estimate_travel_time", {"origin": "west", "destination": "west"},
     {"origin": "west", "destination": "west", "seconds": 0}),
    ("estimate_repair_time", {"node": "web"}, {"node": "web", "seconds": 600}),
    ("estimate_repair_time", {"node": "moon"}, {"node": "moon", "seconds": None}),
    ("get_time_of_day", {"hour": 6}, "daytime"), ("get_time_of_day", {"hour": 17}, "daytime"),
    ("get_time_of_day", {"hour": 18}, "evening"), ("get_time_of_day", {"hour": 22}, "overnight"),
    ("get_time_of_day", {"hour": 0}, "overnight"),
    ("is_weekend", {"date": "2025-12-27"}, {"date": "2025-12-27", "is_weekend": True}),
    ("is_weekend", {"date": "2025-12-26"}, {"date": "2025-12-26", "is_weekend": False}),
    ("is_holiday", {"date": "2025-12-25"}, {"date": "2025-12-25", "is_holiday": True}),
    ("is_holiday", {"date": "2025-12-26"}, {"date": "2025-12-26", "is_holiday": False}),
])
def test_what_a_tool_says(facts, tool, arguments, expected):
    assert planner_tools.run_tool(facts(), tool, arguments) == expected


@pytest.mark.parametrize("tool, arguments, field", [
    ("env", {}, "action"), ("__init__", {}, "action"), (planner_tools.ASSIGN, {}, "action"),
    ("get_weather_at_location", {"location": "east"}, "action"),
    ("get_crew_location", {}, "arguments.crew_id"),
    ("get_crew_location", {"crew_id": []}, "arguments.crew_id"),
    ("get_crew_location", {"crew_id": "free", "x": 1}, "arguments.x"),
    ("estimate_travel_time", {"origin": "east", "destination": {}}, "arguments.destination"),
    ("estimate_repair_time", {"node": 7}, "arguments.node"),
    ("get_time_of_day", {"hour": "6"}, "arguments.hour"),
    ("is_weekend", {"date": "20251227"}, "arguments.date"),
    ("is_weekend", {"date": None}, "arguments.date"),
])
def test_what_is_no_tool_or_no_argument_is_refused(facts, tool, arguments, field):
    with pytest.raises(InvalidInput) as refused:
        planner_tools.run_tool(facts(), tool, arguments)
    assert refused.value.field == field and refused.value.hint


WEATHER = {"base_url": "http://weather.example.com", "path": "/now?at={location}"}


def test_the_weather_is_a_tool_where_it_is_configured(facts, infra):
    planner_facts = facts(weather=WEATHER)
    infra.request = lambda connection, method, path, *_: Response(
        200, {}, '{"temperature": 14, "path": "%s"}' % path, 0.0)
    result = planner_tools.run_tool(planner_facts, "get_weather_at_location", {"location": "east"})
    assert result["weather"] == {"temperature": 14, "path": "/now?at=east"}
    assert any(
        "get_weather_at_location" in line
        for line in planner_tools.tool_descriptions(planner_facts.config)
    )


@pytest.mark.parametrize("text, status", [
    ("no json", 200), ("{}", 500), ('["%s"]' % ("x" * 5000), 200),
])
def test_weather_that_cannot_be_told_is_an_error_in_the_answer(facts, infra, text, status):
    planner_facts = facts(weather=WEATHER)
    infra.request = lambda *_: Response(status, {}, text, 0.0)
    assert (
        "error" in
        planner_tools.run_tool(planner_facts, "get_weather_at_location", {"location": "east"})[
            "weather"
        ]
    )


def test_weather_that_is_away(facts, infra):
    planner_facts = facts(weather=WEATHER)

    def away(*_):
        raise CallError(make_failure("network", "x"))

    infra.request = away
    result = planner_tools.run_tool(planner_facts, "get_weather_at_location", {"location": "east"})
    assert result["weather"] == {"error": "network"}
