"""Everything that starts or limits runs: triggers, sensors, rules, policies, ChatOps aliases."""
import json

from reference.markdown import code, table, text
from reference.metadata import documents, kind_of


def lines():
    """The sections' lines."""
    return _triggers() + _sensors() + _rules() + _policies() + _aliases()


def _triggers():
    section = ["## Triggers", ""]
    for _, trigger in documents("triggers"):
        section += ["### synthralos.%s" % trigger["name"], "", text(trigger["description"]), ""]
        fields = (trigger.get("payload_schema") or {}).get("properties") or {}
        section += table(("field", "type", "meaning"), [_field(*pair) for pair in fields.items()])
    return section


def _field(name, spec):
    meaning = [text(spec["description"])] if spec.get("description") else []
    if spec.get("enum"):
        meaning.append("One of %s." % ", ".join(code(value) for value in spec["enum"]))
    # StackStorm also allows null for a field that is not required.
    label = code(name) + ("" if spec.get("required") else ", may be null")
    return label, kind_of(spec), " ".join(meaning)


def _sensors():
    return ["## Sensors", ""] + table(("sensor", "does", "polls", "enabled by default"), [
        (
            "[%s](../%s)" % (code(sensor["class_name"]), path),
            text(sensor["description"]),
            "every %d s" % sensor["poll_interval"] if "poll_interval" in sensor else "listens",
            _on(sensor.get("enabled", True)),
        )
        for path, sensor in documents("sensors")
    ])


def _rules():
    return ["## Rules", ""] + table(("rule", "does", "when", "runs", "enabled by default"), [
        (
            "[%s](../%s)" % (code(rule["name"]), path),
            text(rule["description"]),
            _when(rule),
            code(rule["action"]["ref"]),
            # StackStorm's default.
            _on(rule.get("enabled", False)),
        )
        for path, rule in documents("rules")
    ])


def _when(rule):
    trigger = rule["trigger"]
    condition = code(trigger["type"])
    if trigger.get("parameters"):
        condition += " (%s)" % _pairs(trigger["parameters"])
    criteria = [
        "%s %s %s" %
        (code(name.split("#")[0]), criterion["type"], code(_value(criterion["pattern"])))
        for name, criterion in (rule.get("criteria") or {}).items()
    ]
    return condition + (", where " + " and ".join(criteria) if criteria else "")


def _policies():
    return ["## Policies", ""] + table(("policy", "does", "type", "enabled by default"), [
        (
            "[%s](../%s)" % (code(policy["name"]), path),
            "%s On %s." % (text(policy["description"]), code(policy["resource_ref"])),
            "%s: %s" % (code(policy["policy_type"]), _pairs(policy["parameters"])),
            _on(policy.get("enabled", True)),
        )
        for path, policy in documents("policies")
    ])


def _aliases():
    rows = []
    for path, alias in documents("aliases"):
        commands = []
        for entry in alias["formats"]:
            commands += [entry] if isinstance(entry, str) else entry["representation"]
        rows.append((
            "[%s](../%s)" % (code(alias["name"]), path),
            "<br>".join(code(words) for words in commands),
            code(alias["action_ref"]),
            text(alias["description"]),
        ))
    return ["## ChatOps aliases", ""] + table(("alias", "say", "runs", "does"), rows)


def _pairs(mapping):
    return ", ".join("%s %s" % (name, code(_value(mapping[name]))) for name in sorted(mapping))


def _value(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _on(enabled):
    return "yes" if enabled else "no"
