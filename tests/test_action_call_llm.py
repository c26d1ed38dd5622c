import json

from fixtures.action_case import ActionCase

ALONE = {"model": "gpt-4", "prompt": "Hello"}
FAILED = {
    "original_request": {"prompt": "Hello", "model": "gpt-4"},
    "failure_reason": "Rate limit exceeded",
    "fallback_models": ["claude-3-haiku"],
}


class CallLLMTest(ActionCase):
    action = "call_llm"

    def case(self, **changed):
        execution = self.started("llm_retry", **dict(FAILED, **changed))
        return self.run_other("determine_retry_strategy", execution_id=execution)[1]["next"]

    def attempt(self, following):
        return self.run_action(case=following["carry"], cursor=following["cursor"])

    def script(self, model, *steps, **more):
        self.box.script("llm:" + model, list(steps), **more)

    def test_asks_a_model(self):
        from sandbox import ok

        self.script("openai/gpt-4", ok(text="Good day"))
        succeeded, result = self.run_action(**ALONE)
        self.assertTrue(succeeded)
        answer = result["result"]
        self.assertEqual(
            set(answer),
            {"response", "model", "provider", "usage", "finish_reason",
             "provider_finish_reason", "latency_ms"},
        )
        self.assertEqual(answer["response"], "Good day")
        self.assertEqual((result["attempts"], result["final_model"]), (1, "gpt-4"))

    def test_messages_provider_and_parameters(self):
        messages = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
        ok, _ = self.run_action(
            model="claude-3-haiku", provider="anthropic", messages=messages,
            parameters={"max_tokens": 5, "temperature": 0},
        )
        self.assertTrue(ok)
        body = self.box.calls_to("llm:anthropic")[0].body
        self.assertEqual((body["max_tokens"], body["temperature"]), (5, 0))

    def test_alone_it_tries_once(self):
        from sandbox import overloaded

        self.script("openai/gpt-4", overloaded(), forever=True)
        ok, result = self.run_action(**ALONE)
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        self.assertEqual(len(self.box.calls), 1)

    def test_refuses_what_it_cannot_work_with(self):
        self.assertRefused("model", self.run_action(prompt="Hello"))
        self.assertRefused("model", self.run_action(prompt="Hello", model="gpt-99"))
        for parameters in ({}, {"prompt": " "}, {"messages": [{"role": "user"}]}):
            ok, result = self.run_action(model="gpt-4", **parameters)
            self.assertEqual((ok, result["error"]["cause"]), (False, "refused"))
        ok, result = self.run_action(parameters={"temperature": "hot"}, **ALONE)
        self.assertIs(type(ok), bool)
        self.assertRefused("case", self.run_action(case="AAAA"))

    def test_the_fallback_answers_in_the_same_round(self):
        from sandbox import rate_limit

        self.script("openai/gpt-4", rate_limit(retry_after=30))
        ok, result = self.attempt(self.case())
        self.assertTrue(ok)
        self.assertEqual((result["attempts"], result["final_model"]), (2, "claude-3-haiku"))
        self.assertEqual([e.get("cause") for e in result["trail"]], ["rate_limit", None])

    def test_hands_over_to_the_next_round(self):
        from sandbox import overloaded, rate_limit

        self.script("openai/gpt-4", rate_limit(retry_after=30))
        self.script("anthropic/claude-3-haiku", overloaded(retry_after=7), forever=True)
        before = self.case()
        ok, result = self.attempt(before)
        self.assertFalse(ok)
        self.assertEqual((result["next"]["cursor"], result["next"]["delay"]), (1, 7))
        self.assertEqual(len(result["round"]), 2)
        self.now += 7
        _, result = self.attempt(result["next"])
        self.assertEqual(result["next"]["cursor"], 2)
        targets = [call.target for call in self.box.calls]
        self.assertEqual(targets.count("llm:openai/gpt-4"), 1)

    def test_gives_up_with_what_the_log_task_needs(self):
        from sandbox import status

        self.script("openai", status(400), forever=True)
        self.script("anthropic", status(400), forever=True)
        ok, result = self.attempt(self.case())
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        left = self.opened(result["carry"])
        self.assertEqual(left["gave_up"]["error"]["cause"], "bad_request")
        # Each provider is asked once: what one of them refuses, another may take.
        self.assertEqual(len(self.box.calls), 2)

    def test_a_dry_run_calls_nothing(self):
        ok, result = self.attempt(self.case(dry_run=True))
        self.assertTrue(ok)
        self.assertIs(result["dry_run"], True)
        self.assertEqual(list(result["targets"]),
                         ["llm:openai/gpt-4", "llm:anthropic/claude-3-haiku"])
        self.assertEqual(self.box.calls, [])

    def test_a_cursor_of_another_round_is_refused(self):
        self.assertRefused("cursor", self.run_action(case=self.case()["carry"], cursor=1))

    def test_a_case_of_another_workflow_is_refused(self):
        parameters = {"agent_id": "a", "failure_type": "error", "original_query": "q"}
        other = self.run_other("analyze_agent_failure", **parameters)[1]["next"]["carry"]
        self.assertRefused("case", self.run_action(case=other, cursor=0))

    def test_a_secret_that_the_model_says_is_masked(self):
        from sandbox import ok, status

        key = self.config["providers"][0]["api_key"]
        self.script("openai/gpt-4", ok(text="it is " + key), status(400, error="no " + key))
        self.assertEqual(self.run_action(**ALONE)[1]["result"]["response"], "it is ********")
        self.assertIn("********", json.dumps(self.run_action(**ALONE)[1]["error"]))

    def test_a_key_from_the_datastore_is_used_and_masked(self):
        from sandbox import ok

        provider = self.config["providers"][0]
        key = provider.pop("api_key")
        provider["api_key_from"] = "openai_key"
        self.datastore.rows["openai_key"] = key
        self.script("openai/gpt-4", ok(text="it is " + key))
        succeeded, result = self.run_action(**ALONE)
        self.assertTrue(succeeded)
        self.assertEqual(result["result"]["response"], "it is ********")

    def test_a_key_that_is_not_there_says_how_to_set_it(self):
        provider = self.config["providers"][0]
        del provider["api_key"]
        provider["api_key_from"] = "openai_key"
        ok, result = self.run_action(**ALONE)
        self.assertFalse(ok)
        self.assertIn("st2 key set --encrypt openai_key", result["error"]["message"])
        self.assertEqual(self.box.calls, [])

    def test_without_a_datastore_it_goes_on_and_says_so_once(self):
        following = self.case()
        self.take_datastore_away()
        ok, result = self.attempt(following)
        self.assertTrue(ok)
        self.assertNotRecorded(result, "outcome", "run")

    def test_a_target_that_asked_for_rest_is_left_alone_by_the_next_run(self):
        from sandbox import rate_limit

        self.script("openai/gpt-4", rate_limit(retry_after=30))
        self.attempt(self.case())
        _, result = self.attempt(self.case())
        self.assertEqual(result["attempts"], 1)
        self.assertIn("skipped", result["trail"][0])
