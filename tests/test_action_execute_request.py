from fixtures.action_case import ActionCase

REQUEST = {"endpoint": "/api/v1/jobs", "method": "POST", "body": {"job": 7}}
FAILED = {
    "original_request": REQUEST,
    "failure_reason": "503 Service Unavailable",
    "fallback_regions": ["eu-west-1"],
}
US, EU = "route:openai/us-east-1", "route:openai/eu-west-1"


class ExecuteRequestTest(ActionCase):
    action = "execute_request"

    def case(self, **changed):
        execution = self.started("reroute_request", **dict(FAILED, **changed))
        return self.run_other("analyze_routing_failure", execution_id=execution)[1]["next"]

    def attempt(self, following):
        return self.run_action(case=following["carry"], cursor=following["cursor"])

    def test_sends_a_request(self):
        ok, result = self.run_action(request=REQUEST)
        self.assertTrue(ok)
        self.assertEqual(result["result"]["status_code"], 200)
        self.assertEqual((result["final_region"], result["final_provider"]),
                         ("us-east-1", "openai"))
        call = self.box.calls[0]
        self.assertEqual((call.method, call.body), ("POST", {"job": 7}))
        self.assertTrue(call.path.endswith("/api/v1/jobs"))

    def test_over_the_route_that_is_named(self):
        self.run_action(request=REQUEST, region="eu-west-1", provider="anthropic")
        self.assertEqual(self.box.calls[0].target, "route:anthropic/eu-west-1")

    def test_alone_it_tries_once(self):
        from sandbox import status

        self.box.script(US, [status(503)], forever=True)
        ok, result = self.run_action(request=REQUEST)
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        self.assertEqual(len(self.box.calls), 1)

    def test_refuses_what_it_cannot_work_with(self):
        self.assertRefused("request.endpoint", self.run_action())
        self.assertRefused("request", self.run_action(request="text"))
        self.assertRefused("request.region", self.run_action(request=REQUEST, region="a b"))
        self.assertRefused("request", self.run_action(request=REQUEST, region="mars-1"))
        self.assertRefused("case", self.run_action(case="AAAA"))
        self.assertRefused("cursor", self.run_action(case=self.case()["carry"], cursor=3))

    def test_the_next_region_answers_in_the_same_round(self):
        self.box.kill(US)
        ok, result = self.attempt(self.case())
        self.assertTrue(ok)
        self.assertEqual((result["final_region"], result["attempts"]), ("eu-west-1", 2))

    def test_hands_over_to_the_next_round(self):
        from sandbox import status

        for target in (US, EU):
            self.box.script(target, [status(503, headers={"Retry-After": "4"})])
        ok, result = self.attempt(self.case())
        self.assertFalse(ok)
        self.assertEqual((result["next"]["cursor"], result["next"]["delay"]), (1, 4))
        self.now += 4
        ok, result = self.attempt(result["next"])
        self.assertTrue(ok)
        self.assertEqual(result["attempts"], 3)

    def test_the_same_request_bears_the_same_key_everywhere(self):
        self.box.kill(US)
        self.attempt(self.case())
        keys = {call.headers["idempotency-key"] for call in self.box.calls}
        self.assertEqual((len(self.box.calls), len(keys)), (2, 1))

    def test_a_route_that_must_not_be_repeated(self):
        for route in self.config["routes"]:
            route["unsafe_to_repeat"] = True
        self.box.kill(US)
        ok, result = self.attempt(self.case())
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        self.assertIn("a person has to check", result["reason"])
        self.assertEqual(len(self.box.calls), 1)

    def test_a_dry_run_calls_nothing(self):
        ok, result = self.attempt(self.case(dry_run=True))
        self.assertTrue(ok)
        self.assertIs(result["dry_run"], True)
        self.assertEqual(list(result["targets"]), [US, EU])
        self.assertEqual(self.box.calls, [])

    def test_a_route_that_is_gone_from_the_config(self):
        following = self.case()
        self.config["routes"] = self.config["routes"][1:]
        self.assertRefused("config.routes", self.attempt(following))

    def test_a_secret_in_the_answer_is_masked(self):
        from sandbox import ok

        key = self.config["providers"][0]["api_key"]
        self.box.script(US, [ok(body={"text": "it is " + key})])
        self.assertEqual(self.run_action(request=REQUEST)[1]["result"]["response"],
                         "it is ********")

    def test_a_large_answer_is_kept_in_the_datastore(self):
        from sandbox import ok

        self.config["max_result_bytes"] = 1000
        self.box.script(US, [ok(body="x" * 5000)])
        answer = self.run_action(request=REQUEST)[1]["result"]
        self.assertEqual((answer["body"], answer["response"]), (None, None))
        self.assertEqual(self.opened(self.datastore.rows[answer["body_key"]]), "x" * 5000)

    def test_without_a_datastore_a_large_answer_is_told_to_be_lost(self):
        from sandbox import ok

        self.config["max_result_bytes"] = 1000
        self.box.script(US, [ok(body="x" * 5000)])
        self.take_datastore_away()
        succeeded, result = self.run_action(request=REQUEST)
        self.assertTrue(succeeded)
        self.assertIsNone(result["result"]["body_key"])
        self.assertNotRecorded(result, "outcome", "answer", "run")
