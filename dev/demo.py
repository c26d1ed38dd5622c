"""`make demo`: ten runs against the sandbox, shown attempt by attempt, and checked.

Exits 0 only if each run ended as expected: an agent recovers by its plan,
another outlives its first round and is joined, a third fails half-way, is continued and asks a
person, an LLM call and a request are answered elsewhere at once, failed nodes get their crews, a
full disk is freed by the step of a runbook, another one by the second step, an orchestration runs
wave by wave although a model is unavailable, and an incurable failure ends failed, with a ticket
and a reason.
"""
import base64
import contextlib
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, Optional

from sandbox import Sandbox, agent_failed, down, ok, rate_limit, status
from sandbox.langgraph import LangGraphServer
from st2local import St2Local
from st2local.progress import Live

PACK = Path(__file__).resolve().parent.parent
FULL_DISK = {"alertname": "HostDiskFull", "instance": "web-1:9100", "mountpoint": "/var"}
ENOUGH_SPACE = "node_filesystem_avail_bytes / node_filesystem_size_bytes >= 0.15"


class Scene(NamedTuple):
    """A run to watch.

    :ivar setup_runs: [(action, parameters)] of what runs before, unseen.
    :ivar infrastructure: entries of `infrastructure` of the configuration, in addition to those of
        the sandbox.
    :ivar config: entries of the configuration, instead of those of the sandbox.
    :ivar servers: context managers of what must be up meanwhile, beside the sandbox.
    :ivar answer: what a person answers to the agent that asks, or None if none does.
    """

    action: str
    parameters: dict
    setup_runs: tuple = ()
    infrastructure: dict = {}
    config: dict = {}
    servers: tuple = ()
    answer: Optional[str] = None


def agent_recovers(box, _):
    """An agent runs out of time twice; the plan's third step gives it more, and it answers.

    The platform of this scene lets the agent finish only when it has two minutes.
    """

    def needs_time(call):
        if call.body["config"].get("maxExecutionTime", 60_000) >= 120_000:
            return ok(text="Berlin: 12 degrees, light rain.")
        return agent_failed(error="Agent execution timed out")

    box.script("platform", [needs_time], forever=True)
    parameters = {
        "agent_id": "weather-bot",
        "failure_type": "timeout",
        "original_query": "What is the weather in Berlin?",
        "retry_delay": 1,
    }
    return Scene("agent_recovery", parameters)


def agent_is_joined(box, _):
    """An agent works for 3 s, its first round waits for 1 s: the next one joins its only run.

    Its limit of 6 s lets the next round begin before the 10 s that would otherwise pass.
    """

    def work(run):
        time.sleep(3)
        return "Run %d of the agent: 4711 amounts to 12.50." % len(server.runs)

    server = LangGraphServer(work)
    platform = {
        "name": "graphs", "api": "langgraph", "base_url": server.base_url, "hold_seconds": 1,
        "run_seconds": 6,
    }
    parameters = {
        "agent_id": "invoice-bot",
        "failure_type": "timeout",
        "original_query": "Sum up invoice 4711",
    }
    return Scene(
        "agent_recovery", parameters, config={"platforms": [platform]}, servers=(server,)
    )


def agent_is_continued(box, _):
    """An agent of five steps fails at the fourth, goes on from there, and asks a person."""
    log = []

    def pay():
        log.append("pay")
        if log.count("pay") == 1:
            raise RuntimeError("the bank did not answer")

    def work(run):
        for name in ("read", "match", "check"):
            run.step(name, lambda name=name: log.append(name))
        run.step("pay", pay)
        account = run.ask("From which account?")
        run.step("book", lambda: log.append("book"))
        return "Paid from %s. Done: %s." % (account, ", ".join(log))

    server = LangGraphServer(work)
    platform = {"name": "graphs", "api": "langgraph", "base_url": server.base_url}
    parameters = {
        "agent_id": "payment-bot",
        "failure_type": "error",
        "original_query": "Pay invoice 4711",
        "retry_delay": 1,
    }
    return Scene(
        "agent_recovery", parameters, config={"platforms": [platform]}, servers=(server,),
        answer="account 12",
    )


def fallback_answers(box, _):
    """The first model always answers 429 and asks for 30 s; the fallback answers at once."""
    box.script("llm:openai/gpt-4", [rate_limit(retry_after=30)], forever=True)
    parameters = {
        "original_request": {"prompt": "Say hello", "model": "gpt-4"},
        "failure_reason": "Rate limit exceeded",
        "fallback_models": ["claude-3-haiku"],
    }
    return Scene("llm_retry", parameters)


def request_is_rerouted(box, _):
    """One region of the provider is dead, then all of it; the next provider answers."""
    box.kill("route:openai/us-east-1")
    box.script("route:openai/eu-west-1", [status(503)], forever=True)
    parameters = {
        "original_request": {"endpoint": "/api/v1/llm", "model": "gpt-4"},
        "failure_reason": "Region unavailable",
        "fallback_regions": ["eu-west-1"],
        "fallback_providers": ["anthropic"],
    }
    return Scene("reroute_request", parameters)


def nodes_are_repaired(box, _):
    """A database node is down, and soon a web server too: each gets the crew that fits it."""
    later = down(["db-1:9100", "web-2:9100"])
    box.script("prometheus", [down(["db-1:9100"]), later, later], forever=True)
    return Scene("infrastructure_repair", {"max_steps": 20})


def disk_is_freed(box, folder):
    """A disk is full: the action of its runbook frees it, which Prometheus confirms."""
    steps = {"vacuum_journal": "*.journal"}
    return _repair_of_disk(box, folder, files=["old.journal"], steps=steps)


def second_step_frees_disk(box, folder):
    """Another disk is full: the first step succeeds and frees too little, so the second follows."""
    steps = {"vacuum_journal": "*.journal", "delete_rotated_logs": "*.gz"}
    return _repair_of_disk(box, folder, files=["old.journal", "syslog.1.gz"], steps=steps)


def _repair_of_disk(box, folder, files, steps):
    """Return the Scene of a disk, a real folder, that is full as long as any of `files` is there.

    :param steps: of the runbook: {name: pattern of the files that it deletes}.
    """
    disk = folder / "disk"
    disk.mkdir(parents=True)
    for name in files:
        (disk / name).touch()
    box.set_series(
        ENOUGH_SPACE, lambda: [] if any((disk / name).exists() for name in files) else [FULL_DISK]
    )
    runbook = {
        "name": "disk_full",
        "match": {"alertname": "HostDiskFull"},
        "mode": "act",
        "steps": [
            {
                "name": name,
                "action": "core.local",
                "parameters": {"cmd": "rm -f %s/%s" % (shlex.quote(str(disk)), pattern)},
                "approval": "none",
                "check": ENOUGH_SPACE,
                "settle_seconds": 1,
            }
            for name, pattern in steps.items()
        ],
    }
    return Scene(
        "infrastructure_repair", {"alert": {"labels": FULL_DISK}},
        infrastructure={"runbooks": [runbook], "allowed_actions": ["core.local"]},
    )


def research_goes_on(box, _):
    """Three searches run at once although their model is rate limited: its fallback answers.

    The orchestration is the pack's example, with a fallback for each step.
    """
    box.script("llm:openai/gpt-4", [rate_limit(retry_after=30)], forever=True)
    example = json.loads((PACK / "examples" / "multi-source-research.json").read_text())
    setup_runs = [
        ("role.create", {"fields": dict(role, model="gpt-4")}) for role in example["roles"]
    ]
    (orchestration,) = example["orchestrations"]
    orchestration["steps"] = [
        dict(step, fallbackModels=["claude-3-haiku"]) for step in orchestration["steps"]
    ]
    # StackStorm would render its templates.
    text = base64.b64encode(json.dumps(orchestration).encode()).decode()
    setup_runs.append(("orchestration.create", {"definition": "base64:" + text}))
    parameters = {"orchestration": orchestration["name"], "input": example["input"]}
    return Scene("orchestration.run", parameters, tuple(setup_runs))


def beyond_repair(box, _):
    """The platform rejects the request itself: no retry can help, so a person must look."""
    box.script("platform", [status(400, error="Unknown agent type")], forever=True)
    parameters = {
        "agent_id": "broken-bot",
        "failure_type": "error",
        "original_query": "Anything",
        "retry_delay": 1,
    }
    return Scene("agent_recovery", parameters)


def main():
    scenes = [
        (agent_recovers, lambda run, out: out["recovery_success"] and out["attempts"] == 3),
        (agent_is_joined, lambda run, out: out["attempts"] == 1 and
            out["recovery_result"]["output"].startswith("Run 1 of the agent")),
        (agent_is_continued, lambda run, out: out["recovery_result"]["output"] ==
            "Paid from account 12. Done: read, match, check, pay, pay, book."),
        (fallback_answers, lambda run, out: out["final_model"] == "claude-3-haiku"),
        (request_is_rerouted, lambda run, out: out["final_provider"] == "anthropic"),
        (nodes_are_repaired, lambda run, out: len(out["assignments"]) == 2 and out["success"]),
        (disk_is_freed, lambda run, out: out["outcome"] == "repaired" and out["success"]),
        (second_step_frees_disk, lambda run, out: out["outcome"] == "repaired" and
            out["checks"][0]["crew"] == "disk_full/delete_rotated_logs"),
        (research_goes_on, lambda run, out: {step["model"] for step in out["stepLogs"]} == {
            "anthropic/claude-3-haiku"} and len(out["stepLogs"]) == 4 and out["success"]),
        (beyond_repair, lambda run, out: run["status"] == "failed" and out["ticket"]),
    ]
    with tempfile.TemporaryDirectory() as state:
        failed = [
            scene.__name__ for scene, is_expected in scenes if not _play(scene, is_expected, state)
        ]
    if failed:
        print("\nNot as expected: " + ", ".join(failed))
        return 1
    print("\nAll ten runs ended as expected.")
    return 0


def _play(make_scene, is_expected, state):
    print("\n%s" % make_scene.__doc__.strip().splitlines()[0], flush=True)
    with Sandbox() as box, contextlib.ExitStack() as servers:
        folder, config = Path(state) / make_scene.__name__, box.pack_config()
        scene = make_scene(box, folder)
        for server in scene.servers:
            servers.enter_context(server)
        config["infrastructure"].update(scene.infrastructure)
        config.update(scene.config)
        with St2Local(PACK, config, folder) as local:
            for action, setup_parameters in scene.setup_runs:
                local.run("synthralos." + action, setup_parameters)
        with St2Local(PACK, config, folder, progress=Live(sys.stdout)) as local:
            started_at = time.monotonic()
            handle = local.start("synthralos." + scene.action, scene.parameters)
            if scene.answer is not None:
                _answer_question(config, folder, handle.id, scene.answer)
            run = handle.wait()
            seconds = time.monotonic() - started_at
            tasks = local.executions(parent=run["id"])
    output = (run["result"] or {}).get("output") or {}
    _show_repairs(output)
    _show_waves(output, tasks)
    print("  = %s in %.2f s: %s" % (run["status"], seconds, _describe_outcome(output)), flush=True)
    return bool(is_expected(run, output))


def _answer_question(config, folder, run, answer):
    """Answer what the agent of a run asks, as a person does in another terminal."""
    with St2Local(PACK, config, folder) as terminal:
        approvals = []
        while not approvals:
            listing = terminal.run("synthralos.approval.list")
            approvals = listing["result"]["result"]["approvals"]
        print("  a person reads: %s" % approvals[0]["question"])
        print("  and answers: st2 run synthralos.approval.answer %s answer=%s" % (
            run, shlex.quote(answer)))
        terminal.run("synthralos.approval.answer", {"execution_id": run, "answer": answer})


def _show_repairs(output):
    """Print the impact, the assignments and the checks of an infrastructure_repair, a line each."""
    for node in (output.get("impact") or {}).get("nodes", []):
        print("  impact of %(node)s: %(criticality)s, %(population_affected)d people, "
              "nodes affected: %(nodes_affected)d" % node)
    for assignment in output.get("assignments") or []:
        print("  %(status)s: %(node)s to %(crew)s (%(details)s)" % assignment)
    steps = output.get("step_history") or []
    checks = [check for step in steps if step["action"] == "repairs_failed"
              for check in step["data"]["checks"]]
    for check in checks + [c for c in output.get("checks") or [] if c["status"] != "assigned"]:
        print("  check of %(crew)s on %(node)s: %(status)s (%(reason)s)" % check)
    if steps:
        print("  steps: " + " > ".join(step["action"] for step in steps))


def _show_waves(output, tasks):
    """Print the waves of an orchestration.run and the outcome of each step, a line each."""
    if "checkpoints" not in output:
        return
    for task in sorted(tasks, key=lambda execution: execution["start_timestamp"]):
        summary = (task["result"].get("result") or {}).get("summary", "")
        if summary.startswith("wave"):
            print("  " + summary)
    for step in output["stepLogs"]:
        print("  %(step_name)s: %(status)s by %(model)s in %(duration).2f s" % step)


def _describe_outcome(output):
    error = output.get("error")
    if error:
        return "ticket %s, %s" % (output.get("ticket"), error.get("reason") or error.get("message"))
    if "outcome" in output:
        return output["outcome"]
    if "checkpoints" in output:
        return "%d steps %s" % (len(output["stepLogs"]), output["status"])
    answer = output.get("recovery_result") or output.get("result") or {}
    return answer.get("output") or answer.get("response")


if __name__ == "__main__":
    sys.exit(main())
