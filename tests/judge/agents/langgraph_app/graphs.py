"""Graphs for a real LangGraph Server. The first word of the query says what the agent does.

They run in the server's own environment, never in that of the tests.
"""
import asyncio
import os
import pathlib
from typing import Annotated

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
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
    if word == "insist":
        # As LangGraph's documentation validates what people enter.
        while True:
            _leave("asked " + rest)
            answer = interrupt(rest)
            if answer.startswith("yes"):
                return {"messages": [{"role": "ai", "content": "told: " + answer}]}
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


@tool
def pay(account: str) -> str:
    """Pay from an account."""
    _leave("paid from " + account)
    return "paid from " + account


@tool
def ask_person(question: str) -> str:
    """Ask a person."""
    raise AssertionError("the person is the tool")


class CallsTools(FakeMessagesListChatModel):
    """A model that calls the tools which the query names, and then says what they returned."""

    def bind_tools(self, tools, **options):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **options):
        results = [message.content for message in messages if message.type == "tool"]
        if results:
            message = AIMessage(" | ".join(results))
        else:
            calls = [part.split(" ", 1) for part in messages[0].content.split("; ")]
            message = AIMessage("", tool_calls=[
                {"name": name, "args": {"account" if name == "pay" else "question": value},
                 "id": "call-%d" % number}
                for number, (name, value) in enumerate(calls)
            ])
        return ChatResult(generations=[ChatGeneration(message=message)])


def _reviewed(mode):
    only_people = {"allowed_decisions": ["respond"]}
    return create_agent(
        CallsTools(responses=[]), [pay, ask_person],
        middleware=[HumanInTheLoopMiddleware(
            {"pay": True, "ask_person": only_people}, interrupt_mode=mode)],
    )


tools = _reviewed("batched")
tools_one_by_one = _reviewed("per_call")
