import json

from fixtures.action_case import ActionCase

FAILED = {"agent_id": "invoice-bot", "failure_type": "timeout", "original_query": "What is 6 x 7?"}


class ExecuteRecoveryTest(ActionCase):
    action = "execute_recovery"

    def case(self, workflow=None, **changed):
        """A case as the workflow hands it to the first attempt."""
        parameters = dict(FAILED, **changed)
        if workflow is not None:
            parameters = {
                "execution_id": self.started("agent_recovery", **dict(parameters, **workflow))
            }
        analysed = self.run_other("analyze_agent_failure", **parameters)[1]
        return self.run_other("generate_repair_plan", case=analysed["next"]["carry"])[1]["next"]

    def attempt(self, following):
        return self.run_action(case=following["carry"], cursor=following["cursor"])

    def script(self, *steps, **more):
        self.box.script("platform", list(steps), **more)

    def test_works_alone(self):
        ok, result = self.run_action(**FAILED)
        self.assertTrue(ok)
        self.assertEqual(result["recovery_result"]["output"], "Answer to: What is 6 x 7?")
        self.assertEqual((result["success"], result["attempts"], result["retry_count"]),
                         (True, 1, 0))
        self.assertLessEqual({"outcome", "history", "run"}, self.datastore.kinds())

    def test_alone_it_tries_once(self):
        from sandbox import agent_failed

        self.script(agent_failed(), forever=True)
        ok, result = self.run_action(**FAILED)
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        self.assertEqual(len(self.box.calls_to("platform")), 1)

    def test_recovers_with_the_first_step_of_the_plan(self):
        ok, result = self.attempt(self.case())
        self.assertTrue(ok)
        self.assertNotIn("next", result)
        first = result["plan"]["steps"][0]["action"]
        self.assertEqual([entry["step"] for entry in result["trail"]], [first])

    def test_hands_over_to_the_next_round(self):
        from sandbox import agent_failed

        self.script(agent_failed(), agent_failed())
        before = self.case()
        for cursor in (1, 2):
            ok, result = self.attempt(before)
            self.assertFalse(ok)
            self.assertEqual(result["next"]["cursor"], cursor)
            self.assertGreaterEqual(result["next"]["delay"], 0)
            before = result["next"]
        ok, result = self.attempt(before)
        self.assertTrue(ok)
        self.assertEqual(result["attempts"], 3)
        self.assertEqual([entry["ok"] for entry in result["trail"]], [False, False, True])

    def test_waits_whole_seconds_of_what_the_caller_asked_for(self):
        from sandbox import agent_failed

        self.config["backoff"] = {"strategy": "exponential"}
        self.script(agent_failed(), forever=True)
        result = self.attempt(self.case(workflow={"retry_delay": 8}))[1]
        self.assertIn(result["next"]["delay"], range(6, 11))

    def test_a_hint_of_the_platform_is_honoured(self):
        from sandbox import rate_limit

        self.script(rate_limit(retry_after=40))
        result = self.attempt(self.case())[1]
        self.assertEqual(result["next"]["delay"], 40)
        self.assertEqual(result["error"]["cause"], "rate_limit")

    def test_a_hint_beyond_the_deadline_ends_it_and_says_when(self):
        from sandbox import rate_limit

        self.script(rate_limit(retry_after=3000))
        ok, result = self.attempt(self.case())
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        self.assertIn("again_at", result)
        self.assertIn("gave_up", self.opened(result["carry"]))

    def test_what_no_try_can_cure_is_left_at_once(self):
        from sandbox import unauthorized

        self.script(unauthorized(), forever=True)
        ok, result = self.attempt(self.case())
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        self.assertEqual(result["error"]["cause"], "authentication")
        self.assertEqual(len(self.box.calls_to("platform")), 1)

    def test_after_the_deadline_nothing_is_called(self):
        following = self.case()
        self.now += 3600
        ok, result = self.attempt(following)
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        self.assertEqual(self.box.calls, [])

    def test_a_dry_run_calls_nothing(self):
        ok, result = self.attempt(self.case(workflow={"dry_run": True}))
        self.assertTrue(ok)
        self.assertIs(result["dry_run"], True)
        self.assertIs(result["success"], False)
        self.assertTrue(result["plan"]["steps"])
        self.assertEqual(list(result["targets"]), ["platform:synthralos"])
        self.assertEqual(self.box.calls, [])

    def test_a_cursor_of_another_round_is_refused(self):
        outcome = self.run_action(case=self.case()["carry"], cursor=4)
        self.assertRefused("cursor", outcome)
        self.assertEqual(self.box.calls, [])

    def test_a_secret_that_the_agent_says_is_masked(self):
        from sandbox import agent_failed, ok

        token = self.config["platforms"][0]["token"]
        self.script(agent_failed(error="bad token " + token), ok(text="it is " + token))
        following = self.attempt(self.case())[1]["next"]
        answer = self.attempt(following)[1]["recovery_result"]["output"]
        self.assertEqual(answer, "it is ********")

    def test_a_failed_result_is_small(self):
        from sandbox import agent_failed

        self.script(agent_failed(error="x" * 100000), forever=True)
        result = self.attempt(self.case())[1]
        self.assertLess(len(json.dumps(result)), 8000)

    def test_a_large_answer_is_kept_in_the_datastore(self):
        from sandbox import ok

        self.config["max_result_bytes"] = 1000
        self.script(ok(text="x" * 5000))
        answer = self.attempt(self.case())[1]["recovery_result"]
        self.assertIsNone(answer["output"])
        self.assertEqual(self.opened(self.datastore.rows[answer["output_key"]]), "x" * 5000)

    def test_without_a_datastore_it_goes_on_and_says_so_once(self):
        following = self.case()
        self.take_datastore_away()
        ok, result = self.attempt(following)
        self.assertTrue(ok)
        self.assertNotRecorded(result, "outcome", "history", "run")

    def test_a_repeat_bears_the_same_key(self):
        from sandbox import status

        plan = {"steps": [{"action": "retry_execution"}]}
        self.script(status(503))
        following = self.attempt(self.case(context={"repairPlan": plan}))[1]["next"]
        self.attempt(following)
        keys = [call.headers["idempotency-key"] for call in self.box.calls_to("platform")]
        self.assertEqual(len(keys), 2)
        self.assertEqual(len(set(keys)), 1)
