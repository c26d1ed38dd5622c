"""What a model takes: from the configuration, and by default from the family of its name.

The facts are in `model_families.json`, with their sources. What is unknown is tried.
"""

import functools
import json
import pathlib
import re
from dataclasses import dataclass, fields
from typing import Any, Optional

_FAMILIES_FILE = pathlib.Path(__file__).with_name("model_families.json")
# Of the entry `capabilities` of a model: what it says of these traits.
_CAPABILITY_OF_TRAIT = {"vision": "vision", "tools": "tools"}


@dataclass(frozen=True)
class ModelTraits:
    """What a model takes; None is unknown, and tried.

    :ivar vision: pictures. files: documents. tools: calls of functions.
    :ivar json_mode: to be told to answer in JSON, by a field of the request.
    :ivar json_schema: to be told the schema of its answer, by a field of the request.
    :ivar json_with_tools: both at once.
    :ivar addresses: pictures by their address.
    :ivar prefill: a conversation that ends with words of the assistant.
    :ivar thinking: how its reasoning is controlled: by an "effort", a "level", a "budget" in
        tokens, "adaptive"-ly, or "none" if it has no reasoning.
    :ivar efforts: the values of reasoning_effort that it knows; empty if unknown.
    :ivar always_thinks: whether it reasons unless told otherwise.
    :ivar refuses: names of parameters that it refuses.
    :ivar refuses_too: further ones, whatever the effort.
    :ivar refuses_only_when_thinking: whether it takes `refuses` while no effort is requested.
    :ivar exclusive_sampling: whether it takes temperature or top_p, but not both.
    :ivar max_temperature: the highest temperature.
    :ivar token_limit: the name of the limit of the answer in OpenAI's API.
    :ivar developer_role: whether it knows messages of the role `developer`.
    :ivar thought_signatures: whether calls must come back with the signature of their thought.
    :ivar call_id: "nine_alphanumeric" where ids of calls have to be that.
    """

    vision: Optional[bool] = None
    files: Optional[bool] = None
    tools: Optional[bool] = None
    json_mode: Optional[bool] = None
    json_schema: Optional[bool] = None
    json_with_tools: Optional[bool] = None
    addresses: Optional[bool] = None
    prefill: Optional[bool] = None
    thinking: Optional[str] = None
    efforts: tuple[str, ...] = ()
    always_thinks: bool = False
    refuses: tuple[str, ...] = ()
    refuses_too: tuple[str, ...] = ()
    refuses_only_when_thinking: bool = False
    exclusive_sampling: bool = False
    max_temperature: Optional[float] = None
    token_limit: Optional[str] = None
    developer_role: Optional[bool] = None
    thought_signatures: bool = False
    call_id: Optional[str] = None

    def refused(self, name: str, effort: Optional[str]) -> bool:
        """Return whether the model refuses the parameter `name`.

        :param effort: the request's reasoning_effort, or None.
        """
        if name in self.refuses_too:
            return True
        is_thinking = effort not in (None, "none")
        return name in self.refuses and (is_thinking or not self.refuses_only_when_thinking)


@functools.lru_cache(maxsize=256)
def traits_of(name: str, capabilities: Optional[tuple[str, ...]] = None) -> ModelTraits:
    """Return the traits of a model.

    :param name: as its provider knows it.
    :param capabilities: of the configuration, which then lists all of them; None if it has none.
    """
    facts: dict[str, Any] = {}
    for pattern, family_facts in _families():
        if pattern.search(name.lower()):
            facts.update(family_facts)
    if capabilities is not None:
        facts.update(
            (trait, capability in capabilities)
            for trait, capability in _CAPABILITY_OF_TRAIT.items()
        )
        if "json" not in capabilities:
            facts.update(json_mode=False, json_schema=False)
        if "reasoning" not in capabilities:
            facts["thinking"] = "none"
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()
    }
    return ModelTraits(**values)


@functools.lru_cache(maxsize=1)
def _families() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    data = json.loads(_FAMILIES_FILE.read_text(encoding="utf-8"))
    trait_names = {field.name for field in fields(ModelTraits)}
    families = []
    for family in data["families"]:
        assert set(family["facts"]) <= trait_names, family
        families.append((re.compile(family["names"]), family["facts"]))
    return families
