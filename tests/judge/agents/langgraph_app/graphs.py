"""Graphs for a real LangGraph Server. The first word of the query says what the agent does.

They run in the server's own environment, never in that of the tests.
"""
import asyncio
import os
import pathlib
from typing import Annotated

from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from typing_extensions import TypedDict

EFFECTS = pathlib.Path(os.environ["EFFECTS"])
NODES = ["n1", "n2", "n3", "n4", "n5"]


class State(TypedDict):
    messages: Annotated[list, add_messages]


def _leave(line):
    with open(EFFECTS, "a") as effects:
        effects.write(line + "\n")


async def work(state):
    word, _, rest = state["messages"][-1].content.partition(" ")
    if word == "raise":
        raise RuntimeError(rest)
    if word == "blank":
        return {"messages": [{"role": "ai", "content": " \n"}]}
    if word == "parts":
        return {"messages": [{"role": "ai", "content": [{"type": "text", "text": rest}]}]}
    if word == "ask":
        return {"messages": [{"role": "ai", "content": "told: %s" % interrupt({"question": rest})}]}
    if word == "pay":
        # The effect comes first, so that each start is one, whatever becomes of it.
        seconds, _, line = rest.partition(" ")
        _leave(line)
        await asyncio.sleep(float(seconds))
        return {"messages": [{"role": "ai", "content": "paid %s" % line}]}
    if word == "sleep":
        seconds, _, line = rest.partition(" ")
        await asyncio.sleep(float(seconds))
        _leave(line)
        return {"messages": [{"role": "ai", "content": "slept"}]}
    return {"messages": [{"role": "ai", "content": "%d: %s" % (len(state["messages"]), rest)}]}


def _node(name):
    async def run(state):
        line = "%s %s" % (name, state["messages"][0].content)
        _leave(line)
        if name == "n4" and EFFECTS.read_text().split("\n").count(line) < 3:
            raise RuntimeError("the tool weather failed")
        return {"messages": [{"role": "ai", "content": name}]}

    return run


def _chain(nodes):
    builder = StateGraph(State)
    for name, node in nodes.items():
        builder.add_node(name, node)
    for first, second in zip([START, *nodes], [*nodes, END]):
        builder.add_edge(first, second)
    return builder.compile()


agent = _chain({"work": work})
steps = _chain({name: _node(name) for name in NODES})
