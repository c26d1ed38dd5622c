from synthralos.automation import label_text, runbook_explanation
from synthralos.automation.config import AutomationConfig
from synthralos.core.errors import InvalidInput
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
            first = runbook_explanation.describe_problem(problems[0])
            hint = problems[0]["hint"]
            result["error"] = {"cause": "configuration", "message": first, "hint": hint}
        return not problems, result

    def _explain(self, env, parameters):
        inputs, _ = self.execution(env, parameters)
        alert = _alert(inputs.get("alert_labels"), inputs.get("alert"))
        config = AutomationConfig.from_config(env.settings.automation)
        result = runbook_explanation.explain(env, config, alert, inputs["source"])
        texts = [
            "%s of %s: %s" % (
                item["alertname"], item["subject"],
                item["problem"] or "runbook %(runbook)s, mode %(mode)s" % item,
            )
            for item in result["alerts"]
        ]
        return dict({"summary": "; ".join(texts)}, **result)


def _alert(labels, alert):
    if bool(labels) == bool(alert):
        reason = "must not be combined with alert_labels" if alert else "is missing"
        raise InvalidInput("alert", None, reason, "Set exactly one of alert and alert_labels")
    if alert:
        return run_parameters.require_object("alert", alert)
    text = run_parameters.require_text("alert_labels", labels)
    return {"labels": label_text.parse_labels("alert_labels", text)}
