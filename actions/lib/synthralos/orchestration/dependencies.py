"""Dependencies between steps: which step waits for which, and which steps are ready.

A step with `depends_on` waits for those steps and for nothing else. A step without it has a place
in the order and waits for all steps before that place. Adjacent steps of one group share a place
and run at the same time. Steps of equal order keep the order of the list.
"""

import graphlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthralos.orchestration.step_schema import Step, WithSteps


def dependency_map(orchestration: "WithSteps") -> dict[str, list[str]]:
    """Return {step name: sorted names of the steps that it waits for}.

    A step that only has a place in the order waits for the steps of the place before. The mapping
    is sorted by priority, highest first, then by order.
    """
    ordered, graph = in_order(orchestration["steps"]), False
    waits: dict[str, list[str]] = {}
    before: list[list[str]] = []
    for unit in _groups(ordered):
        names = [step["name"] for step in unit]
        for step in unit:
            if step["depends_on"] is not None:
                waits[step["name"]] = sorted(set(step["depends_on"]))
            elif graph:
                waits[step["name"]] = sorted(name for names in before for name in names)
            else:
                waits[step["name"]] = sorted(before[-1]) if before else []
        graph = graph or any(step["depends_on"] is not None for step in unit)
        before.append(names)
    ranked = sorted(ordered, key=lambda step: -step["priority"])
    return {step["name"]: waits[step["name"]] for step in ranked}


def ready(plan: Mapping[str, Iterable[str]], completed: Iterable[str]) -> list[str]:
    """Return the names of the steps that can run now, in the order of `dependency_map`.

    :param completed: the names of the steps that need not run any more.
    """
    ended = set(completed)
    return [
        name for name, waits in plan.items() if name not in ended and ended.issuperset(waits)
    ]


def in_order(steps: "Iterable[Step]") -> "list[Step]":
    """Return the steps sorted by their order; equal ones keep their places."""
    return sorted(steps, key=lambda step: step["order"])


def find_cycle(plan: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names along a cycle, or [] if there is none.

    Each step waits for the next one, and the last name is the first again.

    :param plan: {name: names that it waits for}.
    """
    try:
        graphlib.TopologicalSorter(plan).prepare()
    except graphlib.CycleError as error:
        # graphlib names a step before the steps that wait for it.
        cycle: list[str] = error.args[1]
        return cycle[::-1]
    return []


def _groups(ordered: "list[Step]") -> "list[list[Step]]":
    """Return the lists of steps that share a place."""
    units: list[list[Step]] = []
    for step in ordered:
        group = step["group"]
        if units and group is not None and units[-1][-1]["group"] == group:
            units[-1].append(step)
        else:
            units.append([step])
    return units
