"""Alerts and failed executions, as rules hand them over to st2local, and what comes of them."""
from fixtures.waiting import ENDED, until

AGENT = {"alertname": "AgentDown", "agent_id": "trainer_01", "severity": "warning"}
QUERY = {"query": "Summarise the report", "description": "the agent timed out"}
HOSTILE = ["{{ config_context.token }}", "<% ctx().st2 %>", "<%= erb %>", "{% raw %}",
           "a\u0000b", "\u202e\U0001f600", "x" * 100000]


def alert(labels=AGENT, annotations=QUERY, status="firing", starts="2026-11-23T10:00:00Z", **more):
    return dict(
        {"status": status, "labels": labels, "annotations": annotations, "startsAt": starts,
         "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus/graph"},
        **more,
    )


def body(*alerts):
    return {
        "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "st2",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://a",
        "truncatedAlerts": 0, "alerts": list(alerts),
    }


def ended(world, run):
    until(lambda: world.local.execution(run)["status"] in ENDED, "it has ended")
    return world.local.execution(run)


def tickets(world):
    return world.local.run("synthralos.ticket.list")["result"]["result"]["tickets"]


def recoveries(world):
    return world.local.executions(action="synthralos.agent_recovery")


def failed_execution(world, action, parameters):
    run = world.local.run(action, parameters)
    payload = {"execution_id": run["id"], "status": run["status"], "action_ref": action}
    result = world.local.run(
        "synthralos.execution.receive", {}, rule="synthralos.failed_execution",
        trigger_instance={"payload": payload, "trigger": "core.st2.generic.actiontrigger"},
    )
    return result["result"]["result"]
