"""Write docs/reference.md, and the generated sections of architecture.md and failures.md."""
from reference import actions, automation, configuration, failures, layers
from reference.metadata import PACK

PAGE = PACK / "docs" / "reference.md"
HEAD = """\
# Reference

Generated from the pack's metadata by `make docs`: edit the metadata, not this page.
[workflows.md](workflows.md) explains the actions.
[Actions](#actions), [triggers](#triggers), [sensors](#sensors),
[rules](#rules), [policies](#policies), [ChatOps aliases](#chatops-aliases) and
[configuration](#configuration).
"""


def page():
    """Return the full text of the page."""
    lines = actions.lines() + automation.lines() + configuration.lines()
    return HEAD + "\n" + "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    for section in (layers, failures):
        section.PAGE.write_text(
            section.page(section.PAGE.read_text(encoding="utf-8")), encoding="utf-8"
        )
