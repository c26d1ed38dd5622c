from fixtures.action_case import RUN, ActionCase, long_text

from synthralos.core.sealing import seal

FAILED = {"agent_id": "invoice-bot", "failure_type": "timeout", "original_query": "Book it"}


class CaseShowTest(ActionCase):
    action = "case.show"

    def case(self, **changed):
        parameters = dict(FAILED, **changed)
        return self.run_other("analyze_agent_failure", **parameters)[1]["next"]["carry"]

    def test_opens_a_case(self):
        ok, result = self.run_action(case=self.case())
        self.assertTrue(ok)
        self.assertIn("agent_recovery", result["summary"])
        self.assertEqual(result["content"]["request"]["original_query"], "Book it")

    def test_opens_a_case_whose_body_is_in_the_datastore(self):
        query = long_text()
        _, result = self.raw(self.action, case=self.case(original_query=query))
        self.assertEqual(result["content"]["request"]["original_query"], query)

    def test_opens_the_newest_case_of_a_run(self):
        first, second = self.case(), self.case(original_query="Book it again")
        self.api.executions_by_id[RUN] = {"id": RUN, "result": {"output": {}}}
        self.api.below[RUN] = [
            {"result": {"result": {"next": {"cursor": 0, "delay": 0, "carry": first}}}},
            {"result": {"result": {"next": None, "carry": second}}},
            {"result": {"result": "None"}},
            {"result": None},
        ]
        _, result = self.run_action(execution_id=RUN)
        self.assertEqual(result["content"]["request"]["original_query"], "Book it again")

    def test_opens_the_case_that_a_task_was_given(self):
        self.api.executions_by_id[RUN] = {"id": RUN, "parameters": {"case": self.case()}}
        _, result = self.run_action(execution_id=RUN)
        self.assertEqual(result["content"]["request"]["original_query"], "Book it")

    def test_refuses_what_it_cannot_open(self):
        self.assertRefused("execution_id", self.run_action())
        self.assertRefused("execution_id", self.run_action(execution_id="7"))
        self.api.executions_by_id[RUN] = {"id": RUN}
        self.assertRefused("execution_id", self.run_action(execution_id=RUN))
        self.assertRefused("case", self.run_action(case="AAAA"))
        self.assertRefused("case", self.run_action(case=seal({"stored": "gone"})))

    def test_an_unknown_execution(self):
        ok, result = self.run_action(execution_id="0" * 24)
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))

    def test_what_looks_like_a_secret_is_masked_for_people(self):
        _, result = self.run_action(case=self.case(original_query="password=hunter22 and so on"))
        self.assertIn("********", result["content"]["request"]["original_query"])

    def test_a_case_that_is_no_object_is_shown(self):
        ok, result = self.run_action(case=seal(["list"]))
        self.assertIs(type(ok), bool)
        self.assertNotEqual(result.get("error", {}).get("cause"), "internal")
