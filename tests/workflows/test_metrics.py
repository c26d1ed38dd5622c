"""What real runs with faults leave in the metrics, and that documents name what there is."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
import yaml
from workflows.orchestrations import TARGET, Orchestrated

from sandbox import agent_failed, ok, rate_limit, status

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PACK / "tests"))

from fixtures.sensor_world import Service, sensor_environment  # noqa: E402
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.metrics import definitions  # noqa: E402
from synthralos.sensing.alertmanager_poller import AlertmanagerPoller  # noqa: E402
from synthralos.storage.account_memory import AccountMemory  # noqa: E402
from synthralos.storage.datastore import (  # noqa: E402
    BestEffortDatastore,
    DatastoreUnavailable,
)

GPT4, HAIKU = "llm:openai/gpt-4", "llm:anthropic/claude-3-haiku"
PROMTOOL = shutil.which("promtool")
NAME = re.compile(r"\b(?:synthralos|gen_ai_client)_[a-z_]+")
ALERTS, DASHBOARD = "prometheus-alerts.yaml", "grafana-dashboard.json"
ALERT_CASES = "prometheus-alerts.test.yaml"
LLM = {"original_request": {"prompt": "Hello", "model": "gpt-4"}, "failure_reason": "Server error",
       "fallback_models": ["claude-3-haiku"]}


class Keys:
    """The datastore of st2local as a sensor reaches StackStorm's."""

    def __init__(self, keys):
        self._keys = keys

    def get(self, name, decrypt=False):
        try:
            return self._keys.get(name, decrypt)
        except Exception:
            return None

    def put(self, name, value, ttl=None):
        self._keys.set(name, value, ttl)

    def delete(self, name):
        raise DatastoreUnavailable("it is not asked for here")


def measured(world, **parameters):
    run = world.local.run("synthralos.metrics.get", dict({"format": "json"}, **parameters))
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]


def samples(world, name):
    """{values of labels: value, or a histogram's (count, sum)}."""
    [metric] = measured(world, prefix=name)["metrics"] or [{"samples": []}]
    return {
        tuple(sample["labels"].values()): sample.get(
            "value", (sample.get("count"), sample.get("sum"))
        )
        for sample in metric["samples"]
    }


def roll_up(world):
    run = world.local.run("synthralos.metrics.roll_up", {})
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]


def a_day_of_faults(world):
    """Runs of all kinds: fallbacks, repeats, failures, refusals, an open breaker, a blind sensor.
    """
    for provider in world.config["providers"]:
        if provider["name"] == "openai":
            for model in provider["models"]:
                model["price"] = {"input": 1000, "output": 2000}
    world.config["providers"].append({
        "name": "pool", "base_url": "http://127.0.0.1:9/v1", "models": [{"name": "m"}],
        "api_keys_from": ["pool_a", "pool_b"]})
    store = BestEffortDatastore(Keys(world.local.keys))
    AccountMemory(store, time.time).remember("pool@pool_a", "quota", 3600.0)
    world.box.script(GPT4, [rate_limit(retry_after=30)])
    assert world.run("llm_retry", **LLM)[1]["final_model"] == "claude-3-haiku"
    world.box.script(HAIKU, [status(500)] * 2)
    assert world.run("llm_retry", **dict(LLM, fallback_models=[], original_request={
        "prompt": "Hello", "model": "claude-3-haiku"}))[1]["success"]
    assert world.run("llm_retry", **dict(LLM, fallback_models=[], original_request={
        "prompt": "Hello", "model": "gpt-4o"}))[1]["success"]
    world.box.script("platform", [agent_failed("x"), ok(text="42")])
    failed = {"agent_id": "invoice-bot", "failure_type": "error", "original_query": "q"}
    assert world.run("agent_recovery", **failed)[1]["success"]
    world.box.script("route:openai/us-east-1", [status(503)] * 9)
    route = {"endpoint": "/v1/x", "provider": "openai", "region": "us-east-1"}
    assert not world.run("reroute_request", original_request=route, failure_reason="down",
                         fallback_regions=[])[1]["success"]
    assert world.run("infrastructure_repair", nodes=["db-1"])[1]["success"]
    error = {"type": "timeout_error", "message": "no answer in 60 s"}
    assert world.run("handle_error", agent_id="invoice-bot", task_id="t", error=error,
                     original_query="q")[1]["recovered"]
    assert world.run("llm_retry", **dict(LLM, failure_reason=""))[0]["status"] == "failed"
    service = Service()
    around = sensor_environment(
        service, {"sensors": {"alertmanager": {"url": "http://127.0.0.1:9"}}},
        Keys(world.local.keys), time.time, "AlertmanagerSensor",
    )
    poller = AlertmanagerPoller(around)
    for _ in range(3):
        poller.poll()
    assert [payload["seeing"] for payload in service.payloads("sensor_disconnected")] == [False]


@pytest.fixture
def day(world):
    a_day_of_faults(world)
    world.roll_up_result = roll_up(world)
    return world


def test_what_runs_come_to_is_counted(day):
    assert (
        not day.roll_up_result["busy"] and
        day.roll_up_result["left"] is False and
        day.roll_up_result["unreadable"] == 0
    )
    started = samples(day, "synthralos_runs_started_total")
    assert started == {("llm_retry",): 4, ("agent_recovery",): 2, ("reroute_request",): 1,
                       ("infrastructure_repair",): 1, ("handle_error",): 1}
    completed = samples(day, "synthralos_runs_completed_total")
    assert sum(completed.values()) == 7
    assert completed[("infrastructure_repair", "repairs_assigned", "none")] == 1
    failed = samples(day, "synthralos_runs_failed_total")
    assert failed == {
        ("llm_retry", "failed", "none", "refused"): 1,
        ("reroute_request", "failed", "unknown", "server_error"): 1,
    }
    attempts = samples(day, "synthralos_attempts_total")
    assert attempts[("llm_retry", HAIKU)] == 4 and attempts[("llm_retry", GPT4)] == 1
    fallbacks = samples(day, "synthralos_fallbacks_total")
    assert fallbacks[("llm_retry", GPT4, "rate_limit")] == 1
    assert samples(day, "synthralos_repeats_total")[("llm_retry", HAIKU, "server_error")] == 2
    assert samples(day, "synthralos_agent_calls_total") == {
        ("invoice-bot", "failure"): 1, ("invoice-bot", "success"): 2}
    transitions = samples(day, "synthralos_state_transitions_total")
    assert transitions[("infrastructure_repair", "INIT", "FAILURE_DETECTION")] == 1
    assert samples(day, "synthralos_sensor_connected") == {("AlertmanagerSensor",): 0}
    assert samples(day, "synthralos_sensor_reconnects_total") == {("AlertmanagerSensor",): 3}
    breakers = samples(day, "synthralos_breaker_state")
    assert breakers[(GPT4, "closed")] == 1 and breakers[(GPT4, "open")] == 0
    assert samples(day, "synthralos_account_resting") == {
        ("pool", "pool@pool_a"): 1, ("pool", "pool@pool_b"): 0}
    (until,) = samples(day, "synthralos_account_rests_until_timestamp_seconds").values()
    assert until > time.time()
    ratio = samples(day, "synthralos_recent_success_ratio")
    assert ratio[("llm_retry", "1h")] == 1.0 and ratio[("reroute_request", "1h")] == 0.0
    recovered = samples(day, "synthralos_time_to_recovery_seconds")
    assert {labels[0]: value[0] for labels, value in recovered.items()} == {
        "llm_retry": 3, "agent_recovery": 2, "infrastructure_repair": 1,
        "handle_error": 1}
    health = day.local.run("synthralos.health.get", {})["result"]["result"]
    assert health["stats"]["by_agent"]["invoice-bot"]["successful_recoveries"] == 2


def test_tokens_and_money(day):
    tokens = samples(day, "gen_ai_client_token_usage")
    read = tokens[("chat", "openai", "gpt-4o", "input")]
    written = tokens[("chat", "openai", "gpt-4o", "output")]
    assert read[0] == written[0] == 1 and read[1] > 0
    cost = samples(day, "synthralos_llm_cost_total")
    assert cost == {
        ("openai", "gpt-4o", "USD"): pytest.approx((read[1] * 1000 + written[1] * 2000) / 1e6)}
    assert samples(day, "synthralos_llm_unpriced_calls_total") == {
        ("anthropic", "claude-3-haiku"): 2}
    calls = samples(day, "gen_ai_client_operation_duration_seconds")
    assert calls[("chat", "openai", "gpt-4", "rate_limit")][0] == 1


def test_the_attempts_of_an_orchestration_s_steps_are_counted(world):
    flow = Orchestrated(world)
    flow.answers = {
        "Writer": lambda prompt, number: status(500) if number == 1 else "draft %d" % number,
        "Critic": lambda prompt, number: {"score": 0.4 * number}}
    critic = {"role": "Critic", "threshold": 0.75}
    flow.define([{"name": "a", "role": "Writer", "critic": critic, "max_retries": 3,
                  "retry_delay": 0, "fallback_models": ["claude-3-haiku"]}])
    world.box.script(HAIKU, [ok(text="a draft")])
    run, output = flow.run()
    assert output["success"], output
    roll_up(world)
    of_run = "orchestration.run"
    # Writer: 500, the fallback's draft, another of the first model; the critic judges both.
    assert samples(world, "synthralos_attempts_total") == {(of_run, TARGET): 4, (of_run, HAIKU): 1}
    assert samples(world, "synthralos_attempt_failures_total") == {
        (of_run, TARGET, "server_error"): 1, (of_run, HAIKU, "below_threshold"): 1}
    assert samples(world, "synthralos_fallbacks_total") == {(of_run, TARGET, "server_error"): 1}
    assert samples(world, "synthralos_repeats_total") == {(of_run, TARGET, "server_error"): 1}
    calls = samples(world, "gen_ai_client_operation_duration_seconds")
    assert sum(count for count, _ in calls.values()) == 5
    assert samples(world, "synthralos_runs_started_total") == {(of_run,): 1}


def test_a_second_roll_up_counts_nothing_again(day):
    before = samples(day, "synthralos_runs_started_total")
    assert roll_up(day)["counted"] == 0
    assert samples(day, "synthralos_runs_started_total") == before


def test_filters(day):
    selected = measured(day, prefix="synthralos_runs", labels={"workflow": "llm_retry"})["metrics"]
    assert {metric["name"] for metric in selected} == {
        "synthralos_runs_started_total", "synthralos_runs_completed_total",
        "synthralos_runs_failed_total"}
    assert all(
        sample["labels"]["workflow"] == "llm_retry"
        for metric in selected for sample in metric["samples"]
    )
    refused = day.local.run("synthralos.metrics.get", {"labels": {"wrokflow": "x"}})
    assert refused["status"] == "failed"
    assert "workflow" in refused["result"]["result"]["error"]["hint"]


def used(name):
    text = (PACK / "docs" / name).read_text(encoding="utf-8")
    if name == DASHBOARD:
        panels = json.loads(text)["panels"]
        text = "\n".join(target["expr"] for panel in panels for target in panel["targets"])
    else:
        groups = yaml.safe_load(text)["groups"]
        text = "\n".join(rule["expr"] for group in groups for rule in group["rules"])
    return set(NAME.findall(text))


def test_what_dashboard_and_alerts_use_is_there(day):
    text = measured(day, format="prometheus")["text"]
    there = set(re.findall(r"^([a-z_]+)", text, re.MULTILINE))
    displayed_names = used(DASHBOARD) | used(ALERTS)
    # To pass over a target takes an open breaker, and a redriven run a redrive: others test it.
    assert displayed_names - there == {
        "synthralos_targets_skipped_total", "synthralos_runs_redriven_total",
    }
    assert used(DASHBOARD) and used(ALERTS)
    for family in definitions.FAMILIES:
        is_displayed = any(name.startswith(family.name) for name in displayed_names)
        assert is_displayed, "%s is on no panel" % family.name


def test_documented_names_are_those_that_there_are():
    text = (PACK / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    documented = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), help_text)
        for name, kind, labels, help_text in rows
    }
    assert documented == {
        family.name: (family.type, family.labels, family.help) for family in definitions.FAMILIES
    }


def promtool(*words, **options):
    """How promtool ended; both of its outputs are in `stdout`."""
    return subprocess.run(
        [PROMTOOL, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=PATIENCE_SECONDS, check=False, **options)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's prometheus)")
def test_promtool_finds_nothing_wrong(day):
    text = measured(day, format="prometheus")["text"]
    process = promtool("check", "metrics", input=text.encode())
    assert (process.returncode, process.stdout) == (0, b"")
    process = promtool("check", "rules", PACK / "docs" / ALERTS)
    assert process.returncode == 0, process.stdout


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's prometheus)")
def test_the_alerts_fire_when_they_should_and_not_else(tmp_path):
    shutil.copy(PACK / "docs" / ALERTS, tmp_path)
    shutil.copy(PACK / "tests" / "fixtures" / ALERT_CASES, tmp_path)
    process = promtool("test", "rules", tmp_path / ALERT_CASES)
    assert process.returncode == 0, process.stdout.decode()


def test_each_alert_has_a_case_that_fires_and_one_that_does_not():
    rules = yaml.safe_load((PACK / "docs" / ALERTS).read_text())["groups"][0]["rules"]
    alert_tests = yaml.safe_load((PACK / "tests" / "fixtures" / ALERT_CASES).read_text())["tests"]
    cases = [
        (case["alertname"], bool(case.get("exp_alerts")))
        for alert_test in alert_tests for case in alert_test["alert_rule_test"]
    ]
    expected = {(rule["alert"], fires) for rule in rules for fires in (True, False)}
    assert set(cases) == expected


def test_an_open_breaker_is_seen_and_what_passes_it_over_is_counted(world):
    world.box.script(GPT4, [status(500)], forever=True)
    for _ in range(6):
        world.run("llm_retry", **LLM)
    roll_up(world)
    assert samples(world, "synthralos_breaker_state")[(GPT4, "open")] == 1
    assert samples(world, "synthralos_targets_skipped_total")[("llm_retry", GPT4)] == 1
    assert samples(world, "synthralos_attempts_total")[("llm_retry", GPT4)] == 5


def test_a_call_alone_is_no_run_and_its_tokens_count(world):
    world.box.script(GPT4, [status(500)])
    for _ in range(2):
        world.local.run("synthralos.call_llm", {"prompt": "Hello", "model": "gpt-4"})
    roll_up(world)
    assert samples(world, "synthralos_runs_started_total") == {}
    assert samples(world, "synthralos_attempts_total") == {("llm_retry", GPT4): 2}
    calls = samples(world, "gen_ai_client_operation_duration_seconds")
    assert sum(value[0] for value in calls.values()) == 2


def test_a_dry_run_is_not_counted(world):
    world.run("llm_retry", dry_run=True, **LLM)
    roll_up(world)
    assert samples(world, "synthralos_runs_started_total") == {}


def test_an_llm_that_plans_is_counted_too(world):
    world.config["planner"] = {"model": "gpt-4o"}
    steps = [{"action": "retry_execution", "parameters": {}}]
    plan = {"root_cause": "it broke", "confidence": 0.9, "steps": steps}
    world.box.script("llm:openai/gpt-4o", [ok(text=json.dumps(plan))])
    failed = {"agent_id": "a", "failure_type": "error", "original_query": "q"}
    assert world.run("agent_recovery", **failed)[1]["plan"]["source"] == "llm"
    roll_up(world)
    assert samples(world, "gen_ai_client_token_usage")[("chat", "openai", "gpt-4o", "input")][0]


def test_what_handle_error_escalates_has_failed(world):
    world.box.script("platform", [status(500)], forever=True)
    error = {"type": "timeout_error", "message": "no answer in 60 s"}
    assert world.run("handle_error", agent_id="a", task_id="t", error=error, max_retries=0,
                     original_query="q")[1]["escalated"]
    roll_up(world)
    failed = samples(world, "synthralos_runs_failed_total")
    assert failed[("handle_error", "escalated", "timeout", "timeout")] == 1
    assert samples(world, "synthralos_runs_started_total")[("handle_error",)] == 1


def test_a_failure_that_says_when_it_happened_is_measured_from_then(world):
    ago = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 600))
    world.run("agent_recovery", agent_id="a", failure_type="error", original_query="q",
              failure_details={"timestamp": ago})
    alert = {"labels": {"instance": "db-1"}, "startsAt": ago}
    assert world.run("infrastructure_repair", alert=alert)[1]["success"]
    roll_up(world)
    recoveries = samples(world, "synthralos_time_to_recovery_seconds")
    assert all(600 <= value[1] < 700 for value in recoveries.values()) and len(recoveries) == 2
    durations = samples(world, "synthralos_run_duration_seconds")
    assert all(value[1] < 100 for value in durations.values())
