"""Status and result of an action by the way in which it ends."""
import shutil

import pytest
from fixtures.waiting import limit_under_test
from places import FIXTURES

VALUE = {"next": {"cursor": 1}}

ENDINGS = [
    ("value", VALUE, "succeeded", VALUE),
    ("value", None, "succeeded", None),
    ("pair", VALUE, "failed", VALUE),
    ("pair", None, "failed", None),
    ("good_pair", VALUE, "succeeded", VALUE),
    ("nothing", None, "succeeded", None),
    ("text", None, "succeeded", "text"),
    ("list", None, "succeeded", [1, 2]),
    ("nan", None, "succeeded", {"n": None}),
    ("odd", None, "succeeded", "{'odd': <odd>}, 'status': None}"),
    ("odd_pair", None, "failed", "{'odd': <odd>}"),
    ("surrogate", None, "succeeded", "{'text': '\\ud800'}, 'status': None}"),
    ("int_key", None, "succeeded", "{1: 2}, 'status': None}"),
    ("raises", None, "failed", "None"),
    ("exit", None, "failed", "None"),
    ("exit_zero", None, "succeeded", "None"),
    ("os_exit", None, "failed", "None"),
]


@pytest.mark.parametrize("how, value, status, result", ENDINGS)
def test_ending(local, how, value, status, result):
    execution = local.run("fixture.ending", {"how": how, "value": value} if value else {"how": how})
    assert execution["status"] == status
    assert execution["result"]["result"] == result
    assert set(execution["result"]) == {"stdout", "stderr", "exit_code", "result"}


def test_an_exception_is_told_on_stderr(local):
    result = local.run("fixture.ending", {"how": "raises"})["result"]
    assert result["exit_code"] == 1
    assert result["stderr"].endswith("ValueError: as asked\n")


def test_exit_codes(local):
    assert local.run("fixture.ending", {"how": "exit"})["result"]["exit_code"] == 3
    assert local.run("fixture.ending", {"how": "os_exit"})["result"]["exit_code"] == 4


def test_a_killed_action_counts_as_timed_out(local):
    execution = local.run("fixture.ending", {"how": "killed"})
    assert execution["status"] == "timeout"
    assert execution["result"] == {
        "stdout": "before\n", "stderr": "", "exit_code": -9, "result": "None",
        "error": "Action failed to complete in 600 seconds",
    }


def test_timeout_given_by_the_caller(local):
    execution = local.run("fixture.ending", {"how": "slow", "timeout": limit_under_test(1)})
    assert execution["status"] == "timeout"
    # On a busy machine its time may be up before it has begun.
    assert execution["result"]["stdout"] in ("before\n", "")
    assert execution["result"]["error"] == "Action failed to complete in 1 seconds"
    assert execution["parameters"] == {"how": "slow", "timeout": limit_under_test(1)}


def test_a_pair_that_begins_with_no_boolean(local):
    execution = local.run("fixture.ending", {"how": "bad_pair"})
    assert execution["status"] == "failed"
    assert set(execution["result"]) == {"error", "traceback"}
    assert "must either be True or False, got: x" in execution["result"]["error"]


def test_output_is_kept_without_the_result(local):
    execution = local.run("fixture.ending", {"how": "speaks"})
    assert execution["result"]["stdout"] == "to stdout\n"
    assert execution["result"]["stderr"] == "to stderr\n"
    assert {"stream": "stdout", "line": "to stdout"} in execution["output"]
    assert len(execution["output"]) == 2
    assert local.run("fixture.ending", {"how": "unterminated"})["result"]["stdout"] == "no newline"


def test_a_large_result(local):
    assert len(local.run("fixture.ending", {"how": "large"})["result"]["result"]) == 2_000_000


@pytest.mark.parametrize("text, words", [
    (None, "FileNotFoundError"),
    ("def broken(:\n", "SyntaxError"),
    ("import absent_module\n", "ModuleNotFoundError"),
    ("class NoRun:\n    pass\n", "no classes in plugin file"),
])
def test_a_file_that_cannot_be_loaded(make, tmp_path, text, words):
    pack = tmp_path / "pack"
    shutil.copytree(FIXTURES, str(pack))
    entry = pack / "actions" / "ending.py"
    entry.unlink()
    if text is not None:
        entry.write_text(text)
    execution = make(pack=str(pack)).run("fixture.ending", {"how": "text"})
    assert execution["status"] == "failed"
    assert execution["result"]["result"] == "None"
    assert words in execution["result"]["stderr"]


def test_an_action_without_entry_point(make, tmp_path):
    pack = tmp_path / "pack"
    shutil.copytree(FIXTURES, str(pack))
    metadata = pack / "actions" / "ending.yaml"
    metadata.write_text(metadata.read_text().replace("entry_point: ending.py", ""))
    execution = make(pack=str(pack)).run("fixture.ending", {"how": "text"})
    assert execution["status"] == "failed"
    assert set(execution["result"]) == {"error", "traceback"}
