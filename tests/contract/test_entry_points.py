"""Each entry point imports what it needs by itself, whatever else has been imported.

Whole runs in the tests fork their actions from a process that has imported the whole library; that
would hide a module that is imported too late, or in a circle.
"""
import json
import os
import subprocess
import sys

from fixtures import PACK, STANDINS
from fixtures.waiting import PATIENCE_SECONDS

# Loads each file in a process of its own, which has imported nothing of the pack.
LOAD = """
import importlib.util, json, os, sys, traceback

errors = {}
for path in sys.argv[1:]:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            spec = importlib.util.spec_from_file_location("entry_point", path)
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except BaseException:
            os.write(write_end, traceback.format_exc().encode()[-4000:])
            os._exit(1)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        text = stream.read()
    if os.waitpid(pid, 0)[1]:
        errors[path] = text
print(json.dumps(errors))
"""


def load(*paths):
    """{path: traceback} of the files that cannot be loaded."""
    path = os.pathsep.join(
        str(folder) for folder in (PACK / "actions" / "lib", STANDINS["st2common"]))
    process = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, paths)], env=dict(os.environ, PYTHONPATH=path),
        capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS)
    return json.loads(process.stdout)


def test_each_entry_point_loads_alone():
    paths = sorted((PACK / "actions").glob("*.py"))
    assert len(paths) > 30 and load(*paths) == {}


def test_one_that_does_not_is_noticed(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import synthralos\nsynthralos.storage.keyspace\n")
    (path, text), = load(broken).items()
    assert path == str(broken) and "AttributeError" in text
