"""The control surface, for a process that is not the sandbox's own.

    GET  /_sandbox            its address, and the pack's configuration for it
    GET  /_sandbox/calls      {"calls": [...]}; ?target=PATTERN for some of them
    POST /_sandbox/script     {"target", "steps", "forever"}; steps as in `scenario`
    POST /_sandbox/scenario   a scenario, added to the current scripts
    POST /_sandbox/kill       {"target"}
    POST /_sandbox/revive     {"target"}
    POST /_sandbox/errors     {"errors", "target"}: what the platform's observability route lists
    POST /_sandbox/series     {"query", "series"}: what Prometheus returns, the labels of each
    POST /_sandbox/reset      clears scripts, killed targets, errors, series and calls

An invalid request is answered with 400 and {"error"}.
"""
from sandbox import scenario, targets
from sandbox.answers import answer

PREFIX = "/_sandbox"


def concerns(path):
    return path == PREFIX or path.startswith(PREFIX + "/")


def handle(box, call):
    """Return the Answer to `call`, a call of the control surface; it is not recorded."""
    command = call.path[len(PREFIX) + 1:]
    if call.method == "GET" and not command:
        return answer(200, {"base_url": box.base_url, "pack_config": box.pack_config()})
    request = call.body if isinstance(call.body, dict) else {}
    try:
        if call.method == "GET" and command == "calls":
            pattern = targets.checked(call.query.get("target", "*"))
            return answer(
                200, {"calls": [recorded.as_dict() for recorded in box.calls_to(pattern)]}
            )
        if call.method == "POST" and command in COMMANDS:
            COMMANDS[command](box, request)
            return answer(200, {"ok": True})
    except (TypeError, ValueError) as error:
        return answer(400, {"error": str(error)})
    return answer(404, {"error": "The sandbox has nothing at " + call.path})


def _script(box, request):
    script = scenario.script_of(_required(request, "steps"))
    box.script(_required(request, "target"), script, forever=bool(request.get("forever")))


def _required(request, name):
    if name not in request:
        raise ValueError(f"{name} is required")
    return request[name]


COMMANDS = {
    "script": _script,
    "scenario": lambda box, request: scenario.play(box, request),
    "kill": lambda box, request: box.kill(_required(request, "target")),
    "revive": lambda box, request: box.revive(_required(request, "target")),
    "errors": lambda box, request: box.set_errors(
        _required(request, "errors"), request.get("target", "platform")
    ),
    "series": lambda box, request: box.set_series(
        _required(request, "query"), _required(request, "series")
    ),
    "reset": lambda box, request: box.reset(),
}
