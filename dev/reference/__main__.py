"""Writes docs/reference.md."""
from reference import actions, automation, configuration
from reference.metadata import PACK

PAGE = PACK / "docs" / "reference.md"
HEAD = """\
# Reference

Made from the pack's metadata by `make docs`: change that, not this page. What things are for is in
the [README](../README.md). [Actions](#actions), [triggers](#triggers), [sensors](#sensors),
[rules](#rules), [policies](#policies), [ChatOps aliases](#chatops-aliases) and
[configuration](#configuration).
"""


def page():
    """The page's whole text."""
    found = actions.lines() + automation.lines() + configuration.lines()
    return HEAD + "\n" + "\n".join(found).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
