"""000, the README of the StackStorm pack: its commands as they stand there.

`st2` is bin/st2local where that can do it, and StackStorm's own command line, on a live StackStorm,
where it cannot: `st2 pack`, `st2 execution tail`.
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from seed_documents import block, covers, text_of
from stackstorm.conftest import _configured, box, st2  # noqa: F401

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
COMMAND_SECONDS = 180
RUN_ID = re.compile(r"^id: ?([0-9a-f]{24})$", re.M)
# StackStorm's command line prints in colours.
COLOUR = re.compile(r"\x1b\[\d+m")
STATUS = re.compile(r"^status: ?(\w+)", re.M)


class Shell:
    """Runs lines of bash in which `st2` is the program of that path.

    :ivar folder: where it runs.
    """

    def __init__(self, folder, program, **environment):
        self.folder = folder
        (folder / "bin").mkdir()
        wrapper = folder / "bin" / "st2"
        wrapper.write_text('#!/bin/sh\nexec %s "$@"\n' % shlex.quote(str(program)))
        wrapper.chmod(0o755)
        path = "%s%s%s" % (folder / "bin", os.pathsep, os.environ["PATH"])
        self._environment = dict(os.environ, PATH=path, **environment)

    def run(self, lines, good=True):
        """What it printed. AssertionError when it fails, or, with `good` false, when it does not.
        """
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines], cwd=str(self.folder), text=True,
            env=self._environment, timeout=COMMAND_SECONDS, check=False, capture_output=True)
        assert (ended.returncode == 0) is good, (lines, ended.stdout, ended.stderr)
        return COLOUR.sub("", ended.stdout if good else ended.stdout + ended.stderr)

    def result(self, printed):
        """The result of the run whose end was printed."""
        run_id = RUN_ID.search(printed).group(1)
        # StackStorm's prints the tasks of a workflow behind it.
        printed = self.run("st2 execution get %s -j" % run_id)
        return json.JSONDecoder().raw_decode(printed.lstrip())[0]["result"]["output"]


@pytest.fixture
def shell(tmp_path):
    """`st2` is bin/st2local, on the sandbox that it starts itself."""
    return Shell(tmp_path, PACK / "bin" / "st2local", ST2LOCAL_STATE=str(tmp_path / "state"),
                 ST2LOCAL_PYTHON=sys.executable)


@pytest.fixture
def live(st2, tmp_path):  # noqa: F811
    """`st2` is StackStorm's, on a live StackStorm."""
    beside = os.path.join(os.path.dirname(os.environ.get("ST2_PYTHON") or ""), "st2")
    program = shutil.which("st2") or shutil.which(beside)
    if program is None:
        pytest.skip("st2, the command line of StackStorm, is neither on PATH nor beside ST2_PYTHON")
    return Shell(tmp_path, program)


def lines_of(line, *words):
    """The commands of a block that begin with these words, comments left out."""
    text = block("000", line).text
    commands = [row for row in text.replace("\\\n", " ").splitlines()
                if row.strip() and not row.startswith("#")]
    matching = [row for row in commands if row.startswith(words)]
    assert matching, (line, words)
    return matching


# The commands.


@covers("000", 61, 74)
def test_000_61_a_copied_pack_is_there(shell):
    """`cp -r` as it stands there, below a folder of the test's own."""
    ignored = shutil.ignore_patterns(".*", "tests", "dev", "docs", "__pycache__")
    shutil.copytree(PACK, shell.folder / "stackstorm-packs" / "synthralos", ignore=ignored)
    (shell.folder / "opt/stackstorm/packs").mkdir(parents=True)
    copy, = lines_of(61, "cp ")
    shell.run(copy.replace(" /opt/", " opt/"))
    listing, = lines_of(61, "st2 action list")
    copied = "export ST2LOCAL_PACK=opt/stackstorm/packs/synthralos\n"
    assert "synthralos.agent_recovery" in shell.run(copied + listing)
    assert "synthralos.agent_recovery" in shell.run(copied + block("000", 74).text)


@covers("000", 74)
def test_000_74_verify_installation(shell):
    listing, = lines_of(74, "st2 action list")
    listing_output = shell.run(listing)
    for name in ("agent_recovery", "llm_retry", "reroute_request"):
        assert "synthralos." + name in listing_output
    assert "synthralos." not in shell.run("st2 action list --pack=core")
    details, = lines_of(74, "st2 action get")
    printed = shell.run(details)
    for name in ("agent_id", "failure_type", "original_query", "max_retries", "retry_delay"):
        assert re.search(r"^%s " % name, printed, re.M)


@covers("000", 86)
def test_000_86_execute_agent_recovery(shell):
    output = shell.result(shell.run(block("000", 86).text))
    assert output["recovery_success"] is True and output["recovery_result"]
    assert output["retry_count"] == 0


@covers("000", 97)
def test_000_97_execute_llm_retry(shell):
    output = shell.result(shell.run(block("000", 97).text))
    assert output["success"] is True and output["result"]["response"]
    assert output["attempts"] == 1 and output["final_model"] == "gpt-4"


@covers("000", 107)
def test_000_107_execute_reroute(shell):
    output = shell.result(shell.run(block("000", 107).text))
    assert output["success"] is True and output["result"]["status_code"] == 200
    assert output["final_region"] and output["final_provider"]


@covers("000", 129)
def test_000_129_testing_workflows(shell):
    run, = lines_of(129, "st2 run")
    printed = shell.run(run)
    assert STATUS.search(printed).group(1) == "succeeded"
    run_id = RUN_ID.search(printed).group(1)
    get, = lines_of(129, "st2 execution get")
    printed = shell.run(get.replace("<execution_id>", run_id))
    assert run_id in printed and STATUS.search(printed).group(1) == "succeeded"
    assert "recovery_success" in printed


# What takes a StackStorm.


@covers("000", 53)
def test_000_53_deploy_on_stackstorm(live):
    """`st2 pack install synthralos` takes a name from the Exchange's index, which this pack is not
    in: what is checked is the command, and that the pack is installed. From a git repository it is
    `st2 pack install file://<folder>`.
    """
    install, = lines_of(53, "st2 pack install")
    assert "install" in live.run(install.replace(" synthralos", " --help"))
    installed = json.loads(live.run("st2 pack get synthralos -j"))
    assert installed["name"] == "synthralos"
    assert installed["version"] == yaml.safe_load((PACK / "pack.yaml").read_text())["version"]


@covers("000", 61, 74)
def test_000_61_reload_on_stackstorm(live):
    """StackStorm has no `st2 pack reload`: `st2 pack register` does that."""
    reload, = lines_of(61, "st2 pack reload")
    assert "reload" in live.run(reload, good=False)
    register = reload.replace("st2 pack reload", "st2 pack register")
    assert "actions" in live.run(register)
    listing, = lines_of(61, "st2 action list")
    assert "synthralos.agent_recovery" in live.run(listing)
    printed = live.run(block("000", 74).text)
    assert "synthralos.agent_recovery" in printed and "original_query" in printed


@pytest.mark.parametrize("line", [86, 97, 107])
def test_000_runs_on_stackstorm(live, box, line):  # noqa: F811
    """The three `st2 run`, on the sandbox."""
    printed = live.run(block("000", line).text)
    assert STATUS.search(printed).group(1) == "succeeded"
    output = live.result(printed)
    assert output["recovery_success" if line == 86 else "success"] is True


@covers("000", 129)
def test_000_129_testing_workflows_on_stackstorm(live, box):  # noqa: F811
    run, = lines_of(129, "st2 run")
    run_id = RUN_ID.search(live.run(run)).group(1)
    get, = lines_of(129, "st2 execution get")
    assert "succeeded" in live.run(get.replace("<execution_id>", run_id))
    tail, = lines_of(129, "st2 execution tail")
    assert run_id in live.run(tail.replace("<execution_id>", run_id))


# The workflows, and the actions that they need.


def parameters_in_text(workflow):
    """{parameter: (required, default)} as the document lists them for a workflow."""
    section = text_of("000").split("(`%s`)" % workflow)[1].split("###")[0].split("## ")[0]
    rows = re.findall(r"- `(\w+)` \((required|optional)(?:, default: (\d+))?\)", section)
    return {name: (kind == "required", int(default) if default else None)
            for name, kind, default in rows}


@pytest.mark.parametrize("workflow, count", [
    ("agent_recovery", 7), ("llm_retry", 4), ("reroute_request", 4)])
def test_000_5_parameters(workflow, count):
    action = yaml.safe_load((PACK / "actions" / (workflow + ".yaml")).read_text())
    described = parameters_in_text(workflow)
    assert len(described) == count and action["runner_type"] == "orquesta"
    for name, (required, default) in described.items():
        spec = action["parameters"][name]
        assert bool(spec.get("required")) is required, name
        if default is not None:
            # max_retries has its default in the configuration, which the description says.
            assert spec.get("default", default) == default
            assert re.search(r"\b%d\.$" % default, spec["description"]), name
    # Nothing else must be given.
    assert {name for name, spec in action["parameters"].items() if spec.get("required")} == {
        name for name, (required, _) in described.items() if required}


def test_000_17_failure_types():
    types = re.search(r"Type of failure \(([^)]*)\)", text_of("000")).group(1).split(", ")
    action = yaml.safe_load((PACK / "actions/agent_recovery.yaml").read_text())
    assert len(types) == 6
    assert set(types) <= set(action["parameters"]["failure_type"]["enum"])


def test_000_21_the_default_of_max_retries():
    from synthralos.config.settings import Settings

    assert Settings.from_config({}).max_retries == 3


ACTIONS_NEEDED = re.findall(r"^- `synthralos\.(\w+)`$", text_of("000"), re.M)


def test_000_147_ten_actions():
    assert len(ACTIONS_NEEDED) == 10


@pytest.mark.parametrize("name", ACTIONS_NEEDED)
def test_000_147_actions(name):
    action = yaml.safe_load((PACK / "actions" / (name + ".yaml")).read_text())
    assert action["name"] == name and action["enabled"] is True
    assert (PACK / "actions" / action["entry_point"]).is_file()
    workflows = [path.read_text() for path in (PACK / "actions/workflows").glob("*.yaml")]
    assert any("action: synthralos.%s\n" % name in text for text in workflows)


def test_000_121_structure():
    for pattern in ("actions/*.yaml", "actions/workflows/*.yaml", "pack.yaml"):
        assert "`%s`" % pattern in text_of("000") and list(PACK.glob(pattern))
