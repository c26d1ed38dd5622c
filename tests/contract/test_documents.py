"""Configuration, requirements, YAML and the documents that people read."""
import re

import pytest
import yaml
from fixtures import PACK
from pack_files import ABOUT, ACTIONS, files, metadata, read

YAML = sorted(str(path) for path in files(".yaml", ".yml", ".yaml.example"))
REQUIREMENTS = sorted(
    str(path) for path in files(".txt") if path.name.startswith("requirements")
)
DOCUMENTS = ["README.md", "CHANGES.md"] + sorted(
    "docs/" + path.name for path in (PACK / "docs").glob("*.md")
)
_REQUIREMENT = re.compile(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z,]+\])?((==|>=|<=|<|>|~=|!=)[\w.*]+,?)*\Z"
)


@pytest.mark.parametrize("path", YAML)
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
    from synthralos.settings import Settings

    settings = Settings.from_config(read("synthralos.yaml.example"))
    assert settings.platforms and settings.providers and settings.routes
    assert settings.secrets() == []


def test_the_defaults_of_the_config_schema_are_the_library_s():
    from synthralos.settings import Settings

    defaults = _defaults({"type": "object", "properties": read("config.schema.yaml")})
    bare = {"base_url": "https://agents.example.com"}
    said = dict(defaults, platform=dict(defaults["platform"], **bare))
    said, plain = Settings.from_config(said), Settings.from_config({"platform": bare})
    for name, value in vars(plain).items():
        # What is kept as it was given, for others to read, has its defaults there.
        if value != {}:
            assert getattr(said, name) == value


def _defaults(spec):
    if "default" in spec:
        return spec["default"]
    if spec.get("type") != "object":
        return None
    found = {name: _defaults(below) for name, below in (spec.get("properties") or {}).items()}
    return {name: value for name, value in found.items() if value is not None}


def test_the_wire_formats_of_the_config_schema_are_the_library_s():
    from synthralos.settings import APIS

    provider = read("config.schema.yaml")["providers"]["items"]["properties"]
    assert provider["api"]["enum"] == list(APIS)


def test_the_change_log_begins_with_the_version():
    headings = re.findall(r"^## (\S+)", (PACK / "CHANGES.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == ABOUT["version"]
    assert len(headings) == len(set(headings))


def test_the_readme_names_every_action_and_trigger():
    text = (PACK / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.]+)`", text))
    assert set(ACTIONS) - named == set()
    triggers = {"synthralos." + one["name"] for one in metadata("triggers").values()}
    assert triggers - named == set()


def test_the_readme_names_the_stackstorm_it_needs():
    text = (PACK / "README.md").read_text(encoding="utf-8")
    floor = re.match(r">=(\d+\.\d+)", ABOUT["stackstorm_version"]).group(1)
    assert "StackStorm %s" % floor in text


def test_the_architecture_names_every_folder_of_the_library():
    library = PACK / "actions" / "lib" / "synthralos"
    folders = {path.parent.name for path in library.glob("*/*.py")}
    assert folders == set(re.findall(r"^\| `(\w+)/` \|", _text("docs/architecture.md"), re.M))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_place_that_a_document_names_is_there(name):
    for link in re.findall(r"\]\(([^)#:]+)[#)]", _text(name)):
        assert ((PACK / name).parent / link).exists(), "%s links to %s" % (name, link)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_test_that_a_document_names_is_there(name):
    for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", _text(name)):
        assert (PACK / file).is_file(), file
        assert not test or "def %s(" % test in _text(file), "%s::%s" % (file, test)


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
