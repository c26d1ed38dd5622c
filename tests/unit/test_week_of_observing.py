"""A week of alerts in the mode observe: nothing is done, and the report counts what would have
been.

The counts are compared with those of a model of its own, of a few lines, and not with the pack's.
"""
import random
import re
from collections import Counter, defaultdict

import pytest
from fixtures import notifications

from synthralos.automation import alert_intake, failure_intake, modes
from synthralos.automation.config import AutomationConfig
from synthralos.automation.observation_summary import summarize
from synthralos.core.timestamps import to_iso
from synthralos.reports import markdown, render
from synthralos.storage import observations, tickets
from synthralos.storage.datastore import BestEffortDatastore, MemoryDatastore

from .conftest import StartingApi

HOUR, DAY = 3600, 24 * 3600
WEEK, ALERTS, REPEAT_SECONDS = 7 * DAY, 200, 4 * HOUR
AGENT, NODE = "agent_recovery", "infrastructure_repair"
QUERY = {"annotations": {"query": "6 x 7?"}}
# (notification, index of its alert, the label that names the subject, what would become of it,
# subjects that are shared have one name)
KINDS = [
    ("kube_state_metrics", 0, "pod", NODE, "pod"),
    ("kube_state_metrics", 2, "statefulset", NODE, "statefulset"),
    ("node_exporter", 1, "instance", NODE, "host"),
    ("cloudwatch", 0, "dimension_DBInstanceIdentifier", NODE, "database"),
    ("cloudwatch", 1, "dbinstance_identifier", NODE, "database"),
    ("grafana_alert", 0, "instance", NODE, "queue"),
    ("blackbox", 1, "target", NODE, "page"),
    ("agent", 0, "agent_id", AGENT, "agent"),
    ("mute agent", 0, "agent_id", "no_query", "mute agent"),
    ("grafana_datasource_error", 0, "rulename", "not_evaluated", "rule"),
    ("always_firing", 0, None, "not_a_failure", None),
    ("alertmanager_test", 0, None, "test", None),
]


def template(name, index):
    if name in ("agent", "mute agent"):
        alert = {"labels": {"alertname": "AgentDown", "agent_id": name.replace(" ", "-")}}
        return dict(alert, **(QUERY if name == "agent" else {"annotations": {}}))
    return notifications.load(name)["alerts"][index]


def body(kind, number, status, since):
    """The notification with the alert number `number` of a kind."""
    name, index, label, _, _ = kind
    alert = dict(template(name, index), status=status, startsAt=to_iso(since))
    if label is not None:
        alert["labels"] = dict(alert["labels"])
        alert["labels"][label] = "%s-%d" % (alert["labels"][label], number)
    alert.setdefault("generatorURL", "http://prometheus.example.com/graph?g0.expr=up")
    envelope = {} if name in ("agent", "mute agent") else notifications.load(name)
    return dict(envelope, alerts=[alert])


def week(generator, start):
    """[(time, kind, number, status, since)] of ALERTS alerts, in the order of their time.

    An alert is reported when it begins, every REPEAT_SECONDS while it fires, and when it ends,
    which some do not. Some come back soon after their end.
    """
    events, busy, last = [], defaultdict(list), None
    while sum(map(len, busy.values())) < ALERTS:
        kind, number = generator.choice(KINDS), generator.randrange(5)
        since = int(start + generator.uniform(0, WEEK - HOUR))
        if last is not None and generator.random() < 0.3:
            (kind, number, end), last = last, None
            since = end + generator.choice((300, 1200, HOUR, HOUR + 1))
        has_end = generator.random() < 0.7
        end = since + int(generator.choice((40, 300, 1800, 2 * HOUR, 9 * HOUR)))
        until = end if has_end else start + WEEK
        if any(since <= other[1] + 60 and other[0] <= until + 60 for other in busy[kind, number]):
            continue
        busy[kind, number].append((since, until))
        last = (kind, number, end) if has_end and end < start + WEEK - 2 * HOUR else None
        at = since
        while at < min(until, start + WEEK):
            events.append((at, kind, number, "firing", since))
            at += REPEAT_SECONDS
        if has_end and end < start + WEEK:
            events.append((end, kind, number, "resolved", since))
    return sorted(events, key=lambda event: (event[0], event[3]))


class Model:
    """What the events of a week would lead to, by the rules of docs/automation.md."""

    def __init__(self):
        self.reports, self.starts = Counter(), Counter()
        self.incidents, self.subjects = defaultdict(set), defaultdict(set)
        self.ends, self.questions, self.question_ends = defaultdict(list), Counter(), Counter()
        self.no_failures = Counter()
        # {alert: (outcome, since, time)} of those that fire; {alert: end} of the last start that
        # has ended; {subject: [(time, alert)]} of all starts.
        self.open, self.started_until, self.of_subject = {}, {}, defaultdict(list)
        self._asked_for = set()

    def see(self, at, kind, number, status, since):
        alert, expected = (kind[0], kind[1], number), kind[3]
        if expected in ("not_a_failure", "test"):
            self.no_failures[expected] += 1
        elif status == "resolved":
            self._end(at, alert, kind)
        else:
            self._report(at, alert, kind, number, since)

    def _end(self, at, alert, kind):
        outcome, _, reported_at = self.open.pop(alert, (None, None, None))
        if outcome == "started":
            self.ends[kind[3]].append(at - reported_at)
            self.started_until[alert] = at
        elif outcome is not None and outcome != "covered":
            self.question_ends[outcome] += 1

    def _report(self, at, alert, kind, number, since):
        workflow = kind[3] if kind[3] in (AGENT, NODE) else AGENT if "agent" in kind[0] else None
        self.reports[workflow] += 1
        self.incidents[workflow].add((alert, since))
        previous = self.open.get(alert)
        if previous is not None and previous[0] == "started":
            return
        if previous is not None and previous[0] != "covered" and at - previous[2] < 600:
            return
        subject = (kind[4], number)
        recent = [start for start in self.of_subject[subject] if start[0] > at - HOUR]
        if kind[3] not in (AGENT, NODE):
            outcome = kind[3]
        elif alert in self.started_until and at - self.started_until[alert] <= HOUR:
            outcome = "recurred"
        elif recent and self.open.get(recent[-1][1], ("",))[0] == "started":
            outcome = "covered"
        else:
            outcome = "too_many" if len(recent) >= 6 else "started"
        # What is left to a person is asked once, however often it is reported.
        first_at = previous[2] if previous is not None and previous[0] == outcome else at
        self.open[alert] = (outcome, since, first_at)
        if outcome == "started":
            self.starts[workflow] += 1
            self.subjects[workflow].add(subject)
            self.of_subject[subject].append((at, alert))
        elif outcome != "covered" and (alert, since, outcome) not in self._asked_for:
            self._asked_for.add((alert, since, outcome))
            self.questions[outcome] += 1


@pytest.fixture
def api():
    return StartingApi()


@pytest.fixture
def env(make_env, api, clock):
    config = {
        "infrastructure": {
            "crews": [{"name": "on-call", "channels": ["slack"]}],
            "topology": [{"name": "db-1:9100-0", "skills": []}],
        },
    }
    return make_env(config, api=api, store=BestEffortDatastore(MemoryDatastore(clock)))


@pytest.fixture(params=[1, 2, 3])
def observed_week(request, env, clock):
    """(the Model of a week that was reported to the intake, its beginning)."""
    start, model = clock.at, Model()
    for event in week(random.Random(request.param), start):
        clock.at = event[0]
        succeeded, result = alert_intake.receive(
            env, AutomationConfig(), {"body": body(*event[1:])}
        )
        assert succeeded and result["started"] == 0, result
        model.see(*event)
    clock.at = start + WEEK
    return model, start


def test_nothing_is_done_and_all_is_counted(observed_week, env, api):
    model, start = observed_week
    summary = summarize(observations.iter_since(env.store, start, 100), start)
    assert api.started == [] and api.fired == [] and tickets.list_tickets(env.store) == []
    groups = {workflow: group for (workflow, _), group in summary.groups.items()}
    assert {name: group.reports for name, group in groups.items()} == model.reports
    assert {name: group.starts for name, group in groups.items() if group.starts} == model.starts
    assert {name: len(group.incidents) for name, group in groups.items()} == {
        name: len(incidents) for name, incidents in model.incidents.items()
    }
    assert {name: len(group.subjects) for name, group in groups.items() if group.subjects} == {
        name: len(subjects) for name, subjects in model.subjects.items()
    }
    for name, seconds in model.ends.items():
        assert sorted(map(round, groups[name].self_resolved)) == sorted(seconds)
    assert summary.no_failures == model.no_failures
    questions = {name: question.incidents for name, question in summary.questions.items()}
    assert questions == model.questions
    ends = {name: question.self_resolved for name, question in summary.questions.items()}
    assert {name: count for name, count in ends.items() if count} == model.question_ends
    # Otherwise the week would show nothing.
    assert min(model.starts.values()) > 10 and model.questions["recurred"] and model.ends[NODE]
    assert summary.crews == {"on-call": model.starts[NODE]}


def test_the_report_shows_these_numbers(observed_week, env):
    model, start = observed_week
    text = markdown.render(render.build_report(env, days=7), 200)
    section = text.split("What would have been done")[1].split("\n## ")[0]
    rows = {
        cells[0]: cells[1:]
        for cells in (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in section.replace("\\", "").splitlines() if line.startswith("|")
        )
    }
    for name in (AGENT, NODE):
        numbers = rows[name][1:6]
        assert numbers == [str(n) for n in (
            model.reports[name], len(model.incidents[name]), model.starts[name],
            len(model.subjects[name]), len(model.ends[name]),
        )]
    assert rows["on-call"] == [str(model.starts[NODE])]
    assert rows["there is no query to run again"][0] == str(model.questions["no_query"])
    assert rows["a test of the notification"] == [str(model.no_failures["test"])]
    total = sum(model.reports.values()) + sum(model.no_failures.values())
    assert "Of %d reports" % total in section
    assert "%d runs would have been started" % sum(model.starts.values()) in section
    assert "observe (automation.mode)" in re.sub(r"\\", "", section)


def test_the_report_of_a_day_counts_that_day_only(observed_week, env, clock):
    model, start = observed_week
    since = clock.at - DAY
    summary = summarize(observations.iter_since(env.store, since, 100), since)
    week_summary = summarize(observations.iter_since(env.store, start, 100), start)
    assert 0 < summary.reports < week_summary.reports and summary.first_at >= since
    for group in summary.groups.values():
        assert len(group.self_resolved) <= group.starts


def test_a_burst_of_failures_shows_the_hourly_limit(env, clock):
    for number in range(9):
        clock.forward(60)
        failure = {"id": "e%d" % number, "agentId": "bot", "failureType": "error", "query": "q"}
        failure_intake.receive(env, AutomationConfig(), {"body": failure})
    summary = summarize(observations.iter_since(env.store, 0, 10), 0)
    group = summary.groups[AGENT, None]
    assert (group.reports, group.starts, group.subjects) == (9, 6, {"bot"})
    assert summary.questions["too_many"].incidents == 3


def test_the_report_says_which_modes_are_in_force(env):
    body = markdown.render(render.build_report(env, days=7), 100)
    assert "Nothing was reported in the mode observe" in body
    modes.set_override(env, "act", None)
    assert "What would have been done" not in markdown.render(render.build_report(env, days=7), 100)
    modes.set_override(env, "observe", "disk-full")
    assert "disk-full: observe" in markdown.render(render.build_report(env, days=7), 100).replace(
        "\\", ""
    )
