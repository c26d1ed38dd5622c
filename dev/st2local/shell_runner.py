"""Runs a shell command, as the runner of `core.local` does but as the user who runs st2local."""
import json
import os
import subprocess


def run(job, parameters, environment, on_line):
    """Run `parameters["cmd"]` and return (status, result)."""
    seconds = parameters.get("timeout")
    if parameters.get("sudo"):
        return "failed", {"error": "st2local does not support sudo", "traceback": ""}
    own = {name: str(value) for name, value in (parameters.get("env") or {}).items()}
    job.start(
        parameters["cmd"], shell=True, stdin=subprocess.DEVNULL, cwd=parameters.get("cwd") or None,
        env=dict(os.environ, **dict(own, **environment)),
    )
    code, stdout, stderr = job.finish(None, seconds, on_line)
    result = {
        "failed": code != 0,
        "succeeded": code == 0,
        "return_code": code,
        "stdout": _parsed(stdout),
        "stderr": _parsed(stderr),
    }
    if code == -9:
        result["error"] = "Action failed to complete in %s seconds" % seconds
        return "timeout", result
    return "succeeded" if code == 0 else "failed", result


def _parsed(text):
    """Strip the last newline, and parse the text if it is JSON."""
    text = text[:-1] if text.endswith("\n") else text
    text = text[:-1] if text.endswith("\r") else text
    try:
        return json.loads(text)
    except ValueError:
        return text
