"""The processes of a live StackStorm on this machine, and runs that wait."""
import os
import signal
import subprocess

# What a process of these actions has on its command line.
ATTEMPT = "python_action_wrapper.*execute_recovery.py"
STEP = "python_action_wrapper.*waves.py"
ASSIGNMENT = "python_action_wrapper.*assign_repair_crew.py"


def processes(pattern):
    """The ids of the processes whose command line matches; none where StackStorm is elsewhere."""
    completed = subprocess.run(
        ["pgrep", "-f", pattern], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in completed.stdout.split()]


def kill(pids, with_signal=signal.SIGKILL):
    """Sends them the signal; returns those that were still there."""
    reached = []
    for pid in pids:
        try:
            os.kill(pid, with_signal)
        except ProcessLookupError:
            continue
        reached.append(pid)
    return reached


def waits(st2, run_id):
    """Whether a task of the run is delayed."""
    return any(child["status"] == "delayed" for child in st2.children({"id": run_id}))
