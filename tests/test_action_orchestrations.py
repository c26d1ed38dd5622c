import json

from fixtures.action_case import ActionCase

STEPS = [{"name": "a", "role": "A"}, {"name": "b", "role": "A"}]
OTHER = "5f0c000000000000000000bb"


class _Orchestrations(ActionCase):
    def setUp(self):
        super().setUp()
        self.run_other("role.create", name="A", base_prompt="x")

    def create(self, name="flow", steps=STEPS, **more):
        ok, result = self.run_other("orchestration.create", name=name, steps=steps, **more)
        self.assertTrue(ok, result)
        return result["orchestration"]

    def runs_as(self, status, parameters):
        """Makes StackStorm's API have a run of that status."""
        rows = [{"id": OTHER, "parameters": parameters}]
        self.api.executions = lambda attributes, **filters: (
            rows if filters.get("status") == status else [])


class OrchestrationCreateTest(_Orchestrations):
    action = "orchestration.create"

    def test_from_one_text(self):
        definition = {"name": "flow", "tags": ["t"], "steps": STEPS}
        ok, result = self.run_action(definition=json.dumps(definition))
        self.assertTrue(ok)
        orchestration = result["orchestration"]
        self.assertEqual(
            (orchestration["name"], orchestration["tags"], orchestration["active"]),
            ("flow", ["t"], True),
        )
        self.assertEqual([step["order"] for step in orchestration["steps"]], [0, 1])

    def test_a_missing_role_names_the_known_ones(self):
        outcome = self.run_action(name="flow", steps=[{"name": "a", "role": "Gone"}])
        self.assertRefused("orchestration.steps: a", outcome, "Known roles are A")
        self.assertIn("Role not found", outcome[1]["error"]["message"])

    def test_a_critic_is_a_role_too(self):
        steps = [{"name": "a", "role": "A", "critic": {"role": "Gone"}}]
        self.assertRefused("orchestration.steps: a", self.run_action(name="flow", steps=steps))

    def test_a_role_by_its_id(self):
        role = self.run_other("role.get", name="A")[1]["role"]["id"]
        self.assertTrue(self.run_action(name="flow", steps=[{"name": "a", "role": role}])[0])

    def test_what_depends_on_nothing_there_or_on_itself(self):
        steps = [dict(STEPS[0], depends_on=["c"])]
        self.assertRefused("orchestration.steps[0].depends_on",
                           self.run_action(name="flow", steps=steps), "a")
        steps = [dict(STEPS[0], depends_on=["b"]), dict(STEPS[1], depends_on=["a"])]
        outcome = self.run_action(name="flow", steps=steps)
        self.assertRefused("orchestration.steps", outcome, "depend on less")

    def test_a_missing_orchestration(self):
        outcome = self.run_action(name="flow", steps=[{"name": "s", "orchestration": "gone"}])
        self.assertRefused("orchestration", outcome, "none; create it first")

    def test_a_fallback_model_that_is_not_configured(self):
        steps = [dict(STEPS[0], fallback_models=["gpt-9"])]
        outcome = self.run_action(name="flow", steps=steps)
        self.assertRefused("orchestration.steps: a.fallback_models[0]", outcome, "gpt-4o")

    def test_a_role_that_no_model_fits(self):
        for provider in self.config["providers"]:
            for model in provider["models"]:
                model["capabilities"] = ["json"]
        self.run_other("role.create", name="Painter", base_prompt="x",
                       fields={"needs": {"image_generation": True}})
        outcome = self.run_action(name="flow", steps=[{"name": "a", "role": "Painter"}])
        self.assertRefused("orchestration.steps: a", outcome, "Give the role a model")

    def test_a_window_that_no_model_has(self):
        self.run_other("role.create", name="Reader", base_prompt="x",
                       fields={"min_context": 1000000})
        outcome = self.run_action(name="flow", steps=[{"name": "a", "role": "Reader"}])
        self.assertRefused("orchestration.steps: a", outcome, "Give the role a model")

    def test_one_of_each_name(self):
        self.create()
        outcome = self.run_action(name="flow", steps=STEPS)
        self.assertRefused("name", outcome, "orchestration.update")


class OrchestrationGetTest(_Orchestrations):
    action = "orchestration.get"

    def test_with_versions_and_runs(self):
        orchestration = self.create()
        for name in ("flow", orchestration["id"]):
            ok, result = self.run_action(name=name)
            self.assertTrue(ok)
            self.assertEqual(result["orchestration"], orchestration)
            self.assertEqual((len(result["versions"]), result["runs"]), (1, []))

    def test_a_version(self):
        self.create()
        self.run_other("orchestration.update", name="flow", updates={"tags": ["x"]})
        result = self.run_action(name="flow", at_version=1)[1]
        self.assertEqual(result["orchestration"]["tags"], [])

    def test_none_of_that_name(self):
        self.assertRefused("name", self.run_action(name="gone"), "orchestration.list")


class OrchestrationListTest(_Orchestrations):
    action = "orchestration.list"

    def names(self, **filters):
        return [
            orchestration["name"]
            for orchestration in self.run_action(**filters)[1]["orchestrations"]
        ]

    def test_by_any_tag_and_by_active(self):
        for n, tags in enumerate((["coding"], ["coding", "quality"], [])):
            self.now += 1
            self.create("flow %d" % n, tags=tags)
        self.run_other("orchestration.update", name="flow 0", updates={"isActive": False})
        self.assertEqual(sorted(self.names()), ["flow 0", "flow 1", "flow 2"])
        self.assertEqual(sorted(self.names(tags=["coding", "x"])), ["flow 0", "flow 1"])
        self.assertEqual(self.names(tags=["coding"], active_only=True), ["flow 1"])
        self.assertEqual(self.names(tags=["x"]), [])


class OrchestrationUpdateTest(_Orchestrations):
    action = "orchestration.update"

    def test_the_guide_s_update(self):
        self.create(tags=["coding"])
        ok, result = self.run_action(
            name="flow", updates={"isActive": False, "tags": ["coding", "deprecated"]})
        self.assertTrue(ok)
        orchestration = result["orchestration"]
        self.assertEqual((orchestration["active"], orchestration["tags"], orchestration["version"]),
                         (False, ["coding", "deprecated"], 2))
        self.assertEqual(len(orchestration["steps"]), 2)

    def test_one_that_lacks_a_role_can_be_switched_off_and_not_on(self):
        self.create()
        self.run_other("role.delete", name="A", force=True)
        self.assertTrue(self.run_action(name="flow", updates={"active": False})[0])
        outcome = self.run_action(name="flow", updates={"active": True})
        self.assertRefused("updates.steps: a", outcome, "none; create it first")

    def test_times_of_steps_are_read_as_they_are_spelled(self):
        self.create()
        steps = [{"name": "a", "roleName": "A", "timeout": 2000, "retryDelay": 500}]
        ok, result = self.run_action(name="flow", updates={"steps": steps})
        step = result["orchestration"]["steps"][0]
        self.assertEqual((step["timeout"], step["retry_delay"]), (2, 0.5))

    def test_back_to_a_version(self):
        self.create()
        self.run_action(name="flow", updates={"steps": STEPS[:1]})
        ok, result = self.run_action(name="flow", at_version=1)
        orchestration = result["orchestration"]
        self.assertEqual((orchestration["version"], len(orchestration["steps"])), (3, 2))


class OrchestrationDeleteTest(_Orchestrations):
    action = "orchestration.delete"

    def test_it_is_gone(self):
        self.create()
        self.assertTrue(self.run_action(name="flow")[0])
        self.assertRefused("name", self.run_action(name="flow"), "orchestration.list")

    def test_one_that_runs(self):
        orchestration = self.create()
        for status, named in (
            ("running", "flow"),
            ("paused", orchestration["id"]),
            ("scheduled", "flow"),
        ):
            self.runs_as(status, {"orchestration": named})
            outcome = self.run_action(name="flow")
            self.assertRefused("name", outcome, "force")
            self.assertIn("runs as " + OTHER, outcome[1]["error"]["message"])
        self.runs_as("running", {"orchestration": "another"})
        self.assertTrue(self.run_action(name="flow")[0])

    def test_one_that_runs_when_forced(self):
        self.create()
        self.runs_as("running", {"orchestration": "flow"})
        self.assertTrue(self.run_action(name="flow", force=True)[0])

    def test_one_that_another_runs(self):
        self.create("inner")
        self.create("outer", steps=[{"name": "s", "orchestration": "inner"}])
        outcome = self.run_action(name="inner")
        self.assertRefused("name", outcome, "force")
        self.assertIn("is run by outer", outcome[1]["error"]["message"])
        self.assertTrue(self.run_action(name="outer")[0])
        self.assertTrue(self.run_action(name="inner")[0])


class OrchestrationValidateTest(_Orchestrations):
    action = "orchestration.validate"

    def test_shows_the_waves_and_keeps_nothing(self):
        steps = [dict(STEPS[0], group="g"), dict(STEPS[1], group="g"),
                 {"name": "c", "role": "A"}]
        ok, result = self.run_action(name="flow", steps=steps)
        self.assertTrue(ok)
        self.assertEqual([(step["step_name"], step["wave"]) for step in result["plan"]],
                         [("a", 1), ("b", 1), ("c", 2)])
        self.assertEqual(result["roles"], ["A"])
        self.assertRefused("name", self.run_other("orchestration.get", name="flow"))

    def test_one_that_is_there(self):
        self.create()
        self.assertTrue(self.run_action(name="flow")[1]["valid"])
        self.run_other("role.delete", name="A", force=True)
        self.assertRefused("orchestration.steps: a", self.run_action(name="flow"))


class OrchestrationLoadExamplesTest(_Orchestrations):
    action = "orchestration.load_examples"

    def test_an_example_that_there_is_not(self):
        self.assertRefused("names", self.run_action(names=["gone"]), "Use some of")

    def test_a_model_that_is_not_configured(self):
        outcome = self.run_action(model="gpt-9")
        self.assertRefused("role.model", outcome, "gpt-4o")
