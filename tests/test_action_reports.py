import json
import re

from fixtures.action_case import NOW, RUN, ActionCase

from synthralos.storage import run_summaries

HOSTILE = "<script>alert(1)</script> {{ config_context.x }} <% ctx() %>"
TOP = "5f0c0000000000000000aa01"


def execution(ident, action, status="succeeded", at=0, took=1, task=None, runner="python-script",
              **more):
    moment = "2023-11-14T22:%02d:%02d.000000Z"
    row = {
        "id": ident, "action": {"ref": "synthralos." + action, "runner_type": runner},
        "status": status, "start_timestamp": moment % (13 + at // 60, at % 60),
        "end_timestamp": moment % (13 + (at + took) // 60, (at + took) % 60),
        "context": {"orquesta": {"task_name": task}} if task else {}, "parameters": {},
    }
    return dict(row, **more)


class ReportRenderTest(ActionCase):
    action = "report.render"

    def body(self, **parameters):
        ok, result = self.run_action(**parameters)
        self.assertTrue(ok, result["summary"])
        self.assertEqual(result["bytes"], len(result["body"].encode()))
        return result["body"]

    def failed_run(self):
        trail = [
            {"attempt": 1, "target": "platform:main", "round": 1, "repeat": False, "ok": False,
             "cause": "server_error", "status": 503, "latency_ms": 400, "step": "retry_execution",
             "message": HOSTILE, "at": "2023-11-14T22:13:03.100Z"},
            {"target": "platform:standby", "skipped": "its breaker is open", "seconds": 40.0},
            {"attempt": 2, "target": "platform:main", "round": 2, "repeat": True, "ok": False,
             "cause": "timeout", "latency_ms": 900, "message": "sandbox-token", "hint_seconds": 9},
        ]
        plan = {"source": "playbook", "confidence": 0.7, "steps": [
            {"action": "retry_execution", "description": "Again"},
            {"action": "simplify_query", "description": HOSTILE}]}
        error = {"cause": "timeout", "message": HOSTILE, "reason": "max_retries, 1, is used up"}
        output = {"success": False, "trail": trail, "plan": plan, "attempts": 2, "error": error,
                  "ticket": "T0123456789ab"}
        self.api.executions_by_id[TOP] = execution(
            TOP, "agent_recovery", "failed", 0, 20, runner="orquesta",
            parameters={"agent_id": "trainer_01", "original_query": "precious"},
            result={"output": output, "errors": []})
        following = {"result": {"next": {"cursor": 1, "delay": 5, "carry": "e"}}}
        self.api.below[TOP] = [
            execution("5f0c0000000000000000aa02", "analyze_agent_failure", task="analyze_failure"),
            execution("5f0c0000000000000000aa03", "execute_recovery", "failed", 3, 1,
                      task="execute_recovery", result=following),
            execution("5f0c0000000000000000aa04", "execute_recovery", "failed", 5, 10,
                      task="execute_recovery"),
            execution("5f0c0000000000000000aa05", "log_recovery_failure", at=16, task="log_failure",
                      result={"result": {"summary": "it failed"}}),
        ]
        return TOP

    def test_a_run_as_a_page(self):
        page = self.body(execution_id=self.failed_run())
        self.assertTrue(page.startswith("<!DOCTYPE html>"))
        for text in ("agent_recovery of trainer_01", "server_error", "its breaker is open",
                     "T0123456789ab", "max_retries, 1, is used up", "503", "simplify_query",
                     "The target did not respond", "20.0 s", "attempt 2"):
            self.assertIn(text, page)
        self.assertNotIn("<script", page)
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;", page)
        self.assertNotIn("precious", page)

    def test_templates_are_broken_and_secrets_masked(self):
        for form in ("html", "markdown"):
            body = self.body(execution_id=self.failed_run(), format=form)
            for mark in ("{{", "<%", "sandbox-token"):
                self.assertNotIn(mark, body)
            self.assertIn("template marks were broken", body)

    def test_waits_stand_apart_from_work(self):
        page = self.body(execution_id=self.failed_run())
        rows = re.findall(r'class="label">([^<]*)</span><span class="track">'
                          r'<i class="(\w+)" style="left:([\d.]+)%;width:([\d.]+)%', page)
        bars = {(label, kind): (float(left), float(width)) for label, kind, left, width in rows}
        # 20 s are 100 %: the second round was asked for at 5 s, and waited 5 s of its 10.
        self.assertEqual(bars[("wait", "wait")], (25.0, 25.0))
        self.assertEqual(bars[("execute_recovery", "bad")], (50.0, 25.0))
        self.assertEqual(bars[("1. platform:main", "bad")], (15.5, 2.0))

    def test_a_run_as_markdown(self):
        text = self.body(execution_id=self.failed_run(), format="markdown")
        self.assertTrue(text.startswith("# agent\\_recovery of trainer\\_01\n"))
        self.assertIn("## What was tried", text)
        self.assertIn("| 1 | platform:main | retry\\_execution | ✗ server\\_error | 503 | 400 ms |",
                      text)

    def test_what_the_runs_within_have_tried(self):
        inner = self.failed_run()
        outer = "5f0c0000000000000000bb01"
        self.api.executions_by_id[outer] = execution(
            outer, "handle_error", "failed", 0, 30, runner="orquesta",
            parameters={"agent_id": "trainer_01"}, result={"output": {"ticket": "T1"}})
        below = dict(
            self.api.executions_by_id[inner], context={"orquesta": {"task_name": "recover_agent"}}
        )
        self.api.below[outer] = [
            execution("5f0c0000000000000000bb02", "error.assess", task="assess"), below]
        call = ["openai", "gpt-4", 900, None, 100, 50, 0.5]
        run_summaries.record_summary(
            self.datastore, inner, NOW, workflow="agent_recovery", llm=[call]
        )
        page = self.body(execution_id=outer)
        for expected in ("handle_error of trainer_01", "The plan of recover_agent", "attempt 2",
                         "its breaker is open", "Within", "0.5 USD"):
            self.assertIn(expected, page)
        self.assertIn('class="label">1. platform:main<', page)
        text = self.body(execution_id=outer, format="markdown")
        self.assertIn("- Attempts: 2", text)
        self.assertIn("| recover\\_agent | 1 | platform:main | retry\\_execution |", text)
        self.assertIn("\n| › execute\\_recovery |", text)

    def test_an_action_alone(self):
        _, result = self.run_other("call_llm", model="gpt-4", prompt="Hello")
        self.api.executions_by_id[RUN] = execution(RUN, "call_llm", result={"result": result})
        text = self.body(execution_id=RUN, format="markdown")
        self.assertIn("llm:openai/gpt-4", text)
        self.assertIn("- Attempts: 1", text)
        self.assertNotIn("Hello", text)

    def test_a_run_that_goes_on(self):
        self.api.executions_by_id[TOP] = execution(
            TOP, "agent_recovery", "running", runner="orquesta", result=None, end_timestamp=None)
        self.assertIn("</b> running</span></p>", self.body(execution_id=TOP))

    def test_odd_results_make_a_report_all_the_same(self):
        for result in ("None", {"output": None}, {"result": "None"}, {"output": {
            "trail": ["x", {"attempt": 1, "ok": False}, {"attempt": 2, "round": "9", "at": "x"}],
            "plan": {"steps": ["x"]}, "steps": ["x", {}], "step_history": ["x", {}],
            "assignments": [{}], "impact": [], "failures": 3, "error": "x", "ticket": {},
            "stepLogs": ["x", {"model": 3}], "result": {"usage": {"input_tokens": "x"}},
        }}):
            self.api.executions_by_id[TOP] = execution(
                TOP, "agent_recovery", "failed", runner="orquesta", result=result
            )
            self.assertIn("<h1>agent_recovery", self.body(execution_id=TOP))

    def test_states_of_a_repair(self):
        history = [
            {"from_state": "INIT", "to_state": "FAILURE_DETECTION", "action": "initialize"},
            {"from_state": "FAILURE_DETECTION", "to_state": "FINAL", "action": "no_failures"},
        ]
        output = {"success": True, "outcome": "healthy", "step_history": history, "failures": []}
        self.api.executions_by_id[TOP] = execution(TOP, "infrastructure_repair", runner="orquesta",
                                       result={"output": output})
        page = self.body(execution_id=TOP)
        self.assertIn("<title>2. no_failures</title>", page)
        self.assertEqual(len(re.findall('class="state unseen"', page)), 4)
        self.assertIn("healthy", page)

    def test_steps_and_tokens_of_an_orchestration(self):
        steps = [
            {"step_name": "think", "status": "completed", "attempts": 1, "duration": 2.5,
             "model": "openai/gpt-4", "usage": {"input_tokens": 1000, "output_tokens": 500}},
            {"step_name": "act", "status": "failed", "attempts": 2, "error": HOSTILE},
        ]
        self.config["providers"][0]["models"][0]["price"] = {"input": 10, "output": 30}
        self.api.executions_by_id[TOP] = execution(
            TOP,
            "orchestration.run",
            "failed",
            runner="orquesta",
            parameters={"orchestration": "flow"},
            result={"output": {"stepLogs": steps}},
        )
        text = self.body(execution_id=TOP, format="markdown")
        self.assertIn("| think | ✓ completed | 1 | 2.5 s |", text)
        self.assertIn("- Tokens: 1,500", text)
        self.assertIn("- Cost: 0.025 USD", text)

    def test_another_packs_run_is_refused(self):
        row = execution(TOP, "x")
        self.api.executions_by_id[TOP] = dict(row, action={"ref": "core.local"})
        self.assertRefused("execution_id", self.run_action(execution_id=TOP))

    def test_a_ticket(self):
        _, logged = self.run_other("log_recovery_failure", agent_id="agent-b",
                                   failure_type="timeout")
        page = self.body(ticket_id=logged["ticket"])
        for text in ("Ticket %s: agent-b" % logged["ticket"], "What to do", "What happened"):
            self.assertIn(text, page)

    def test_an_unknown_ticket_is_refused(self):
        self.assertRefused("ticket_id", self.run_action(ticket_id="T000000000000"))

    def test_a_week(self):
        for n, outcome in enumerate(("recovered", "failed", "recovered")):
            facts = {
                "workflow": "llm_retry", "outcome": outcome, "failure_type": "llm_error",
                "cause": None if outcome == "recovered" else "quota", "attempts": 2, "repeats": n,
                "duration": 2.0 + n, "targets": ["llm:a/b", "llm:c/d"], "causes": ["quota", None],
                "latency_ms": [100, 300], "currency": "EUR",
                "llm": [["a", "b", 100, "quota", None, None, None], ["c", "d", 9, None, 9, 9, 0.5]],
            }
            at = int((self.now - n * 90000) * 1000)
            key = "synthralos.run.%013d-%d" % (at, n)
            self.datastore.rows[key] = json.dumps(dict(facts, v=1, run="r%d" % n))
        text = self.body(days=7, format="markdown")
        for expected in ("2 of 3 runs recovered", "- Recovered: 67 %", "- Median duration: 3.0 s",
                         "- LLM cost: 1.50 EUR", "| llm:a/b | 3 | ✗ 3 | 0 % | 100 ms |",
                         "- quota: ✗ 1", "2023-11-14: ✓ 1"):
            self.assertIn(expected, text)
        self.assertIn("1 of 1 runs recovered", self.body(days=1, format="markdown"))

    def test_a_week_without_runs(self):
        self.assertIn("0 of 0 runs recovered", self.body(days=7))

    def test_exactly_one_thing(self):
        for parameters in ({}, {"days": 7, "ticket_id": "T000000000000"}):
            self.assertRefused("execution_id, ticket_id, days", self.run_action(**parameters))

    def test_what_cannot_be_read_is_not_nothing(self):
        self.take_datastore_away()
        ok, result = self.run_action(days=7)
        self.assertFalse(ok)
        self.assertEqual(result["error"]["cause"], "stackstorm_api")
