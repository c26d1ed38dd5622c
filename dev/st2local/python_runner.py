"""Runs a python-script action in its own process and returns how it ended."""
import functools
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import traceback

from st2local.wrapper_marks import INVALID_STATUS_EXIT_CODE, MARK

_HERE = os.path.dirname(os.path.abspath(__file__))
_KILLED = -9


class Job:
    """One running process, which can be killed from another thread.

    :param with_children: whether killing it kills what it has started: true for shell commands.
    :param popen: starts the process, as subprocess.Popen does.
    """

    def __init__(self, with_children=False, popen=subprocess.Popen):
        self._popen, self._process = popen, None
        self._with_children = with_children
        self._killed = False
        self._lock = threading.Lock()

    def start(self, arguments, **options):
        with self._lock:
            # A session of its own, so that a Ctrl-C at the terminal reaches st2local alone.
            self._process = self._popen(
                arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, **options)
            if self._killed:
                self._kill()

    def _kill(self):
        if self._with_children:
            # Its group is its own, by the session that it was started in.
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def kill(self):
        """Ends the process, now or as soon as it has started."""
        with self._lock:
            self._killed = True
            if self._process is not None and self._process.poll() is None:
                self._kill()

    def finish(self, stdin_data, seconds, on_line):
        """Wait for the end. Return (exit code, stdout, stderr); the code is -9 after a time-out.

        :param stdin_data: bytes for stdin, or None.
        :param on_line: called with ("stdout" or "stderr", line) as the lines come.
        """
        process = self._process
        chunks = {"stdout": [], "stderr": []}
        readers = [
            threading.Thread(
                target=_read, args=(stream, chunks[name], functools.partial(on_line, name)),
                daemon=True)
            for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for reader in readers:
            reader.start()
        if stdin_data is not None:
            threading.Thread(target=_write, args=(process.stdin, stdin_data), daemon=True).start()
        # A wait with a time-out polls, up to every 50 ms; a waiting thread does not.
        waiter = threading.Thread(target=process.wait, daemon=True)
        waiter.start()
        waiter.join(seconds)
        timed_out = waiter.is_alive()
        if timed_out:
            self._kill()
            process.wait()
        for reader in readers:
            # A grandchild may keep the pipe open after the action has ended.
            reader.join(1 if timed_out else 5)
        for reader, stream in zip(readers, (process.stdout, process.stderr)):
            # What the action wrote is read, however late its reader gets to it.
            while reader.is_alive() and _has_more(stream):
                reader.join(0.1)
        texts = [b"".join(list(chunks[name])).decode("utf-8", "replace")
                 for name in ("stdout", "stderr")]
        return (_KILLED if timed_out else process.returncode,) + tuple(texts)


def _read(stream, chunks, on_line):
    with stream:
        for line in stream:
            chunks.append(line)
            on_line(line.decode("utf-8", "replace").rstrip("\r\n"))


def _has_more(stream):
    """Whether the pipe has data or is at its end."""
    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (ValueError, OSError):
        # The reader has closed it.
        return False


def _write(stream, data):
    try:
        stream.write(data)
        stream.close()
    except OSError:
        # The action ended without reading; its exit code says more than this error.
        pass


def run(job, entry_point, pack, user, config, parameters, runner_parameters, environment, on_line):
    """Run the action and return (status, result).

    :param environment: the ST2_ACTION_* variables.
    """
    seconds = runner_parameters.get("timeout")
    try:
        if not entry_point:
            raise Exception("the action is missing an entry_point attribute")
        request = {
            "file": entry_point, "pack": pack.ref, "user": user, "config": config,
            "parameters": parameters, "log_level": runner_parameters.get("log_level") or "DEBUG",
        }
        own = {
            name: value for name, value in (runner_parameters.get("env") or {}).items()
            if name.lower() != "pythonpath"
        }
        started = time.monotonic()
        job.start(
            [sys.executable, "-u", os.path.join(_HERE, "wrapper.py")],
            stdin=subprocess.PIPE, cwd="/",
            env=dict(os.environ, PYTHONPATH=_python_path(pack), **dict(own, **environment)),
        )
        seconds_left = None if seconds is None else max(0, seconds - (time.monotonic() - started))
        code, stdout, stderr = job.finish(
            json.dumps(request).encode("utf-8"), seconds_left, _without_result(on_line))
        return _ending(code, stdout, stderr, seconds)
    except Exception as error:
        # An error outside the action: StackStorm's runner container returns this result.
        return "failed", {
            "error": str(error), "traceback": "".join(traceback.format_tb(error.__traceback__))}


def _ending(code, stdout, stderr, seconds):
    if code == INVALID_STATUS_EXIT_CODE:
        raise ValueError(stderr)
    text = None
    if MARK in stdout:
        parts = stdout.split(MARK)
        if len(parts) != 3:
            raise ValueError("The result length should be 3, was %d." % len(parts))
        text, stdout = parts[1].strip(), parts[0] + parts[2]
    result, succeeded = "None", None
    if text:
        try:
            output = json.loads(text)
        except ValueError:
            match = re.search("'result': (.*?)$", text)
            result = match.group(1) if match else text
        else:
            result, succeeded = output.get("result"), output.get("status")
    ending = {"stdout": stdout, "stderr": stderr, "exit_code": code, "result": result}
    if code == _KILLED:
        ending["error"] = "Action failed to complete in %s seconds" % seconds
        return "timeout", ending
    return ("succeeded" if code == 0 and succeeded is not False else "failed"), ending


def _without_result(on_line):
    """Return a callback that passes on the action's lines and drops the wrapper's."""
    inside = []

    def filtered(stream, line):
        if stream != "stdout" or (MARK not in line and not inside):
            on_line(stream, line)
            return
        for _ in range(line.count(MARK)):
            inside.pop() if inside else inside.append(True)

    return filtered


def _python_path(pack):
    """Return the pack's actions/lib, the user's PYTHONPATH, and the stand-ins for StackStorm.

    Never the folder that st2local itself is imported from: no action finds it in StackStorm.
    """
    own = os.path.dirname(_HERE)
    inherited = [
        path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if path and os.path.realpath(path) != os.path.realpath(own)
    ]
    paths = [os.path.join(pack.folder, "actions", "lib")] + inherited
    if not _has_stackstorm():
        paths.append(os.path.join(_HERE, "standins"))
    return os.pathsep.join(paths)


@functools.cache
def _has_stackstorm():
    spec = importlib.util.find_spec("st2common")
    return spec is not None and _HERE not in str(spec.origin)
