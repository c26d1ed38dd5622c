"""`make exchange` finds what StackStorm Exchange would refuse; what only reads files passes here.
"""
import configparser
import json
import shutil
import struct
import subprocess

import pytest
import yaml
from fixtures import PACK

from exchange import static, tools
from exchange.__main__ import CHECKS
from exchange.__main__ import PACK as CHECKED
from exchange.files import files

READING = (
    static.metadata, static.compiles, static.licence, static.syntax, static.example_config,
    static.icon,
)


@pytest.mark.parametrize("check", READING, ids=lambda check: check.__name__)
def test_the_pack_passes(check):
    assert check(PACK) == []


def test_the_command_checks_this_pack_and_runs_every_check():
    assert CHECKED == PACK
    assert {check for check, _ in CHECKS.values()} >= set(READING)


@pytest.fixture
def other(tmp_path):
    """A pack that passes, small enough to break."""
    about = {"name": "acme", "description": "d", "version": "1.0.0", "author": "a"}
    about["python_versions"] = ["3"]
    (tmp_path / "pack.yaml").write_text(yaml.safe_dump(about))
    (tmp_path / "config.schema.yaml").write_text("{}\n")
    (tmp_path / "acme.yaml.example").write_text("---\n")
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "a.py").write_text("x = 1\n")
    for name in ("LICENSE", "icon.png"):
        shutil.copy(str(PACK / name), str(tmp_path / name))
    assert [line for check in READING for line in check(tmp_path)] == []
    return tmp_path


def _about(other, **changed):
    about = dict(yaml.safe_load((other / "pack.yaml").read_text()), **changed)
    (other / "pack.yaml").write_text(yaml.safe_dump(about))


def test_metadata(other):
    _about(other, version="1.0", author="", name="Acme", python_versions=["2"])
    text = " ".join(static.metadata(other))
    for field in ("author is missing", "ref,", "version '1.0'", "python_versions"):
        assert field in text
    (other / "pack.yaml").unlink()
    assert static.metadata(other) == ["pack.yaml is missing"]


def test_compiles(other):
    (other / "actions" / "b.py").write_text("def\n")
    [error] = static.compiles(other)
    assert error.startswith("actions/b.py: ")


def test_licence(other):
    (other / "LICENSE").write_text("MIT License\n")
    assert len(static.licence(other)) == len(static.LICENCE)
    (other / "LICENSE").unlink()
    assert static.licence(other) == ["LICENSE is missing"]


@pytest.mark.parametrize("name, text", [
    ("a.yaml", "a: [\n"), ("a.yml", "a: 1\n---\nb: 2\n"), ("actions/a.json", "{"),
])
def test_syntax(other, name, text):
    (other / name).write_text(text)
    [error] = static.syntax(other)
    assert error.startswith(name + ": ")


def test_what_is_hidden_at_the_top_is_not_read(other):
    (other / ".cache").mkdir()
    (other / ".cache" / "a.json").write_text("{")
    assert static.syntax(other) == []
    (other / "actions" / ".a.json").write_text("{")
    assert static.syntax(other) != []


def test_example_config(other):
    (other / "second.yaml.example").write_text("---\n")
    assert "second" in static.example_config(other)[0]


@pytest.mark.parametrize("size", [(32, 32), (128, 64)])
def test_icon(other, size):
    content = (other / "icon.png").read_bytes()
    (other / "icon.png").write_bytes(content[:16] + struct.pack(">II", *size) + content[24:])
    [error] = static.icon(other)
    assert "%d x %d" % size in error
    (other / "icon.png").write_bytes(b"GIF89a")
    assert "not a PNG" in static.icon(other)[0]


def test_versions_compare_as_semver_says():
    rising = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11",
              "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]
    versions = [static.version(text) for text in rising]
    assert versions == sorted(versions) and len(set(map(str, versions))) == len(versions)
    assert static.version("1.0") is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_pull_request_changes_version_and_change_log(other):
    def git(*words):
        as_somebody = ["git", "-C", str(other), "-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(as_somebody + list(words), check=True, stdout=subprocess.DEVNULL)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert tools.release(other, "HEAD") == []
    (other / "actions" / "a.py").write_text("x = 2\n")
    git("commit", "-qam", "second")
    text = " ".join(tools.release(other, "HEAD~1"))
    for word in ("pack.yaml was not", "CHANGES.md was not", "must be above"):
        assert word in text
    _about(other, version="1.0.1")
    (other / "CHANGES.md").write_text("# Changes\n")
    git("add", ".")
    git("commit", "-qm", "third")
    assert tools.release(other, "HEAD~2") == []


def test_the_linters_see_every_file_and_follow_the_exchange():
    rules = configparser.ConfigParser()
    rules.read(str(PACK / ".flake8"))
    settings = {key: rules["flake8"][key] for key in ("max-line-length", "select", "ignore")}
    assert settings == {
        "max-line-length": "100", "select": "E,F,W,C,L", "ignore": "E128,E402,E722,W504",
    }
    paths = {str(path) for path in files(PACK, ".py")}
    assert {"dev/exchange/tools.py", "actions/call_llm.py", "tests/conftest.py"} <= paths


def test_stackstorm_s_own_modules_count_where_a_checkout_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("ST2_REPO_PATH", raising=False)
    assert all((PACK / folder).is_dir() for folder in tools.stackstorm(PACK))
    for folder in ("st2common", "contrib/runners/python_runner"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("ST2_REPO_PATH", str(tmp_path))
    assert [path[len(str(tmp_path)) + 1:] for path in tools.stackstorm(PACK)] == [
        "st2common", "contrib/runners/python_runner",
    ]


def test_both_workflows_of_the_exchange_test_the_same():
    folder = PACK / ".github" / "workflows"
    jobs = [
        yaml.safe_load((folder / name).read_text())["jobs"]["build_and_test"]
        for name in ("build_and_test.yaml", "release.yaml")
    ]
    assert jobs[0] == jobs[1]
    ours = yaml.safe_load((folder / "ci.yaml").read_text())["jobs"]["test"]
    versions = ours["strategy"]["matrix"]["python-version"]
    assert set(json.loads(jobs[0]["with"]["python-version"])) <= set(versions)
    assert versions == ["3.9", "3.10", "3.11", "3.12"]
