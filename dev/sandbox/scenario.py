"""Scenarios: the scripts of a sandbox as plain data, in a JSON or YAML file or over HTTP.

    scripts:
      platform: [agent_failed, {rate_limit: 2}, ok]
      llm:openai/gpt-4:
        steps: [{delay: {seconds: 1, then: overloaded}}, {status: {code: 503, error: Sorry}}]
        forever: true
      llm:anthropic/claude-3-haiku: [{ok: {text: "Hello", finish_reason: length}}]
    kill: [route:openai]
    series:
      probe_success == 1: [{instance: "https://shop.example.com"}]    # what Prometheus returns
    errors:
      platform: [{timestamp: "2025-01-01T00:00:00Z", level: error, message: Agent failed}]

A step is the name of a constructor in `steps`, alone or with its arguments: an object holds them by
name, anything else is the first. YAML is read where PyYAML is installed, JSON always.
"""
import inspect
import json

from sandbox import steps

PARTS = ("scripts", "kill", "errors", "series")


def load(path):
    """Return the scenario in the file at `path`.

    :raises ValueError: if it is neither JSON nor YAML.
    :raises OSError: if it cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        return json.loads(text)
    except ValueError as error:
        not_json = error
    try:
        import yaml
    except ImportError:
        message = f"{path} is not JSON ({not_json}), and PyYAML, for YAML, is not installed"
        raise ValueError(message) from not_json
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is neither JSON nor YAML: {error}") from error


def play(box, scenario):
    """Apply the scenario's scripts, killed targets and errors to `box`.

    :raises ValueError: with what is wrong in the scenario.
    """
    _object(scenario, "a scenario", PARTS)
    scripts = []
    for target, script in _object(scenario.get("scripts") or {}, "scripts").items():
        forever = False
        if isinstance(script, dict) and "steps" in script:
            _object(script, "the script of " + str(target), ("steps", "forever"))
            forever, script = bool(script.get("forever")), script["steps"]
        scripts.append((target, script_of(script), forever))
    for target, script, forever in scripts:
        box.script(target, script, forever=forever)
    dead = scenario.get("kill") or []
    for target in [dead] if isinstance(dead, str) else dead:
        box.kill(target)
    for target, errors in _object(scenario.get("errors") or {}, "errors").items():
        box.set_errors(errors, target)
    for query, series in _object(scenario.get("series") or {}, "series").items():
        box.set_series(query, series)


def script_of(data):
    """Return the steps that a list of plain data describes; a single step needs no list."""
    return [step_of(item) for item in (data if isinstance(data, list) else [data])]


def step_of(data):
    """Return the step that `data` describes.

    :raises ValueError: with the valid steps or arguments.
    """
    name, arguments = data, {}
    if isinstance(data, dict) and len(data) == 1:
        name, arguments = next(iter(data.items()))
    constructor = steps.CONSTRUCTORS.get(name) if isinstance(name, str) else None
    if constructor is None:
        allowed = ", ".join(sorted(steps.CONSTRUCTORS))
        raise ValueError(
            "%r is not a valid step; use one of %s, or {NAME: {...}}" % (data, allowed)
        )
    allowed = list(inspect.signature(constructor).parameters)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        if not allowed:
            raise ValueError(f"{name} takes no argument")
        arguments = {allowed[0]: arguments}
    arguments = dict(arguments)
    if "then" in arguments and "then" in allowed:
        arguments["then"] = step_of(arguments["then"])
    try:
        inspect.signature(constructor).bind(**arguments)
    except TypeError as error:
        takes = ", ".join(allowed) or "nothing"
        raise ValueError("%s: %s; it takes %s" % (name, error, takes)) from error
    return constructor(**arguments)


def _object(data, subject, allowed=None):
    if not isinstance(data, dict):
        raise ValueError(f"{subject} must be an object (got {data!r})")
    unknown = [str(name) for name in data if allowed and name not in allowed]
    if unknown:
        details = (subject, ", ".join(unknown), ", ".join(allowed))
        raise ValueError("%s: unknown %s; allowed: %s" % details)
    return data
