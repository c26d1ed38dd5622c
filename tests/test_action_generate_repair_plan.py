from fixtures.action_case import RUN, ActionCase, long_text

from synthralos.core.sealing import seal

FAILED = {"agent_id": "invoice-bot", "failure_type": "timeout", "original_query": "Book it"}


class GenerateRepairPlanTest(ActionCase):
    action = "generate_repair_plan"

    def case(self, **changed):
        parameters = dict(FAILED, **changed)
        return self.run_other("analyze_agent_failure", **parameters)[1]["next"]["carry"]

    def steps(self, result):
        return [step["action"] for step in result["plan"]["steps"]]

    def test_plans_from_plain_parameters(self):
        ok, result = self.run_action(**FAILED)
        self.assertTrue(ok)
        plan = result["plan"]
        self.assertEqual((plan["plan_id"], plan["source"]), ("repair-" + RUN, "playbook"))
        self.assertEqual(plan["failure_type"], "timeout")
        self.assertTrue(plan["steps"])
        for step in plan["steps"]:
            self.assertLessEqual({"action", "description", "priority", "parameters"}, set(step))

    def test_hands_the_case_on_with_the_plan_in_it(self):
        _, result = self.run_action(case=self.case())
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["plan"], result["plan"])
        self.assertEqual(case["request"]["original_query"], "Book it")
        self.assertEqual((result["next"]["cursor"], result["next"]["delay"]), (0, 0))

    def test_the_caller_s_plan_is_used(self):
        plan = {"steps": [{"action": "switch_model", "parameters": {"model": "gpt-4o"}}]}
        _, result = self.run_action(case=self.case(context={"repairPlan": plan}))
        self.assertEqual(result["plan"]["source"], "context")
        self.assertEqual(self.steps(result), ["switch_model"])

    def test_a_plan_outside_the_catalogue_is_refused(self):
        plan = {"steps": [{"action": "rm_rf"}]}
        outcome = self.run_action(case=self.case(context={"repairPlan": plan}))
        self.assertRefused("context.repairPlan.steps[0].action", outcome)
        left = self.opened(outcome[1]["carry"])
        self.assertEqual(left["request"]["agent_id"], "invoice-bot")

    def test_a_plan_without_steps_is_refused(self):
        for plan in ({}, {"steps": []}, [], "text"):
            ok, result = self.run_action(case=self.case(context={"repairPlan": plan}))
            self.assertEqual((ok, result["error"]["cause"]), (False, "refused"))
            self.assertTrue(result["error"]["field"].startswith("context.repairPlan"))

    def test_a_case_of_something_else_is_refused(self):
        self.assertRefused("case", self.run_action(case=seal({"workflow": "llm_retry"})))
        self.assertRefused("case", self.run_action(case=seal(["list"])))
        self.assertRefused("case", self.run_action(case="AAAA"))

    def test_a_case_whose_body_is_gone_is_refused(self):
        case = self.case(original_query=long_text())
        self.datastore.rows.clear()
        self.assertRefused("case", self.run_action(case=case), way_out="new run")

    def test_a_refusal_is_small_however_large_the_case(self):
        context = {"repairPlan": {"steps": [{"action": "rm_rf"}]}}
        outcome = self.run_action(case=self.case(original_query=long_text(), context=context))
        self.assertRefused("context.repairPlan.steps[0].action", outcome)

    def test_an_llm_that_is_configured_plans(self):
        self.config["planner"] = {"model": "gpt-4o"}
        response = '{"steps": [{"action": "increase_timeout", "description": "Wait longer"}]}'
        from sandbox import ok

        self.box.script("llm:openai/gpt-4o", [ok(text=response)])
        _, result = self.run_action(case=self.case())
        self.assertEqual(self.steps(result), ["increase_timeout"])
        self.assertIn("planner", result)

    def test_without_the_llm_the_playbook_plans(self):
        self.config["planner"] = {"model": "gpt-4o"}
        self.box.kill("llm:openai")
        ok, result = self.run_action(case=self.case())
        self.assertTrue(ok)
        self.assertEqual(result["plan"]["source"], "playbook")

    def test_calls_no_platform(self):
        self.run_action(**FAILED)
        self.assertEqual(self.box.calls, [])
