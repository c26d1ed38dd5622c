from fixtures.action_case import NOW, RUN, ActionCase

from synthralos.core.identifiers import encode_key_part
from synthralos.core.timestamps import to_iso
from synthralos.storage.keyspace import CLEARABLE

DAY = 86400
OTHER = "5f0c000000000000000000bb"


class _States(ActionCase):
    def put(self, name, value="x", until=None, created=None):
        name = "synthralos." + name
        self.datastore.rows[name] = value
        if until is not None:
            self.datastore.until[name] = until
        if created is not None:
            self.datastore.created[name] = created
        return name

    def fact(self, kind, days_ago, n=0):
        at = int((NOW - days_ago * DAY) * 1000) + n
        return self.put("%s.a.%013d-000abc" % (kind, at), until=NOW + (30 - days_ago) * DAY)


class StateUsageTest(_States):
    action = "storage.usage"

    def test_keys_bytes_ages_and_expiry_by_kind(self):
        self.fact("history", 3)
        self.fact("history", 1)
        self.put("ticket.T0123456789ab", "ä" * 10, until=NOW + 89 * DAY)
        self.put("totals", "{}")
        ok, result = self.run_action()
        self.assertTrue(ok)
        self.assertEqual((result["keys"], result["complete"], result["foreign"]), (4, True, 0))
        self.assertEqual(result["kinds"]["history"], {
            "keys": 2, "bytes": 2, "oldest": to_iso(NOW - 3 * DAY),
            "newest": to_iso(NOW - DAY), "next_expiry": to_iso(NOW + 27 * DAY),
            "without_expiry": 0})
        self.assertEqual(result["kinds"]["tickets"]["newest"], to_iso(NOW - DAY))
        self.assertEqual(result["kinds"]["metrics"], {
            "keys": 1, "bytes": 2, "oldest": None, "newest": None, "next_expiry": None,
            "without_expiry": 1})

    def test_what_is_not_ours_is_foreign(self):
        for name in ("enabled", "mine.1", "history.two words", "ticket.T1", "run.x",
                     "role.Rx", "totals.x", "breaker.llm"):
            self.put(name)
        self.datastore.rows["acme.history.a.1700000000000-000abc"] = "x"
        _, result = self.run_action()
        self.assertEqual((result["keys"], result["foreign"], result["kinds"]), (0, 8, {}))

    def test_what_actions_write_is_ours(self):
        self.run_other("loop.check", agent_id="a/b", action="search")
        self.run_other("loop.check", agent_id="a", task_id="t", action="search")
        self.run_other("loop.reset", agent_id="a")
        self.run_other("agent.pause", agent_id="a", reason="x")
        self.run_other("snapshot.create", agent_id="a", task_id="t", state={"a": 1})
        self.run_other("history.record", agent_id="a", task_id="t", state={}, kind="error")
        self.run_other("ticket.create", subject="a", summary="s")
        self.run_other("metrics.roll_up")
        _, result = self.run_action()
        self.assertEqual(result["foreign"], 0)
        self.assertEqual(set(result["kinds"]), {
            "history", "loops", "metrics", "pauses", "snapshots", "tickets"})

    def test_every_page_is_read(self):
        for n in range(250):
            self.fact("run", 1, n)
        _, result = self.run_action()
        self.assertEqual(result["kinds"]["runs"]["keys"], 250)

    def test_it_stops_when_its_time_is_up(self):
        for n in range(250):
            self.fact("run", 1, n)
        list_rows = self.datastore.list

        def slow(*arguments):
            self.now += 3
            return list_rows(*arguments)

        self.datastore.list = slow
        ok, result = self.run_action(seconds=5)
        self.assertTrue(ok)
        self.assertEqual((result["keys"], result["complete"]), (200, False))
        self.assertIn("time was up", result["summary"])

    def test_a_store_that_is_away_is_no_empty_one(self):
        self.take_datastore_away()
        ok, result = self.run_action()
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))


class StateClearTest(_States):
    action = "storage.clear"

    def clear(self, *kinds, **parameters):
        return self.run_action(kinds=list(kinds), **parameters)

    def test_it_deletes_nothing_unless_it_is_told_to(self):
        self.fact("history", 3)
        rows = dict(self.datastore.rows)
        ok, result = self.clear("history")
        self.assertTrue(ok)
        self.assertEqual((result["dry_run"], result["deleted"], result["left"]), (True, 0, 1))
        self.assertIn("1 keys would be deleted", result["summary"])
        self.assertEqual(self.datastore.rows, rows)

    def test_by_kind_and_nothing_else(self):
        gone = [self.fact(kind, 1) for kind in ("history", "version", "version_head")]
        stay = [self.fact("run", 1), self.put("enabled"), self.put("history.two words"),
                self.put("history_of_mine.a.1700000000000-000abc")]
        self.datastore.rows["other.history.a.1700000000000-000abc"] = "x"
        ok, result = self.clear("history", dry_run=False)
        self.assertEqual((ok, result["deleted"], result["left"]), (True, 3, 0))
        self.assertEqual(set(self.datastore.rows),
                         set(stay) | {"other.history.a.1700000000000-000abc"})
        self.assertNotIn(gone[0], self.datastore.rows)

    def test_by_age(self):
        young, old = self.fact("run", 1), self.fact("run", 8)
        ok, result = self.clear("runs", older_than="7d", dry_run=False)
        self.assertEqual((ok, result["deleted"]), (True, 1))
        self.assertIn("older than 7d", result["summary"])
        self.assertEqual(set(self.datastore.rows), {young})
        self.assertNotEqual(young, old)

    def test_the_age_of_what_has_no_time_in_its_name(self):
        """It was last written its lifetime before it expires, and not before it was made."""
        rows = {
            self.put("query.a", until=NOW + 6 * DAY): False,
            self.put("query.b", until=NOW + DAY): True,
            self.put("query.c", until=NOW + DAY, created=NOW - DAY): False,
            self.put("query.d", created=NOW - 9 * DAY): True,
            self.put("query.e"): False,
        }
        _, result = self.clear("queries", older_than="3d", dry_run=False)
        self.assertEqual(result["kinds"]["queries"]["of_unknown_age"], 1)
        self.assertEqual({name for name, gone in rows.items() if not gone},
                         set(self.datastore.rows))
        self.config["retention"] = {"queries": "30d"}
        self.put("query.f", until=NOW + 29 * DAY)
        self.clear("queries", older_than="3d", dry_run=False)
        self.assertIn("synthralos.query.f", self.datastore.rows)

    def test_what_a_run_that_goes_on_needs_stays_unless_it_is_forced(self):
        self.api.executions = lambda attributes, status, offset=0, **more: (
            [{"id": RUN}] if status == "paused" else [])
        needed = [self.put("case.%s.3" % encode_key_part(RUN)), self.put("inquiry.%s" % RUN),
                  self.put("wave.%s.00001" % RUN), self.put("step.%s.00001.0000" % RUN),
                  self.put("llm_spending_run.%s.1700000000000-000abc" % RUN)]
        for kind in ("case.%s.3", "wave.%s.00001"):
            self.put(kind % OTHER)
        ok, result = self.clear("all", dry_run=False)
        self.assertEqual((ok, result["deleted"]), (True, 2))
        self.assertEqual(result["kinds"]["cases"]["kept_for_runs"], 2)
        self.assertEqual(set(self.datastore.rows), set(needed))
        ok, result = self.clear("all", dry_run=False, force=True)
        self.assertEqual((result["deleted"], self.datastore.rows), (5, {}))

    def test_when_nobody_knows_which_runs_go_on_nothing_is_deleted(self):
        from synthralos.storage.stackstorm_api import StackStormError

        def away(*arguments, **more):
            raise StackStormError("StackStorm's API is away")

        self.api.executions = away
        self.fact("run", 1)
        ok, result = self.clear("all", dry_run=False)
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))
        self.assertEqual(len(self.datastore.rows), 1)

    def test_it_stops_in_time_says_what_is_left_and_goes_on_the_next_time(self):
        for n in range(300):
            self.fact("run", 1, n)
        delete = self.datastore.delete

        def slow(name):
            self.now += 0.1
            return delete(name)

        self.datastore.delete = self.api.delete = slow
        ok, result = self.clear("runs", dry_run=False, seconds=10)
        self.assertFalse(ok)
        self.assertAlmostEqual(result["deleted"], 100, delta=2)
        self.assertEqual(result["deleted"] + result["left"], 300)
        self.assertIn("are left; run it again", result["summary"])
        while not ok:
            ok, result = self.clear("runs", dry_run=False, seconds=10)
        self.assertEqual(self.datastore.rows, {})

    def test_claims_and_definitions_are_never_cleared(self):
        stay = [self.put("role.R0123456789ab"), self.fact("claim", 9),
                self.put("orchestration_version.O0123456789ab.000001")]
        self.clear("all", dry_run=False, force=True)
        self.assertEqual(set(self.datastore.rows), set(stay))
        self.assertEqual({"claims", "definitions"} & set(CLEARABLE), set())

    def test_a_state_that_stays_behind_is_found_by_its_head(self):
        """Heads go first: one without its state would be listed and not be there."""
        order, delete = [], self.datastore.delete
        for kind in ("snapshot", "snapshot_head", "version", "version_head"):
            self.fact(kind, 1)
        self.datastore.delete = lambda name: order.append(name.split(".")[1]) or delete(name)
        self.clear("snapshots", "history", dry_run=False)
        self.assertLess(order.index("snapshot_head"), order.index("snapshot"))
        self.assertLess(order.index("version_head"), order.index("version"))

    def test_refusals(self):
        self.assertRefused("kinds", self.clear(), "tickets")
        self.assertRefused("kinds", self.clear("runs", "claims"), "tickets")
        self.assertRefused("older_than", self.clear("runs", older_than="7 days"), "12h")
        self.take_datastore_away()
        ok, result = self.clear("runs")
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))
