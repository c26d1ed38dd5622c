"""The command line, as a process."""
import json
import os
import shlex
import signal
import subprocess

import pytest
from fixtures.waiting import PATIENCE_SECONDS
from places import FIXTURES, ROOT


@pytest.fixture
def st2local(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("plain: from a file\n")
    environment = dict(
        os.environ, ST2LOCAL_STATE=str(tmp_path / "state"), ST2LOCAL_PACK=FIXTURES,
        ST2LOCAL_CONFIG=str(config))

    def run(*words, background=False, **changes):
        command = [os.path.join(ROOT, "bin", "st2local")] + list(words)
        options = dict(
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=dict(environment, **changes), cwd=str(tmp_path))
        if background:
            # pytest-xdist's workers ignore SIGINT, and a process inherits that.
            return subprocess.Popen(
                command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)
        return subprocess.run(command, timeout=PATIENCE_SECONDS, **options)

    return run


def test_run_a_workflow(st2local):
    completed = st2local("run", "fixture.loop", 'script=["again","good"]')
    assert completed.returncode == 0, completed.stderr
    for line in ("> attempt  fixture.attempt", "< attempt  failed", "< fixture.loop  succeeded"):
        assert line in completed.stderr
    for line in ("action.ref: fixture.loop", "status: succeeded", "outcome:"):
        assert line in completed.stdout
    assert "\033" not in completed.stderr
    lines = st2local("execution", "list", "--tree").stdout.splitlines()
    assert len(lines) == 5 and lines[2].startswith("  ")


def test_exit_code_and_crash(st2local):
    completed = st2local("run", "fixture.loop", "script=crash,good")
    assert completed.returncode == 1
    assert "RuntimeError: crashed" in completed.stderr


def test_casts_and_json(st2local):
    completed = st2local(
        "run", "fixture.look.around", "obj=a=1,b=2", "arr=1,2,3", "-q", "-j", "n=3", "flag=true",
        "text={\"not\": \"parsed\"}", "hidden=hush", "ratio=2")
    assert completed.returncode == 0 and completed.stderr == ""
    document = json.loads(completed.stdout)
    assert document["parameters"] == {
        "obj": {"a": "1", "b": "2"}, "arr": ["1", "2", "3"], "n": 3,
        "flag": True, "text": '{"not": "parsed"}', "hidden": "********", "ratio": 2.0,
        "from_kv": ""}
    assert document["result"]["result"]["config"]["plain"] == "from a file"
    again = st2local("execution", "get", document["id"], "-j")
    assert json.loads(again.stdout)["id"] == document["id"]
    part = st2local("execution", "get", "--raw", "-k", "result.config.plain", document["id"])
    assert part.stdout == "from a file\n"
    part = st2local("execution", "get", "-k", "result.config.none.such", document["id"])
    assert part.stdout == "null\n"


@pytest.mark.parametrize("words, message", [
    (["run", "fixture.absent"], "cannot be found"),
    (["run", "fixture.look.around", "n=x"], "n: must be of type integer (got 'x')"),
    (["run", "fixture.look.around", "obj={broken"], "obj: must be of type object (got '{broken')"),
    (["run", "fixture.look.around", "stray=1"], "'stray' was unexpected"),
    (["run", "fixture.two", "--config", "absent.yaml"], "file not found"),
    (["execution", "get", "0" * 24], "not found"),
    (["key", "get", "absent"], "not found"),
])
def test_refusals(st2local, words, message):
    completed = st2local(*words)
    assert completed.returncode == 1
    assert message in completed.stderr and "Traceback" not in completed.stderr


def test_keys(st2local):
    assert st2local("key", "set", "a.b", "1", "--ttl", "60").returncode == 0
    st2local("key", "set", "secret", "hush", "--encrypt")
    assert st2local("key", "get", "a.b").stdout == "1\n"
    assert st2local("key", "get", "secret", "--decrypt").stdout == "hush\n"
    assert "a.b" in st2local("key", "list", "--prefix", "a.").stdout
    assert "hush" not in st2local("key", "list").stdout
    assert st2local("key", "delete", "a.b").returncode == 0
    assert st2local("key", "delete", "a.b").returncode == 1


def test_inquiry_from_another_process(st2local):
    run = st2local("run", "fixture.ask", "-j", background=True)
    inquiries = []
    while not inquiries and run.poll() is None:
        inquiries = json.loads(st2local("inquiry", "list", "-j").stdout)
    completed = st2local("inquiry", "respond", inquiries[0]["id"], "approved=true")
    assert completed.returncode == 0, completed.stderr
    output, errors = run.communicate(timeout=PATIENCE_SECONDS)
    assert "bin/st2local inquiry respond %s approved=..." % inquiries[0]["id"] in errors
    assert json.loads(output)["result"]["output"] == {"decision": {"approved": True}}


def test_processes_share_the_state(st2local):
    runs = [st2local("run", "fixture.service", "-j", "-q", background=True) for _ in range(5)]
    ended = [(run.communicate(timeout=PATIENCE_SECONDS), run.returncode) for run in runs]
    assert [code for _, code in ended] == [0] * 5, ended
    assert len(json.loads(st2local("execution", "list", "-j").stdout)) == 5


def test_ctrl_c_cancels(st2local):
    run = st2local("run", "core.local", "cmd=echo begun; sleep 3600", "-j", background=True)
    while "| begun" not in run.stderr.readline():
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=PATIENCE_SECONDS)
    assert json.loads(output)["status"] == "canceled"
    assert run.returncode == 1


def starting(command):
    """The calls of an action that starts a shell command as a run of its own."""
    body = {"action": "core.local", "parameters": {"cmd": command}}
    return "calls=" + json.dumps([["POST", "/executions", body]])


def goes_on(run):
    """The line that says what the command line waits for, once it is there."""
    line = ""
    while "waiting for the runs it started" not in line:
        assert run.poll() is None
        line = run.stderr.readline()
    return line


def test_what_a_run_starts_goes_on_to_its_end(st2local, gates):
    gates.of(["end"])
    command = "cat %s; echo went on" % shlex.quote(gates.path("end"))
    run = st2local("run", "fixture.calls", starting(command), "-j", background=True)
    line = goes_on(run)
    gates.open("end")
    output, errors = run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == 0, errors
    started = json.loads(output)["result"]["result"][0][1]["id"]
    assert "waiting for the runs it started: core.local %s" % started in line
    document = json.loads(st2local("execution", "get", started, "-j").stdout)
    assert document["status"] == "succeeded"
    assert document["result"]["stdout"] == "went on"


def test_ctrl_c_cancels_what_a_run_started(st2local):
    run = st2local("run", "fixture.calls", starting("sleep 3600"), background=True)
    goes_on(run)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == 130
    documents = json.loads(st2local("execution", "list", "--action", "core.local", "-j").stdout)
    assert [document["status"] for document in documents] == ["canceled"]


def test_lists(st2local):
    assert "fixture.look.around" in st2local("action", "list").stdout
    assert "fixture.look.around" in st2local("action", "list", "--pack=fixture").stdout
    assert "fixture." not in st2local("action", "list", "-p", "core").stdout
    assert "sealed" in st2local("action", "get", "fixture.look.around").stdout
    assert st2local("trigger", "list").returncode == 0


def test_without_a_virtual_environment(st2local):
    completed = st2local("action", "list", ST2LOCAL_PYTHON="/nowhere/python")
    assert completed.returncode == 2 and "make setup" in completed.stderr
