from fixtures.action_case import NOW, ActionCase

REQUEST = {"endpoint": "/api/v1/llm", "body": {"model": "gpt-4", "prompt": "Hello"}}
FAILED = {
    "original_request": REQUEST,
    "failure_reason": "503 Service Unavailable",
    "fallback_regions": ["eu-west-1"],
    "fallback_providers": ["anthropic"],
}


class AnalyzeRoutingFailureTest(ActionCase):
    action = "analyze_routing_failure"

    def refused(self, field, **changed):
        self.assertRefused(field, self.run_action(**dict(FAILED, **changed)))

    def test_all_regions_of_a_provider_then_the_next_provider(self):
        ok, result = self.run_action(**FAILED)
        self.assertTrue(ok)
        self.assertEqual(result["routes"], [
            "route:openai/us-east-1", "route:openai/eu-west-1",
            "route:anthropic/us-east-1", "route:anthropic/eu-west-1",
        ])
        self.assertEqual((result["next"]["cursor"], result["next"]["delay"]), (0, 0))
        self.assertEqual(self.box.calls, [])

    def test_the_model_is_mapped_for_each_provider(self):
        _, result = self.run_action(**FAILED)
        case = self.opened(result["next"]["carry"])
        self.assertEqual([leg[2] for leg in case["legs"]],
                         ["gpt-4", "gpt-4", "claude-3-5-sonnet", "claude-3-5-sonnet"])

    def test_a_provider_without_a_name_for_the_model_is_passed_over(self):
        body = {"model": "gpt-4o", "prompt": "Hello"}
        _, result = self.run_action(**dict(FAILED, original_request=dict(REQUEST, body=body)))
        self.assertEqual(result["routes"], ["route:openai/us-east-1", "route:openai/eu-west-1"])
        self.assertEqual(len(result["skipped"]), 2)
        trail = self.opened(result["next"]["carry"])["progress"]["trail"]
        self.assertEqual([e["target"] for e in trail], [e["target"] for e in result["skipped"]])

    def test_max_routes(self):
        self.config["max_routes"] = 3
        _, result = self.run_action(**FAILED)
        self.assertEqual(len(result["routes"]), 3)

    def test_a_run_s_parameters_come_from_its_execution(self):
        execution = self.started("reroute_request", seconds_ago=7, **FAILED)
        _, result = self.run_action(execution_id=execution)
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["deadline"], NOW - 7 + 120 - 10)
        self.assertEqual(case["request"]["original_request"], REQUEST)

    def test_refuses_what_it_cannot_work_with(self):
        self.refused("original_request", original_request=[])
        self.refused("original_request.endpoint", original_request={})
        self.refused("original_request.endpoint", original_request={"endpoint": "/a/../b"})
        outside = {"endpoint": "https://elsewhere.example.com/x"}
        self.refused("original_request.endpoint", original_request=outside)
        self.refused("original_request.method", original_request=dict(REQUEST, method="BREW"))
        self.refused("original_request.region", original_request=dict(REQUEST, region="a b"))
        headers = {"Authorization": "Bearer mine"}
        self.refused("original_request.headers.Authorization",
                     original_request=dict(REQUEST, headers=headers))
        self.refused("failure_reason", failure_reason="")
        self.refused("fallback_regions", fallback_regions="eu-west-1")
        self.refused("fallback_regions[0]", fallback_regions=["a b"])
        self.refused("fallback_providers[0]", fallback_providers=[7])

    def test_without_routes_it_says_so(self):
        self.config["routes"] = []
        self.refused("config.routes")

    def test_an_unknown_region_names_the_routes_that_there_are(self):
        parameters = dict(FAILED, fallback_regions=[], fallback_providers=[])
        parameters["original_request"] = dict(REQUEST, region="mars-1")
        outcome = self.run_action(**parameters)
        self.assertRefused("original_request", outcome, way_out="openai/us-east-1")

    def test_text_is_sealed_as_it_was_sent(self):
        body = {"{{ key }}": "<% ctx() %> {{ config_context.x }}"}
        _, result = self.run_action(**dict(FAILED, original_request=dict(REQUEST, body=body)))
        self.assertEqual(self.opened(result["next"]["carry"])["http"]["body"], body)
