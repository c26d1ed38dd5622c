"""The ready runbooks, and the alerting rules for them: one cannot change without the others.

promtool says which labels the alert of each rule has, and what the checks return while it fires and
afterwards; these labels and results are what the pack gets here.
"""
import json
import re
import shutil
import subprocess
import urllib.parse

import pytest
import yaml
from fixtures import PACK, foreign_packs
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.automation import runbook_explanation
from synthralos.automation.config import AutomationConfig
from synthralos.calls.http import Response
from synthralos.infrastructure import prometheus_history
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.runbook_parameters import resolve_parameters
from synthralos.infrastructure.topology import Topology

from .test_infrastructure_repair import Inquiries, Run

PROMTOOL = shutil.which("promtool")
FOLDER = PACK / "examples" / "runbooks"
RULES = PACK / "examples" / "prometheus-alerts.yaml"
OWN_RULES = PACK / "docs" / "prometheus-alerts.yaml"
OWN_CASES = PACK / "tests" / "fixtures" / "prometheus-alerts.test.yaml"
CASES = PACK / "tests" / "fixtures" / "example-alerts.test.yaml"
INFRASTRUCTURE = {
    "prometheus": {"base_url": "http://prometheus.example.com"},
    "topology": [{"name": name} for name in ("worker-1", "web-1", "web-2", "db-2", "db-3")],
    "crews": [{"name": "on-call", "channels": ["mail"]}],
}
EXAMPLES = {runbook.name: runbook for runbook in runbook_explanation.load_examples()}
# What the labels of the alert become, step by step.
FROM_LABELS = {
    "node_down": [{"hosts": "worker-1"}, {"server": "worker-1"}],
    "disk_full": [{"hosts": "web-1"}, {"hosts": "web-1"}, {}],
    "pod_crash_looping": [{"namespace": "shop", "name": "web-7f9c-x2x4z"}],
    "certificate_expiring": [{"hosts": "web-1"}, {"limit": "web-1"}],
    "queue_growing": [{}, {}],
    "replica_lag": [{"hosts": "db-2"}, {"hosts": "db-2"}],
    "agent_error_rate": [{"agent_id": "trainer_01"}, {"agent_id": "trainer_01"}],
    "llm_budget_spent": [{}, {"target": "llm:openai/gpt-4o"}],
    "deployment_replicas_mismatch": [{}, {}],
    "systemd_service_failed": [{"hosts": "web-1"}, {"limit": "web-1"}],
}
SUBJECTS = {
    "node_down": "worker-1:9100",
    "disk_full": "web-1:9100",
    "pod_crash_looping": "shop/web-7f9c-x2x4z",
    "certificate_expiring": "https://shop.example.com",
    "queue_growing": "orders",
    "replica_lag": "db-2:9187",
    "agent_error_rate": "trainer_01",
    "llm_budget_spent": "llm:openai/gpt-4o",
    "deployment_replicas_mismatch": "shop/web",
    "systemd_service_failed": "web-1:9100",
}
# What the rules of kube-prometheus add to the labels of ours.
KUBE_PROMETHEUS = {
    "prometheus": "monitoring/k8s", "job": "kube-state-metrics", "endpoint": "http",
    "instance": "10.244.0.7:8080", "service": "kube-prometheus-kube-state-metrics",
}
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


def entry_of(name):
    return yaml.safe_load((FOLDER / (name + ".yaml")).read_text(encoding="utf-8"))


def case_of(name):
    (case,) = (
        case for case in yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
        if case["name"] == name
    )
    return case


def firing(name):
    """(when the alert of a case fires, its labels)."""
    (fired,) = (test for test in case_of(name)["alert_rule_test"] if test.get("exp_alerts"))
    (alert,) = fired["exp_alerts"]
    return fired["eval_time"], dict(alert["exp_labels"], alertname=fired["alertname"])


def results(name, check):
    """{time: the labels of each sample of `check`} in a case."""
    return {
        test["eval_time"]: [
            dict(_LABEL.findall(sample["labels"])) for sample in test.get("exp_samples", ())
        ]
        for test in case_of(name)["promql_expr_test"] if test["expr"] == check
    }


class StackStorm(Inquiries):
    """StackStorm with the actions that are known here; each execution succeeds at once."""

    def action(self, ref):
        return foreign_packs.action(ref)

    def runner_parameters(self, runner):
        return foreign_packs.runner_parameters(runner)

    def wait(self, execution_id, seconds, sleep=None):
        return {"id": execution_id, "status": "succeeded"}


class PrometheusDouble:
    """Returns these series for range queries of the check, all the time, and nothing otherwise."""

    def __init__(self, check, series):
        self.check, self.series, self.llm_calls = check, series, []

    def request(self, connection, method, path, seconds, *_):
        path, _, query = path.partition("?")
        kind, result = "vector", []
        if path == prometheus_history.RANGE_PATH:
            window = dict(urllib.parse.parse_qsl(query))
            start, end, step = (float(window[name]) for name in ("start", "end", "step"))
            times = [start + step * n for n in range(int((end - start) / step + 1.001))]
            kind, result = "matrix", [
                {"metric": labels, "values": [[time, "1"] for time in times]}
                for labels in self.series if window["query"] == self.check
            ]
        data = {"resultType": kind, "result": result}
        body = json.dumps({"status": "success", "data": data})
        return Response(status=200, headers={}, text=body, latency=0.0)


@pytest.fixture
def env(make_env):
    return make_env({"infrastructure": INFRASTRUCTURE}, api=StackStorm())


@pytest.fixture
def outcome_of(make_env):
    """outcome_of(runbook, step, labels of the alert, series of the check) -> the run's outcome.

    The runbook has no other step, and asks nobody.
    """

    def run(name, step, labels, series):
        entry = entry_of(name)
        (raw,) = (raw for raw in entry["steps"] if raw["name"] == step.name)
        infrastructure = dict(
            INFRASTRUCTURE, allowed_actions=[step.action],
            runbooks=[dict(entry, steps=[dict(raw, approval="none")])],
        )
        environment = make_env({"infrastructure": infrastructure}, api=StackStorm())
        environment.client = PrometheusDouble(step.check, series)
        alert = {"status": "firing", "labels": labels, "startsAt": "2023-11-14T22:00:00Z"}
        result = Run(environment, alert=alert, timeout=3600).end()
        assert [action for action, _ in environment.api.started] == [step.action]
        return result["outcome"]

    return run


def explained(env, labels, source="examples"):
    alert = {"labels": labels, "annotations": {}, "startsAt": "2026-01-01T00:00:00Z"}
    result = runbook_explanation.explain(env, AutomationConfig(), alert, source)
    (entry,) = result["alerts"]
    return entry


def test_each_file_has_the_runbook_of_its_name_and_all_are_listed_here():
    files = {path.stem for path in FOLDER.glob("*.yaml")}
    assert files == set(EXAMPLES) == set(FROM_LABELS) == set(SUBJECTS)
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_file_begins_with_what_it_assumes(name):
    text = (FOLDER / (name + ".yaml")).read_text(encoding="utf-8")
    header = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert text.startswith("# ") and "Assumes: " in header
    _, labels = firing(name)
    assert "Alert: %s in examples/prometheus-alerts.yaml" % labels["alertname"] in header
    packs = re.search(r"Packs?: ([^.]*)", header).group(1)
    for step in EXAMPLES[name].steps:
        assert step.action is None or step.action.partition(".")[0] in packs


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_alert_of_its_rule_resolves_to_the_runbook_with_the_right_parameters(env, name):
    _, labels = firing(name)
    entry = explained(env, labels)
    assert (entry["runbook"], entry["problem"], entry["verdict"]) == (name, None, "failure")
    assert entry["subject"] == SUBJECTS[name]
    assert len(entry["others"]) == len(EXAMPLES) - 1
    steps = entry_of(name)["steps"]
    for step, raw, from_labels in zip(entry["steps"], steps, FROM_LABELS[name]):
        fixed = {
            parameter: value for parameter, value in (raw.get("parameters") or {}).items()
            if not (isinstance(value, dict) and "label" in value)
        }
        assert step.get("parameters", {}) == dict(fixed, **from_labels)
        assert "problem" not in step
    assert len(entry["steps"]) == len(steps) == len(FROM_LABELS[name])


@pytest.mark.parametrize("name", ["pod_crash_looping", "deployment_replicas_mismatch"])
def test_the_alerts_of_kube_prometheus_match_too(env, outcome_of, name):
    firing_time, labels = firing(name)
    labels = dict(labels, **KUBE_PROMETHEUS)
    entry = explained(env, labels)
    assert (entry["runbook"], entry["problem"]) == (name, None)
    assert entry["subject"] == SUBJECTS[name]
    for step in EXAMPLES[name].steps:
        for time, series in results(name, step.check).items():
            expected = "not_repaired" if time == firing_time else "repaired"
            assert outcome_of(name, step, labels, series) == expected


def test_the_alerts_of_the_pack_itself_are_explained(env):
    cases = yaml.safe_load(OWN_CASES.read_text(encoding="utf-8"))["tests"]
    fired = [
        dict(alert["exp_labels"], alertname=test["alertname"])
        for case in cases for test in case["alert_rule_test"]
        for alert in test.get("exp_alerts", ())
    ]
    rules = yaml.safe_load(OWN_RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert {labels["alertname"] for labels in fired} == {rule["alert"] for rule in rules}
    for labels in fired:
        entry = explained(env, labels)
        assert (entry["verdict"], entry["runbook"]) == ("failure", None)
        reason = "no runbook matches" if "target" in labels else "no label names what failed"
        assert reason in entry["problem"]


def test_the_actions_exist_with_these_parameters(env):
    assert runbook_explanation.validate(env, "examples") == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_parameters_are_those_that_the_actions_accept(env, name):
    pytest.importorskip("jsonschema", "2.0", reason="jsonschema is not installed")
    from st2local.validation import check

    topology = Topology.load(env, load_config(env))
    for step in EXAMPLES[name].steps:
        if step.action is None:
            continue
        parameters = resolve_parameters(step, firing(name)[1], topology)
        schema = {
            "type": "object", "additionalProperties": False,
            "properties": foreign_packs.parameters_of(step.action),
        }
        try:
            check(parameters, schema)
        except AttributeError:
            pytest.skip("st2local needs jsonschema 2.6")


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_check_is_healthy_when_the_thing_is_and_not_while_the_alert_fires(outcome_of, name):
    firing_time, labels = firing(name)
    for step in EXAMPLES[name].steps:
        if step.crew is not None:
            continue
        by_time = results(name, step.check)
        assert firing_time in by_time and len(by_time) >= 2, step.check
        for time, series in by_time.items():
            expected = "not_repaired" if time == firing_time else "repaired"
            assert outcome_of(name, step, labels, series) == expected, (step.name, time)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_action_has_the_time_that_its_step_waits_for(name):
    for step in EXAMPLES[name].steps:
        if step.action is None or step.action.startswith("synthralos."):
            continue
        default = foreign_packs.parameters_of(step.action)["timeout"]["default"]
        assert step.parameters.get("timeout", default) >= step.seconds


def test_each_rule_has_its_runbook_and_each_runbook_its_rule():
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [rule["alert"] for group in groups for rule in group["rules"]]
    matched = [
        value for runbook in EXAMPLES.values() for condition in runbook.match
        if condition.label == "alertname" for value in condition.values
    ]
    assert sorted(rules) == sorted(matched)
    for name in EXAMPLES:
        silent = [
            test for test in case_of(name)["alert_rule_test"] if not test.get("exp_alerts")
        ]
        assert len(silent) >= 2, "%s: before it fires, and afterwards" % name


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's prometheus)")
def test_the_rules_are_valid_and_fire_as_the_cases_say(tmp_path):
    for path in (RULES, CASES):
        shutil.copy(path, tmp_path)
    for words in (("check", "rules", RULES.name), ("test", "rules", CASES.name)):
        process = subprocess.run(
            [PROMTOOL, *words], cwd=tmp_path, capture_output=True, timeout=PATIENCE_SECONDS,
        )
        assert process.returncode == 0, (process.stdout + process.stderr).decode()
