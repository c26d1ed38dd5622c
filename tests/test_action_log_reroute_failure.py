from fixtures.action_case import ActionCase
from fixtures.log_checks import LogChecks


class LogRerouteFailureTest(LogChecks, ActionCase):
    action = "log_reroute_failure"
    workflow, subject = "reroute_request", "route:openai/us-east-1"
    plain = {
        "original_request": {"endpoint": "/api/v1/jobs", "body": {"job": 7}},
        "failure_reason": "503 Service Unavailable",
    }

    def case(self):
        return self.run_other("analyze_routing_failure", **self.plain)[1]["next"]["carry"]

    def failed(self):
        from sandbox import status

        self.box.script("route:openai", [status(400)])
        return self.run_other("execute_request", case=self.case(), cursor=0)[1]["carry"]
