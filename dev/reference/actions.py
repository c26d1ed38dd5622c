"""The actions: workflows first, then by name."""
from reference.markdown import anchor, code, table, text
from reference.metadata import documents, kind_of, outputs

# What an action sets of its runner is no parameter of its own.
OF_RUNNERS = ("timeout", "debug", "content_version", "env", "log_level", "notify")


def lines():
    """The section's lines."""
    found = [document for _, document in documents("actions")]
    found.sort(key=lambda action: (action["runner_type"] != "orquesta", action["name"]))
    shown = ["## Actions", ""]
    shown += table(("action", "does"), [
        ("[%s](#%s)" % (code(one["name"]), anchor(one["name"])), text(one["description"]))
        for one in found
    ])
    for action in found:
        shown += _action(action)
    return shown


def _action(action):
    shown = ["### %s" % action["name"], "", text(action["description"]), ""]
    specs = [
        (name, spec) for name, spec in (action.get("parameters") or {}).items()
        if not spec.get("immutable") and not (name in OF_RUNNERS and "position" not in spec)
    ]
    specs.sort(key=lambda pair: (pair[1].get("position", len(specs)), pair[0]))
    shown += table(("parameter", "type", "meaning"), [_parameter(*pair) for pair in specs])
    if not specs:
        shown += ["It takes no parameters.", ""]
    told = outputs(action)
    if told:
        shown += ["Output: %s." % ", ".join(code(name) for name in told), ""]
    return shown


def _parameter(name, spec):
    meaning = text(spec.get("description"))
    if spec.get("enum"):
        meaning += " One of %s." % ", ".join(code(value) for value in spec["enum"])
    shown = code(name) + (", required" if spec.get("required") else "")
    return shown, kind_of(spec), meaning
