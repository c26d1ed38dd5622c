from fixtures.action_case import ActionCase

TARGET = "platform:synthralos"
FAILED = {"agent_id": "bot", "failure_type": "timeout", "original_query": "What is 6 x 7?"}


class _Breakers(ActionCase):
    def state(self):
        return self.run_other("health.get")[1]["breakers"][TARGET]

    def assertNotRecordedAtAll(self, outcome):
        ok, result = outcome
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))


class BreakerOpenTest(_Breakers):
    action = "breaker.open"

    def test_no_run_calls_the_target_until_it_ends(self):
        ok, result = self.run_action(target=TARGET, seconds=600)
        self.assertEqual((ok, result), (True, {
            "summary": "The breaker of platform:synthralos is forced open until "
                       "2023-11-14T22:23:20Z",
            "target": TARGET, "state": "open", "forced_until": "2023-11-14T22:23:20Z"}))
        self.assertEqual(self.state(), "open")
        self.assertFalse(self.run_other("execute_recovery", **FAILED)[0])
        self.assertEqual(self.box.calls_to("platform"), [])
        self.now += 601
        self.assertTrue(self.run_other("execute_recovery", **FAILED)[0])
        self.assertEqual(self.state(), "closed")

    def test_retention_does_not_shorten_it(self):
        self.config["retention"] = {"ledger": "60s"}
        lifetimes, put = [], self.datastore.put
        self.datastore.put = lambda name, value, ttl: (lifetimes.append(ttl), put(name, value, ttl))
        self.run_action(target=TARGET, seconds=600)
        self.assertEqual(lifetimes, [600])

    def test_refusals(self):
        self.assertRefused("target", self.run_action(target="platform:other"), TARGET)
        self.assertEqual(self.datastore.rows, {})
        self.take_datastore_away()
        self.assertNotRecordedAtAll(self.run_action(target=TARGET))


class BreakerCloseTest(_Breakers):
    action = "breaker.close"

    def test_it_replaces_an_open_one(self):
        self.run_other("breaker.open", target=TARGET, seconds=6000)
        self.now += 1
        self.assertEqual(self.run_action(target=TARGET)[1]["state"], "closed")
        self.assertEqual(self.state(), "closed")

    def test_refusals(self):
        self.assertRefused("target", self.run_action(target="platform:other"))


class BreakerReleaseTest(_Breakers):
    action = "breaker.release"

    def test_the_outcomes_decide_again(self):
        self.run_other("breaker.open", target=TARGET)
        ok, result = self.run_action(target=TARGET)
        self.assertEqual((ok, result["released"], result["state"]), (True, True, "closed"))
        self.assertEqual(self.state(), "closed")
        ok, result = self.run_action(target=TARGET)
        self.assertEqual((ok, result["released"]), (True, False))

    def test_refusals(self):
        self.assertRefused("target", self.run_action(target="platform:other"))
        self.take_datastore_away()
        self.assertNotRecordedAtAll(self.run_action(target=TARGET))
