import json

from fixtures.action_case import ActionCase

from synthralos.storage import incidents
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.stackstorm_api import StackStormError

CLEAN = {
    "name": "clean", "action": "acme.clean", "retries": 2, "check": "disk_free > 0.1",
    "parameters": {
        "hosts": {"label": "instance"}, "mount": {"label": "mountpoint", "pattern": "/[a-z]{1,20}"},
        "cmd": "echo {{ st2kv.system.x }}", "password": "hunter2",
    },
}
RUNBOOKS = [
    {"name": "disk_full", "description": "Cleans {{ x }}", "match": {
        "alertname": "DiskFull", "severity": ["warning", "critical"]},
     "steps": [CLEAN, {"name": "ask", "crew": "on-call"}]},
    {"name": "down", "match": {"alertname": {"pattern": "Node.+"}}, "mode": "observe",
     "steps": [{"action": "acme.restart", "approval": "none"}]},
]
LABELS = {"alertname": "DiskFull", "severity": "critical", "instance": "web-1:9100",
          "mountpoint": "/data"}
ACTIONS = {
    "acme.clean": {"runner_type": "python-script", "enabled": True, "parameters": {
        name: {"type": "string"} for name in CLEAN["parameters"]}},
    "acme.restart": {"runner_type": "python-script", "enabled": True, "parameters": {}},
}
HOSTILE = ["; rm -rf /", "$(reboot)", "{{ st2kv.system.x }}", "<% ctx() %>", "{% raw %}",
           "web-1,evil", "-rf", "\u202ex", "a\x00b", "x" * 5000]


class _Runbooks(ActionCase):
    def setUp(self):
        super().setUp()
        self.config["infrastructure"].update(
            runbooks=RUNBOOKS, allowed_actions=list(ACTIONS),
            topology=[{"name": "web-1"}, {"name": "eu/api"}, {"name": "us/api"}],
        )
        self.actions = json.loads(json.dumps(ACTIONS))
        self.api.action = self.actions.get
        self.api.runner_parameters = lambda runner: {"timeout": {"type": "integer", "default": 60}}
        self.api.start = lambda *_: self.fail("an action was started")

    def _check_no_mark_in(self, result):
        text = json.dumps(result, ensure_ascii=False)
        for mark in ("{{", "{%", "<%", "\u202e"):
            self.assertNotIn(mark, text)
        self.assertNotIn("hunter2", text)

    def run_action(self, **parameters):
        succeeded, result = super().run_action(**parameters)
        self._check_no_mark_in(result)
        return succeeded, result


class RunbookListTest(_Runbooks):
    action = "runbook.list"

    def test_in_order_with_their_defaults(self):
        succeeded, result = self.run_action()
        self.assertTrue(succeeded)
        self.assertEqual(result["summary"], "2 runbooks")
        first, second = result["runbooks"]
        self.assertEqual((first["name"], second["name"]), ("disk_full", "down"))
        self.assertEqual(first["match"], {
            "alertname": "be DiskFull", "severity": "be warning or critical"})
        self.assertEqual(second["match"], {"alertname": "match Node.+"})
        self.assertEqual((first["mode"], second["mode"]), (None, "observe"))
        clean, ask = first["steps"]
        self.assertEqual(
            (clean["action"], clean["approval"], clean["retries"], clean["check"]),
            ("acme.clean", "required", 2, "disk_free > 0.1"),
        )
        self.assertEqual(
            clean["parameters"]["mount"], "label mountpoint that matches /[a-z]{1,20}")
        self.assertEqual(ask, {"name": "ask", "crew": "on-call"})
        self.assertEqual(second["steps"][0]["name"], "step1")

    def test_without_runbooks(self):
        self.config["infrastructure"]["runbooks"] = []
        _, result = self.run_action()
        self.assertEqual((result["summary"], result["runbooks"]), ("0 runbooks", []))

    def test_an_invalid_one_is_named(self):
        self.config["infrastructure"]["allowed_actions"] = []
        outcome = self.run_action()
        self.assertRefused("infrastructure.runbooks[0].steps[0].action", outcome, "allowed_actions")

    def test_the_examples_need_no_permission(self):
        self.config["infrastructure"].update(runbooks=[], allowed_actions=[], crews=[])
        succeeded, _ = self.run_action(source="examples")
        self.assertTrue(succeeded)


class RunbookValidateTest(_Runbooks):
    action = "runbook.validate"

    def assertProblem(self, step, field, reason):
        succeeded, result = self.run_action()
        self.assertFalse(succeeded)
        [problem] = result["problems"]
        self.assertEqual((problem["step"], problem["field"]), (step, field))
        self.assertIn(problem["value"] or "", result["error"]["message"])
        self.assertIn(reason, problem["reason"])
        self.assertTrue(problem["hint"])
        self.assertIn(field, result["error"]["message"])
        self.assertEqual(result["error"]["hint"], problem["hint"])

    def test_what_can_be_run_has_no_problem(self):
        succeeded, result = self.run_action()
        self.assertTrue(succeeded)
        self.assertEqual((result["summary"], result["problems"]), ("0 problems", []))

    def test_an_action_that_does_not_exist(self):
        del self.actions["acme.clean"]
        self.assertProblem("clean", "action", "does not exist")

    def test_an_action_that_is_disabled(self):
        self.actions["acme.restart"]["enabled"] = False
        self.assertProblem("step1", "action", "is disabled")

    def test_a_parameter_that_the_action_does_not_have(self):
        del self.actions["acme.clean"]["parameters"]["mount"]
        self.assertProblem("clean", "parameters.mount", "is not a parameter of the action")

    def test_where_the_runner_is_not_known_it_may_have_the_parameter(self):
        del self.actions["acme.clean"]["parameters"]["mount"]
        self.api.runner_parameters = lambda runner: None
        self.assertTrue(self.run_action()[0])

    def test_a_parameter_that_is_missing(self):
        self.actions["acme.restart"]["parameters"]["unit"] = {"required": True}
        self.assertProblem("step1", "parameters.unit", "is required")

    def test_a_label_as_text_before_a_shell(self):
        self.actions["acme.clean"]["runner_type"] = "remote-shell-cmd"
        self.assertProblem("clean", "parameters.mount", "runs in a shell")

    def test_a_check_without_a_prometheus(self):
        self.config["infrastructure"]["prometheus"] = {}
        self.assertProblem("clean", "check", "needs a Prometheus")

    def test_the_message_says_all(self):
        del self.actions["acme.clean"]
        _, result = self.run_action()
        self.assertEqual(
            result["error"]["message"], "disk_full/clean: action 'acme.clean' does not exist")
        hint = "Compare st2 action list --pack acme, or install it: st2 pack install acme"
        self.assertEqual(result["error"]["hint"], hint)

    def test_a_label_is_described(self):
        self.actions["acme.clean"]["parameters"]["mount"] = {"type": "array"}
        _, result = self.run_action()
        self.assertEqual(
            result["problems"][0]["value"], "'label mountpoint that matches /[a-z]{1,20}'")

    def test_every_invalid_runbook_is_named(self):
        clean, down = json.loads(json.dumps(RUNBOOKS))
        clean["steps"][0]["check"] = "up"
        down["steps"][0]["action"] = "acme.absent"
        self.config["infrastructure"]["runbooks"] = [clean, down, {"match": {"alertname": "C"}}]
        succeeded, result = self.run_action()
        self.assertFalse(succeeded)
        path = "infrastructure.runbooks"
        self.assertEqual(
            [(entry["runbook"], entry["step"], entry["field"], entry["value"])
             for entry in result["problems"]],
            [("disk_full", "clean", path + "[0].steps[0].check", "'up'"),
             ("down", "step1", path + "[1].steps[0].action", "'acme.absent'"),
             (path + "[2]", "", path + "[2].steps", None)],
        )
        self.assertEqual(
            result["error"]["message"],
            "disk_full/clean: infrastructure.runbooks[0].steps[0].check 'up' returns samples for "
            "unhealthy things, too")

    def test_another_invalid_entry_is_named(self):
        self.config["infrastructure"].update(settle_seconds=-1, runbooks=[{}])
        self.assertRefused("infrastructure.settle_seconds", self.run_action(), "0 to 3600")

    def test_one_of_them(self):
        self.actions.clear()
        _, result = self.run_action(runbook="down")
        self.assertEqual([entry["runbook"] for entry in result["problems"]], ["down"])
        self.assertEqual(len(self.run_action()[1]["problems"]), 2)
        self.assertRefused("runbook", self.run_action(runbook="nobody"), "disk_full, down")


class RunbookExplainTest(_Runbooks):
    action = "runbook.explain"

    def explain(self, labels=None, **more):
        labels = dict(LABELS, **(labels or {}))
        succeeded, result = self.run_action(alert=dict({"labels": labels}, **more))
        self.assertTrue(succeeded)
        [explanation] = result["alerts"]
        return explanation

    def test_what_an_alert_would_start(self):
        explanation = self.explain()
        self.assertEqual(
            (explanation["subject"], explanation["verdict"], explanation["runbook"]),
            ("web-1:9100", "failure", "disk_full"),
        )
        self.assertIsNone(explanation["problem"])
        clean, ask = explanation["steps"]
        self.assertEqual(
            (clean["parameters"]["hosts"], clean["parameters"]["mount"]), ("web-1", "/data"))
        self.assertEqual(ask["crew"], "on-call")
        [other] = explanation["others"]
        self.assertEqual(other["runbook"], "down")
        self.assertIn("must match Node.+", other["reason"])

    def test_an_action_that_cannot_be_run(self):
        del self.actions["acme.clean"]
        explanation = self.explain()
        self.assertTrue(explanation["problem"].startswith(
            "step clean cannot be run: action 'acme.clean': does not exist."))
        self.assertEqual(explanation["steps"][0]["parameters"]["hosts"], "web-1")
        self.api.action = self.unavailable
        self.assertIsNone(self.explain()["problem"])

    def test_a_label_that_is_not_accepted_is_worse(self):
        broken = dict(CLEAN, name="broken", parameters={"absent": 1})
        self.config["infrastructure"]["runbooks"] = [dict(RUNBOOKS[0], steps=[broken, CLEAN])]
        self.assertTrue(self.explain()["problem"].startswith("step broken cannot be run: "))
        self.assertTrue(
            self.explain({"instance": "evil"})["problem"].startswith("nothing is started: clean."))

    def test_an_alert_that_names_nothing(self):
        for alertname in ("DiskFull", "Other"):
            with self.subTest(alertname=alertname):
                labels = {"alertname": alertname, "severity": "critical"}
                _, result = self.run_action(alert={"labels": labels})
                [explanation] = result["alerts"]
                self.assertIn("no label names what failed", explanation["problem"])
                self.assertIn("infrastructure.alert_labels", explanation["problem"])

    def unavailable(self, ref):
        raise StackStormError("StackStorm's API is unavailable")

    def test_a_label_that_is_not_accepted(self):
        for text in HOSTILE:
            with self.subTest(text=text[:20]):
                explanation = self.explain({"mountpoint": text})
                self.assertTrue(explanation["problem"].startswith("nothing is started: "))
                self.assertIn("clean.parameters.mount", explanation["problem"])
                self.assertIn("label", explanation["steps"][0]["parameters"]["mount"])
        self.assertIn("not a host", self.explain({"instance": "evil"})["problem"])

    def test_hostile_text_anywhere_is_only_text(self):
        for text in HOSTILE:
            with self.subTest(text=text[:20]):
                explanation = self.explain(
                    {"alertname": text, "x": text}, annotations={"description": text})
                self.assertIsNone(explanation["runbook"])

    def test_no_runbook_matches(self):
        explanation = self.explain({"alertname": "Other"})
        self.assertIsNone(explanation["runbook"])
        self.assertEqual(explanation["steps"], [])
        self.assertIn("a crew is assigned", explanation["problem"])
        self.assertEqual(len(explanation["others"]), 2)

    def test_what_is_no_failure(self):
        explanation = self.explain({"alertname": "Watchdog", "severity": "none"})
        self.assertEqual(explanation["verdict"], "not_a_failure")
        self.assertTrue(explanation["reason"])
        self.assertEqual(
            (explanation["runbook"], explanation["steps"], explanation["others"]), (None, [], []))
        self.assertEqual(
            explanation["problem"], "no run is started: " + explanation["reason"])

    def test_what_is_resolved_starts_nothing(self):
        explanation = self.explain(status="resolved")
        self.assertEqual(explanation["problem"], "nothing is started: it is resolved")
        self.assertEqual(explanation["runbook"], "disk_full")

    def test_a_crew_that_is_an_action_is_shown_with_its_node(self):
        crew = {"name": "robot", "action": "acme.restart", "parameters": {"hard": True}}
        runbook = dict(RUNBOOKS[1], steps=[{"name": "robot", "crew": "robot"}])
        self.config["infrastructure"].update(crews=[crew], runbooks=[runbook])
        explanation = self.explain({"alertname": "NodeDown"})
        self.assertIsNone(explanation["problem"])
        self.assertEqual(explanation["steps"], [{
            "name": "robot", "crew": "robot", "action": "acme.restart", "approval": "required",
            "parameters": {"hard": True, "node": "web-1"}}])
        explanation = self.explain({"alertname": "NodeDown", "instance": "evil"})
        self.assertTrue(explanation["problem"].startswith("step robot is not started: robot.crew"))
        self.assertIn("'evil'", explanation["problem"])

    def test_labels_as_text(self):
        for text in ("DiskFull severity=critical instance=web-1:9100 mountpoint=/data",
                     "DiskFull severity:critical instance:web-1:9100 mountpoint:/data",
                     '{alertname="DiskFull", severity="critical", instance="web-1:9100", '
                     'mountpoint="/data"}'):
            with self.subTest(text=text):
                succeeded, result = self.run_action(alert_labels=text)
                self.assertTrue(succeeded)
                [explanation] = result["alerts"]
                self.assertEqual(explanation["steps"][0]["parameters"]["mount"], "/data")

    def test_what_are_no_labels_is_refused(self):
        for text in HOSTILE[:8] + ["a b c", "a=", "x=y, =z", 'a="b"c', 'a="b']:
            with self.subTest(text=text):
                succeeded, result = self.run_action(alert_labels=text)
                self.assertFalse(succeeded)
                self.assertEqual(result["error"]["field"], "alert_labels")

    def test_either_labels_or_an_alert(self):
        self.assertRefused("alert", self.run_action(), "one of alert and alert_labels")
        outcome = self.run_action(alert_labels="A", alert={"labels": LABELS})
        self.assertRefused("alert", outcome, "one of alert and alert_labels")

    def test_an_agent_is_recovered(self):
        explanation = self.explain({"agent_id": "trainer_01"})
        self.assertIn("agent_recovery", explanation["problem"])

    def test_a_name_in_two_clusters(self):
        explanation = self.explain({"alertname": "NodeDown", "instance": "api"})
        self.assertIn("several clusters", explanation["problem"])

    def test_each_alert_of_a_notification(self):
        alerts = [{"status": "firing", "labels": dict(LABELS, mountpoint=mount)}
                  for mount in ("/data", "/var")]
        _, result = self.run_action(alert={"version": "4", "alerts": alerts})
        mounts = [item["steps"][0]["parameters"]["mount"] for item in result["alerts"]]
        self.assertEqual(mounts, ["/data", "/var"])
        text = "DiskFull of web-1:9100: runbook disk_full, mode observe"
        self.assertEqual(result["summary"], "; ".join([text] * 2))

    def test_it_records_nothing(self):
        self.explain({"cluster": "eu"})
        store = BestEffortDatastore(self.datastore)
        self.assertEqual(incidents.clusters_with(store, "web-1:9100"), [])
        self.assertEqual(self.datastore.rows, {})

    def test_what_is_no_alert_is_refused(self):
        for alert in ({"x": 1}, {"labels": 7}, {"alerts": []}):
            with self.subTest(alert=alert):
                succeeded, result = self.run_action(alert=alert)
                self.assertFalse(succeeded)
                self.assertEqual(result["error"]["cause"], "refused")
