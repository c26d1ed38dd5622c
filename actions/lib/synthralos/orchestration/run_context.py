"""The context of a run: its input and the outputs of its steps, read on demand.

Short values are in the state itself. Long ones stay in the record of the step that produced them,
so that a run of many steps does not write all of them again before each wave.
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import templates

if TYPE_CHECKING:
    from synthralos.orchestration.run_store import RunStore
    from synthralos.orchestration.scheduler import Slot
    from synthralos.orchestration.step_schema import Step

# Every checkpoint contains the inline values; reading a longer one costs a datastore call.
INLINE_BYTES = 128
# The context key in which steps report the progress of the run.
STATE = "state"
_WHOLE = re.compile(r"\{\{\s*context\s*\}\}")
_PLAIN = re.compile(r"[^\"'\\\x00-\x1f]+\Z")


class Context:
    """The values that the templates and conditions of a run can reference.

    :param slots: {context key: slot}.
    """

    def __init__(self, run_store: "RunStore", slots: "dict[str, Slot]", run_input: Any) -> None:
        self._run_store, self.slots, self.input = run_store, slots, run_input

    def value(self, slot: "Slot") -> Any:
        """Return the value of a slot.

        :raises InvalidInput: its record has expired.
        """
        if "at" not in slot:
            return slot["v"]
        record = self._run_store.record(slot["at"])
        if record is None:
            hint = "Records are stored for two weeks; start the orchestration again"
            raise InvalidInput("context", slot["at"], "is no longer in the datastore", hint)
        if slot["name"] is None:
            return record["output"]
        values: dict[str, Any] = record["context"] or {}
        return values[slot["name"]]

    def template_roots(self, needing: Any = None, **more: Any) -> dict[str, Any]:
        """Return the roots {context, input} for templates and conditions.

        :param needing: a JSON value; only the context keys that it may reference are read. None
            reads all of them.
        :param more: further roots, such as output.
        """
        values = {
            name: self.value(slot)
            for name, slot in self.slots.items()
            if needing is None or _may_reference(needing, name)
        }
        values["input"] = self.input
        return dict({"context": values, "input": self.input}, **more)

    def step_input(self, step: "Step") -> Any:
        """Return the input of a step: its rendered mapping, else the context that it may see."""
        if step.get("input") is not None:
            return templates.render(step["input"], self.template_roots(step["input"]))
        names = step.get("context_keys") or []
        values = self.template_roots(names or None)["context"]
        return {name: values[name] for name in names if name in values} if names else values

    def output_values(self, step: "Step", output: Any) -> dict[str, Any]:
        """Return {context key: value} that the output of a step sets."""
        if step.get("output") is None:
            return {step["name"]: output}
        values: dict[str, Any] = templates.render(
            step["output"], self.template_roots(step["output"], output=output)
        )
        return values


def make_slots(key: str, values: Mapping[str, Any]) -> "dict[str, Slot]":
    """Return {context key: slot} for the values in the record at `key`."""
    return {name: make_slot(value, {"at": key, "name": name}) for name, value in values.items()}


def make_slot(value: Any, elsewhere: "Slot") -> "Slot":
    """Return the slot of a value: inline if it is short, else the slot `elsewhere`."""
    return {"v": value} if len(json.dumps(value)) <= INLINE_BYTES else elsewhere


def _may_reference(needing: Any, name: str) -> bool:
    """Return whether a template or condition may reference the context key `name`."""
    if _PLAIN.match(name) is None:
        return True
    # A quoted key in a template may contain escapes.
    text = json.dumps(needing, ensure_ascii=False)
    return name in text or "\\" in text or _WHOLE.search(text) is not None
