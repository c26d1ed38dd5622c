from fixtures.action_case import RUN, ActionCase

from synthralos.storage.datastore import DatastoreUnavailable

FAILED = {"agent_id": "bot", "task_id": "training", "error": {"type": "timeout_error"}}
STATE = {"learning_rate": 0.001}


class _Errors(ActionCase):
    def result_of(self, ref, **parameters):
        """(succeeded, result) of a task of handle_error, whose `next` says more than others'."""
        ok, result = self.raw(ref, **parameters)
        self.assertTrue(result["summary"].strip())
        self._check_no_secret_in(result)
        return ok, result

    def assessed(self, **more):
        self.now += 1
        run = self.started("handle_error", **dict(FAILED, **more))
        return self.result_of("error.assess", execution_id=run)

    def went_on(self, result):
        """What error.proceed makes of what assess has handed on."""
        self.now += 1
        following = result["next"]
        return self.result_of(
            "error.proceed", case=following["carry"], cursor=following["cursor"])

    def child(self, ref, status, output, **more):
        """Has the run's task for a strategy end like that."""
        self.api.below[RUN] = [{
            "id": "5f0c000000000000000000bb", "status": status, "action": {"ref": ref},
            "start_timestamp": "2023-11-14T22:13:21.000000Z", "result": dict(more, output=output),
        }]


class ErrorAssessTest(_Errors):
    action = "error.assess"

    def test_the_error_is_on_record_and_a_recovery_is_handed_on(self):
        ok, result = self.assessed(original_query="Train it")
        self.assertEqual((ok, result["next_task"], result["plan"]["strategy"]), (True, "agent",
                                                                         "auto_retry"))
        self.assertEqual((result["assessment"]["cause"], result["assessment"]["severity"]),
                         ("timeout", "medium"))
        self.assertEqual(result["next"]["agent_id"], "bot")
        self.assertEqual(result["next"]["max_retries"], 3)
        child_request = self.opened(result["next"]["child_case"])["request"]
        self.assertEqual(child_request["original_query"], "Train it")
        self.assertEqual(child_request["rules"]["strategy"], "exponential")
        _, history = self.run_other("history.timeline", agent_id="bot")
        self.assertEqual([(entry["kind"], entry["actor"]) for entry in history["timeline"]],
                         [("error", "handle_error")])

    def test_an_llm_call_is_handed_to_llm_retry(self):
        request = {"prompt": "Hi", "model": "gpt-4"}
        self.assertEqual(self.assessed(original_request=request)[1]["next_task"], "llm")

    def test_what_is_serious_is_escalated_at_once(self):
        for error in ({"type": "resource_error"}, {"type": "agent_failure"},
                      {"type": "unknown", "severity": "critical"}):
            ok, result = self.assessed(error=error)
            self.assertEqual((result["next_task"], result["escalated"]), ("failed", True))
            self.assertRegex(result["ticket"], "^T[0-9a-f]{12}$")
            self.assertIsNone(result.get("next"))

    def test_the_third_error_of_a_task_goes_back_to_a_snapshot(self):
        self.run_other("snapshot.create", agent_id="bot", task_id="training", state=STATE)
        seen = [self.assessed(original_query="Train it")[1] for _ in range(3)]
        self.assertEqual([assessed["plan"]["strategy"] for assessed in seen],
                         ["auto_retry", "auto_retry", "rollback"])
        self.assertEqual(self.box.calls[-1].body["state"], STATE)

    def test_a_strategy_may_be_asked_for(self):
        self.assertEqual(self.assessed(strategy="manual")[1]["next_task"], "ask")
        result = self.assessed(strategy="circuit_breaker")[1]
        self.assertEqual(result["next_task"], "failed")
        pauses = self.run_other("health.get")[1]["pauses"]
        self.assertEqual([(pause["agent_id"], pause["by"]) for pause in pauses],
                         [("bot", "loop_detector")])

    def test_the_same_error_over_and_over_is_a_loop(self):
        seen = [self.assessed(error={"type": "timeout", "message": "no answer"})[1]
                for _ in range(4)]
        self.assertEqual([assessed["loop"]["level"] for assessed in seen],
                         ["none", "none", "warn", "critical"])
        self.assertEqual(seen[-1]["plan"]["strategies"], ["circuit_breaker", "escalation"])
        self.assertTrue(seen[-1]["escalated"])

    def test_refusals(self):
        for field, more in (
            ("agent_id", {"agent_id": "two words"}), ("task_id", {"task_id": "../x"}),
            ("error.type", {"error": {"type": "headache"}}),
            ("error.severity", {"error": {"type": "timeout", "severity": "bad"}}),
            ("original_request", {"original_query": "q", "original_request": {"prompt": "p"}}),
            ("strategy", {"strategy": "pray"}), ("max_retries", {"max_retries": 11}),
            ("stability_window", {"stability_window": 301}),
        ):
            self.assertRefused(field, self.assessed(**more))
        self.assertRefused("execution_id", self.run_action(execution_id="7"))
        self.started("handle_error", **FAILED)
        self.api.executions_by_id[RUN]["context"] = {"parent": {"pack": "synthralos"}}
        self.assertRefused("agent_id", self.run_action(execution_id=RUN), "that run has ended")

    def test_a_datastore_that_is_away_ends_no_recovery(self):
        self.take_datastore_away()
        ok, result = self.assessed(original_query="Train it")
        self.assertEqual((ok, result["next_task"]), (True, "agent"))
        self.assertNotRecorded(result, "step")

    def test_a_version_that_only_the_listing_before_it_kept_from_being_written_is_named(self):
        def away(prefix, limit=100, offset=0):
            raise DatastoreUnavailable("the test took it away")

        self.datastore.list = away
        ok, result = self.assessed(original_query="Train it")
        self.assertEqual((ok, result["next_task"]), (True, "agent"))
        self.assertNotRecorded(result, "version")

    def test_snapshots_that_could_not_be_read_are_not_told_to_be_missing(self):
        self.take_datastore_away()
        _, result = self.assessed(strategy="rollback")
        summaries = [step["summary"] for step in result["steps"] if step["strategy"] == "rollback"]
        self.assertEqual(len(summaries), 1)
        self.assertIn("could not be read: the test took it away", summaries[0])


class ErrorProceedTest(_Errors):
    action = "error.proceed"

    def test_a_recovery_that_succeeded_is_validated(self):
        _, begun = self.assessed(original_query="Train it")
        self.child("synthralos.agent_recovery", "succeeded",
                   {"success": True, "attempts": 2, "recovery_result": {"output": "trained"}})
        ok, result = self.went_on(begun)
        self.assertEqual((ok, result["next_task"], result["recovered"]), (True, "done", True))
        self.assertTrue(result["validation"]["is_valid"])
        self.assertEqual([check["check"] for check in result["validation"]["checks_performed"]],
                         ["recovery_success", "platform_answers", "no_new_error",
                          "agent_not_paused"])
        self.assertEqual(result["result"]["recovery_result"], {"output": "trained"})
        self.assertIsNone(result["ticket"])
        kinds = [entry["kind"] for entry in
                 self.run_other("history.timeline", agent_id="bot")[1]["timeline"]]
        self.assertEqual(kinds, ["error", "recovery"])

    def test_one_that_did_not_is_escalated_with_its_ticket(self):
        _, begun = self.assessed(original_query="Train it")
        self.child("synthralos.agent_recovery", "failed",
                   {"success": False, "ticket": "T0123456789ab", "error": {"reason": "no time"}})
        _, result = self.went_on(begun)
        self.assertEqual((result["next_task"], result["recovered"], result["escalated"]),
                         ("failed", False, True))
        self.assertEqual(result["ticket"], "T0123456789ab")
        self.assertEqual(result["steps"][0]["summary"], "no time")

    def test_a_recovered_agent_that_is_paused_is_not_recovered(self):
        _, begun = self.assessed(original_query="Train it")
        self.run_other("agent.pause", agent_id="bot", reason="maintenance")
        self.child("synthralos.agent_recovery", "succeeded", {"success": True})
        _, result = self.went_on(begun)
        self.assertEqual((result["recovered"], result["validation"]["is_valid"]), (False, False))

    def test_what_a_person_answered(self):
        for answer, recovered in (({"resolved": True}, True), ({"resolved": False}, False)):
            _, begun = self.assessed(strategy="manual")
            self.child("core.ask", "succeeded", None, response=answer)
            self.assertEqual(self.went_on(begun)[1]["recovered"], recovered)

    def test_refusals(self):
        _, begun = self.assessed(original_query="Train it")
        case, cursor = begun["next"]["carry"], begun["next"]["cursor"]
        self.assertRefused("case", self.run_action(case=""), "handle_error")
        self.assertRefused("case", self.run_action(case="AAAA"))
        self.assertRefused("cursor", self.run_action(case=case, cursor=cursor + 1), "`next`")
        other = self.run_other(
            "analyze_agent_failure", agent_id="b", failure_type="timeout", original_query="q")
        self.assertRefused("case", self.run_action(case=other[1]["next"]["carry"]))
