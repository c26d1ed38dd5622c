"""What a run knows: its input and the outputs of its steps, read when they are asked for.

Short values stand in the state itself. Long ones stay in the record of the step that made them, so
that a run of many steps does not write all of them again before each wave.
"""

import json
import re

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import templates

# Every checkpoint has what is inline; a longer value costs whoever names it a call.
INLINE_BYTES = 128
# The key by which steps say how far the run is.
STATE = "state"
_WHOLE = re.compile(r"\{\{\s*context\s*\}\}")
_PLAIN = re.compile(r"[^\"'\\\x00-\x1f]+\Z")


class Context:
    """:param kept: checkpoints.Kept; slots: {key: slot}, see waves; given: the run's input."""

    def __init__(self, kept, slots, given):
        self._kept, self.slots, self.input = kept, slots, given

    def value(self, slot):
        """The value that a slot stands for. InvalidInput when its record is gone."""
        if "at" not in slot:
            return slot["v"]
        record = self._kept.record(slot["at"])
        if record is None:
            way_out = "Records are kept for two weeks; start the orchestration anew"
            raise InvalidInput("context", slot["at"], "is not in the datastore any more", way_out)
        return record["output"] if slot["name"] is None else record["context"][slot["name"]]

    def template_roots(self, needing=None, **more):
        """{context, input} for templates and conditions.

        :param needing: a JSON value; only what it may name of the context is read. None: all.
        :param more: further roots, such as output.
        """
        found = {
            name: self.value(slot)
            for name, slot in self.slots.items()
            if needing is None or _may_reference(needing, name)
        }
        found["input"] = self.input
        return dict({"context": found, "input": self.input}, **more)

    def step_input(self, step):
        """The input of a step: its mapping resolved, or what it may see of the context."""
        if step.get("input") is not None:
            return templates.render(step["input"], self.template_roots(step["input"]))
        names = step.get("context_keys") or []
        found = self.template_roots(names or None)["context"]
        return {name: found[name] for name in names if name in found} if names else found

    def output_values(self, step, output):
        """{context key: value} that the output of a step sets."""
        if step.get("output") is None:
            return {step["name"]: output}
        return templates.render(step["output"], self.template_roots(step["output"], output=output))


def make_slots(key, values):
    """{context key: slot} of the values that the record at `key` has."""
    return {name: make_slot(value, {"at": key, "name": name}) for name, value in values.items()}


def make_slot(value, elsewhere):
    """The slot of a value that the slot `elsewhere` has too: itself, where it is short."""
    return {"v": value} if len(json.dumps(value)) <= INLINE_BYTES else elsewhere


def _may_reference(needing, name):
    """Whether the text of a template or condition may speak of the context's key `name`."""
    if _PLAIN.match(name) is None:
        return True
    # What stands in quotes within a template may be written with escapes.
    text = json.dumps(needing, ensure_ascii=False)
    return name in text or "\\" in text or _WHOLE.search(text) is not None
