"""Inspection of a workflow before it runs: orquesta's and StackStorm's own."""

_ACTION = "properties.tasks.patternProperties.^\\w+$.properties.action"
_INPUT = "properties.tasks.patternProperties.^\\w+$.properties.input"
_KINDS = {"contents": "content", "context": "context", "expressions": "expression",
          "semantics": "semantic", "syntax": "syntax"}


def errors_of(spec, context, find_action):
    """Return the errors in the form of a failed workflow's result, or [].

    :param spec: orquesta's WorkflowSpec.
    :param context: the variables that exist before the workflow's own, `{"st2": {...}}`.
    :param find_action: ref -> Action or None.
    """
    errors = []
    for category, entries in spec.inspect(app_ctx=context, raise_exception=False).items():
        for entry in entries:
            if category in ("context", "expressions") and "language" not in entry:
                entry["language"] = entry.pop("type")
            errors.append(dict(entry, type=_KINDS[category]))
    # After a syntax error there are no tasks to inspect.
    if not any(error["type"] == "syntax" for error in errors):
        errors += list(_task_errors(spec, find_action))
    return sorted(errors, key=lambda error: (error["type"], error["schema_path"]))


def _task_errors(spec, find_action):
    from orquesta.expressions import base

    for name, task in spec.tasks.items():
        ref = getattr(task, "action", None)
        if not ref or (isinstance(ref, str) and base.has_expressions(ref)):
            continue
        path = "tasks.%s." % name
        if "." not in str(ref):
            yield _error('The action reference "%s" is not formatted correctly.' % ref,
                         path + "action", _ACTION)
            continue
        action = find_action(ref)
        if action is None:
            yield _error('The action "%s" is not registered in the database.' % ref,
                         path + "action", _ACTION)
            continue
        inputs = getattr(task, "input", None) or {}
        if not isinstance(inputs, dict):
            continue
        specs = action.specs
        for parameter in sorted(specs):
            needed = specs[parameter].get("required") and "default" not in specs[parameter]
            if needed and parameter not in inputs:
                yield _error('Action "%s" is missing required input "%s".' % (ref, parameter),
                             path + "input", _INPUT)
        for parameter in sorted(set(inputs) - set(specs)):
            yield _error('Action "%s" has unexpected input "%s".' % (ref, parameter),
                         path + "input." + parameter, _INPUT + ".patternProperties.^\\w+$")


def _error(message, spec_path, schema_path):
    return {"type": "content", "message": message, "spec_path": spec_path,
            "schema_path": schema_path}
