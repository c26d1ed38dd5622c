"""The sandbox as a command: `python -m sandbox`, with dev/ on PYTHONPATH.

Prints its address, then a line for each call, until it is interrupted.
"""
import argparse
import json
import os
import signal
import sys
import threading
import time

from sandbox import Sandbox

MARK = "# Written by the sandbox, which overwrites this file when it starts.\n"


def main(arguments=None):
    """Run until interrupted. Return the exit code: 0, or 1 if it cannot start."""
    options = _parser().parse_args(arguments)
    box = Sandbox(port=options.port, scenario=options.scenario, watch=_announce)
    try:
        box.start()
        if options.write_config:
            write_config(options.write_config, box.pack_config())
    except (OSError, OverflowError, TypeError, ValueError) as error:
        box.close()
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    # End on a service manager's stop as on Ctrl-C.
    # A shell starts what runs in its background with SIGINT ignored.
    for interrupt in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interrupt, signal.default_int_handler)
    try:
        print(f"sandbox on {box.base_url} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        box.close()
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="sandbox", description="A fake agent platform, LLM providers and regions on 127.0.0.1."
    )
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--scenario", metavar="FILE", help="scripted faults, in YAML or JSON")
    parser.add_argument("--write-config", metavar="FILE", help="write the pack's config here")
    return parser


def _announce(call):
    status = "no answer" if call.status is None else call.status
    printable = call.path.encode("unicode_escape").decode("ascii")
    clock = time.strftime("%H:%M:%S", time.localtime(call.time))
    line = f"{clock} {call.target} {call.method} {printable}: {status} ({call.step})"
    try:
        # Calls end in their own threads, and print writes a line break separately: use one string.
        printable = line.encode("ascii", "backslashreplace").decode("ascii")
        print(printable + "\n", end="", flush=True)
    except BrokenPipeError:
        # The reader is gone; calls are still answered.
        pass


def write_config(path, config):
    """Write `config` as JSON, which is also YAML.

    :raises ValueError: if the file exists and the sandbox did not write it.
    """
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            start = file.read(len(MARK))
        if start and start != MARK:
            raise ValueError(f"{path} exists and is not the sandbox's: move or delete it first")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(MARK + json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
