from synthralos.automation import runbook_explanation
from synthralos.automation.config import AutomationConfig
from synthralos.core.plurals import count_noun
from synthralos.runtime import run_parameters
from synthralos_action import ResourceAction


class Runbooks(ResourceAction):
    """`runbook.*`: the runbooks, their problems, and what an alert would start."""

    resource = "runbook"

    def _list(self, env, parameters):
        runbooks = runbook_explanation.list_runbooks(env, parameters["source"])
        return {"summary": count_noun(len(runbooks), "runbook"), "runbooks": runbooks}

    def _validate(self, env, parameters):
        problems = runbook_explanation.validate(
            env, parameters["source"], parameters.get("runbook")
        )
        result = {"summary": count_noun(len(problems), "problem"), "problems": problems}
        if problems:
            first = "%(runbook)s/%(step)s: %(field)s %(reason)s" % problems[0]
            hint = problems[0]["hint"]
            result["error"] = {"cause": "configuration", "message": first, "hint": hint}
        return not problems, result

    def _explain(self, env, parameters):
        inputs, _ = self.execution(env, parameters)
        alert = run_parameters.require_object("alert", inputs.get("alert"))
        config = AutomationConfig.from_config(env.settings.automation)
        result = runbook_explanation.explain(env, config, alert, inputs["source"])
        texts = [
            "%s of %s: %s" % (
                item["alertname"], item["subject"],
                item["problem"] or item["runbook"] or item["verdict"],
            )
            for item in result["alerts"]
        ]
        return dict({"summary": "; ".join(texts)}, **result)
