from fixtures.action_case import ActionCase
from fixtures.log_checks import LogChecks


class LogRetryFailureTest(LogChecks, ActionCase):
    action = "log_retry_failure"
    workflow, subject = "llm_retry", "llm:openai/gpt-4"
    plain = {
        "original_request": {"prompt": "Hello", "model": "gpt-4"},
        "failure_reason": "Rate limit exceeded",
    }

    def case(self):
        return self.run_other("determine_retry_strategy", **self.plain)[1]["next"]["carry"]

    def failed(self):
        from sandbox import status

        self.box.script("llm:openai", [status(400)])
        return self.run_other("call_llm", case=self.case(), cursor=0)[1]["carry"]
