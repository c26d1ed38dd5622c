from fixtures.action_case import RUN, ActionCase

WHOSE = {"agent_id": "agent_01", "task_id": "task_01"}


class _Histories(ActionCase):
    def recorded(self, state, **more):
        self.now += 1
        ok, result = self.run_other("history.record", **dict(WHOSE, state=state, **more))
        self.assertTrue(ok, result["summary"])
        return result

    def assertNotRead(self, outcome):
        ok, result = outcome
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))


class HistoryRecordTest(_Histories):
    action = "history.record"

    def test_versions_count_and_say_who(self):
        self.api.executions_by_id[RUN] = {"id": RUN, "context": {"user": "jane"}}
        first = self.recorded({"n": 1})
        second = self.recorded({"n": 2}, kind="intervention", actor="Ann Other")
        self.assertEqual((first["version"], second["version"]), ("v0001", "v0002"))
        self.assertEqual(first["by"], {"actor": "jane", "user": "jane"})
        self.assertEqual(second["by"], {"actor": "Ann Other", "user": "jane"})

    def test_nobody_is_unknown(self):
        self.assertEqual(self.recorded({})["by"], {"actor": "unknown", "user": None})

    def test_the_oldest_go(self):
        self.config["history"] = {"max_versions": 2}
        self.assertEqual([self.recorded({"n": n})["deleted"] for n in range(4)], [0, 0, 1, 1])

    def test_refusals(self):
        good = dict(WHOSE, state={})
        for field, value in (
            ("agent_id", "two words"), ("task_id", "../x"), ("actor", " "), ("actor", "x" * 129),
            ("metadata", {"x": "y" * 5000}), ("state", {"x": float("inf")}),
        ):
            self.assertRefused(field, self.run_action(**dict(good, **{field: value})))
        self.assertEqual(self.datastore.rows, {})
        self.config["history"] = {"retention_days": 0}
        self.assertRefused("history.retention_days", self.run_action(**good))

    def test_what_was_not_recorded_is_an_error(self):
        self.take_datastore_away()
        self.assertNotRead(self.run_action(**dict(WHOSE, state={})))


class HistoryListTest(_Histories):
    action = "history.list"

    def versions(self, **filters):
        ok, result = self.run_action(agent_id="agent_01", **filters)
        self.assertTrue(ok)
        return [entry["version"] for entry in result["versions"]]

    def test_the_newest_first_of_a_task_a_kind_or_since(self):
        self.recorded({"n": 1})
        self.recorded({"n": 1}, kind="error")
        self.recorded({"n": 2})
        self.assertEqual(self.versions(), ["v0003", "v0002", "v0001"])
        self.assertEqual(self.versions(kind="error"), ["v0002"])
        self.assertEqual(self.versions(task_id="other"), [])
        self.assertEqual(self.versions(since="2023-11-14T22:13:23Z"), ["v0003"])
        self.assertEqual(self.versions(limit=1), ["v0003"])
        changed = [
            entry["changed"] for entry in self.run_action(agent_id="agent_01")[1]["versions"]
        ]
        self.assertEqual(changed, [True, False, True])

    def test_refusals(self):
        self.assertRefused("agent_id", self.run_action(agent_id="two words"))
        self.assertRefused("task_id", self.run_action(agent_id="a", task_id="two words"))
        outcome = self.run_action(agent_id="a", since="yesterday")
        self.assertRefused("since", outcome, "2025-01-31T12:00:00Z")
        self.take_datastore_away()
        self.assertNotRead(self.run_action(agent_id="a"))


class HistoryGetTest(_Histories):
    action = "history.get"

    def test_by_its_number_or_its_record(self):
        recorded = self.recorded({"said": "base64:e3sgeCB9fQ=="}, metadata={"why": "x"})
        for version in ("v0001", recorded["record"]):
            ok, result = self.run_action(version=version, **WHOSE)
            self.assertTrue(ok)
            self.assertEqual(result["result"]["state"], {"said": "{{ x }}"})
            self.assertEqual(result["result"]["metadata"], {"why": "x"})

    def test_a_state_too_large_for_a_result_is_named(self):
        self.recorded({"text": "x" * 100})
        self.config["max_result_bytes"] = 10
        content = self.run_action(version="v0001", **WHOSE)[1]["result"]
        self.assertIsNone(content["state"])
        self.assertIn(content["state_key"], self.datastore.rows)

    def test_refusals(self):
        self.assertRefused("version", self.run_action(version="v0001", **WHOSE), "have none")
        recorded = self.recorded({})
        outcome = self.run_action(version="v0002", **WHOSE)
        self.assertRefused("version", outcome, "v0001 to v0001")
        key = "synthralos.version.agent_01.task_01." + recorded["record"]
        self.datastore.rows[key] = self.datastore.rows[key][:-8]
        outcome = self.run_action(version="v0001", **WHOSE)
        self.assertRefused("version", outcome, "history.list")
        self.take_datastore_away()
        self.assertNotRead(self.run_action(version="v0001", **WHOSE))


class HistoryCompareTest(_Histories):
    action = "history.compare"

    def compared(self, before, after):
        return self.run_action(**dict(WHOSE, **{"from": before, "to": after}))

    def test_changes_are_counted_by_value(self):
        self.recorded({"status": "running", "list": [1, 2], "text": "a b"})
        self.recorded({"status": "done", "list": [1], "more": {"x": 1, "y": 2}, "text": "a b"})
        ok, result = self.compared("v0001", "v0002")
        self.assertTrue(ok)
        diff = result["result"]["diff"]
        self.assertEqual(result["total_changes"], 3)
        self.assertEqual(diff["changed"], [{"path": "/status", "from": "running", "to": "done"}])
        self.assertEqual(diff["removed"], [{"path": "/list/1", "value": 2}])
        self.assertEqual(diff["added"], [{"path": "/more", "value": {"x": 1, "y": 2}}])
        self.assertTrue(diff["unified"].startswith("--- v0001\n+++ v0002\n"))
        self.assertEqual(self.compared("v0002", "v0002")[1]["total_changes"], 0)

    def test_refusals_name_which_of_the_two(self):
        self.recorded({})
        self.assertRefused("to", self.compared("v0001", "v0002"), "v0001 to v0001")
        self.assertRefused("from", self.compared("first", "v0001"), "history.list")
        self.take_datastore_away()
        self.assertNotRead(self.compared("v0001", "v0001"))


class HistoryTimelineTest(_Histories):
    action = "history.timeline"

    def kinds(self, **filters):
        ok, result = self.run_action(agent_id="agent_01", **filters)
        self.assertTrue(ok)
        return [entry["kind"] for entry in result["timeline"]]

    def test_the_oldest_first_without_states_and_with_what_workflows_wrote(self):
        self.recorded({})
        self.recorded({}, kind="error")
        self.recorded({}, kind="intervention", actor="jane")
        self.now += 1
        self.run_other("log_recovery_failure", agent_id="agent_01", failure_type="timeout")
        self.recorded({}, kind="recovery")
        self.assertEqual(self.kinds(), ["error", "intervention", "error", "recovery"])
        self.assertEqual(self.kinds(limit=2), ["error", "recovery"])
        self.assertEqual(self.kinds(task_id="task_01"), ["error", "intervention", "recovery"])
        self.assertEqual(self.kinds(since="2023-11-14T22:13:25Z"), ["recovery"])

    def test_refusals(self):
        self.assertRefused("agent_id", self.run_action(agent_id="two words"))
        self.assertRefused("since", self.run_action(agent_id="a", since="soon"))
        self.take_datastore_away()
        self.assertNotRead(self.run_action(agent_id="a"))
