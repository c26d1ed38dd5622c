import base64
import json

from fixtures.action_case import ActionCase

STEP = {"agent_id": "bot", "action": "search", "input": {"query": "x"}, "output": "nothing"}


class _Loops(ActionCase):
    def step(self, **more):
        self.now += 1
        ok, result = self.run_other("loop.check", **dict(STEP, **more))
        self.assertTrue(ok, result["summary"])
        return result

    def assertNotRead(self, outcome):
        ok, result = outcome
        self.assertEqual((ok, result["error"]["cause"]), (False, "stackstorm_api"))


class LoopCheckTest(_Loops):
    action = "loop.check"

    def test_it_warns_then_pauses(self):
        seen = [self.step() for _ in range(5)]
        self.assertEqual([check["level"] for check in seen],
                         ["none", "none", "warn", "critical", "critical"])
        self.assertEqual([check["paused"] for check in seen], [False] * 3 + [True] * 2)
        self.assertEqual(seen[3]["pattern"]["kind"], "identical")
        self.assertEqual(seen[3]["pause"]["by"], "loop_detector")
        self.assertIn("repeated 4 times", seen[3]["summary"])
        self.assertLess(seen[3]["pause"]["probe_at"], seen[3]["pause"]["until"])

    def test_an_agent_that_gets_on_is_let_alone(self):
        for n in range(30):
            self.assertEqual(self.step(output="page %d of the report" % n)["level"], "none")
            self.assertEqual(self.step(agent_id="other", progress=n)["level"], "none")

    def test_the_configuration_decides(self):
        self.config["loop_detection"] = {"enable_auto_pause": False}
        self.assertEqual([self.step()["paused"] for _ in range(4)], [False] * 4)
        self.config["loop_detection"] = {"max_iterations": 1}
        outcome = self.run_action(**STEP)
        self.assertRefused("loop_detection.max_iterations", outcome, "5 to 100")

    def test_no_text_is_kept_or_shown(self):
        encoded = "base64:" + base64.b64encode(b'{"said": "{{ config_context.x }}"}').decode()
        for _ in range(4):
            result = self.step(input={"query": "Alice owes Bob"}, output=encoded)
        stored = "".join(self.datastore.rows.values()).lower() + str(result).lower()
        for word in ("alice", "config_context", "{{"):
            self.assertNotIn(word, stored)

    def test_an_output_may_be_any_json_value_and_text_that_says_the_same_is_the_same(self):
        for output in ({"rows": ["x"]}, ["x", {"y": 1}], 5, 0.5, True, "nothing"):
            agent = "bot-%d" % self.now
            seen = [self.step(agent_id=agent, output=output)["level"] for _ in range(4)]
            self.assertEqual(seen, ["none", "none", "warn", "critical"], output)
        agent, output = "several", {"rows": ["x"]}
        encoded = "base64:" + base64.b64encode(json.dumps(output).encode()).decode()
        seen = [self.step(agent_id=agent, output=variant)["level"]
                for variant in (output, json.dumps(output), encoded, output)]
        self.assertEqual(seen, ["none", "none", "warn", "critical"])

    def test_text_in_an_output_that_is_an_object_may_be_encoded(self):
        encoded = "base64:" + base64.b64encode(b"{{ x }}").decode()
        for output in ({"a": encoded}, {"a": "{{ x }}"}, {"a": encoded}, {"a": "{{ x }}"}):
            level = self.step(output=output)["level"]
        self.assertEqual(level, "critical")

    def test_a_step_that_is_not_recorded_says_so(self):
        self.take_datastore_away()
        ok, result = self.run_action(**STEP)
        self.assertEqual((ok, result["recorded"], result["level"]), (True, False, "none"))
        self.assertNotRecorded(result, "step")

    def test_refusals(self):
        for field, value in (
            ("agent_id", "two words"), ("action", "{{ x }}"), ("task_id", "../x"),
            ("output", "base64:%"), ("progress", float("nan")),
        ):
            self.assertRefused(field, self.run_action(**dict(STEP, **{field: value})))
        self.assertEqual(self.datastore.rows, {})


class LoopPatternsTest(_Loops):
    action = "loop.patterns"

    def test_each_once_with_when_and_how_often(self):
        for _ in range(4):
            self.step()
        (pattern,) = self.run_action(agent_id="bot")[1]["patterns"]
        self.assertEqual((pattern["kind"], pattern["level"], pattern["occurrences"]),
                         ("identical", "critical", 1))
        self.assertLess(pattern["first_seen"], pattern["last_seen"])
        self.assertEqual(self.run_action(agent_id="other")[1]["patterns"], [])

    def test_refusals(self):
        self.assertRefused("agent_id", self.run_action(agent_id="two words"))
        self.take_datastore_away()
        self.assertNotRead(self.run_action(agent_id="bot"))


class LoopResetTest(_Loops):
    action = "loop.reset"

    def test_the_window_is_forgotten_and_the_pause_ended(self):
        for _ in range(4):
            self.step()
        self.now += 1
        self.assertTrue(self.run_action(agent_id="bot")[1]["resumed"])
        after = self.step()
        self.assertEqual((after["steps"], after["paused"]), (1, False))
        self.assertEqual(len(self.run_other("loop.patterns", agent_id="bot")[1]["patterns"]), 1)

    def test_a_person_s_pause_stays(self):
        self.run_other("agent.pause", agent_id="bot", reason="maintenance")
        self.now += 1
        self.assertFalse(self.run_action(agent_id="bot")[1]["resumed"])
        self.assertTrue(self.step()["paused"])

    def test_refusals(self):
        self.assertRefused("agent_id", self.run_action(agent_id="two words"))
        self.take_datastore_away()
        self.assertNotRead(self.run_action(agent_id="bot"))
