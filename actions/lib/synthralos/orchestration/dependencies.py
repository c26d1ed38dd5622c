"""Which steps wait for which, and which of them go next.

A step that says what it depends on waits for that and nothing else. One that does not has its place
in the order: it waits for all that stand before it. Adjacent steps of one group have one place, and
run at once. Equal orders are in the order of the list.
"""


def dependency_map(orchestration):
    """{step name: the sorted names that it waits for} of the steps of `orchestration`.

    Only direct neighbours are named where order alone rules: the steps of the place before. The
    mapping begins with the highest priority, then the first in order.

    :param orchestration: a mapping with `steps` in their normal form; a loop is one, too.
    """
    ordered = in_order(orchestration["steps"])
    waits, before, graph = {}, [], False
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


def ready(plan, done):
    """The names of the steps that are not done and wait for nothing else, in the order of `dependency_map`.
    """
    done = set(done)
    return [name for name, waits in plan.items() if name not in done and done.issuperset(waits)]


def in_order(steps):
    """`steps` by their order, equal ones as they stand."""
    return sorted(steps, key=lambda step: step["order"])


def find_cycle(plan):
    """Names of steps of which each waits for the next and the last is the first; [] for none."""
    left = {name: set(waits) & set(plan) for name, waits in plan.items()}
    while True:
        free = {name for name, waits in left.items() if not waits}
        if not free:
            break
        left = {name: waits - free for name, waits in left.items() if name not in free}
    if not left:
        return []
    path = [min(left)]
    while path[-1] not in path[:-1]:
        path.append(min(left[path[-1]]))
    return path[path.index(path[-1]):]


def _groups(ordered):
    """Lists of the steps that have one place."""
    units = []
    for step in ordered:
        group = step["group"]
        if units and group is not None and units[-1][-1]["group"] == group:
            units[-1].append(step)
        else:
            units.append([step])
    return units
