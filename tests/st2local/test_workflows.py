"""Workflows: routing, errors, items, delays, retries, and what cannot be caught."""
import pytest
from fixtures.waiting import PATIENCE_SECONDS, limit_under_test, until


def tasks(local, execution):
    return [(child["context"]["orquesta"]["task_name"], child["status"])
            for child in reversed(local.executions(parent=execution["id"]))]


@pytest.mark.parametrize("script, status, output, attempts", [
    (["good"], "succeeded", {"success": True, "outcome": {"cursor": 0}, "ticket": None}, 1),
    (["again", "wait 3", "good"], "succeeded",
     {"success": True, "outcome": {"cursor": 2}, "ticket": None}, 3),
    (["again", "crash"], "failed",
     {"success": False, "outcome": None, "ticket": "ticket for c0 at 1"}, 2),
    (["stop"], "failed", {"success": False, "outcome": None, "ticket": "ticket for nothing at 0"},
     1),
    (["same"], "failed", {"success": False, "outcome": None, "ticket": "ticket for nothing at 0"},
     1),
    (["text"], "failed", {"success": False, "outcome": None, "ticket": "ticket for nothing at 0"},
     1),
])
def test_loop(local, script, status, output, attempts):
    execution = local.run("fixture.loop", {"script": script})
    assert execution["status"] == status
    assert execution["result"]["output"] == output
    names = [name for name, _ in tasks(local, execution)]
    assert names.count("attempt") == attempts
    assert ("errors" in execution["result"]) == (status == "failed")


def test_delays_are_recorded_and_not_slept(local):
    local.run("fixture.loop", {"script": ["wait 300", "again", "wait 7", "good"]})
    assert local.delays == [300, 7]


def test_text_that_is_not_listed_in_input_is_left_alone(local):
    text = "<% 1+1 %> <%= erb %> {{.Values.x}}"
    execution = local.run("fixture.loop", {"script": ["good"], "text": text})
    assert execution["status"] == "succeeded"
    assert execution["parameters"]["text"] == text


def test_errors_repeat_failed_results(local):
    execution = local.run("fixture.loop", {"script": ["again", "crash"]})
    errors = execution["result"]["errors"]
    assert [error.get("task_id") for error in errors] == ["attempt", "attempt", "fail"]
    assert errors[0]["result"]["result"]["next"]["carry"] == "c0"


def test_child_workflow(local):
    execution = local.run("fixture.parent", {"script": ["stop"]})
    assert execution["status"] == "succeeded"
    assert execution["result"]["output"]["child"]["ticket"] == "ticket for nothing at 0"
    child = local.executions(parent=execution["id"], action="fixture.loop")[0]
    assert child["status"] == "failed"
    assert child["context"]["parent"] == {
        "execution_id": execution["id"], "user": "st2admin", "pack": "fixture"}
    assert len(execution["children"]) == 2


def test_items(local):
    execution = local.run("fixture.items", {"names": ["a", "b", "c", "d"], "failing": "b"})
    assert execution["status"] == "succeeded"
    results = execution["result"]["output"]["results"]
    assert [result["result"]["name"] for result in results] == ["a", "b", "c", "d"]
    assert ("steps", "failed") in tasks(local, execution)


def statuses(local, run):
    return sorted(child["status"] for child in local.executions(parent=run.id))


def test_items_wait_for_a_place(local, gates):
    run = local.start(
        "fixture.items", {"names": ["a", "b", "c"], "concurrency": 1, "gate": gates.of("abc")})
    for number, name in enumerate("abc"):
        alone = ["running"] + ["succeeded"] * number
        until(lambda alone=alone: statuses(local, run) == alone, "%s runs alone" % name)
        gates.open(name)
    assert run.wait(PATIENCE_SECONDS)["status"] == "succeeded"


def test_no_items(local):
    execution = local.run("fixture.items", {"names": []})
    assert execution["status"] == "succeeded"
    assert execution["result"]["output"] == {"results": []}
    assert len(execution["children"]) == 1


def test_only_the_first_items_are_delayed(local):
    local.run("fixture.items", {"names": ["a", "b", "c"], "concurrency": 2, "delay": 5})
    assert local.delays == [5, 5]


def test_branches_run_beside_each_other_and_join(local, gates):
    run = local.start("fixture.branches", {"gate": gates.of(["left", "right"])})
    until(lambda: statuses(local, run) == ["running", "running", "succeeded"], "both run")
    gates.open("left")
    gates.open("right")
    assert run.wait(PATIENCE_SECONDS)["result"]["output"]["said"] == "joined"


def test_retry(local):
    execution = local.run("fixture.retries", {"count": 2})
    assert execution["status"] == "failed"
    assert len(execution["children"]) == 3
    assert local.delays == [4, 4]


def test_dynamic_action_and_the_datastore_in_an_expression(local):
    local.keys.set("greeting", "hello")
    execution = local.run(
        "fixture.dynamic", {"action": "core.local", "input": {"cmd": "echo '[1]'; exit 3"}})
    assert execution["result"]["output"]["seen"] == {
        "failed": True, "succeeded": False, "return_code": 3, "stdout": [1], "stderr": ""}
    assert execution["result"]["output"]["kv"] == "hello"


@pytest.mark.parametrize("call, error", [
    ({"action": "fixture.absent"}, 'InvalidActionReferencedException: Unable to find action'),
    ({"action": "fixture.step", "input": {"name": "x", "stray": 1}}, "ValidationError"),
    ({"action": "fixture.step"}, "'name' is a required property"),
    ({"action": "fixture.attempt", "input": {"script": [], "cursor": "x"}}, "ParamException"),
    ({"action": "fixture.look.around", "input": {"fixed": "x"}}, "immutable"),
])
def test_a_task_that_cannot_be_requested_is_not_catchable(local, call, error):
    execution = local.run("fixture.dynamic", call)
    assert execution["status"] == "failed"
    assert execution["result"]["output"]["before"] is None
    assert error in str(execution["result"]["errors"])
    assert tasks(local, execution) == [("first", "succeeded")]


def test_what_a_dict_holds_is_rendered_when_it_becomes_a_tasks_input(make):
    execution = make(config={"plain": "from config"}).run("fixture.passes_on", {"kind": "config"})
    output = execution["result"]["output"]
    assert output["got"] == {"a": ["{{ config_context.plain }}"]}
    assert output["seen"] == {"a": ["from config"]}


def test_an_unknown_name_in_a_dict_fails_the_workflow(local):
    execution = local.run("fixture.passes_on", {"kind": "unknown"})
    assert execution["status"] == "failed"
    assert execution["result"]["errors"][0]["message"] == (
        'ParamException: Dependency unsatisfied in variable "foo"')
    assert tasks(local, execution) == [("get", "succeeded")]


def test_a_jinja_syntax_error_leaves_the_whole_dict_alone(local):
    output = local.run("fixture.passes_on", {"kind": "broken"})["result"]["output"]
    assert output["seen"] == output["got"] == {"a": "{{.Values.x}}", "b": "{{ foo }} <% 1+1 %>"}


@pytest.mark.parametrize("delay", [0.5, -1, "1", None])
def test_wrong_delays_fail_the_workflow(local, delay):
    execution = local.run("fixture.delayed", {"wait": {"seconds": delay}})
    assert execution["status"] == "failed"
    assert tasks(local, execution) == []


def test_a_missing_delay_is_none(local):
    assert local.run("fixture.delayed", {"wait": {}})["status"] == "succeeded"


def test_a_shell_command_that_takes_too_long(local):
    limited = {"cmd": "sleep 3600; true", "timeout": limit_under_test(1)}
    call = {"action": "core.local", "input": limited}
    seen = local.run("fixture.dynamic", call)["result"]["output"]["seen"]
    assert seen["return_code"] == -9
    assert seen["error"] == "Action failed to complete in 1 seconds"


@pytest.mark.parametrize("name, message", [
    ("broken_action", 'The action "fixture.absent" is not registered in the database.'),
    ("broken_input", 'Action "fixture.attempt" is missing required input "script".'),
    ("broken_input", 'Action "fixture.attempt" has unexpected input "stray".'),
    ("broken_spec", "nowhere"),
    ("broken_context", "undefined_name"),
])
def test_inspection(local, name, message):
    execution = local.run("fixture." + name)
    assert execution["status"] == "failed"
    assert execution["result"]["output"] is None
    assert any(message in error["message"] for error in execution["result"]["errors"])
    assert execution["children"] == []


def test_a_child_that_fails_inspection_is_caught(local):
    execution = local.run("fixture.dynamic", {"action": "fixture.broken_action"})
    assert execution["result"]["output"]["seen"]["output"] is None


def test_runs_side_by_side(local):
    handles = [local.start("fixture.loop", {"script": ["again", "good"]}) for _ in range(8)]
    assert [handle.wait(PATIENCE_SECONDS)["status"] for handle in handles] == ["succeeded"] * 8


def test_two_locals_in_one_process(make, tmp_path):
    from places import FIXTURES

    from st2local import St2Local

    first = make()
    with St2Local(FIXTURES, state=str(tmp_path / "other")) as second:
        first.keys.set("greeting", "one")
        second.keys.set("greeting", "two")
        call = {"action": "core.noop"}
        assert first.run("fixture.dynamic", call)["result"]["output"]["kv"] == "one"
        assert second.run("fixture.dynamic", call)["result"]["output"]["kv"] == "two"


class TestFurtherPacks:
    @pytest.fixture
    def packs(self, tmp_path):
        folders = []
        for pack, action in (("ops", "restart.all"), ("core", "local")):
            folder = tmp_path / "further" / pack
            (folder / "actions").mkdir(parents=True)
            (folder / "pack.yaml").write_text("{ref: %s, name: %s}" % (pack, pack))
            (folder / "actions" / (action + ".yaml")).write_text(
                "{name: %s, runner_type: python-script, entry_point: run.py,"
                " parameters: {cmd: {type: string}}}" % action)
            (folder / "actions" / "run.py").write_text(
                "from st2common.runners.base_action import Action\n"
                "class Run(Action):\n"
                "    def run(self, cmd=None):\n"
                "        return [%r, cmd, self.config]\n" % pack)
            folders.append(folder)
        return folders

    def test_their_actions_run_without_a_config(self, make, packs):
        local = make(packs=packs)
        execution = local.run("ops.restart.all", {"cmd": "x"})
        assert (execution["status"], execution["result"]["result"]) == (
            "succeeded", ["ops", "x", {}])
        assert execution["context"]["pack"] == "ops"
        assert local.run("fixture.loop", {"script": ["good"]})["status"] == "succeeded"

    def test_one_called_core_comes_before_the_built_in_actions(self, make, packs):
        local = make(packs=packs)
        assert local.run("core.local", {"cmd": "false"})["result"]["result"] == [
            "core", "false", {}]
        assert local.run("core.noop")["status"] == "succeeded"

    def test_without_them_there_is_no_such_action(self, make):
        assert make().find_action("ops.restart.all") is None
