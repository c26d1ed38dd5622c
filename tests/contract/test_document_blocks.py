"""What README.md, CONTRIBUTING.md and docs/*.md have people type: commands, configuration, imports.

Each `st2 run` must be one that StackStorm accepts: an action of the pack, with parameters that it
declares, of their types.
"""
import importlib
import json
import re
import shlex

import pytest
import yaml
from fixtures import PACK
from fixtures.check_each import check_each
from pack_files import ACTIONS, metadata, read, unacceptable

PAGES = ["README.md", "CONTRIBUTING.md"] + sorted(
    "docs/" + path.name for path in (PACK / "docs").glob("*.md")
)
SCHEMA = {"properties": read("config.schema.yaml")}
RULES = {rule["name"] for rule in metadata("rules").values()}
SENSORS = {sensor["class_name"] for sensor in metadata("sensors").values()}
_ID = "5f0c000000000000000000aa"


def _blocks(text, language):
    """The contents of the fenced blocks of a language, without their indentation."""
    fenced = re.findall(r"^( *)```%s\n(.*?)^\1```$" % language, text, re.M | re.S)
    return [re.sub("^" + indent, "", block, flags=re.M) for indent, block in fenced]


def _commands(text):
    """(command line, whether it is whole) of the shell blocks; of code spans, not whole."""
    for block in _blocks(text, "bash"):
        # A substitution is base64 of something; a name in angle brackets is filled in by people.
        block = re.sub(r"\$\([^()]*\)", "eA==", block)
        block = re.sub(r"<[\w ]+>", _ID, block)
        for line in _lines(block):
            yield line, True
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    for span in re.findall(r"`([^`\n]+)`", prose):
        if re.match(r"(bin/)?st2", span):
            yield re.sub(r"<[^<>]*>", _ID, span), False


def _lines(block):
    """The command lines of a block: a quote may hold line breaks, a backslash joins lines."""
    line = ""
    for part in block.replace("\\\n", " ").split("\n"):
        line = line + "\n" + part if line else part
        try:
            shlex.split(line, comments=True)
        except ValueError:
            continue
        yield line
        line = ""
    assert not line, "a quote stays open: %s" % line


def _runs(text):
    """(action, {parameter: text}, whether the command is whole) of each run of an action."""
    for line, is_complete in _commands(text):
        for match in re.finditer(r"\b(?:st2|st2local) run (?=synthralos\.)", line):
            words = shlex.split(line[match.end():], comments=True)
            action = words[0].rstrip(";").split(".", 1)[1]
            values = {}
            for word in words[1:]:
                if word in ("|", "||", "&&", ">", ";", "done"):
                    break
                if not word.startswith("-"):
                    name, equals, value = word.rstrip(";").partition("=")
                    assert equals, "%s: %r is no parameter" % (action, word)
                    values[name] = value
            yield action, values, is_complete


def _problem(action, values):
    """Why StackStorm would refuse `values`, texts by parameter; `...` stands for a good one."""
    specs = ACTIONS[action].get("parameters") or {}
    typed = {
        # StackStorm takes null for a value of any type.
        name: None if value == "..." else _typed(specs.get(name) or {}, value)
        for name, value in values.items()
    }
    return unacceptable(ACTIONS[action], typed)


def _typed(spec, text):
    """`text` as the st2 command sends it."""
    kind = spec.get("type")
    if kind == "array" and not text.startswith("["):
        return text.split(",")
    return json.loads(text) if kind in ("array", "boolean", "integer", "number", "object") else text


@check_each("page", PAGES)
def test_each_run_is_one_that_stackstorm_accepts(page):
    for action, values, is_complete in _runs(_text(page)):
        assert action in ACTIONS, "%s runs synthralos.%s" % (page, action)
        problem = _problem(action, values)
        # In a sentence the rest may be left out.
        if is_complete or problem is None or not problem.endswith(" is missing"):
            assert problem is None, "%s: synthralos.%s: %s" % (page, action, problem)


def test_there_are_runs_to_check():
    runs = [action for page in PAGES for action, _, _ in _runs(_text(page))]
    assert len(runs) > 60 and len(set(runs)) > 30


@pytest.mark.parametrize("line, problem", [
    ("st2 run synthralos.llm_retry", "original_request is missing"),
    ("st2 run synthralos.ticket.list nonsense=1", "nonsense is not declared"),
    ("st2 run synthralos.handle_error agent_id=a error='[]'", "error: [] must be of type object"),
])
def test_a_wrong_run_is_noticed(line, problem):
    (action, values, _), = _runs("```bash\n%s   # a comment\n```" % line)
    assert _problem(action, values) == problem


@check_each("page", PAGES)
def test_what_is_enabled_exists(page):
    for line, _ in _commands(_text(page)):
        switched = re.findall(r"st2 (rule|sensor) (?:enable|disable) synthralos\.(\w+)", line)
        for kind, name in switched:
            assert name in (RULES if kind == "rule" else SENSORS), name
        for action in re.findall(r"--action(?:-ref)?=synthralos\.([\w.]+)", line):
            assert action in ACTIONS, action


@check_each("page", PAGES)
def test_each_make_target_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (PACK / "Makefile").read_text(encoding="utf-8"), re.M))
    text = _text(page)
    named = set(re.findall(r"`make ([a-z]+)", text))
    for block in _blocks(text, "bash"):
        named |= set(re.findall(r"^make ([a-z]+)", block, re.M))
    assert named <= targets


@check_each("page", PAGES)
def test_each_yaml_block_is_yaml_and_configuration_is_declared(page):
    for block in _blocks(_text(page), "yaml"):
        document = yaml.safe_load(block)
        if isinstance(document, dict) and set(document) <= set(SCHEMA["properties"]):
            assert _undeclared(document, SCHEMA, "") == []


def _undeclared(value, spec, path):
    """The paths in `value` for which the schema `spec` has no entry."""
    if isinstance(value, dict) and "properties" in spec:
        names = []
        for name, inner in value.items():
            entry = spec["properties"].get(name, spec.get("additionalProperties"))
            if not isinstance(entry, dict):
                names.append(path + name)
            else:
                names += _undeclared(inner, entry, "%s%s." % (path, name))
        return names
    if isinstance(value, list) and isinstance(spec.get("items"), dict):
        return [name for item in value for name in _undeclared(item, spec["items"], path)]
    return []


def test_an_entry_that_is_not_declared_is_noticed():
    document = {"providers": [{"name": "a", "models": [{"nam": "b"}]}], "metrics": {"push": {}}}
    assert _undeclared(document, SCHEMA, "") == ["providers.models.nam", "metrics.push"]


@check_each("page", PAGES)
def test_what_python_examples_import_exists(page):
    for block in _blocks(_text(page), "python"):
        for module, names in re.findall(r"^from (synthralos[\w.]*) import (.+)$", block, re.M):
            for name in names.split(","):
                home = importlib.import_module(module)
                if not hasattr(home, name.strip()):
                    importlib.import_module("%s.%s" % (module, name.strip()))


def _text(page):
    return (PACK / page).read_text(encoding="utf-8")
