"""The control surface, for a process that is not the sandbox's own.

    GET  /_sandbox            its address, and the pack's configuration for it
    GET  /_sandbox/calls      {"calls": [...]}; ?target=PATTERN for some of them
    POST /_sandbox/script     {"target", "steps", "forever"}; steps as in `scenario`
    POST /_sandbox/scenario   a whole scenario, added to what is there
    POST /_sandbox/kill       {"target"}
    POST /_sandbox/revive     {"target"}
    POST /_sandbox/errors     {"errors", "target"}: what the platform's observability route lists
    POST /_sandbox/reset      forgets scripts, the dead, errors and calls

A request that makes no sense is answered with 400 and {"error"}.
"""
from sandbox import scenario, targets
from sandbox.answers import answer

PREFIX = "/_sandbox"


def concerns(path):
    return path == PREFIX or path.startswith(PREFIX + "/")


def answered(box, call):
    """The Answer to `call`, which is about the sandbox itself and is not recorded."""
    what = call.path[len(PREFIX) + 1:]
    if call.method == "GET" and not what:
        return answer(200, {"base_url": box.base_url, "pack_config": box.pack_config()})
    asked = call.body if isinstance(call.body, dict) else {}
    try:
        if call.method == "GET" and what == "calls":
            pattern = targets.checked(call.query.get("target", "*"))
            return answer(200, {"calls": [made.as_dict() for made in box.calls_to(pattern)]})
        if call.method == "POST" and what in COMMANDS:
            COMMANDS[what](box, asked)
            return answer(200, {"ok": True})
    except (TypeError, ValueError) as error:
        return answer(400, {"error": str(error)})
    return answer(404, {"error": "Nothing is played at " + call.path})


def _script(box, asked):
    script = scenario.script_of(_given(asked, "steps"))
    box.script(_given(asked, "target"), script, forever=bool(asked.get("forever")))


def _given(asked, name):
    if name not in asked:
        raise ValueError(f"{name} is missing")
    return asked[name]


COMMANDS = {
    "script": _script,
    "scenario": lambda box, asked: scenario.play(box, asked),
    "kill": lambda box, asked: box.kill(_given(asked, "target")),
    "revive": lambda box, asked: box.revive(_given(asked, "target")),
    "errors": lambda box, asked: box.set_errors(
        _given(asked, "errors"), asked.get("target", "platform")
    ),
    "reset": lambda box, asked: box.reset(),
}
