"""docs/automation.md, "From zero to: a full disk repairs itself", command by command."""
import re
import shlex

import pytest
import yaml
from fixtures import PACK, foreign_packs
from fixtures.waiting import ENDED, until

from sandbox import ok
from st2local import arguments

HEADING = "## From zero to: a full disk repairs itself"
SERIES = {"instance": "web-1:9100", "mountpoint": "/var", "fstype": "ext4", "job": "node"}


def section():
    text = (PACK / "docs" / "automation.md").read_text(encoding="utf-8")
    return text.partition(HEADING)[2].partition("\n## ")[0]


def blocks(language):
    fenced = re.findall(r"^( *)```%s\n(.*?)^\1```$" % language, section(), re.M | re.S)
    return [re.sub("^" + indent, "", block, flags=re.M) for indent, block in fenced]


def commands(run=""):
    """The command lines of the section, in order, as words; `run` is the id that people fill in."""
    lines = re.sub("<(execution|approval) id>", run, "".join(blocks("bash"))).splitlines()
    return [shlex.split(line, comments=True) for line in lines]


class Reader:
    """Types the commands of the section.

    :ivar disk_is_full: whether /var of web-1 is; freed by the actions in `helps`.
    """

    def __init__(self, world):
        self.world, self.disk_is_full, self.helps = world, True, ["vacuum_journal"]
        world.packs = foreign_packs.write(world.folder / "packs", world.box.url("/hook/actions"))
        world.box.script("hook:actions", [self._act], forever=True)
        (documented,) = (yaml.safe_load(block) for block in blocks("yaml"))
        infrastructure = documented["infrastructure"]
        self.steps = infrastructure["runbooks"][0]["steps"]
        for step in self.steps:
            world.box.set_series(step["check"], lambda: [] if self.disk_is_full else [SERIES])
            # Two minutes, as documented, would be spent waiting here.
            step["settle_seconds"] = 1
        base = world.config["infrastructure"]["prometheus"]["base_url"]
        infrastructure["prometheus"]["base_url"] = base
        world.config["infrastructure"] = infrastructure

    def _act(self, call):
        step_names = [step["name"] for step in self.steps
                if step["parameters"]["cmd"] == call.body["parameters"]["cmd"]]
        if set(step_names) & set(self.helps):
            self.disk_is_full = False
        return ok()

    def actions(self):
        return [call.body["parameters"]["cmd"] for call in self.world.box.calls_to("hook:actions")]

    def type(self, action, run=""):
        """Run the section's command for `action` and return its result."""
        ref = "synthralos." + action
        (words,) = (words for words in commands(run) if words[:3] == ["st2", "run", ref])
        parameters = arguments.parse(words[3:], self.world.local.find_action(ref))
        execution = self.world.local.run(ref, parameters)
        assert execution["status"] == "succeeded", execution["result"]
        return execution["result"].get("result") or execution["result"]["output"]

    def waiting_approval(self):
        """Wait until a run asks for approval, and return what is listed of it."""
        def waiting():
            response = self.world.local.run("synthralos.approval.list")["result"]["result"]
            return response["approvals"]

        (approval,) = until(waiting, "a run asks for approval")
        return approval


@pytest.fixture
def reader(world):
    return Reader(world)


def test_the_runbook_is_that_of_the_example(world):
    example = yaml.safe_load((PACK / "examples" / "runbooks" / "disk_full.yaml").read_text())
    (documented,) = (yaml.safe_load(block) for block in blocks("yaml"))
    (runbook,) = documented["infrastructure"]["runbooks"]
    assert runbook["match"] == example["match"]
    assert runbook["steps"] == [step for step in example["steps"] if "action" in step]
    rules = yaml.safe_load((PACK / "examples" / "prometheus-alerts.yaml").read_text())
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert runbook["match"]["alertname"] in names


def test_what_the_page_says_before_anything_is_started_is_so(reader):
    checks = {entry["name"]: entry["status"] for entry in reader.type("pack.check")["checks"]}
    assert (checks["prometheus"], checks["runbooks"]) == ("ok", "ok")
    assert reader.type("runbook.validate")["problems"] == []
    (explained,) = reader.type("runbook.explain")["alerts"]
    assert (explained["runbook"], explained["problem"]) == ("disk_full", None)
    assert [step["parameters"]["hosts"] for step in explained["steps"]] == ["web-1", "web-1"]
    (assignment,) = reader.type("infrastructure_repair")["plan"]["assignments"]
    assert assignment["crew"] == "disk_full/vacuum_journal"
    assert reader.actions() == []


@pytest.mark.parametrize("helps", ["vacuum_journal", "delete_rotated_logs", "neither"])
def test_the_disk_is_freed_after_an_approval_and_only_the_check_says_so(reader, helps):
    reader.helps = [helps]
    result = reader.type("alert.receive")
    assert result["summary"] == "1 started"
    names = [step["name"] for step in reader.steps]
    expected_steps = names[: names.index(helps) + 1] if helps in names else names
    for count in range(len(expected_steps)):
        approval = reader.waiting_approval()
        run = approval["run"]
        assert run == result["alerts"][0]["run"] and len(reader.actions()) == count
        reader.type("approval.answer", approval["id"])
        until(lambda: len(reader.actions()) > count, "the action has run")  # noqa: B023
    until(lambda: reader.world.local.execution(run)["status"] in ENDED, "the run has ended")
    execution = reader.world.local.execution(run)
    keys = [words[words.index("-k") + 1] for words in commands() if "-k" in words]
    assert keys == ["output.outcome", "output.checks"]
    output = execution["result"]["output"]
    assert output["outcome"] == ("not_repaired" if helps == "neither" else "repaired")
    assert bool(output["ticket"]) is (helps == "neither")
    (check,) = output["checks"]
    assert check["crew"] == "disk_full/" + expected_steps[-1]
