from fixtures.action_case import NOW, ActionCase

REQUEST = {"prompt": "Hello", "model": "gpt-4"}
FAILED = {
    "original_request": REQUEST,
    "failure_reason": "the connection was closed",
    "fallback_models": ["gpt-3.5-turbo", "claude-3-haiku"],
}


class DetermineRetryStrategyTest(ActionCase):
    action = "determine_retry_strategy"

    def refused(self, field, **changed):
        self.assertRefused(field, self.run_action(**dict(FAILED, **changed)))

    def test_orders_the_models(self):
        ok, result = self.run_action(**FAILED)
        self.assertTrue(ok)
        self.assertEqual(result["targets"], [
            "llm:openai/gpt-4", "llm:openai/gpt-3.5-turbo", "llm:anthropic/claude-3-haiku",
        ])
        self.assertEqual(result["skipped"], [])
        self.assertEqual((result["next"]["cursor"], result["next"]["delay"]), (0, 0))
        self.assertEqual(self.box.calls, [])

    def test_shows_the_waits(self):
        self.config["backoff"] = {"strategy": "exponential", "base_delay": 2}
        _, result = self.run_action(**FAILED)
        self.assertEqual(result["backoff"], {"strategy": "exponential", "waits": [2, 4, 8]})

    def test_models_that_fail_for_sure_are_passed_over(self):
        parameters = dict(FAILED, failure_reason="insufficient_quota: exceeded your current quota")
        _, result = self.run_action(**parameters)
        skipped = [entry["target"] for entry in result["skipped"]]
        # The quota is that of the account, whatever the model.
        self.assertEqual(skipped[0], "llm:openai/gpt-4")
        self.assertTrue(all(target.startswith("llm:openai/") for target in skipped))
        self.assertTrue(result["targets"])
        self.assertFalse(set(skipped) & set(result["targets"]))

    def test_a_prompt_that_is_too_long_goes_to_larger_models_only(self):
        reason = "This model's maximum context length is 16385 tokens"
        parameters = dict(FAILED, failure_reason=reason, fallback_models=["gpt-4", "gpt-4o"])
        parameters["original_request"] = dict(REQUEST, model="gpt-3.5-turbo")
        _, result = self.run_action(**parameters)
        self.assertEqual(result["targets"], ["llm:openai/gpt-4o"])

    def test_a_run_s_parameters_come_from_its_execution(self):
        execution = self.started("llm_retry", seconds_ago=5, max_retries=1, **FAILED)
        _, result = self.run_action(execution_id=execution)
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["deadline"], NOW - 5 + 180 - 10)
        self.assertEqual(case["rules"]["max_retries"], 1)
        self.assertEqual(case["request"]["original_request"], REQUEST)

    def test_refuses_what_it_cannot_work_with(self):
        self.refused("original_request", original_request="text")
        self.refused("original_request.model", original_request={"prompt": "Hello"})
        self.refused("original_request.model", original_request=dict(REQUEST, model="gpt-99"))
        self.refused("failure_reason", failure_reason=" ")
        self.refused("failure_reason", failure_reason=None)
        self.refused("fallback_models", fallback_models="gpt-4o")
        self.refused("fallback_models[1]", fallback_models=["gpt-4o", "gpt-99"])
        self.refused("max_retries", max_retries=99)

    def test_a_refusal_names_the_models_that_there_are(self):
        request = dict(REQUEST, model="gpt-99")
        _, result = self.run_action(**dict(FAILED, original_request=request))
        self.assertIn("gpt-4o", result["error"]["message"])

    def test_a_prompt_is_needed(self):
        ok, result = self.run_action(**dict(FAILED, original_request={"model": "gpt-4"}))
        self.assertEqual((ok, result["error"]["cause"]), (False, "refused"))
        self.assertTrue(result["error"]["field"].startswith("original_request"))

    def test_text_is_sealed_as_it_was_sent(self):
        prompt = "{{ config_context.x }} <% ctx() %> <%= erb %>"
        request = dict(REQUEST, prompt=prompt)
        _, result = self.run_action(**dict(FAILED, original_request=request))
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["chat"]["messages"][-1]["content"], prompt)

    def test_a_secret_in_the_prompt_does_not_get_into_the_case(self):
        request = dict(REQUEST, prompt="use " + self.config["providers"][0]["api_key"])
        ok, _ = self.run_action(**dict(FAILED, original_request=request))
        self.assertTrue(ok)

    def test_without_providers_it_says_so(self):
        self.config["providers"] = []
        ok, result = self.run_action(**FAILED)
        self.assertEqual((ok, result["error"]["cause"]), (False, "refused"))
        self.assertIn("provider", result["error"]["message"])
