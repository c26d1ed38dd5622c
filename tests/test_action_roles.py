from fixtures.action_case import RUN, ActionCase

REVIEWER = {
    "name": "Code Reviewer",
    "basePrompt": "You are a senior code reviewer.",
    "capabilities": {"needsCoding": True, "needsTools": False, "needsReasoning": True},
    "contextLimits": {"minContext": 8000, "maxContext": 128000},
    "hyperparameters": {"temperature": 0.3, "maxTokens": 4000},
}


class _Roles(ActionCase):
    def role(self, name="Code Reviewer", **more):
        ok, result = self.run_other("role.create", name=name, base_prompt="Review.", **more)
        self.assertTrue(ok, result)
        return result["role"]

    def uses(self, role, name="flow"):
        ok, result = self.run_other(
            "orchestration.create", name=name, steps=[{"name": "a", "role": role}]
        )
        self.assertTrue(ok, result)

    def as_user(self, user, **user_roles):
        self.api.executions_by_id[RUN] = {"id": RUN, "context": {"user": user}, "parameters": {}}
        self.config["orchestration"] = {"user_roles": user_roles}


class RoleCreateTest(_Roles):
    action = "role.create"

    def test_the_guide_s_role(self):
        ok, result = self.run_action(fields=REVIEWER)
        self.assertTrue(ok)
        role = result["role"]
        self.assertEqual(role["needs"]["coding"], True)
        self.assertEqual((role["min_context"], role["max_context"]), (8000, 128000))
        self.assertEqual((role["defaults"]["temperature"], role["defaults"]["max_tokens"]),
                         (0.3, 4000))
        self.assertEqual((role["version"], role["updated_at"]), (1, "2023-11-14T22:13:20Z"))
        self.assertRegex(role["id"], "^R[0-9a-f]{12}$")

    def test_fields_are_over_the_definition_s(self):
        ok, result = self.run_action(definition='{"name": "A", "basePrompt": "x"}', tools=["meta"])
        self.assertTrue(ok)
        self.assertEqual((result["role"]["name"], result["role"]["tools"]), ("A", ["meta"]))

    def test_a_definition_that_is_no_json(self):
        self.assertRefused("definition", self.run_action(definition="name: A"), "as JSON")
        self.assertRefused("definition", self.run_action(definition="[]"), "as JSON")
        both = self.run_action(definition='{"name": "A"}', fields=REVIEWER)
        self.assertRefused("definition", both, "one of them")

    def test_a_name_is_taken_once(self):
        self.role("A")
        self.assertRefused("name", self.run_action(name="A", base_prompt="x"), "role.update")

    def test_a_name_that_looks_like_an_id(self):
        outcome = self.run_action(name="R0123456789ab", base_prompt="x")
        self.assertRefused("name", outcome, "another name")

    def test_a_model_that_is_not_configured(self):
        outcome = self.run_action(name="A", base_prompt="x", model="gpt-9")
        self.assertRefused("role.model", outcome, "gpt-4o")

    def test_without_a_prompt(self):
        self.assertRefused("role.base_prompt", self.run_action(name="A"), "base_prompt")

    def test_without_a_datastore_nothing_is_said_to_be_created(self):
        self.take_datastore_away()
        ok, result = self.run_action(name="A", base_prompt="x")
        self.assertFalse(ok)
        self.assertEqual(result["error"]["cause"], "stackstorm_api")

    def test_a_secret_in_a_prompt_is_not_kept(self):
        secret = self.secrets()[0]
        ok, result = self.run_action(name="A", base_prompt="Use %s." % secret)
        self.assertTrue(ok)
        self.assertEqual(result["role"]["base_prompt"], "Use ********.")

    def test_a_user_whose_role_has_the_tool_meta(self):
        self.role("Designer", tools=["meta"])
        self.role("Plain")
        self.as_user("ann", ann="Designer", bob="Plain")
        self.assertTrue(self.run_action(name="A", base_prompt="x")[0])
        for user in ("bob", "nobody"):
            self.as_user(user, ann="Designer", bob="Plain")
            outcome = self.run_action(name="B", base_prompt="x")
            self.assertRefused("user", outcome, "user_roles")
        self.as_user("bob", bob="Gone")
        self.assertRefused("user", self.run_action(name="B", base_prompt="x"), "user_roles")

    def test_who_did_it_is_kept(self):
        self.role("Designer", tools=["meta"])
        self.as_user("ann", ann="Designer")
        self.assertEqual(self.role("A")["created_by"], "ann")


class RoleGetTest(_Roles):
    action = "role.get"

    def test_by_name_and_by_id(self):
        role = self.role("A")
        for name in ("A", role["id"]):
            ok, result = self.run_action(name=name)
            self.assertTrue(ok)
            self.assertEqual(result["role"], role)

    def test_who_uses_it(self):
        self.role("A")
        self.uses("A", "two")
        self.uses("A", "one")
        self.assertEqual(self.run_action(name="A")[1]["used_by"], ["one", "two"])

    def test_a_version(self):
        self.role("A")
        self.run_other("role.update", name="A", updates={"basePrompt": "Other."})
        ok, result = self.run_action(name="A", at_version=1)
        self.assertEqual(result["role"]["base_prompt"], "Review.")
        self.assertEqual(
            [version["version"] for version in self.run_action(name="A")[1]["versions"]], [2, 1]
        )
        self.assertRefused("at_version", self.run_action(name="A", at_version=3), "2, 1")

    def test_none_of_that_name(self):
        for name in ("B", "R000000000000", "é", "x" * 300):
            self.assertRefused("name", self.run_action(name=name), "role.list")

    def test_one_that_was_damaged(self):
        role = self.role("A")
        self.datastore.rows["synthralos.role.%s" % role["id"]] = "1.plain.0.e30="
        self.assertRefused("synthralos.role.%s" % role["id"], self.run_action(name="A"), "Delete")


class RoleListTest(_Roles):
    action = "role.list"

    def test_the_one_changed_last_comes_first(self):
        for name in ("A", "B", "C"):
            self.now += 1
            self.role(name, tools=["meta"] if name == "B" else None)
        self.now += 1
        self.run_other("role.update", name="A", updates={"tone": "kind"})
        names = [role["name"] for role in self.run_action()[1]["roles"]]
        self.assertEqual(names, ["A", "C", "B"])
        roles = self.run_action(tools=["meta", "x"])[1]["roles"]
        self.assertEqual([role["name"] for role in roles], ["B"])

    def test_more_than_a_page(self):
        for n in range(130):
            self.role("role %d" % n)
        self.assertEqual(len(self.run_action()[1]["roles"]), 130)

    def test_a_list_that_cannot_be_read_is_not_an_empty_list(self):
        self.take_datastore_away()
        self.assertFalse(self.run_action()[0])


class RoleUpdateTest(_Roles):
    action = "role.update"

    def update(self, **changes):
        ok, result = self.run_action(**changes)
        self.assertTrue(ok, result)
        return result["role"]

    def test_what_is_not_named_stays(self):
        self.run_other("role.create", fields=REVIEWER)
        role = self.update(name="Code Reviewer", updates={
            "capabilities": {"needsVision": True}, "hyperparameters": {"topP": 0.5}})
        self.assertEqual(
            [name for name, needed in role["needs"].items() if needed],
            ["vision", "reasoning", "coding"])
        self.assertEqual(role["given"], ["temperature", "max_tokens", "top_p"])
        self.assertEqual((role["min_context"], role["version"]), (8000, 2))

    def test_null_is_the_default_again(self):
        self.run_other("role.create", fields=dict(REVIEWER, model="gpt-4o", tone="kind"))
        role = self.update(name="Code Reviewer", updates={
            "model": None, "tone": None, "contextLimits": {"maxContext": None},
            "hyperparameters": {"temperature": None}})
        self.assertEqual((role["model"], role["tone"], role["max_context"]), (None, None, None))
        self.assertEqual((role["min_context"], role["given"]), (8000, ["max_tokens"]))

    def test_the_same_again_is_no_further_version(self):
        self.role("A")
        self.assertEqual(self.update(name="A", updates={"basePrompt": "Review."})["version"], 1)

    def test_back_to_a_version(self):
        self.role("A")
        self.update(name="A", updates={"basePrompt": "Other."})
        role = self.update(name="A", at_version=1)
        self.assertEqual((role["base_prompt"], role["version"]), ("Review.", 3))
        outcome = self.run_action(name="A", at_version=1, updates={"tone": "x"})
        self.assertRefused("at_version", outcome, "one of them")

    def test_a_name_stays(self):
        self.role("A")
        outcome = self.run_action(name="A", updates={"name": "B"})
        self.assertRefused("updates.name", outcome, "create another")

    def test_what_is_no_field(self):
        self.role("A")
        outcome = self.run_action(name="A", updates={"basePromt": "x"})
        self.assertRefused("updates.basePromt", outcome, "basePrompt")

    def test_of_many_versions_the_newest_are_kept(self):
        self.role("A")
        for n in range(60):
            self.update(name="A", updates={"tone": "tone %d" % n})
        versions = self.run_other("role.get", name="A")[1]["versions"]
        self.assertEqual((versions[0]["version"], versions[-1]["version"]), (61, 12))

    def test_another_that_changes_it_at_this_moment(self):
        role = self.role("A")
        self.datastore.rows["synthralos.claim_notification.role-%s.%013d-x" % (
            role["id"], self.now * 1000)] = "1"
        with self.patient():
            self.assertRefused("name", self.run_action(name="A", updates={"tone": "x"}), "again")

    def patient(self):
        from unittest import mock
        return mock.patch("time.sleep", lambda _: None)


class RoleDeleteTest(_Roles):
    action = "role.delete"

    def test_it_is_gone_with_its_versions_and_told(self):
        role = self.role("A")
        ok, result = self.run_action(name="A")
        self.assertTrue(ok)
        self.assertEqual(result["role"], role)
        self.assertEqual([key for key in self.datastore.rows if "role" in key], [])

    def test_one_that_is_used(self):
        self.role("A")
        self.uses("A")
        self.assertRefused("name", self.run_action(name="A"), "force")
        self.assertTrue(self.run_action(name="A", force=True)[0])

    def test_one_made_again_begins_anew(self):
        self.role("A")
        self.run_other("role.update", name="A", updates={"tone": "x"})
        self.run_action(name="A")
        role = self.role("A")
        self.assertEqual(role["version"], 1)
        self.assertEqual(len(self.run_other("role.get", name="A")[1]["versions"]), 1)
