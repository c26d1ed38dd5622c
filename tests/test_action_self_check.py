from fixtures.action_case import ActionCase


class PackCheckTest(ActionCase):
    action = "pack.check"

    def checks(self, outcome):
        return {check["name"]: check for check in outcome[1]["checks"]}

    def test_all_that_is_configured_works(self):
        outcome = self.run_action()
        self.assertTrue(outcome[0], outcome[1]["summary"])
        checks = self.checks(outcome)
        for name in ("datastore", "platform:synthralos", "llm:openai", "llm:anthropic",
                     "route:openai/us-east-1"):
            self.assertEqual(checks[name]["status"], "ok", checks[name])

    def test_costs_nothing(self):
        self.run_action()
        self.assertEqual({call.method for call in self.box.calls}, {"GET"})
        self.assertEqual(self.datastore.rows, {})

    def test_what_is_not_configured_fails_nothing(self):
        self.config = {}
        outcome = self.run_action()
        self.assertTrue(outcome[0])
        checks = self.checks(outcome)
        for name in ("platform", "providers", "routes"):
            self.assertEqual(checks[name]["status"], "not_configured")
            self.assertTrue(checks[name]["hint"])

    def test_what_does_not_work_is_named_with_the_way_out(self):
        self.config["platforms"][0]["token"] = "another-token"
        self.config["providers"][0]["api_key"] = "another-key"
        self.box.kill("route:anthropic/eu-west-1")
        outcome = self.run_action()
        self.assertFalse(outcome[0])
        checks = self.checks(outcome)
        for name in ("llm:openai", "route:anthropic/eu-west-1"):
            self.assertEqual(checks[name]["status"], "failed")
            self.assertTrue(checks[name]["hint"])
            self.assertIn(name, outcome[1]["summary"])

    def test_a_datastore_that_is_away(self):
        self.take_datastore_away()
        outcome = self.run_action()
        self.assertFalse(outcome[0])
        self.assertEqual(self.checks(outcome)["datastore"]["status"], "failed")
