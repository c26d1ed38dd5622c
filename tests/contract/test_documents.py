"""Configuration, requirements, YAML and the documents that people read."""
import dataclasses
import re

import pytest
import yaml
from fixtures import PACK
from fixtures.check_each import check_each
from pack_files import ABOUT, ACTIONS, WORKFLOWS, files, metadata, read

from reference import markdown
from reference.metadata import outputs

YAML = sorted(str(path) for path in files(".yaml", ".yml", ".yaml.example"))
REQUIREMENTS = sorted(
    str(path) for path in files(".txt") if path.name.startswith("requirements")
)
PAGES = sorted("docs/" + path.name for path in (PACK / "docs").glob("*.md"))
DOCUMENTS = ["README.md", "CHANGES.md", "CONTRIBUTING.md"] + PAGES
GENERATED = ("docs/reference.md",)
# What people wrote for users: README.md and the pages of docs/ that no program makes.
HANDWRITTEN = ["README.md"] + [name for name in PAGES if name not in GENERATED]
README_BYTES = 10_240
# The runs of the first document of the pack, to the letter.
FIRST_RUNS = (
    """\
st2 run synthralos.agent_recovery \\
  agent_id="agent_123" \\
  failure_type="timeout" \\
  original_query="What is the weather?" \\
  max_retries=3 \\
  retry_delay=5
""",
    """\
st2 run synthralos.llm_retry \\
  original_request='{"prompt": "Hello", "model": "gpt-4"}' \\
  failure_reason="Rate limit exceeded" \\
  max_retries=3 \\
  fallback_models='["gpt-3.5-turbo", "claude-3-haiku"]'
""",
    """\
st2 run synthralos.reroute_request \\
  original_request='{"endpoint": "/api/v1/llm", "model": "gpt-4"}' \\
  failure_reason="Region unavailable" \\
  fallback_regions='["eu-west-1", "us-west-2"]' \\
  fallback_providers='["anthropic", "google"]'
""",
)
_REQUIREMENT = re.compile(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z,]+\])?((==|>=|<=|<|>|~=|!=)[\w.*]+,?)*\Z"
)


@check_each("path", YAML)
def test_yaml_is_one_document(path):
    with open(PACK / path, encoding="utf-8") as file:
        assert len(list(yaml.safe_load_all(file))) == 1


@pytest.mark.parametrize("path", REQUIREMENTS)
def test_requirements(path):
    lines = (PACK / path).read_text(encoding="utf-8").splitlines()
    for line in lines:
        line = line.split("#")[0].strip()
        if line.startswith("-r "):
            assert ((PACK / path).parent / line[3:]).is_file()
        elif line:
            requirement, _, marker = line.partition(";")
            assert _REQUIREMENT.match(requirement.replace(" ", "")), line
            assert not marker or "python_version" in marker


def test_there_is_one_example_config():
    """StackStorm Exchange's check takes exactly one."""
    assert [path.name for path in PACK.glob("*.yaml.example")] == ["synthralos.yaml.example"]


def test_the_example_config_is_valid():
    pytest.importorskip("jsonschema", "2.0", reason="jsonschema is not installed")
    from st2local.validation import check

    schema = read("config.schema.yaml")
    declared = {
        "type": "object", "properties": schema, "additionalProperties": False,
    }
    try:
        check(read("synthralos.yaml.example"), declared)
    except AttributeError:
        pytest.skip("st2local needs jsonschema 2.6; test_registration.py asks StackStorm itself")


def test_the_example_config_is_understood():
    from synthralos.config.settings import Settings

    settings = Settings.from_config(read("synthralos.yaml.example"))
    assert settings.platforms and settings.providers and settings.routes
    assert settings.secrets() == []


def test_the_defaults_of_the_config_schema_are_the_library_s():
    from synthralos.config.settings import Settings

    defaults = _defaults({"type": "object", "properties": read("config.schema.yaml")})
    bare = {"base_url": "https://agents.example.com"}
    platform = _defaults(read("config.schema.yaml")["platforms"]["items"])
    configured = Settings.from_config(dict(defaults, platforms=[dict(platform, **bare)]))
    plain = Settings.from_config({"platforms": [bare]})
    for name, value in vars(plain).items():
        # What is kept as it was given, for others to read, has its defaults there.
        if value != {}:
            assert getattr(configured, name) == value


def _defaults(spec):
    if "default" in spec:
        return spec["default"]
    if spec.get("type") != "object":
        return None
    defaults = {name: _defaults(inner) for name, inner in (spec.get("properties") or {}).items()}
    return {name: value for name, value in defaults.items() if value is not None}


def test_the_apis_of_platforms_in_the_config_schema_are_the_library_s():
    from synthralos.calls.agent_platforms import PLATFORM_CLASSES
    from synthralos.config import platforms

    entries = read("config.schema.yaml")["platforms"]["items"]["properties"]
    assert entries["api"]["enum"] == list(PLATFORM_CLASSES) == list(platforms.PLATFORM_APIS)
    for api, names in platforms.ENTRIES_OF_API.items():
        assert all(entries[name]["description"].startswith(api + " - ") for name in names)
    fields = {field.name for field in dataclasses.fields(platforms.Platform)}
    assert fields - {"connection", "standby_of"} <= set(entries)
    assert entries["output"]["enum"] == list(platforms.OUTPUTS)
    assert entries["protocol_version"]["enum"] == list(platforms.PROTOCOL_VERSIONS)
    assert entries["binding"]["enum"] == list(platforms.BINDINGS)


def test_the_wire_formats_of_the_config_schema_are_the_library_s():
    from synthralos.config.settings import APIS

    provider = read("config.schema.yaml")["providers"]["items"]["properties"]
    assert provider["api"]["enum"] == list(APIS)


def test_the_change_log_begins_with_the_version():
    headings = re.findall(r"^## (\S+)", (PACK / "CHANGES.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == ABOUT["version"]
    assert len(headings) == len(set(headings))


def test_readme_and_written_pages_name_every_action_and_trigger():
    names = set(re.findall(r"`([\w.]+)`", "\n".join(_text(name) for name in HANDWRITTEN)))
    assert set(ACTIONS) - names == set()
    triggers = {"synthralos." + trigger["name"] for trigger in metadata("triggers").values()}
    assert triggers - names == set()


def test_the_automation_page_has_a_row_for_each_rule_and_sensor():
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", _text("docs/automation.md"), re.M))
    cells = set(re.findall(r"`(\w+)`", rows))
    assert {rule["name"] for rule in metadata("rules").values()} - cells == set()
    assert {sensor["class_name"] for sensor in metadata("sensors").values()} - cells == set()


@pytest.mark.parametrize("name", ["README.md", "docs/installation.md"])
def test_the_stackstorm_that_the_pack_needs_is_named(name):
    floor = re.match(r">=(\d+\.\d+)", ABOUT["stackstorm_version"]).group(1)
    assert "StackStorm %s" % floor in _text(name)


def test_the_readme_is_one_page_with_a_picture_and_a_command_for_each_workflow():
    text = _text("README.md")
    assert len(text.encode("utf-8")) <= README_BYTES
    assert re.search(r"!\[[^\]]+\]\(docs/images/\w+\.png\)", text)
    for name in WORKFLOWS:
        assert re.search(r"^st2 run synthralos\.%s " % re.escape(name), text, re.M), name
    for run in FIRST_RUNS:
        assert run in text


def test_the_results_page_has_the_outputs_of_each_workflow():
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.+) \|$", _text("docs/results.md"), re.M))
    assert set(rows) == set(WORKFLOWS)
    for name, action in WORKFLOWS.items():
        # What is in brackets is within an output.
        top = re.sub(r"\{[^}]*\}|\[[^]]*\]|\([^)]*\)", "", rows[name])
        named = {word.strip() for word in top.replace(" or ", ",").split(",")}
        assert named == set(outputs(action)), name


def test_the_index_leads_to_every_page():
    links = set(re.findall(r"\]\(([^)#]+)\)", _text("docs/index.md")))
    assert {name.partition("/")[2] for name in PAGES} - {"index.md"} <= links
    assert "docs/index.md" in re.findall(r"\]\(([^)#]+)\)", _text("README.md"))


@check_each("name", DOCUMENTS)
def test_every_place_that_a_document_names_is_there(name):
    for link in re.findall(r"\]\(([^)#:]+)[#)]", _text(name)):
        assert ((PACK / name).parent / link).exists(), "%s links to %s" % (name, link)


@check_each("name", DOCUMENTS)
def test_every_heading_that_a_document_links_to_is_there(name):
    for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", _text(name)):
        page = ((PACK / name).parent / link) if link else PACK / name
        headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
        anchors = {markdown.anchor(heading) for heading in headings}
        assert anchor in anchors, "%s links to %s#%s" % (name, link, anchor)


@check_each("name", DOCUMENTS)
def test_every_test_that_a_document_names_is_there(name):
    for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", _text(name)):
        assert (PACK / file).is_file(), file
        assert not test or "def %s(" % test in _text(file), "%s::%s" % (file, test)


@check_each("name", [name for name in DOCUMENTS if name != "CHANGES.md"])
def test_every_path_that_a_document_names_is_there(name):
    folders = "actions|aliases|bin|dev|docs|examples|policies|rules|sensors|tests|triggers"
    for path in re.findall(r"`((?:%s)/[\w./*<>-]*)(?:::\w+)?`" % folders, _text(name)):
        assert list(PACK.glob(re.sub(r"<\w+>", "*", path).rstrip("/"))), path


def _text(name):
    return (PACK / name).read_text(encoding="utf-8")


def test_no_merge_is_left_half_done():
    for path in sorted(PACK.glob("*.md")) + sorted(PACK.glob("docs/**/*.md")):
        marks = re.findall("^(?:<{7}|={7}$|>{7}).*", path.read_text(encoding="utf-8"), re.M)
        assert not marks, path


def test_the_licence():
    text = (PACK / "LICENSE").read_text(encoding="utf-8")
    for words in ("Apache License", "Version 2.0", "www.apache.org/licenses/LICENSE-2.0"):
        assert words in text
