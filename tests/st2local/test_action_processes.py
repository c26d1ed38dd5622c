"""A forked process of an action is like one that Python has started."""
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from fixtures.pack_copies import LIBRARY
from fixtures.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")
# Begins as st2local's wrapper does, and runs what the environment has.
SCRIPT = "import os\nimport sys\ndel sys.path[0]\nexec(os.environ['SOURCE'])\n"
SURROUNDINGS = """
import json, os, signal, threading
print(json.dumps({
    "name": __name__, "file": __file__, "arguments": sys.argv, "path": sys.path,
    "main": sys.modules["__main__"].__file__, "flags": repr(sys.flags),
    "folder": os.getcwd(), "environment": dict(os.environ), "umask": os.umask(0o22),
    "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
    "files": sorted(os.listdir("/proc/self/fd")),
    "encodings": [stream.encoding for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "unbuffered": sys.stdout.write_through, "input": sys.stdin.read(),
    "threads": [thread.name for thread in threading.enumerate()],
    "signals": [str(signal.getsignal(number)) for number in (2, 13, 15, 17)],
}))
"""
ENDINGS = {
    "the end": "pass",
    "a code": "sys.exit(3)",
    "no code": "sys.exit()",
    "a text": "sys.exit('it is over')",
    "a large code": "sys.exit(256 + 7)",
    "at once": "import os; os._exit(4)",
    "an error": "raise ValueError('it broke')",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "a syntax error": "exec('(')",
    "text in the buffer": "sys.stdout = open(1, 'w', closefd=False); print('buffered')",
    "a thread that is still running": (
        "import threading\n"
        "go = threading.Event()\n"
        "threading.Thread(target=lambda: go.wait() and print('after the end')).start()\n"
        "threading.Timer(0.1, go.set).start()"),
    "a function for the end": "import atexit; atexit.register(print, 'at the end')",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """run(popen, source, stdin) -> (exit code, stdout, stderr)."""
    script = tmp_path_factory.mktemp("run") / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(LIBRARY), str(script.parent)])

    def start(popen, source):
        env = dict(os.environ, PYTHONPATH=path, TZ="Asia/Tokyo", SOURCE=source)
        return popen(
            [sys.executable, "-u", str(script)], env=env, cwd="/", stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    def run_to_its_end(popen, source, stdin=""):
        process = start(popen, source)
        process.stdin.write(stdin.encode())
        process.stdin.close()
        with process.stdout, process.stderr:
            texts = process.stdout.read().decode(), process.stderr.read().decode()
        return (process.wait(), *texts)

    run_to_its_end.start = start
    return run_to_its_end


def test_its_surroundings_are_the_same(run, action_processes):
    started = json.loads(run(subprocess.Popen, SURROUNDINGS, "read me")[1])
    forked = json.loads(run(action_processes.popen, SURROUNDINGS, "read me")[1])
    assert forked == started and forked["input"] == "read me"


@pytest.mark.parametrize("ending", ENDINGS)
def test_it_ends_in_the_same_way(run, action_processes, ending):
    started = run(subprocess.Popen, ENDINGS[ending])
    forked = run(action_processes.popen, ENDINGS[ending])
    assert forked[:2] == started[:2]
    assert forked[2].split("\n")[-2:] == started[2].split("\n")[-2:]


def test_its_time_zone_is_that_of_its_environment(run, action_processes):
    assert run(action_processes.popen, "import time; print(time.tzname[0])")[1] == "JST\n"


def test_two_processes_share_neither_chance_nor_state(run, action_processes):
    source = (
        "import os, random, uuid, requests\n"
        "assert not hasattr(requests, 'mark')\n"
        "requests.mark = True\n"
        "print(random.random(), uuid.uuid4(), os.getpid())")
    texts = [run(action_processes.popen, source) for _ in range(2)]
    assert [code for code, _, _ in texts] == [0, 0]
    first, second = (text.split() for _, text, _ in texts)
    assert not set(first) & set(second)


def test_it_is_killed(run, action_processes):
    process = run.start(action_processes.popen, "print('here'); sys.stdin.read()")
    assert process.stdout.readline() == b"here\n" and process.poll() is None
    waiter = threading.Thread(target=process.wait)
    waiter.start()
    process.kill()
    waiter.join(PATIENCE_SECONDS)
    assert process.returncode == process.poll() == process.wait() == -9
    process.kill()


def test_one_that_nobody_waits_for_goes_on(run, action_processes, tmp_path):
    mark = tmp_path / "mark"
    process = run.start(
        action_processes.popen, "sys.stdin.read(); open(%r, 'w').close()" % str(mark))
    stdin, process.stdin = process.stdin, None
    del process
    stdin.close()
    until(mark.exists, "it has ended by itself")


def test_another_library_is_not_imported_before(run, action_processes, tmp_path):
    """A copy of the pack whose library a test changes: its processes are started as usual."""
    library = tmp_path / "synthralos"
    library.mkdir()
    (library / "__init__.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text("import synthralos; print(synthralos.__file__)")
    process = action_processes.popen(
        [sys.executable, "-u", str(script)], env=dict(os.environ, PYTHONPATH=str(tmp_path)),
        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert isinstance(process, subprocess.Popen)
    text = process.communicate(timeout=PATIENCE_SECONDS)[0].decode()
    assert pathlib.Path(text.strip()) == library / "__init__.py"
