from fixtures.action_case import ActionCase


class AutomationSetModeTest(ActionCase):
    action = "automation.set_mode"

    def mode_now(self):
        return self.run_other("automation.get_mode")[1]["mode"]

    def test_up_and_down_and_back_to_what_is_configured(self):
        self.config["automation"] = {"mode": "approve"}
        self.assertEqual(self.mode_now(), "approve")
        for mode, in_force in (("act", "act"), ("observe", "observe"), ("default", "approve")):
            ok, result = self.run_action(mode=mode)
            self.assertEqual((ok, result["mode"], self.mode_now()), (True, in_force, in_force))
        self.assertEqual(result["source"], "automation.mode")

    def test_of_one_runbook(self):
        self.config["infrastructure"] = {
            "crews": [{"name": "on-call", "channels": ["slack"]}],
            "runbooks": [{
                "name": "disk-full", "match": {"alertname": "A"}, "steps": [{"crew": "on-call"}],
            }],
        }
        ok, result = self.run_action(mode="act", runbook="disk-full")
        self.assertEqual((ok, result["mode"]), (True, "observe"))
        self.assertEqual(result["runbooks"]["disk-full"]["mode"], "act")
        self.assertIn("disk-full: act", result["summary"])

    def test_a_runbook_that_is_not_configured_is_refused_unless_its_override_is_removed(self):
        self.assertRefused("runbook", self.run_action(mode="act", runbook="disk-full"), "none")
        self.assertTrue(self.run_action(mode="default", runbook="disk-full")[0])

    def test_the_mode_of_one_runbook_is_shown(self):
        self.config["infrastructure"] = {
            "crews": [{"name": "on-call", "channels": ["slack"]}],
            "runbooks": [{
                "name": "disk-full", "match": {"alertname": "A"}, "mode": "approve",
                "steps": [{"crew": "on-call"}],
            }],
        }
        _, result = self.run_other("automation.get_mode", runbook="disk-full")
        self.assertEqual(result["summary"], "disk-full: approve (the runbook disk-full)")
        outcome = self.run_other("automation.get_mode", runbook="disk-ful")
        self.assertRefused("runbook", outcome, "There are: disk-full")

    def test_with_an_invalid_configuration_a_runbook_goes_down_only(self):
        self.config["infrastructure"] = {"runbooks": [{"name": "disk-full"}]}
        for mode in ("act", "approve"):
            succeeded, result = self.run_action(mode=mode, runbook="disk-full")
            self.assertIn("infrastructure.runbooks", result["error"]["field"])
            self.assertFalse(succeeded)
        ok, result = self.run_action(mode="observe", runbook="disk-full")
        self.assertEqual((ok, result["runbooks"]["disk-full"]["mode"]), (True, "observe"))
        self.assertTrue(self.run_action(mode="default", runbook="disk-full")[0])

    def test_a_name_that_is_none_is_refused(self):
        self.assertRefused("runbook", self.run_action(mode="act", runbook="{{ x }}"))

    def test_without_a_datastore_it_does_not_say_that_it_was_set(self):
        self.take_datastore_away()
        ok, result = self.run_action(mode="observe")
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))

    def test_an_invalid_configuration_is_said(self):
        self.config["automation"] = {"mode": "always"}
        ok, result = self.run_other("automation.get_mode")
        self.assertEqual((ok, result["mode"]), (True, "observe"))
        self.assertIn("automation.mode", result["configuration"])
