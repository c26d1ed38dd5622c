"""An agent of each kind as a command: `python -m sandbox.agents`, with dev/ on PYTHONPATH.

The same agent runs behind a LangGraph Server, behind A2A and behind OpenAI's Responses API. It
works for some seconds, then answers with its query. Its first word may be `fail`.
"""
import argparse
import contextlib
import signal
import sys
import threading
import time

from sandbox.__main__ import write_config
from sandbox.a2a import A2AServer
from sandbox.langgraph import LangGraphServer
from sandbox.responses import ResponsesServer

SERVERS = {"langgraph": LangGraphServer, "a2a": A2AServer, "openai_responses": ResponsesServer}
HOLD_SECONDS = 2


def agent(seconds):
    """Return an agent that works for so long: a function from its run to its answer."""

    def work(run):
        run.cancelled.wait(seconds)
        if run.query.startswith("fail"):
            raise RuntimeError("the tool weather failed")
        return "Answer to: " + run.query

    return work


def config_of(servers):
    """Return the pack's configuration for servers, {api: server}: an agent `<api>_bot` on each."""
    return {
        "platforms": [
            {"name": api, "api": api, "base_url": server.base_url, "hold_seconds": HOLD_SECONDS}
            for api, server in servers.items()
        ],
        "agents": {
            api + "_bot": {"platform": api, "agent": "sandbox-agent"} for api in servers
        },
    }


def main(arguments=None):
    """Run until interrupted. Return the exit code: 0, or 1 if it cannot start."""
    parser = argparse.ArgumentParser(
        prog="sandbox.agents", description="An agent behind each kind of platform on 127.0.0.1."
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="how long it works; default: 5")
    parser.add_argument("--write-config", metavar="FILE", help="write the pack's config here")
    options = parser.parse_args(arguments)
    # End on a service manager's stop as on Ctrl-C.
    for interrupt in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interrupt, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        work = agent(options.seconds)
        servers = {api: stack.enter_context(kind(work)) for api, kind in SERVERS.items()}
        try:
            if options.write_config:
                write_config(options.write_config, config_of(servers))
        except (OSError, ValueError) as error:
            print("sandbox.agents: %s" % error, file=sys.stderr)
            return 1
        try:
            for api, server in servers.items():
                print("%s_bot runs at %s" % (api, server.base_url), flush=True)
            print("since %s; Ctrl-C ends them" % time.strftime("%H:%M:%S"), flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
