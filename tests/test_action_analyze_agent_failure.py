import base64

from fixtures.action_case import NOW, RUN, ActionCase, long_text

from synthralos.core.sealing import seal

FAILED = {
    "agent_id": "invoice-bot",
    "failure_type": "timeout",
    "original_query": "Book invoice 7",
    "failure_details": {"message": "timed out after 60 s"},
}


class AnalyzeAgentFailureTest(ActionCase):
    action = "analyze_agent_failure"

    def refused(self, field, **changed):
        self.assertRefused(field, self.run_action(**dict(FAILED, **changed)))

    def test_classifies_plain_parameters(self):
        ok, result = self.run_action(**FAILED)
        self.assertTrue(ok)
        self.assertEqual(result["agent_id"], "invoice-bot")
        failure = result["failure"]
        self.assertEqual((failure["type"], failure["cause"]), ("timeout", "timeout"))
        self.assertIn(failure["severity"], ("low", "medium", "high", "critical"))
        self.assertEqual(result["similar_recent_failures"], [])
        self.assertEqual((result["next"]["cursor"], result["next"]["delay"]), (0, 0))

    def test_seals_what_the_run_works_on(self):
        _, result = self.run_action(**FAILED)
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["workflow"], "agent_recovery")
        self.assertEqual(case["run"], RUN)
        self.assertEqual(case["request"]["original_query"], "Book invoice 7")
        self.assertRegex(result["next"]["carry"], r"^[A-Za-z0-9_=-]*\Z")

    def test_a_run_s_parameters_and_deadline_come_from_its_execution(self):
        execution = self.started("agent_recovery", seconds_ago=20, timeout=100, **FAILED)
        ok, result = self.run_action(execution_id=execution)
        self.assertTrue(ok)
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["started"], NOW - 20)
        self.assertEqual(case["deadline"], NOW - 20 + 100 - 10)
        self.assertEqual(case["rules"]["max_retries"], 3)
        self.assertEqual(case["rules"]["base_delay"], 5.0)

    def test_text_of_a_run_is_what_was_sent(self):
        query = "{{ config_context.token }} <% ctx() %> <%= erb %> \x00 \u202e"
        for sent_query in (query, "base64:" + base64.b64encode(query.encode()).decode()):
            execution = self.started("agent_recovery", **dict(FAILED, original_query=sent_query))
            _, result = self.run_action(execution_id=execution)
            case = self.opened(result["next"]["carry"])
            self.assertEqual(case["request"]["original_query"], query)

    def test_takes_text_from_the_trigger_that_started_the_run(self):
        parameters = dict(
            FAILED, original_query="@trigger", failure_type="unknown", failure_details={}
        )
        execution = self.started("agent_recovery", **parameters)
        body = {"original_query": "From the alert", "failure_details": {"status_code": 429}}
        self.api.executions_by_id[execution]["trigger_instance"] = {"payload": {"body": body}}
        ok, result = self.run_action(execution_id=execution)
        self.assertTrue(ok)
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["request"]["original_query"], "From the alert")
        self.assertEqual(case["request"]["failure_details"], {"status_code": 429})

    def test_other_names_of_failure_types(self):
        for alias, type_, cause in (
            ("communication_error", "llm_error", "network"),
            ("infinite_loop", "error", "infinite_loop"),
            ("timeout_error", "timeout", "timeout"),
        ):
            _, result = self.run_action(**dict(FAILED, failure_type=alias, failure_details={}))
            failure = result["failure"]
            self.assertEqual((failure["type"], failure["cause"]), (type_, cause))

    def test_a_time_out_in_the_pack_s_own_words_is_a_time_out(self):
        details = {"message": "no answer within 60.0 s"}
        _, result = self.run_action(**dict(FAILED, failure_details=details))
        self.assertEqual(result["failure"]["cause"], "timeout")

    def test_similar_failures_are_remembered(self):
        _, analysed = self.run_action(**FAILED)
        case = self.opened(analysed["next"]["carry"])
        case["gave_up"] = {"reason": "x", "error": case["failure"], "again_at": None}
        self.run_other("log_recovery_failure", case=seal(case))
        _, result = self.run_action(**FAILED)
        self.assertEqual(
            [entry["cause"] for entry in result["similar_recent_failures"]], ["timeout"]
        )

    def test_refuses_what_it_cannot_work_with(self):
        self.refused("agent_id", agent_id="two words")
        self.refused("agent_id", agent_id=None)
        self.refused("original_query", original_query="  ")
        self.refused("original_query", original_query=None)
        self.refused("original_query", original_query="base64:%%%")
        self.refused("original_query", original_query="@case")
        self.refused("original_query", original_query="@trigger")
        self.refused("failure_details", failure_details="text")
        self.refused("context", context=["list"])
        self.refused("context.expected_schema", context={"expected_schema": {"type": 7}})
        self.refused("failure_type", failure_type="bad_mood")
        self.refused("max_retries", max_retries=11)
        self.refused("retry_delay", retry_delay=-1)

    def test_refuses_an_execution_that_it_cannot_read(self):
        self.refused("execution_id", execution_id="7")
        ok, result = self.run_action(execution_id="0" * 24)
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))
        self.assertIn("0" * 24, result["error"]["message"])

    def test_refuses_to_begin_without_a_platform(self):
        del self.config["platforms"]
        self.refused("config.platforms")

    def test_a_run_that_a_rule_started_is_refused_when_the_switch_is_off(self):
        execution = self.started("agent_recovery", **FAILED)
        self.api.executions_by_id[execution]["rule"] = {"ref": "synthralos.recover"}
        self.datastore.put("synthralos.enabled", "false")
        self.assertRefused("synthralos.enabled", self.run_action(execution_id=execution))
        del self.api.executions_by_id[execution]["rule"]
        self.assertTrue(self.run_action(execution_id=execution)[0])

    def test_a_secret_in_the_details_is_masked(self):
        details = {"message": "401 for Bearer %s" % self.config["platforms"][0]["token"]}
        ok, result = self.run_action(**dict(FAILED, failure_details=details))
        self.assertTrue(ok)
        self.assertIn("********", result["failure"]["message"])

    def test_a_large_query_is_kept_in_the_datastore(self):
        query = long_text()
        _, result = self.run_action(**dict(FAILED, original_query=query))
        self.assertEqual(self.opened(result["next"]["carry"])["request"]["original_query"], query)

    def test_without_a_datastore_it_goes_on(self):
        self.take_datastore_away()
        ok, result = self.run_action(**FAILED)
        self.assertTrue(ok)
        self.assertEqual(self.datastore.calls, 1)
        self.assertEqual(result["similar_recent_failures"], [])
