"""Tickets on st2local through the real actions: opened, told of, taken, resolved, gone over."""
import base64
import http.server
import json
import threading

import pytest

from sandbox import status

SUBJECT = {"subject": "bot", "summary": "it repeats itself", "failure_type": "infinite_loop"}


class Hook:
    """A webhook on loopback: answers with `statuses`, the last one for ever, and keeps bodies."""

    def __init__(self, *statuses):
        self.bodies, self._statuses = [], list(statuses) or [202]
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                hook.bodies.append(json.loads(self.rfile.read(length)))
                left = hook._statuses
                self.send_response(left.pop(0) if len(left) > 1 else left[0])
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/hook" % self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hooked(world):
    """hooked(*statuses, **escalation) -> a Hook that is configured as the webhook."""
    hooks = []

    def make(*statuses, **escalation):
        hooks.append(Hook(*statuses))
        world.config["escalation"] = dict(
            {"notification_channels": {"mail": False, "webhook": True},
             "webhook": {"url": hooks[-1].url}}, **escalation)
        return hooks[-1]

    yield make
    for hook in hooks:
        hook.close()


def act(world, action, succeeded=True, **parameters):
    run = world.local.run("synthralos." + action, parameters)
    assert (run["status"] == "succeeded") is succeeded, run["result"]
    return run["result"]["result"]


def test_a_ticket_lives_from_its_opening_to_its_end(world, hooked):
    hook = hooked()
    opened = act(world, "ticket.create", **SUBJECT)
    name = opened["ticket"]
    assert (opened["level"], opened["new"]) == ("critical_alert", True)
    assert opened["notifications"][0]["status"] == "sent"
    assert act(world, "ticket.create", **SUBJECT)["occurrences"] == 2
    acknowledged = act(world, "ticket.take", ticket_id=name)["ticket"]
    assert (acknowledged["status"], acknowledged["taken_by"]) == ("in_progress", "st2admin")
    result = act(world, "ticket.get", ticket_id=name)
    assert "maxIterations" in " ".join(result["report"]["recommendations"])
    assert [event["kind"] for event in result["ticket"]["events"]] == ["taken"] + ["occurred"] * 2
    listing = act(world, "ticket.list", status="in_progress", level="critical_alert",
                 min_priority=60, subject="bot")["tickets"]
    assert [ticket["ticket"] for ticket in listing] == [name]
    resolved = act(world, "ticket.resolve", ticket_id=name, resolution="fewer iterations", by="ann")
    assert (resolved["ticket"]["status"], resolved["ticket"]["resolved_by"]) == ("resolved", "ann")
    assert [body["event_action"] for body in hook.bodies] == ["trigger", "acknowledge", "resolve"]
    assert act(world, "ticket.list", status="open")["tickets"] == []


def test_what_was_not_taken_is_told_of_by_process_once(world, hooked):
    hook = hooked(400, 400, 202)
    assert act(world, "ticket.create", **SUBJECT)["notifications"][0]["status"] == "failed"
    failed = act(world, "ticket.process", succeeded=False)
    assert failed["tickets"][0]["notifications"][0]["error"] == "bad_request (400)"
    sent = act(world, "ticket.process")
    assert sent["summary"] == "1 open, 0 raised, 1 notifications sent, 0 failed"
    assert act(world, "ticket.process")["tickets"] == []
    assert len(hook.bodies) == 3


def test_process_raises_what_nobody_took(world, hooked):
    hook = hooked(escalation_timeout=0.001)
    act(world, "ticket.create", subject="bot", summary="slow", severity="low")
    assert hook.bodies == []
    levels = [act(world, "ticket.process")["tickets"][0]["level"] for _ in range(3)]
    assert levels == ["supervisor_review", "human_intervention", "critical_alert"]
    assert [body["payload"]["custom_details"]["level"] for body in hook.bodies] == levels


def test_a_run_that_fails_tells_of_its_ticket(world, hooked):
    hook = hooked()
    world.box.script("platform", [status(401)], forever=True)
    _, output = world.run("agent_recovery", agent_id="a", failure_type="timeout",
                          original_query="q", retry_delay=0)
    assert output["ticket"] and len(hook.bodies) == 1
    body = hook.bodies[0]
    assert body["dedup_key"] == "synthralos:" + output["ticket"]
    assert body["payload"]["class"] == "authentication"
    recommendations = " ".join(body["payload"]["custom_details"]["recommendations"])
    assert "`platforms[].token_from`" in recommendations


def test_a_channel_that_cannot_be_reached_does_not_keep_a_run_from_its_record(world, hooked):
    hooked(mail={"host": "127.0.0.1", "port": 1, "from": "a@b", "to": ["c@d"]},
           notification_channels={"mail": True})
    world.box.script("platform", [status(401)], forever=True)
    run, output = world.run("agent_recovery", agent_id="a", failure_type="timeout",
                            original_query="q", retry_delay=0)
    assert run["status"] == "failed" and output["ticket"] and output["error"]


@pytest.mark.parametrize("text", [
    "{{ config_context.platforms[0].token }} {{ st2kv.system.canary }}",
    "<% st2kv('system.canary') %>",
    "{% raw %} <%= erb %> {{.Values.x}}", "\x00 \u202e \U0001f600 \u00fc",
])
def test_hostile_text_is_neither_evaluated_nor_passed_on(world, hooked, text):
    hook = hooked()
    world.local.keys.set("canary", "canary-in-the-datastore")
    encoded = "base64:" + base64.b64encode(text.encode()).decode()
    opened = act(world, "ticket.create", subject="bot", summary=encoded, severity="critical",
                 details={"why": encoded})
    act(world, "ticket.resolve", ticket_id=opened["ticket"], resolution=encoded)
    assert len(hook.bodies) == 2
    out = json.dumps(hook.bodies, ensure_ascii=False)
    # Two closing braces that JSON puts there itself are no mark of the text's.
    assert not any(mark in out for mark in ("{{", "{%", "%}", "<%", "%>"))
    everything = json.dumps(
        [world.local.executions(top=False, limit=100), world.local.keys.list(prefix="synthralos.")],
        default=str)
    assert "canary-in-the-datastore" not in everything + out
    assert "sandbox-token" not in everything + out
    result = act(world, "ticket.get", ticket_id=opened["ticket"])
    assert result["ticket"]["summary"] == " ".join(text.split())


@pytest.mark.parametrize("action, parameters, named", [
    ("ticket.create", {"subject": "{{x", "summary": "s"}, "subject"),
    ("ticket.create", {"subject": "not a name", "summary": "s"}, "subject"),
    ("ticket.create", {"subject": "bot", "summary": " "}, "summary"),
    ("ticket.create", {"subject": "bot", "summary": "base64:!"}, "summary"),
    ("ticket.create", {"subject": "bot", "summary": "s",
                       "details": {str(n): n for n in range(21)}}, "details"),
    ("ticket.take", {"ticket_id": "T000000000000"}, "ticket_id"),
    ("ticket.take", {"ticket_id": "T000000000000", "by": "no name"}, "by"),
    ("ticket.resolve", {"ticket_id": "T000000000000", "resolution": "x"}, "ticket_id"),
    ("ticket.resolve", {"ticket_id": "T000000000000", "resolution": ""}, "resolution"),
])
def test_a_refusal_names_the_field_and_the_way_out(world, action, parameters, named):
    error = act(world, action, succeeded=False, **parameters)["error"]
    assert error["field"] == named and error["hint"]


def test_a_wrong_configuration_is_named(world, hooked):
    hooked(mail={"host": "h", "from": "nobody", "to": ["a@b"]})
    error = act(world, "ticket.process", succeeded=False)["error"]
    assert error["field"] == "escalation.mail.from"
