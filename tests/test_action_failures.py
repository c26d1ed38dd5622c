import base64

from fixtures.action_case import ActionCase

DAILY = (
    '{"error": {"message": "Rate limit reached for m on tokens per day (TPD): Limit 100. Please '
    'try again in 14m5s.", "type": "tokens", "code": "rate_limit_exceeded"}}'
)


class FailureExplainTest(ActionCase):
    action = "failure.explain"

    def explained(self, failure, **parameters):
        ok, result = self.run_action(failure=failure, **parameters)
        self.assertIs(ok, True)
        self.assertEqual(self.box.calls, [])
        self.assertEqual(self.datastore.rows, {})
        return result

    def timings(self, result):
        return {entry["target"]: entry["timing"] for entry in result["targets"]}

    def test_a_response_as_curl_prints_it(self):
        result = self.explained("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 20\r\n\r\n" + DAILY)
        self.assertEqual((result["cause"], result["status"]), ("model_quota", 429))
        self.assertEqual(result["speaks_of"], "the model")
        self.assertIsNone(result["hint_seconds"])
        self.assertIn("tokens per day", result["message"])

    def test_the_last_response_of_a_verbose_curl_counts(self):
        result = self.explained(
            "* Connected\n> POST /v1 HTTP/1.1\n>\n< HTTP/1.1 100 Continue\n<\n"
            "< HTTP/2 503\n< retry-after: 7\n<\n{ [12 bytes data]\noverloaded"
        )
        self.assertEqual((result["cause"], result["hint_seconds"]), ("overloaded", 7.0))

    def test_a_body_with_its_status_and_headers(self):
        result = self.explained("slow down", status_code=429, headers={"Retry-After": "30"})
        self.assertEqual((result["cause"], result["hint_seconds"]), ("rate_limit", 30.0))
        self.assertEqual(result["relations"]["same_target"], "after back-off")

    def test_the_text_of_an_exception(self):
        result = self.explained(
            "openai.RateLimitError: Error code: 429 - {'error': {'message': 'You exceeded your "
            "current quota', 'type': 'insufficient_quota'}}"
        )
        self.assertEqual((result["cause"], result["message"]),
                         ("quota", "You exceeded your current quota"))

    def test_an_error_in_a_success(self):
        body = '{"error": {"code": 402, "message": "Insufficient"}}'
        result = self.explained(body, status_code=200)
        self.assertEqual(result["cause"], "quota")

    def test_which_targets_would_be_tried(self):
        first, second = "llm:openai/gpt-4", "llm:anthropic/claude-3-haiku"
        result = self.explained("invalid api key", status_code=401)
        self.assertEqual(result["failed_target"], first)
        self.assertEqual(self.timings(result)[first], "never")
        self.assertEqual(self.timings(result)[second], "at once")
        self.assertIn(second, result["summary"])
        failed_target = "anthropic/claude-3-haiku"
        result = self.explained("invalid api key", status_code=401, target=failed_target)
        self.assertEqual(self.timings(result)[second], "never")
        self.assertEqual(self.timings(result)[first], "at once")

    def test_the_config_has_the_last_word(self):
        self.config["fall_over"] = {"bad_request": False}
        result = self.explained("odd", status_code=400)
        self.assertEqual(set(self.timings(result).values()), {"never"})
        self.assertIn("no other configured target", result["summary"])

    def test_routes_and_agents(self):
        for kind, prefix in (("request", "route:"), ("agent", "platform:")):
            result = self.explained("bad gateway", status_code=502, kind=kind)
            self.assertTrue(result["failed_target"].startswith(prefix))
            self.assertEqual(result["cause"], "server_error")

    def test_nothing_has_to_be_configured(self):
        self.config.clear()
        result = self.explained(DAILY, status_code=429)
        self.assertEqual((result["cause"], result["targets"]), ("model_quota", []))
        self.assertEqual(result["relations"]["same_target"], "never")

    def test_base64(self):
        encoded = base64.b64encode(b"{{ 1 }} timed out").decode()
        self.assertEqual(self.explained("base64:" + encoded)["cause"], "timeout")

    def test_refusals(self):
        self.assertRefused("failure", self.run_action(failure=" "), "Paste")
        outcome = self.run_action(failure="x", target="openai/other")
        self.assertRefused("target", outcome, "llm:openai/gpt-4")
