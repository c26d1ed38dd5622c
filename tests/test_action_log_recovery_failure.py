from fixtures.action_case import ActionCase
from fixtures.log_checks import LogChecks


class LogRecoveryFailureTest(LogChecks, ActionCase):
    action = "log_recovery_failure"
    workflow, subject = "agent_recovery", "invoice-bot"
    plain = {"agent_id": "invoice-bot", "failure_type": "timeout"}

    def case(self):
        parameters = dict(self.plain, original_query="Book it")
        analysed = self.run_other("analyze_agent_failure", **parameters)[1]["next"]["carry"]
        return self.run_other("generate_repair_plan", case=analysed)[1]["next"]["carry"]

    def failed(self):
        from sandbox import status

        self.box.script("platform", [status(400)])
        return self.run_other("execute_recovery", case=self.case(), cursor=0)[1]["carry"]

    def test_the_plan_is_shown(self):
        _, result = self.run_action(case=self.failed())
        self.assertTrue(result["plan"]["steps"])
        self.assertEqual(result["retry_count"], 0)
