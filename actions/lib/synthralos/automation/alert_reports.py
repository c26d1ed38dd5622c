"""Reads a notification: its alerts, and what each of them is about.

An incident is a thing that failed, by an alert of one name: the same thing is one incident whatever
the address of the exporter that reports it, and another one in another cluster.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

from synthralos.automation import alert_triage
from synthralos.automation.config import AutomationConfig
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import to_name
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_payloads, alert_subjects
from synthralos.sensing.alert_payloads import AlertPayload
from synthralos.storage import incidents


@dataclass(frozen=True)
class AlertContext:
    """What the alerts of a notification are read with: the configuration, read once for all.

    :ivar infrastructure: as infrastructure.config.load_config_or_default returns it.
    """

    env: Environment
    automation: AutomationConfig
    infrastructure: InfrastructureConfig

    @cached_property
    def topology(self) -> Topology:
        """The topology, read when it is first needed; an empty one if it is invalid."""
        try:
            topology: Topology = Topology.load(self.env, self.infrastructure)
        except InvalidInput:
            # A run of infrastructure_repair reports that; no alert may be lost for it.
            return Topology()
        return topology


@dataclass(frozen=True)
class Report:
    """An alert, and what it is about.

    :ivar agent: the agent that its labels name, or None.
    :ivar subject: the name of the agent, or of the failed thing with its cluster; the alert's
        fingerprint if no label names one.
    :ivar incident_id: the same for all alerts about the same failure of the same thing.
    :ivar is_ambiguous: whether several clusters have a thing of this name, and none is named.
    """

    alert: AlertPayload
    agent: Optional[str]
    subject: str
    incident_id: str
    is_ambiguous: bool = False


def parse_alerts(payload: Mapping[str, Any], now: float) -> list[AlertPayload]:
    """Return the alerts of a payload, in the form of synthralos.metrics_alert.

    :raises InvalidInput: the payload holds no alert.
    """
    return parse_notification(payload, now).alerts


def parse_notification(payload: Mapping[str, Any], now: float) -> alert_payloads.Notification:
    """Return the Notification of a payload; an alert of the sensor is a notification of its own.

    :raises InvalidInput: the payload holds no alert.
    """
    is_notification = isinstance(payload.get("alerts"), list) or "ruleName" in payload
    if "labels" not in payload and ("body" in payload or is_notification):
        body = payload if is_notification else payload["body"]
        return alert_payloads.read_notification(body, now)
    alert = alert_payloads.from_item(payload, {}, now)
    alert["source"] = to_name(payload.get("source")) or alert["source"]
    return alert_payloads.Notification([alert])


def report_of(context: AlertContext, alert: AlertPayload) -> Report:
    """Return the Report of an alert. Costs a call to the datastore if it names no cluster.

    An alert without a cluster is about the only cluster that has a thing of its name.
    """
    rules = context.infrastructure.alert_rules
    agent = agent_of(context.automation, alert)
    if agent is not None:
        agent_label = next(
            label for label in context.automation.agent_labels if alert["labels"].get(label)
        )
        return Report(alert, agent, agent, _incident_id(alert, agent_label, None, rules))
    label, name, cluster = _failed_thing(alert, rules)
    if name is None:
        incident_id = _incident_id(alert, None, None, rules)
        return Report(alert, None, alert["fingerprint"], incident_id)
    if label in rules.clusters + alert_subjects.CLUSTERS:
        return Report(alert, None, name, _incident_id(alert, label, name, rules))
    clusters = _clusters_with(context, name) if cluster is None else [cluster]
    cluster = clusters[0] if len(clusters) == 1 else None
    incident_id = _incident_id(alert, label, cluster, rules)
    return Report(alert, None, _qualified(name, cluster), incident_id, len(clusters) > 1)


def agent_of(config: AutomationConfig, alert: Mapping[str, Any]) -> Optional[str]:
    """Return the agent that the labels name, reduced to the alphabet of names, or None."""
    for label in config.agent_labels:
        if alert["labels"].get(label):
            return to_name(alert["labels"][label])
    return None


def labelled_subject(context: AlertContext, alert: Mapping[str, Any]) -> str:
    """Return the subject of an alert without a call to the datastore, for a list of many."""
    _, name, cluster = _failed_thing(alert, context.infrastructure.alert_rules)
    if name is not None:
        name = _qualified(name, cluster)
    return agent_of(context.automation, alert) or name or str(alert["fingerprint"])


def record_clusters(context: AlertContext, alerts: Iterable[Mapping[str, Any]]) -> None:
    """Record which clusters have the things that alerts are about."""
    automation, seen = context.automation, set()
    for alert in alerts:
        is_failure = alert_triage.judge(alert, automation.always_firing) is None
        if not is_failure or agent_of(automation, alert):
            continue
        _, name, cluster = _failed_thing(alert, context.infrastructure.alert_rules)
        if name is not None and cluster is not None:
            seen.add((name, cluster))
    for name, cluster in sorted(seen):
        incidents.record_cluster(context.env.store, name, cluster)


def _failed_thing(
    alert: Mapping[str, Any], rules: alert_subjects.SubjectRules
) -> tuple[Optional[str], Optional[str], Optional[str]]:
    """Return (label, name, cluster) of what failed, by the alert's labels alone; None for unknown.
    """
    subject = alert_subjects.find_subject(alert["labels"], rules)
    if subject is None:
        return None, None, None
    return subject.label, to_name(subject.name), to_name(subject.cluster)


def _qualified(name: str, cluster: Optional[str]) -> str:
    qualified_name = None if cluster is None else to_name("%s/%s" % (cluster, name))
    return qualified_name or name


def _incident_id(
    alert: Mapping[str, Any],
    subject_label: Optional[str],
    cluster: Optional[str],
    rules: alert_subjects.SubjectRules,
) -> str:
    """Return the id of an alert's incident.

    :param cluster: the cluster of its subject, or which is its subject, or None.
    """
    if alert["extra"].get("ruleId"):
        # The older notifications of Grafana name what failed only while it fails.
        return "alert-%s" % alert["fingerprint"]
    labels = alert_subjects.identity_labels(alert["labels"], subject_label, rules)
    for name in rules.clusters + alert_subjects.CLUSTERS:
        labels.pop(name, None)
    # No label is called "".
    return "alert-%s" % alert_payloads.fingerprint(dict(labels, **{"": cluster or ""}))


def _clusters_with(context: AlertContext, name: str) -> list[str]:
    """Return the clusters that have a thing of that name, by alerts and by the topology."""
    clusters = set(incidents.clusters_with(context.env.store, name))
    if name not in context.topology:
        clusters.update(context.topology.clusters_with(name))
    return sorted(clusters)
