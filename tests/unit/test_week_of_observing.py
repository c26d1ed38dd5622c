"""A week of alerts in the mode observe: nothing is done, and the report counts what would have
been.

The alerts are those of tests/fixtures/alerts, as Alertmanager, Grafana and the sensor report them:
repeatedly, twice, several at once, flapping, and some without an end. The counts are compared with
those of a model of its own, of a few lines, and not with the pack's.
"""
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Optional

import pytest
from fixtures import notifications

from synthralos.automation import alert_intake, failure_intake, modes
from synthralos.automation.config import AutomationConfig
from synthralos.automation.observation_summary import summarize
from synthralos.core.timestamps import to_iso
from synthralos.reports import html, markdown, render
from synthralos.storage import observations, tickets
from synthralos.storage.datastore import BestEffortDatastore, MemoryDatastore

from .conftest import StartingApi

HOUR, DAY = 3600, 24 * 3600
WEEK, ALERTS, REPEAT_SECONDS = 7 * DAY, 200, 4 * HOUR
AGENT, NODE = "agent_recovery", "infrastructure_repair"
EVALUATED, MEANT, TEST = "not_evaluated", "not_a_failure", "test"
RUNBOOK = "crash-loop"
# The things of each kind that the alerts of a week are about.
THINGS = 4


class Kind(NamedTuple):
    """A kind of alert.

    :ivar name: of the notification in tests/fixtures/alerts; index: of the alert in it.
    :ivar label: what tells its things apart; None for an alert that is about nothing.
    :ivar expected: the workflow, or why a person would be asked, or why it is no failure.
    :ivar family: alerts of one family are about the same things; default: the kind's own.
    :ivar loses_data: whether its end is no evidence that anything is repaired.
    """

    name: str
    index: int
    label: Optional[str]
    expected: str
    family: Optional[str] = None
    runbook: Optional[str] = None
    loses_data: bool = False

    @property
    def things(self):
        return self.family or "%s-%d" % (self.name.replace("_", "-"), self.index)

    @property
    def is_truncated(self):
        """Whether its notification leaves out alerts."""
        return self.name in notifications.names() and bool(
            notifications.load(self.name).get("truncatedAlerts"))

    @property
    def is_channel(self):
        return "channel" in self.name

    @property
    def group(self):
        """(workflow, runbook), as the report groups it."""
        if self.expected == EVALUATED:
            return None, None
        return (AGENT if self.label == "agent_id" else NODE), self.runbook


KINDS = [
    Kind("kube_state_metrics", 0, "pod", NODE, runbook=RUNBOOK),
    Kind("kube_state_metrics", 1, "deployment", NODE, "deployment"),
    Kind("kube_state_metrics", 2, "statefulset", NODE),
    Kind("kube_state_metrics", 3, "daemonset", NODE),
    Kind("kube_state_metrics", 4, "job_name", NODE),
    Kind("kube_state_metrics", 5, "horizontalpodautoscaler", NODE, "deployment"),
    Kind("kube_state_metrics", 6, "node", NODE, "worker"),
    Kind("kube_state_metrics", 7, "persistentvolume", NODE),
    Kind("kube_state_metrics", 8, "pod", NODE),
    Kind("kube_state_metrics_exported_labels", 0, "exported_pod", NODE),
    Kind("kube_state_metrics_rancher", 0, "pod", NODE, runbook=RUNBOOK),
    Kind("kubelet", 0, "persistentvolumeclaim", NODE),
    Kind("kubelet", 1, "pod", NODE),
    Kind("kubelet", 2, "node", NODE, "worker"),
    Kind("node_exporter", 0, "instance", NODE),
    Kind("node_exporter", 1, "instance", NODE),
    Kind("node_exporter", 2, "service", NODE),
    Kind("blackbox", 0, "instance", NODE),
    Kind("blackbox", 1, "target", NODE),
    Kind("snmp", 0, "instance", NODE, "switch"),
    Kind("cloudwatch", 0, "dimension_DBInstanceIdentifier", NODE, "database"),
    Kind("cloudwatch", 1, "dbinstance_identifier", NODE, "database"),
    Kind("cloudwatch", 2, "instance_id", NODE),
    Kind("cloudwatch", 3, "database_id", NODE),
    Kind("pushgateway", 0, "exported_instance", NODE),
    Kind("truncated", 0, "instance", NODE),
    Kind("grafana_alert", 0, "instance", NODE),
    Kind("grafana_channel_alert", 0, "instance", NODE),
    Kind("grafana_missing_series", 0, "instance", NODE, loses_data=True),
    Kind("agent", 0, "agent_id", AGENT),
    Kind("mute agent", 0, "agent_id", "no_query"),
    Kind("grafana_datasource_error", 0, "rulename", EVALUATED),
    Kind("grafana_no_data", 0, "rulename", EVALUATED),
    Kind("grafana_error_as_alerting", 0, "agent_id", EVALUATED),
    Kind("grafana_state_error", 0, "instance", EVALUATED),
    Kind("grafana_state_keep_last", 0, "instance", EVALUATED),
    Kind("grafana_channel_no_data", 0, "rule", EVALUATED),
    Kind("always_firing", 0, None, MEANT),
    Kind("always_firing", 1, None, MEANT),
    Kind("always_firing", 2, None, MEANT),
    Kind("alertmanager_test", 0, None, TEST),
    Kind("grafana_test", 0, None, TEST, "test"),
    Kind("grafana_test_v8", 0, None, TEST, "test"),
    Kind("grafana_test_v12", 0, None, TEST),
    Kind("grafana_test_own_labels", 0, None, TEST),
    Kind("grafana_channel_test", 0, None, TEST),
    # As other versions and data sources send them.
    Kind("alertmanager_0_4", 0, "instance", NODE),
    Kind("alertmanager_0_6", 0, "instance", NODE),
    Kind("alertmanager_0_25", 0, "instance", NODE),
    Kind("alertmanager_0_25", 1, "instance", NODE),
    Kind("alertmanager_0_34", 0, "instance", NODE),
    Kind("grafana_alert_v9", 0, "instance", NODE),
    Kind("grafana_alert_v9", 1, "instance", NODE),
    Kind("grafana_alert_v13", 0, "instance", NODE),
    Kind("grafana_by_alertmanager", 0, "instance", NODE),
    Kind("grafana_by_alertmanager", 1, "rulename", EVALUATED),
    Kind("grafana_custom_payload", 0, "instance", NODE),
    Kind("grafana_other_data_sources", 0, "InstanceId", NODE),
    Kind("grafana_other_data_sources", 1, "DBInstanceIdentifier", NODE),
    Kind("grafana_other_data_sources", 2, "resource.label.instance_id", NODE),
    Kind("grafana_other_data_sources", 3, "k8s.pod.name", NODE),
    Kind("grafana_channel_v4", 0, "instance", NODE),
    Kind("grafana_test_v10", 0, None, TEST, "test"),
    Kind("grafana_test_v13", 0, None, TEST, "test"),
]
FREQUENT = [
    kind for kind in KINDS
    if kind.runbook or kind.name == "agent" or kind.family == "deployment"
]
AGENTS = {
    "agent": {"annotations": {"query": "6 x 7?"}, "labels": {"agent_id": "agent"}},
    "mute agent": {"annotations": {}, "labels": {"agent_id": "mute"}},
}
# No crew has the skill that it needs.
HARD_SWITCH = "switch-7-switch-0"


@dataclass
class Event:
    """What happens to an alert of a kind about its thing of that number."""

    at: int
    kind: Kind
    number: int
    status: str
    since: int
    by_sensor: bool = False


def alert_of(event):
    """The alert of an event, as its notification has it."""
    kind = event.kind
    if kind.name in AGENTS:
        alert = {name: dict(value) for name, value in AGENTS[kind.name].items()}
        alert["labels"]["alertname"] = "AgentDown"
    else:
        alert = notifications.load(kind.name)["alerts"][kind.index]
    alert.pop("fingerprint", None)
    alert.update(status=event.status, startsAt=to_iso(event.since))
    if kind.label is not None:
        alert["labels"][kind.label] += "-%s-%d" % (kind.things, event.number)
    alert.setdefault("generatorURL", "http://prometheus.example.com/graph?g0.expr=up")
    reason = alert["annotations"].pop("grafana_state_reason", None)
    if reason and (event.status == "firing") is not kind.loses_data:
        alert["annotations"]["grafana_state_reason"] = reason
    if event.status == "resolved":
        alert["annotations"].pop("Error", None)
    return alert


def payload(events):
    """The payload of the trigger by which a rule receives these events at once."""
    first = events[0]
    if first.kind.is_channel:
        return {"body": channel_body(first)}
    alerts = [alert_of(event) for event in events]
    if first.by_sensor:
        [alert] = alerts
        return {
            "source": "alertmanager", "status": alert["status"], "labels": alert["labels"],
            "annotations": alert["annotations"], "starts_at": alert["startsAt"], "ends_at": None,
            "alertname": alert["labels"]["alertname"], "generator_url": alert["generatorURL"],
            "extra": {},
        }
    envelope = {} if first.kind.name in AGENTS else notifications.load(first.kind.name)
    return {"body": dict(envelope, alerts=alerts)}


def channel_body(event):
    body = notifications.load(event.kind.name)
    body.update(state="alerting" if event.status == "firing" else "ok")
    if event.kind.label is not None:
        body["ruleId"] += 100 * (KINDS.index(event.kind) * THINGS + event.number)
        for match in body["evalMatches"]:
            match["tags"]["instance"] += "-%s-%d" % (event.kind.things, event.number)
    return body


class Week:
    """A week of ALERTS alerts.

    An alert is reported when it begins, every REPEAT_SECONDS while it fires, and when it ends,
    which some do not. Some come back soon after their end, some flap, and some begin at once.
    """

    def __init__(self, generator, start):
        self._generator, self._start = generator, start
        self._busy, self.events = defaultdict(list), []
        kinds = iter(KINDS)
        while self.alerts < ALERTS:
            kind = next(kinds, None) or generator.choice(KINDS + 6 * FREQUENT)
            since = int(start + generator.uniform(0, WEEK - HOUR))
            self._add(kind, generator.randrange(THINGS), since)

    @property
    def alerts(self):
        return sum(map(len, self._busy.values()))

    def deliveries(self):
        """Lists of events that are reported together, in the order of their time."""
        deliveries = []
        for event in sorted(self.events, key=lambda event: (event.at, event.status)):
            previous = deliveries[-1][0] if deliveries else None
            is_joined = previous is not None and not event.kind.is_channel and (
                previous.at, previous.kind.name, previous.by_sensor, event.by_sensor
            ) == (event.at, event.kind.name, False, False)
            if is_joined:
                deliveries[-1].append(event)
            else:
                deliveries.append([event])
        return deliveries

    def _add(self, kind, number, since):
        chance = self._generator.random()
        if chance < 0.05:
            for n in range(12):
                self._add_one(kind, number, since + n * 240, since + n * 240 + 100)
        elif chance < 0.15:
            # The alerts of one notification begin at once.
            for other in KINDS:
                if other.name == kind.name:
                    self._add_one(other, number, since, since + self._seconds())
        else:
            end = since + self._seconds() if self._generator.random() < 0.7 else None
            is_added = self._add_one(kind, number, since, end)
            if is_added and end is not None and self._generator.random() < 0.4:
                since = end + self._generator.choice((300, 1200, HOUR, HOUR + 1))
                self._add_one(kind, number, since, since + self._seconds())

    def _seconds(self):
        return int(self._generator.choice((40, 300, 1800, 2 * HOUR, 9 * HOUR)))

    def _add_one(self, kind, number, since, end):
        """Add an alert, unless it would begin before the same one has ended; return whether."""
        number = 0 if kind.is_truncated else number
        stop = self._start + WEEK
        until = stop if end is None else end
        spans = self._busy[kind, number]
        is_busy = any(since <= span[1] + 60 and span[0] <= until + 60 for span in spans)
        if is_busy or since > stop - HOUR or self.alerts >= ALERTS:
            return False
        spans.append((since, until))
        at = since
        while at < min(until, stop):
            self._report(Event(at, kind, number, "firing", since))
            # A channel has no times: each report of it is another beginning.
            at += 2 * WEEK if kind.is_channel else REPEAT_SECONDS
        if end is not None and end < stop:
            self._report(Event(end, kind, number, "resolved", since))
        return True

    def _report(self, event):
        can_be_sensed = event.kind.name in notifications.names() and not (
            event.kind.name.startswith(("grafana", "truncated")))
        if can_be_sensed and self._generator.random() < 0.15:
            event = replace(event, by_sensor=True)
        self.events.append(event)
        if not event.kind.is_channel and self._generator.random() < 0.15:
            # The second of two Alertmanagers.
            self.events.append(replace(event, at=event.at + self._generator.randrange(1, 9)))


@dataclass
class Open:
    """An alert that fires: what would have become of it, since when, and when that was first so.

    :ivar first: the first reason why a person would have been asked, and when.
    """

    outcome: str
    since: int
    at: int
    reported_at: int
    first: Optional[tuple] = None


@dataclass
class Counts:
    """What the report says of a workflow and a runbook."""

    reports: int = 0
    starts: int = 0
    unplanned: int = 0
    incidents: dict = field(default_factory=lambda: defaultdict(set))
    subjects: set = field(default_factory=set)
    ends: list = field(default_factory=list)

    def as_dict(self):
        results = self.incidents.values()
        median = None
        if self.ends:
            ordered, half = sorted(self.ends), len(self.ends) // 2
            median = ordered[half] if len(ordered) % 2 else sum(ordered[half - 1:half + 1]) / 2
        return {
            "reports": self.reports,
            "incidents": len(self.incidents),
            "would_start": self.starts,
            "left_to_person": sum("asked" in r and "started" not in r for r in results),
            "covered": sum(not r & {"asked", "started"} for r in results),
            "without_plan": self.unplanned,
            "subjects": len(self.subjects),
            "resolved_by_themselves": len(self.ends),
            "median_seconds": median,
        }


class Model:
    """What a week would lead to, by the rules of docs/automation.md.

    :param since: from when on it is counted.
    """

    def __init__(self, since):
        self._since = since
        self.groups, self.crews = defaultdict(Counts), Counter()
        self.questions, self.question_ends, self._no_failures = Counter(), Counter(), set()
        # {alert: Open} of those that fire; {alert: end of its last run}; {thing: [(time, alert)]}.
        self._open, self._ended_at, self._starts = {}, {}, defaultdict(list)
        self._questions = set()

    @property
    def no_failures(self):
        return Counter(outcome for outcome, _, _ in self._no_failures)

    def receive(self, events):
        for event in events:
            kind = event.kind
            if kind.expected in (MEANT, TEST):
                self._count_no_failure(event)
            elif event.status == "resolved":
                self._end(event)
            else:
                self._report(event)
        if events[0].kind.is_truncated and not events[0].by_sensor:
            since = min(event.since for event in events)
            alert, group = "left out of " + events[0].kind.name, (None, None)
            previous = self._open.get(alert)
            if previous is not None and previous.since < since:
                del self._open[alert]
            self._decide(events[0].at, alert, group, alert, since, "truncated")

    def _count_no_failure(self, event):
        hour = event.at // HOUR * HOUR
        if hour >= self._since:
            self._no_failures.add((event.kind.expected, event.kind.things, hour))

    def _end(self, event):
        if event.kind.loses_data:
            return
        alert = (event.kind, event.number)
        ended = self._open.pop(alert, None)
        if ended is None or ended.outcome == "covered":
            return
        if ended.outcome == "started":
            self._ended_at[alert] = event.at
            if ended.at >= self._since:
                self.groups[event.kind.group].ends.append(event.at - ended.at)
        elif ended.first[1] >= self._since:
            self.question_ends[ended.first[0]] += 1

    def _report(self, event):
        kind, alert = event.kind, (event.kind, event.number)
        since = event.since
        if kind.loses_data and alert in self._open:
            since = self._open[alert].since
        expected = None if kind.expected in (AGENT, NODE) else kind.expected
        thing = (kind.things, event.number)
        self._decide(event.at, alert, kind.group, thing, since, expected)

    def _decide(self, at, alert, group, thing, since, question):
        is_counted, counts = at >= self._since, self.groups[group]
        previous = self._open.get(alert)
        if is_counted:
            counts.reports += 1
            results = counts.incidents[alert, since]
        if previous is not None and previous.outcome == "started":
            return
        if previous is not None and previous.outcome != "covered" and (
            at - previous.reported_at < 600
        ):
            return
        recent = [start for start in self._starts[thing] if start[0] > at - HOUR]
        if question is not None:
            outcome = question
        elif at - self._ended_at.get(alert, -HOUR - 1) <= HOUR:
            outcome = "recurred"
        elif any(self._is_running(other) for _, other in recent):
            outcome = "covered"
        else:
            outcome = "too_many" if len(recent) >= 6 else "started"
        first = None if previous is None else previous.first
        if outcome not in ("started", "covered") and first is None:
            first = (outcome, at)
        self._open[alert] = Open(outcome, since, at, at, first)
        if outcome == "started":
            self._starts[thing].append((at, alert))
        if not is_counted:
            return
        if outcome == "started":
            counts.starts += 1
            counts.subjects.add(thing)
            results.add("started")
            if thing == ("switch", 0):
                counts.unplanned += 1
            elif group == (NODE, None):
                self.crews["on-call"] += 1
        elif outcome != "covered":
            # What is left to a person is asked once, however often it is reported.
            results.add("asked")
            if (alert, since, outcome) not in self._questions:
                self._questions.add((alert, since, outcome))
                self.questions[outcome] += 1

    def _is_running(self, alert):
        return alert in self._open and self._open[alert].outcome == "started"


@pytest.fixture
def api():
    return StartingApi()


@pytest.fixture
def config():
    return {
        "infrastructure": {
            "crews": [{"name": "on-call", "channels": ["slack"]}],
            "topology": [{"name": HARD_SWITCH, "skills": ["network"]}],
            "allowed_actions": ["acme.restart"],
            "runbooks": [{
                "name": RUNBOOK, "match": {"alertname": "KubePodCrashLooping"},
                "steps": [{"action": "acme.restart", "approval": "none"}],
            }],
        },
        "escalation": {"webhook": {"url": "http://127.0.0.1:9/crews"}},
    }


@pytest.fixture
def env(make_env, api, clock, config):
    return make_env(config, api=api, store=BestEffortDatastore(MemoryDatastore(clock)))


@pytest.fixture(params=[5, 7, 9])
def week(request, clock):
    return Week(random.Random(request.param), clock.at)


@pytest.fixture
def observed_week(week, env, clock):
    """(the Model of a week that was reported to the intake, that of its last day)."""
    start = clock.at
    models = Model(start), Model(start + WEEK - DAY)
    for events in week.deliveries():
        clock.at = events[0].at
        succeeded, result = alert_intake.receive(env, AutomationConfig(), payload(events))
        assert succeeded and result["started"] == 0 and result["ticket"] is None, result
        assert not any(entry["run"] or entry["ticket"] for entry in result["alerts"]), result
        for model in models:
            model.receive(events)
    clock.at = start + WEEK
    return models


def expected_numbers(model):
    """What the result of the report says, but for the modes."""
    groups = {name: group for name, group in model.groups.items() if group.reports or group.ends}
    totals = [group.as_dict() for group in groups.values()]
    return {
        "reports": sum(group["reports"] for group in totals),
        "incidents": sum(group["incidents"] for group in totals),
        "would_start": sum(group["would_start"] for group in totals),
        "resolved_by_themselves": sum(group["resolved_by_themselves"] for group in totals),
        "would_ask": {
            reason: {"incidents": count, "resolved_by_themselves": model.question_ends[reason]}
            for reason, count in model.questions.items()
        },
        "no_failures": dict(model.no_failures),
        "crews": dict(model.crews),
        "groups": {name: group.as_dict() for name, group in groups.items()},
    }


def numbers_of(report):
    data = dict(report.data["observed"])
    assert data.pop("is_complete") and data.pop("since")
    data["groups"] = {
        (group.pop("workflow"), group.pop("runbook")): group
        for group in [dict(group) for group in data["groups"]] if group.pop("mode")
    }
    for group in data["groups"].values():
        if group["median_seconds"] is not None:
            group["median_seconds"] = round(group["median_seconds"], 1)
    return data


def test_a_week_has_alerts_of_every_kind():
    kinds = {kind.name for kind in KINDS} - set(AGENTS)
    assert kinds == set(notifications.names())
    week = Week(random.Random(5), 1_700_000_000)
    assert week.alerts == ALERTS and {event.kind for event in week.events} == set(KINDS)
    deliveries = week.deliveries()
    assert max(map(len, deliveries)) > 3 and any(events[0].by_sensor for events in deliveries)
    assert len({(event.at, event.kind, event.number) for event in week.events}) > 2 * ALERTS


def test_nothing_is_done_and_all_is_counted(observed_week, env, api):
    model, last_day = observed_week
    assert api.started == [] and api.fired == [] and tickets.list_tickets(env.store) == []
    assert numbers_of(render.build_report(env, days=7)) == expected_numbers(model)
    assert numbers_of(render.build_report(env, days=1)) == expected_numbers(last_day)
    # Otherwise the week would show nothing.
    for name in ((AGENT, None), (NODE, None), (NODE, RUNBOOK)):
        numbers = model.groups[name].as_dict()
        assert numbers["would_start"] > 2 and numbers["resolved_by_themselves"] > 1
    assert set(model.questions) >= {"recurred", "no_query", "not_evaluated", "truncated"}
    assert set(model.no_failures) == {MEANT, TEST}
    assert model.groups[NODE, None].as_dict()["covered"]
    assert sum(group.reports for group in last_day.groups.values()) > 10


def cells_of(text):
    """[cells of each row of each table] of a report in Markdown."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.replace("\\", "").splitlines() if line.startswith("|")
    ]


def test_the_report_shows_these_numbers(observed_week, env):
    model, _ = observed_week
    text = markdown.render(render.build_report(env, days=7), 200)
    section = text.split("What would have been done")[1].split("\n## ")[0]
    rows = cells_of(section)
    for (workflow, runbook), group in model.groups.items():
        numbers = group.as_dict()
        counts, *runs = [
            row[2:] for row in rows if row[:2] == [workflow or "no workflow", runbook or ""]
        ]
        assert counts == [str(numbers[name]) for name in (
            "reports", "incidents", "would_start", "left_to_person", "covered",
        )]
        assert [row[:-1] for row in runs] == ([] if not group.starts else [["observe"] + [
            str(numbers[name]) for name in (
                "would_start", "subjects", "without_plan", "resolved_by_themselves")
        ]])
    rows = {row[0]: row[1:] for row in rows}
    assert rows["on-call"] == [str(model.crews["on-call"])]
    assert rows["there is no query to run again"] == [
        str(model.questions["no_query"]), str(model.question_ends["no_query"])]
    assert rows["a test of the notification"] == [str(model.no_failures[TEST])]
    numbers = expected_numbers(model)
    section = re.sub(r"\\", "", section)
    assert "%(reports)d reports of %(incidents)d incidents. %(would_start)d runs would" % (
        numbers) in section
    assert "observe (automation.mode)" in section
    headline = text.splitlines()[2]
    assert "no run ended, and %d runs would have been started" % numbers["would_start"] in headline
    page = html.render(render.build_report(env, days=7), 200)
    assert "%d runs would have been started" % numbers["would_start"] in page


def test_the_report_says_what_may_take_the_next_step(observed_week, env):
    text = markdown.render(render.build_report(env, days=7), 200)
    rows = {row[0]: row[1:] for row in cells_of(text.split("What may take the next step")[1])}
    assert rows[RUNBOOK][0] in ("may go up to approve", "may need no run")
    assert set(rows) - {"Runbook or workflow", "---"} == {RUNBOOK, AGENT, NODE}


@pytest.mark.parametrize("mode, is_started", [("observe", False), ("act", True)])
@pytest.mark.parametrize("for_all, others_start", [("observe", False), ("act", True)])
@pytest.mark.parametrize("is_override", [True, False])
def test_a_runbook_is_observed_or_acts_whatever_the_others_do(
    week, make_env, config, api, clock, is_override, mode, is_started, for_all, others_start
):
    start = clock.at
    automation = AutomationConfig.from_config({"mode": for_all})
    if not is_override:
        config["infrastructure"]["runbooks"][0]["mode"] = mode
    env = make_env(config, api=api, store=BestEffortDatastore(MemoryDatastore(clock)))
    if is_override:
        modes.set_override(env, mode, RUNBOOK)
    for events in week.deliveries():
        clock.at = events[0].at
        first = len(api.started)
        succeeded, _ = alert_intake.receive(env, automation, payload(events))
        assert succeeded
        for run in list(api.runs)[first:]:
            api.runs[run] = {"status": "failed"}
    clock.at = start + WEEK
    summary = summarize(observations.iter_since(env.store, start, 300), start)
    runs = [inputs for _, inputs in api.started]
    assert bool(runs) is (is_started or others_start)
    assert ((NODE, RUNBOOK) in summary.groups) is not is_started
    assert ((NODE, None) in summary.groups) is not others_start
    assert ((AGENT, None) in summary.groups) is not others_start
    assert bool(summary.no_failures) is not others_start
    with_runbook = [inputs for inputs in runs if inputs.get("timeout")]
    assert bool(with_runbook) is is_started
    assert bool(len(runs) - len(with_runbook)) is others_start


def test_a_burst_of_failures_shows_the_hourly_limit(env, clock):
    for number in range(9):
        clock.forward(60)
        failure = {"id": "e%d" % number, "agentId": "bot", "failureType": "error", "query": "q"}
        failure_intake.receive(env, AutomationConfig(), {"body": failure})
    summary = summarize(observations.iter_since(env.store, 0, 10), 0)
    group = summary.groups[AGENT, None]
    assert (group.reports, group.starts, group.subjects) == (9, 6, {"bot"})
    assert (group.left_to_person, group.covered) == (3, 0)
    assert summary.questions["too_many"].incidents == 3


def test_the_report_says_which_modes_are_in_force(env):
    body = markdown.render(render.build_report(env, days=7), 100)
    assert "Nothing was reported in the mode observe" in body
    assert "What may take the next step" not in body
    modes.set_override(env, "act", None)
    modes.set_override(env, "act", RUNBOOK)
    assert "What would have been done" not in markdown.render(render.build_report(env, days=7), 100)
    modes.set_override(env, "observe", RUNBOOK)
    assert "crash-loop: observe" in markdown.render(render.build_report(env, days=7), 100).replace(
        "\\", ""
    )


def observe_alerts(env, clock, count, seconds=None, **labels):
    """Report so many alerts; each ends after so many seconds, or does not."""
    for number in range(count):
        alert = {
            "status": "firing", "annotations": {},
            "labels": dict({"alertname": "A", "instance": "n%d" % number}, **labels),
            "startsAt": to_iso(clock()), "generatorURL": "http://prometheus.example.com/graph",
        }
        alert_intake.receive(env, AutomationConfig(), {"body": {"alerts": [alert]}})
        if seconds is not None:
            clock.forward(seconds)
            ended = dict(alert, status="resolved")
            alert_intake.receive(env, AutomationConfig(), {"body": {"alerts": [ended]}})


def advice_of(env, name):
    text = markdown.render(render.build_report(env, days=7), 200)
    section = text.split("What may take the next step")[1]
    return next(row[1:] for row in cells_of(section) if row[0] == name)


@pytest.mark.parametrize("seconds, labels, name, advice", [
    (None, {}, NODE, [
        "may go up to approve", "3 of 3 incidents did not end by themselves",
        "automation.modes: {infrastructure_repair: approve}",
    ]),
    (7200, {"alertname": "KubePodCrashLooping"}, RUNBOOK, [
        "may go up to approve", "0 of 3 incidents did not end by themselves",
        "st2 run synthralos.automation.set_mode mode=approve runbook=crash-loop",
    ]),
    (300, {}, NODE, [
        "may need no run", "3 of 3 incidents ended by themselves within 10 min",
        "a longer `for` in the alerting rule",
    ]),
    (7200, {"instance": HARD_SWITCH}, NODE, [
        "stays in observe", "all 3 runs would have had nothing to do", "runbook.explain",
    ]),
])
def test_the_advice_follows_from_the_numbers(env, clock, seconds, labels, name, advice):
    for _ in range(3 if "instance" in labels else 1):
        observe_alerts(env, clock, 1 if "instance" in labels else 3, seconds, **labels)
        clock.forward(2 * HOUR)
    actual = advice_of(env, name)
    assert actual[:2] == advice[:2] and advice[2] in actual[2]


def test_the_advice_names_the_override_that_holds_everything_down(env, clock):
    modes.set_override(env, "observe", None)
    observe_alerts(env, clock, 1)
    assert "set_mode mode=default, and automation.modes" in advice_of(env, NODE)[2]


def test_one_of_each_is_said_in_the_singular(env, clock):
    observe_alerts(env, clock, 1)
    text = markdown.render(render.build_report(env, days=7), 200).replace("\\", "")
    assert "1 report of 1 incident. 1 run would have been started" in text
    assert "asked about 0 incidents" in text and "1 of 1 incident did not end by itself" in text
    assert re.search(r"\b1 \w+s\b", text.replace("1 was", "")) is None


def test_an_alert_that_is_meant_to_fire_costs_a_fact_an_hour(env, clock):
    for _ in range(300):
        body = notifications.load("always_firing")
        alert_intake.receive(env, AutomationConfig(), {"body": body})
        clock.forward(60)
    facts = list(observations.iter_since(env.store, 0, 10))
    count = len(notifications.load("always_firing")["alerts"])
    assert count * 5 <= len(facts) <= count * 6


def test_what_there_is_no_room_for_is_said(env, clock, monkeypatch):
    monkeypatch.setattr("synthralos.reports.observation_report.MAX_PAGES", 1)
    for _ in range(20):
        observe_alerts(env, clock, 6)
        clock.forward(700)
    report = render.build_report(env, days=7)
    assert report.data["observed"]["is_complete"] is False
    assert "only the newest ones are counted" in markdown.render(report, 100)
