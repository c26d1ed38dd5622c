"""The actions: workflows first, then by name."""
from reference.markdown import anchor, code, table, text
from reference.metadata import documents, kind_of, outputs

# Parameters of the runner that an action sets are not the action's own.
OF_RUNNERS = ("timeout", "debug", "content_version", "env", "log_level", "notify")


def lines():
    """The section's lines."""
    actions = [document for _, document in documents("actions")]
    actions.sort(key=lambda action: (action["runner_type"] != "orquesta", action["name"]))
    section = ["## Actions", ""]
    section += table(("action", "does"), [
        ("[%s](#%s)" % (code(action["name"]), anchor(action["name"])), text(action["description"]))
        for action in actions
    ])
    for action in actions:
        section += _action(action)
    return section


def _action(action):
    section = ["### %s" % action["name"], "", text(action["description"]), ""]
    specs = [
        (name, spec) for name, spec in (action.get("parameters") or {}).items()
        if not spec.get("immutable") and not (name in OF_RUNNERS and "position" not in spec)
    ]
    specs.sort(key=lambda pair: (pair[1].get("position", len(specs)), pair[0]))
    section += table(("parameter", "type", "meaning"), [_parameter(*pair) for pair in specs])
    if not specs:
        section += ["It takes no parameters.", ""]
    output_names = outputs(action)
    if output_names:
        section += ["Output: %s." % ", ".join(code(name) for name in output_names), ""]
    return section


def _parameter(name, spec):
    meaning = text(spec.get("description"))
    if spec.get("enum"):
        meaning += " One of %s." % ", ".join(code(value) for value in spec["enum"])
    label = code(name) + (", required" if spec.get("required") else "")
    return label, kind_of(spec), meaning
