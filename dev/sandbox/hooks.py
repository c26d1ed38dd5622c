"""Webhooks for notifications of people: any name, any body, no key."""
from sandbox.answers import Exchange, rendered
from sandbox.region import CODES


def exchange(name, call):
    """The Exchange of a call to /hook/NAME."""

    def render(step):
        return rendered(step, lambda step: {"status": "ok"}, _of_status, _refusal)

    return Exchange("hook:" + name, render)


def _of_status(code, message):
    return {"error": message}


def _refusal(step):
    if step.name == "agent_failed":
        return step.get("status"), {"error": step.get("error")}
    status, _, message = CODES[step.name]
    return status, {"error": message}
