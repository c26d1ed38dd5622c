from fixtures.action_case import RUN, ActionCase, long_text

from sandbox import down, ok, status
from synthralos.core.sealing import seal

DOWN = ["db-1", "web-2"]


class _Repair(ActionCase):
    """A run of infrastructure_repair, brought to the state in which `action` is its task."""

    before = ()

    def case(self, **parameters):
        """`next` of the task before."""
        inputs = dict({"nodes": DOWN}, **parameters)
        execution = self.started("infrastructure_repair", **inputs)
        following = self.run_other("repair.begin", execution_id=execution)[1]["next"]
        for action in self.before:
            _, result = self.run_other(action, case=following["carry"], cursor=following["cursor"])
            following = result["next"]
        return {"case": following["carry"], "cursor": following["cursor"]}


class RepairBeginTest(_Repair):
    action = "repair.begin"

    def test_reads_the_run_s_parameters(self):
        execution = self.started("infrastructure_repair", nodes=DOWN, max_steps=7, dry_run=True)
        ok, result = self.run_action(execution_id=execution)
        self.assertTrue(ok)
        self.assertEqual((result["next_task"], result["source"]), ("detect", "list"))
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["request"]["nodes"], DOWN)
        self.assertEqual((case["max_steps"], case["dry_run"], case["run"]), (7, True, RUN))

    def test_takes_the_alert_from_the_trigger(self):
        execution = self.started("infrastructure_repair")
        payload = {"source": "x", "labels": {"node": "{{ x }}"}}
        self.api.executions_by_id[RUN]["trigger_instance"] = {"payload": payload}
        _, result = self.run_action(execution_id=execution)
        case = self.opened(result["next"]["carry"])
        self.assertEqual(case["request"]["source"], "alert")
        self.assertEqual(case["request"]["alert"], payload)

    def test_takes_the_alert_from_a_case(self):
        alert = {"status": "firing", "labels": {"node": "<% x %>"}}
        case = seal({"request": {"alert": alert}})
        execution = self.started("infrastructure_repair", source="alert", case=case)
        _, result = self.run_action(execution_id=execution)
        self.assertEqual(self.opened(result["next"]["carry"])["request"]["alert"], alert)

    def test_refuses_what_cannot_be_worked_with(self):
        for field, inputs in {
            "nodes": {"source": "list"}, "alert": {"source": "alert"}, "query": {"query": " "},
            "nodes[0]": {"nodes": ["\x00"]}, "max_steps": {"nodes": DOWN, "max_steps": 1000},
        }.items():
            execution = self.started("infrastructure_repair", **inputs)
            self.assertRefused(field, self.run_action(execution_id=execution))

    def test_refuses_a_query_without_prometheus(self):
        self.config["infrastructure"] = {}
        outcome = self.run_action(execution_id=self.started("infrastructure_repair"))
        self.assertRefused("infrastructure.prometheus.base_url", outcome, way_out="nodes")


class DetectFailureNodesTest(_Repair):
    action = "detect_failure_nodes"

    def test_of_a_run(self):
        _, result = self.run_action(**self.case())
        self.assertEqual((result["next_task"], result["failures"]), ("estimate", DOWN))

    def test_alone(self):
        self.box.script("prometheus", [down(["db-1:9100"])])
        ok, result = self.run_action()
        self.assertTrue(ok)
        self.assertEqual((result["failures"], result["source"]), (["db-1"], "query"))
        self.assertNotIn("next", result)

    def test_alone_of_an_alert(self):
        _, result = self.run_action(alert={"labels": {"host": "base64:d2ViLTI="}})
        self.assertEqual(result["failures"], ["web-2"])

    def test_prometheus_that_is_away_is_no_health(self):
        self.box.script("prometheus", [status(400)], forever=True)
        ok, result = self.run_action()
        self.assertFalse(ok)
        self.assertEqual(result["error"]["cause"], "bad_request")
        ok, result = self.run_action(**self.case(nodes=[]))
        self.assertFalse(ok)
        self.assertIsNone(result["next"])
        self.assertTrue(self.opened(result["carry"])["gave_up"]["reason"])

    def test_a_case_of_another_workflow(self):
        self.assertRefused("case", self.run_action(case=seal({"workflow": "llm_retry"})))


class EstimateImpactTest(_Repair):
    action = "estimate_impact"
    before = ("detect_failure_nodes",)

    def test_of_a_run(self):
        _, result = self.run_action(**self.case())
        self.assertEqual(result["next_task"], "plan")
        self.assertEqual(result["impact"]["total"]["population_affected"], 5250)

    def test_alone(self):
        ok, result = self.run_action(nodes=["core-switch"])
        self.assertTrue(ok)
        node_impact, = result["impact"]["nodes"]
        self.assertEqual(
            (node_impact["criticality"], node_impact["nodes_affected"]), ("critical", 5)
        )
        self.assertRefused("nodes", self.run_action())

    def test_the_topology_may_be_in_the_datastore(self):
        self.config["infrastructure"]["topology_from"] = "nodes"
        self.assertRefused("infrastructure.topology_from", self.run_action(nodes=["x"]))
        self.datastore.put("nodes", '[{"name": "x", "people": 7}]')
        _, result = self.run_action(nodes=["x"])
        self.assertEqual(result["impact"]["total"]["population_affected"], 7)


class PlanRepairsTest(_Repair):
    action = "plan_repairs"
    before = ("detect_failure_nodes", "estimate_impact")

    def test_of_a_run(self):
        _, result = self.run_action(**self.case())
        self.assertEqual((result["next_task"], result["plan"]["source"]), ("execute", "rules"))
        self.assertEqual(
            [
                (assignment["node"], assignment["crew"])
                for assignment in result["plan"]["assignments"]
            ],
            [("db-1", "database-team"), ("web-2", "on-call")],
        )

    def test_alone(self):
        succeeded, result = self.run_action(nodes=DOWN)
        self.assertTrue(succeeded)
        self.assertEqual(len(result["plan"]["assignments"]), 2)
        self.assertEqual(self.box.calls_to("hook:*"), [])

    def test_alone_without_a_crew(self):
        self.config["infrastructure"]["crews"] = []
        succeeded, result = self.run_action(nodes=DOWN)
        self.assertFalse(succeeded)
        self.assertEqual(len(result["plan"]["unassigned"]), 2)

    def test_an_llm_that_only_talks(self):
        self.config["planner"] = {"model": "gpt-4o"}
        self.config["infrastructure"]["planner"] = {"fallback": False}
        self.box.script("llm:openai/gpt-4o", [ok(text=long_text())], forever=True)
        succeeded, result = self.run_action(nodes=DOWN, max_retries=2)
        self.assertFalse(succeeded)
        self.assertEqual(result["planner"]["retry_count"], 2)


class AssignRepairCrewTest(_Repair):
    action = "assign_repair_crew"
    before = ("detect_failure_nodes", "estimate_impact", "plan_repairs")

    def test_of_a_run(self):
        _, result = self.run_action(**self.case())
        self.assertEqual(result["next_task"], "reschedule")
        self.assertEqual(
            {assignment["status"] for assignment in result["assignments"]}, {"Assigned"}
        )
        self.assertEqual(len(self.box.calls_to("hook:crews")), 2)

    def test_alone(self):
        succeeded, result = self.run_action(node_ids=DOWN, crew_ids=["on-call", "network-team"])
        self.assertTrue(succeeded)
        crews = [assignment["crew"] for assignment in result["assignments"]]
        self.assertEqual(crews, ["on-call", "network-team"])
        succeeded, result = self.run_action(node_ids=DOWN, crew_ids=["on-call"])
        self.assertEqual({assignment["crew"] for assignment in result["assignments"]}, {"on-call"})

    def test_a_crew_that_cannot_be_told(self):
        self.box.script("hook:crews", [status(400), ok()])
        succeeded, result = self.run_action(node_ids=DOWN, crew_ids=["on-call", "network-team"])
        self.assertFalse(succeeded)
        self.assertEqual(
            result["details"],
            [{"node": "db-1", "status": "Failed"}, {"node": "web-2", "status": "Assigned"}],
        )

    def test_what_does_not_fit_is_refused(self):
        for field, inputs in {
            "node_ids[0]": {"node_ids": [""], "crew_ids": ["on-call"]},
            "crew_ids": {"node_ids": ["a", "b", "c"], "crew_ids": ["on-call", "on-call"]},
        }.items():
            self.assertRefused(field, self.run_action(**inputs))
        for inputs in (["nobody"], [], ["{{ x }}"], [7]):
            self.assertRefused("crew_ids", self.run_action(node_ids=["a"], crew_ids=inputs))
        self.assertEqual(self.box.calls_to("hook:*"), [])

    def test_an_action_that_asks_wants_to_be_asked(self):
        robot = {"name": "robot", "action": "acme.restart"}
        self.config["infrastructure"].update(crews=[robot], allowed_actions=["acme.restart"])
        inputs = {"node_ids": ["db-1"], "crew_ids": ["robot"]}
        self.assertRefused("crew_ids", self.run_action(**inputs), way_out="approved=true")
        self.api.started = []
        self.api.action = lambda ref: {"enabled": True}
        self.api.start = lambda ref, parameters: self.api.started.append(parameters) or "e1"
        self.api.wait = lambda *_: {"status": "succeeded"}
        succeeded, _ = self.run_action(approved=True, **inputs)
        self.assertTrue(succeeded)
        self.assertEqual(self.api.started, [{"node": "db-1"}])

    def test_without_a_datastore_the_load_is_not_remembered(self):
        self.take_datastore_away()
        succeeded, result = self.run_action(node_ids=DOWN, crew_ids=["on-call"])
        self.assertTrue(succeeded)
        self.assertNotRecorded(result, "assignment")


class RepairFinishTest(_Repair):
    action = "repair.finish"
    before = ("detect_failure_nodes", "estimate_impact", "plan_repairs", "assign_repair_crew",
              "detect_failure_nodes")

    def test_a_run_that_succeeded(self):
        _, result = self.run_action(**self.case())
        self.assertEqual((result["next_task"], result["outcome"]), ("done", "repairs_assigned"))
        self.assertEqual(result["success"], True)
        self.assertIn("run", self.datastore.kinds())

    def test_a_run_that_failed_has_its_ticket(self):
        _, result = self.run_action(**self.case(max_steps=2))
        self.assertEqual((result["next_task"], result["outcome"]), ("failed", "max_steps_reached"))
        self.assertRegex(result["ticket"], r"^T[0-9a-f]{12}\Z")
        self.assertEqual(result["webhook"], "taken")
        self.assertIn("synthralos.recovery_failed", [trigger for trigger, _ in self.api.fired])

    def case(self, **parameters):
        if "max_steps" in parameters:
            self.before = self.before[:1]
        return super().case(**parameters)

    def test_it_needs_a_case(self):
        self.assertRefused("case", self.run_action())


class LogInfrastructureFailureTest(_Repair):
    action = "log_infrastructure_failure"

    def test_of_a_task_that_gave_up(self):
        self.box.script("prometheus", [status(400)], forever=True)
        _, left = self.run_other("detect_failure_nodes", **self.case(nodes=[]))
        succeeded, result = self.run_action(execution_id=RUN, case=left["carry"])
        self.assertTrue(succeeded)
        self.assertIs(result["success"], False)
        self.assertEqual((result["outcome"], result["error"]["cause"]), ("failed", "bad_request"))
        self.assertTrue(result["ticket"])
        self.assertEqual(result["step_history"][0]["action"], "initialize")

    def test_of_a_task_that_crashed(self):
        _, result = self.run_action(execution_id=RUN, case=self.case()["case"])
        self.assertIn("crashed", result["error"]["reason"])

    def test_of_a_run_that_left_nothing(self):
        execution = self.started("infrastructure_repair", nodes=DOWN)
        succeeded, result = self.run_action(execution_id=execution)
        self.assertTrue(succeeded)
        self.assertTrue(result["ticket"])

    def test_whatever_the_case_is_the_run_is_logged(self):
        for content in (None, 7, [], {"workflow": "llm_retry"}, {"refused": 1}):
            succeeded, result = self.run_action(case=seal(content))
            self.assertEqual(result.get("success", False), False)
