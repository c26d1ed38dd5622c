"""What holds for every Python action of the pack, whatever is done to it."""
import os
import re
from unittest import mock

from fixtures.action_case import ActionCase, metadata, python_actions

from synthralos.core.sealing import seal

ODD = {
    "string": ["", " ", "\x00", "\ud800", "<% ctx() %>", "{{ x }}", "x" * 70000],
    "integer": [-1, 0, 10**30],
    "number": [-1, 0, 0.5, 1e300],
    "boolean": [True, False],
    "object": [{}, {"": None}, {"prompt": {}, "endpoint": [], "model": 7}, {"a": {"b": "\ud800"}}],
    "array": [[], [None], [{}], ["x" * 200]],
}


class _EveryAction:
    """Mixed into one test case for each action; see the end of this file."""

    def valid_parameters(self, **more):
        """Parameters that the action can work with, and as many of `more` as it declares."""
        request = {"prompt": "Hello", "model": "gpt-4", "endpoint": "/x"}
        values = {
            "agent_id": "invoice-bot", "failure_type": "timeout", "original_query": "Book it",
            "original_request": request, "failure_reason": "timed out", "request": request,
            "model": "gpt-4", "prompt": "Hello", "ticket_id": "T000000000000",
            "failure": "timed out",
        }
        declared = metadata(self.action)["parameters"]
        if (declared.get("case") or {}).get("required"):
            values["case"] = seal({"workflow": "none"})
        values.update(more)
        return {name: value for name, value in values.items() if name in declared}

    def takes(self, parameter):
        return parameter in metadata(self.action)["parameters"]

    def test_an_unexpected_error_is_a_result(self):
        from synthralos.config.settings import Settings

        with mock.patch.object(Settings, "from_config", side_effect=KeyError("as asked")):
            ok, result = self.run_action(**self.valid_parameters())
        self.assertFalse(ok)
        self.assertEqual(result["error"]["cause"], "internal")
        self.assertIsNone(result["next"])
        self.assertEqual(self.opened(result["carry"])["refused"], result["error"])

    def test_whatever_the_datastore_raises_is_a_result(self):
        self.datastore.failure = ValueError("not what a datastore raises")
        self.run_action(**self.valid_parameters())
        if self.takes("case"):
            self.run_action(**self.valid_parameters(case=seal({"stored": "synthralos.case.x.0"})))

    def test_a_wrong_configuration_is_refused_by_its_entry(self):
        self.config = {"providers": [{"name": "openai", "base_url": "nonsense", "models": []}]}
        ok, result = self.run_action(**self.valid_parameters())
        if self.action.startswith("log_"):
            # The failure that it makes of every other task must still be written down.
            self.assertTrue(ok)
            self.assertTrue(result["ticket"])
            return
        self.assertFalse(ok)
        self.assertEqual(result["error"]["field"], "providers[0].base_url")

    def test_no_configuration_at_all(self):
        self.config = None
        ok, result = self.run_action(**self.valid_parameters())
        self.assertTrue(ok or result["error"]["cause"] in ("refused", "stackstorm_api"))

    def test_without_stackstorm_s_api(self):
        with mock.patch.dict("os.environ"):
            del os.environ["ST2_ACTION_API_URL"]
            ok, result = self.run_action(**self.valid_parameters())
        self.assertNotEqual((result.get("error") or {}).get("cause"), "internal")
        if self.action.startswith("log_"):
            self.assertTrue(ok)
            self.assertIn("not fired", result["trigger"])

    def test_odd_parameters_are_no_error_of_the_action(self):
        for name, spec in metadata(self.action)["parameters"].items():
            if spec.get("immutable") or "type" not in spec:
                continue
            for value in ODD[spec["type"]]:
                _, result = self.run_action(**self.valid_parameters(**{name: value}))
                cause = (result.get("error") or {}).get("cause")
                self.assertNotEqual(cause, "internal", "%s: %r" % (name, value))

    def test_a_case_of_any_content_is_a_result(self):
        contents = [
            None, 1, "text", [], {}, {"workflow": "agent_recovery"}, {"workflow": "llm_retry"},
            {"workflow": "reroute_request"}, {"stored": "x"}, {"stored": 7}, {"refused": 1},
        ]
        for content in contents if self.takes("case") else ():
            self.run_action(**self.valid_parameters(case=seal(content)))


def _cases():
    for action in python_actions():
        name = "".join(part.capitalize() for part in re.split(r"[._]", action)) + "ResultTest"
        yield name, type(name, (_EveryAction, ActionCase), {"action": action})


globals().update(_cases())


class StorableResultTest(ActionCase):
    action = "call_llm"

    def test_a_result_is_what_the_database_takes(self):
        from sandbox import ok

        self.box.script("llm:openai/gpt-4", [ok(text="\ud800 \x00 \u202e \U0001f600")])
        _, result = self.run_action(model="gpt-4", prompt="Hello")
        result["result"]["response"].encode("utf-8")
