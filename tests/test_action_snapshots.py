import base64

from fixtures.action_case import RUN, ActionCase

STATE = {"model_version": "2.1.0", "parameters": {"learning_rate": 0.001}, "steps": [1, None]}


class _Snapshots(ActionCase):
    def snapshot(self, agent="trainer_01", task="training", state=STATE, **more):
        self.now += 1
        parameters = dict(more, agent_id=agent, task_id=task, state=state)
        ok, result = self.run_other("snapshot.create", **parameters)
        self.assertTrue(ok, result["summary"])
        return result["snapshot_id"]

    def damage(self, snapshot_id):
        agent, _, last = snapshot_id.rpartition(":")
        key = "synthralos.snapshot.%s.%s" % (agent, last)
        self.datastore.rows[key] = self.datastore.rows[key][:-8]

    def assertNoneIsRead(self, outcome):
        ok, result = outcome
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))


class SnapshotCreateTest(_Snapshots):
    action = "snapshot.create"

    def test_tells_what_it_has_kept(self):
        ok, result = self.run_action(
            agent_id="trainer_01", task_id="training", state=STATE, metadata={"why": "tuning"})
        self.assertTrue(ok)
        self.assertRegex(result["snapshot_id"], r"^trainer_01:\d{13}-[0-9a-f]{9}$")
        self.assertEqual((result["deleted"], result["masked"]), ([], False))
        self.assertEqual(result["metadata"], {"why": "tuning"})
        self.assertEqual(len(result["checksum"]), 64)
        self.assertEqual(self.datastore.kinds(), {"snapshot", "snapshot_head"})

    def test_the_oldest_go(self):
        self.config["rollback"] = {"max_snapshots": 2}
        first, second = self.snapshot(), self.snapshot()
        self.now += 1
        _, result = self.run_action(agent_id="trainer_01", task_id="training", state=STATE)
        self.assertEqual(result["deleted"], [first])
        _, listing = self.run_other("snapshot.list", agent_id="trainer_01")
        self.assertEqual([snapshot["snapshot_id"] for snapshot in listing["snapshots"]],
                         [result["snapshot_id"], second])

    def test_secrets_of_the_configuration_are_not_kept(self):
        _, result = self.run_action(
            agent_id="a", task_id="t", state={"key": self.config["platforms"][0]["token"]})
        self.assertTrue(result["masked"])

    def test_refusals(self):
        good = {"agent_id": "a", "task_id": "t", "state": STATE}
        deep = STATE
        for _ in range(200):
            deep = {"in": deep}
        for field, value in (
            ("agent_id", "two words"), ("agent_id", "x" * 129), ("task_id", "../x"),
            ("state", {"x": float("nan")}), ("state", deep), ("metadata", {"x": "y" * 5000}),
        ):
            self.assertRefused(field, self.run_action(**dict(good, **{field: value})))
        self.assertEqual(self.datastore.rows, {})
        wrong = {"a": ["base64:%%%"]}
        self.assertRefused("state.a[0]", self.run_action(**dict(good, state=wrong)))
        self.config["rollback"] = {"max_snapshots": 0}
        self.assertRefused("rollback.max_snapshots", self.run_action(**good), "1 to 1000")

    def test_what_was_not_kept_is_no_snapshot(self):
        self.take_datastore_away()
        self.assertNoneIsRead(self.run_action(agent_id="a", task_id="t", state=STATE))


class SnapshotListTest(_Snapshots):
    action = "snapshot.list"

    def ids(self, **parameters):
        ok, result = self.run_action(agent_id="trainer_01", **parameters)
        self.assertTrue(ok)
        return [snapshot["snapshot_id"] for snapshot in result["snapshots"]]

    def test_the_newest_first_of_a_task_and_at_most_so_many(self):
        ids = [self.snapshot(task=task) for task in ("a", "b", "a")]
        self.snapshot(agent="other")
        self.assertEqual(self.ids(), ids[::-1])
        self.assertEqual(self.ids(task_id="a"), [ids[2], ids[0]])
        self.assertEqual(self.ids(limit=1), ids[2:])
        self.now += 25 * 3600
        self.assertEqual(self.ids(), [])

    def test_refusals(self):
        self.assertRefused("agent_id", self.run_action(agent_id="two words"))
        self.take_datastore_away()
        self.assertNoneIsRead(self.run_action(agent_id="a"))


class SnapshotGetTest(_Snapshots):
    action = "snapshot.get"

    def test_the_state_stands_within_result(self):
        text = "base64:" + base64.b64encode(b"{{ x }}").decode()
        name = self.snapshot(state={"said": text}, metadata={"why": "tuning"})
        ok, result = self.run_action(snapshot_id=name, agent_id="trainer_01", task_id="training")
        self.assertTrue(ok)
        self.assertEqual(
            result["result"], {"state": {"said": "{{ x }}"}, "metadata": {"why": "tuning"}})

    def test_a_state_too_large_for_a_result_is_named(self):
        self.config["max_result_bytes"] = 10
        content = self.run_action(snapshot_id=self.snapshot())[1]["result"]
        self.assertIsNone(content["state"])
        self.assertIn(content["state_key"], self.datastore.rows)

    def test_refusals(self):
        name = self.snapshot()
        self.assertRefused("snapshot_id", self.run_action(snapshot_id="x"), "snapshot.list")
        unknown = "trainer_01:0000000000000-000000000"
        self.assertRefused("snapshot_id", self.run_action(snapshot_id=unknown), "snapshot.list")
        self.assertRefused("agent_id", self.run_action(snapshot_id=name, agent_id="other"))
        self.assertRefused("task_id", self.run_action(snapshot_id=name, task_id="other"))
        newest = self.snapshot()
        self.damage(newest)
        self.assertRefused("snapshot_id", self.run_action(snapshot_id=newest), name)
        self.take_datastore_away()
        self.assertNoneIsRead(self.run_action(snapshot_id=name))


class SnapshotRestoreTest(_Snapshots):
    action = "snapshot.restore"

    def judge(self, status, result=None):
        """Has StackStorm run any action, which ends like that."""
        self.started_actions = []

        def start(action, parameters):
            self.started_actions.append((action, parameters))
            return RUN

        row = {"id": RUN, "status": status, "result": {"result": result}}
        self.api.start, self.api.wait = start, lambda execution_id, seconds: row
        self.config["rollback"] = {"check_actions": ["my_pack.judge"]}

    def test_the_platform_puts_the_state_back(self):
        self.api.executions_by_id[RUN] = {"id": RUN, "context": {"user": "jane"}}
        name = self.snapshot()
        ok, result = self.run_action(snapshot_id=name)
        self.assertTrue(ok)
        self.assertTrue(result["restored"])
        call = self.box.calls[-1]
        self.assertEqual(call.body, {"agent_id": "trainer_01", "snapshot_id": name, "state": STATE})
        _, history = self.run_other("history.timeline", agent_id="trainer_01")
        self.assertEqual([(entry["kind"], entry["actor"], entry["snapshot_id"])
                          for entry in history["timeline"]], [("recovery", "jane", name)])

    def test_without_a_path_the_state_is_returned(self):
        del self.config["platforms"][0]["restore_path"]
        ok, result = self.run_action(snapshot_id=self.snapshot())
        self.assertEqual((ok, result["restored"]), (True, False))
        self.assertIn("restore_path", result["summary"])
        self.assertEqual(result["result"]["state"], STATE)

    def test_a_platform_that_does_not_is_a_failure_with_the_state(self):
        self.config["platforms"][0]["restore_path"] = "/nothing/here"
        ok, result = self.run_action(snapshot_id=self.snapshot())
        self.assertEqual((ok, result["restored"], result["error"]["status"]), (False, False, 404))
        self.assertEqual(result["result"]["state"], STATE)

    def test_a_check_that_accepts(self):
        name = self.snapshot()
        self.judge("succeeded", {"valid": True})
        ok, result = self.run_action(snapshot_id=name, check_action="my_pack.judge")
        self.assertEqual((ok, result["check"]["accepted"], result["restored"]), (True, True, True))
        self.assertEqual(self.started_actions, [("my_pack.judge", {"snapshot_id": name})])

    def test_a_check_that_does_not(self):
        name = self.snapshot()
        for status, verdict in (
            ("succeeded", {"valid": False, "reason": "stale"}),
            ("failed", None),
            ("timeout", {"valid": True}),
        ):
            self.judge(status, verdict)
            ok, result = self.run_action(snapshot_id=name, check_action="my_pack.judge")
            self.assertEqual((ok, result["restored"]), (False, False))
            self.assertEqual(result["check"]["accepted"], False)
            self.assertEqual(result["check"].get("reason"), verdict and verdict.get("reason"))
        self.assertEqual(self.box.calls, [])

    def test_refusals(self):
        name = self.snapshot()
        self.judge("succeeded")
        outcome = self.run_action(snapshot_id=name, check_action="core.local")
        self.assertRefused("check_action", outcome, "rollback.check_actions")
        self.assertEqual((self.started_actions, self.box.calls), ([], []))
        self.damage(name)
        outcome = self.run_action(snapshot_id=name, check_action="my_pack.judge")
        self.assertRefused("snapshot_id", outcome, "snapshot.create")
        self.assertEqual((self.started_actions, self.box.calls), ([], []))


class SnapshotDeleteTest(_Snapshots):
    action = "snapshot.delete"

    def test_it_is_gone(self):
        name = self.snapshot()
        self.assertTrue(self.run_action(snapshot_id=name)[1]["deleted"])
        self.assertEqual(self.datastore.rows, {})
        self.assertRefused("snapshot_id", self.run_action(snapshot_id=name), "snapshot.list")

    def test_a_store_that_is_away(self):
        name = self.snapshot()
        self.take_datastore_away()
        self.assertNoneIsRead(self.run_action(snapshot_id=name))


class SnapshotCleanupTest(_Snapshots):
    action = "snapshot.cleanup"

    def test_what_is_too_old_or_one_too_many_goes(self):
        old = [self.snapshot(), self.snapshot(agent="other")]
        self.now += 23 * 3600
        new = [self.snapshot() for _ in range(3)]
        self.now += 2 * 3600
        self.config["rollback"] = {"max_snapshots": 2}
        ok, result = self.run_action(agent_id="trainer_01")
        self.assertTrue(ok)
        self.assertEqual(sorted(result["deleted"]), sorted([old[0], new[0]]))
        self.assertEqual((result["kept"], result["more"]), (2, False))
        self.assertEqual(self.run_action()[1]["deleted"], [old[1]])

    def test_refusals(self):
        self.assertRefused("agent_id", self.run_action(agent_id="two words"))
        self.take_datastore_away()
        self.assertNoneIsRead(self.run_action())
