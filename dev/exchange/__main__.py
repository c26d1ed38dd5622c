"""`make exchange`: every check that StackStorm Exchange runs on a pack, as far as one machine can.

Exits 1 if a check fails.
"""
import argparse
import pathlib
import sys
import time

from exchange import static, tools

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
# In the Exchange's order.
CHECKS = {
    "metadata": (static.metadata, "pack.yaml"),
    "compile": (static.compiles, "Python's syntax"),
    "licence": (static.licence, "Apache License 2.0"),
    "flake8": (tools.flake8, "style, by flake8 3.7.7"),
    "pylint": (tools.pylint, "errors, by pylint 3.1.1"),
    "syntax": (static.syntax, "YAML and JSON"),
    "example": (static.example_config, "one example configuration"),
    "rules": (tools.rules, "what registering asks of every file"),
    "icon": (static.icon, "for the index"),
    "tests": (tools.tests, "every test; takes minutes"),
}
NOT_HERE = (
    "Not here: registering with a MongoDB (StackStorm's own models and the database; "
    "`st2 pack register` on a StackStorm host does it), and tagging, which follows a merge."
)


def main(words=None):
    """Run the checks and return the exit code."""
    options = _parser().parse_args(words)
    chosen = [name for name in options.checks or CHECKS if name not in options.skip]
    failed = [name for name in chosen if not _passes(name, *CHECKS[name])]
    if options.base:
        def release(pack):
            return tools.release(pack, options.base)
        failed += [] if _passes("release", release, "since " + options.base) else ["release"]
    print(NOT_HERE)
    if failed:
        print("Failed: %s." % ", ".join(failed))
    return 1 if failed else 0


def _passes(name, check, about):
    started_at = time.monotonic()
    errors = check(PACK)
    seconds = time.monotonic() - started_at
    print(
        "%-4s %-9s %-37s %6.1f s" % ("FAIL" if errors else "ok", name, about, seconds), flush=True
    )
    for line in errors:
        print("       " + line)
    return not errors


def _parser():
    parser = argparse.ArgumentParser(prog="exchange", description=__doc__.split("\n")[0])
    parser.add_argument("checks", nargs="*", choices=[[]] + list(CHECKS), metavar="CHECK",
                        help="one of %s; default: all" % ", ".join(CHECKS))
    parser.add_argument("--skip", action="append", default=[], choices=list(CHECKS))
    parser.add_argument("--base", metavar="REVISION",
                        help="also check what a pull request to it must change")
    return parser


if __name__ == "__main__":
    sys.exit(main())
