import base64

from fixtures.action_case import ActionCase

FAILED = {"agent_id": "bot", "failure_type": "timeout", "original_query": "Book it"}


class _Agents(ActionCase):
    def recover(self, **more):
        """What the first task of agent_recovery says."""
        run = self.started("agent_recovery", **dict(FAILED, **more))
        return self.run_other("analyze_agent_failure", execution_id=run)

    def assertNotRecordedAtAll(self, outcome):
        ok, result = outcome
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))


class AgentPauseTest(_Agents):
    action = "agent.pause"

    def test_no_recovery_starts_until_it_ends(self):
        ok, result = self.run_action(agent_id="bot", reason="maintenance", seconds=600)
        self.assertEqual((ok, result["paused"]), (True, True))
        self.assertEqual(result["pause"], {
            "reason": "maintenance", "by": "person", "since": "2023-11-14T22:13:20Z",
            "until": "2023-11-14T22:23:20Z", "probe_at": None})
        self.now += 599
        self.assertRefused("agent_id", self.recover(), "agent.resume")
        self.assertTrue(self.recover(agent_id="other")[0])
        self.now += 1
        self.assertTrue(self.recover()[0])

    def test_one_recovery_may_probe_it(self):
        self.run_action(agent_id="bot", reason="x", seconds=600, probe_seconds=60)
        self.assertRefused("agent_id", self.recover(), "probe it from 2023-11-14T22:14:20Z")
        self.now += 60
        self.assertTrue(self.recover()[0])
        self.assertRefused("agent_id", self.recover(), "2023-11-14T22:15:20Z")

    def test_a_newer_pause_replaces_the_older_one(self):
        self.run_action(agent_id="bot", reason="x", seconds=3600)
        self.now += 1
        _, result = self.run_action(agent_id="bot", reason="y", seconds=60)
        self.assertEqual(result["pause"]["until"], "2023-11-14T22:14:21Z")

    def test_the_reason_is_decoded_and_masked(self):
        token = self.config["platforms"][0]["token"]
        reason = base64.b64encode(b"{{ x }} " + token.encode()).decode()
        _, result = self.run_action(agent_id="bot", reason="base64:" + reason)
        self.assertEqual(result["pause"]["reason"], "{{ x }} ********")

    def test_refusals(self):
        good = {"agent_id": "bot", "reason": "x"}
        for field, value in (("agent_id", "two words"), ("reason", " "), ("reason", "base64:%"),
                             ("probe_seconds", 300)):
            self.assertRefused(field, self.run_action(**dict(good, **{field: value})))
        self.assertEqual(self.datastore.rows, {})
        self.take_datastore_away()
        self.assertNotRecordedAtAll(self.run_action(**good))


class AgentResumeTest(_Agents):
    action = "agent.resume"

    def test_it_goes_on_whoever_paused_it(self):
        self.run_other("agent.pause", agent_id="bot", reason="x")
        for _ in range(4):
            self.now += 1
            self.run_other("loop.check", agent_id="bot", action="search", input={"q": 1})
        self.now += 1
        ok, result = self.run_action(agent_id="bot")
        self.assertEqual((ok, result["resumed"], result["paused"]), (True, True, False))
        self.assertTrue(self.recover()[0])
        self.now += 1
        self.assertFalse(self.run_action(agent_id="bot")[1]["resumed"])

    def test_refusals(self):
        self.assertRefused("agent_id", self.run_action(agent_id="two words"))
        self.take_datastore_away()
        self.assertNotRecordedAtAll(self.run_action(agent_id="bot"))
