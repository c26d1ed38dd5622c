from fixtures.action_case import ActionCase


class HealthGetTest(ActionCase):
    action = "health.get"

    def test_all_is_well(self):
        ok, result = self.run_action()
        self.assertEqual((ok, result["status"], result["summary"]), (True, "healthy", "healthy"))
        self.assertEqual(set(result["breakers"].values()), {"closed"})
        self.assertEqual((result["active_errors"], result["pauses"]), (0, []))
        self.assertEqual(result["stats"]["total_errors"], 0)
        self.assertEqual(self.box.calls, [])

    def test_what_is_not_well_is_named(self):
        self.run_other("agent.pause", agent_id="bot", reason="x")
        self.run_other("ticket.create", subject="bot", summary="it broke", severity="high")
        ok, result = self.run_action()
        self.assertEqual((ok, result["status"]), (True, "degraded"))
        self.assertIn("paused: bot", result["summary"])
        self.assertIn("1 open ticket is high", result["summary"])
        self.assertEqual([pause["agent_id"] for pause in result["pauses"]], ["bot"])
        self.now += 1
        self.run_other("ticket.create", subject="bot", summary="again", severity="critical")
        self.assertEqual(self.run_action()[1]["status"], "critical")

    def test_of_one_agent(self):
        self.run_other("agent.pause", agent_id="bot", reason="x")
        self.assertEqual(self.run_action(agent_id="other")[1]["status"], "healthy")
        result = self.run_action(agent_id="bot")[1]
        self.assertEqual((result["status"], result["agent_id"]), ("degraded", "bot"))

    def test_a_datastore_that_is_away_is_told_and_hides_nothing(self):
        self.take_datastore_away()
        ok, result = self.run_action()
        self.assertEqual((ok, result["status"]), (True, "degraded"))
        self.assertEqual(result["subsystem_status"]["datastore"], "away")
        self.assertEqual((result["stats"], result["tickets"]), (None, None))
        self.assertIsNone(result["running_agents"])
        self.assertEqual(set(result["breakers"].values()), {"unknown"})

    def test_refusals(self):
        self.assertRefused("agent_id", self.run_action(agent_id="two words"))
