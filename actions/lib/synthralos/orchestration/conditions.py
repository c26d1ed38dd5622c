"""Conditions: trees of comparisons, plain data that is never evaluated as code.

A comparison is {field, operator, value}; `field` is a path as in templates, with or without
`context.` before it. A tree is {and: [...]}, {or: [...]} or {not: ...} of conditions. Equality is
strict: 1 is not "1", and true is not 1. A missing field is neither less nor greater than any value,
and `!=` holds for it.
"""

from typing import Any, Callable, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import templates

OPERATORS = (">", "<", ">=", "<=", "==", "===", "!=", "!==", "contains", "exists")
MAX_DEPTH = 10
MAX_PARTS = 50
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}
# The normal form of a condition: the fields of a comparison, or one of the others.
Condition = TypedDict("Condition", {
    "field": str,
    "operator": str,
    "value": Any,
    "and": list["Condition"],
    "or": list["Condition"],
    "not": "Condition",
}, total=False)
_TREES = ("and", "or", "not")
_HINT = "Write {field, operator, value}, {and: [...]}, {or: [...]} or {not: ...}"


def check(condition: object, path: str = "condition", depth: int = 0) -> Condition:
    """Return the normal form of `condition`.

    :param path: its dotted path, for error messages; depth: how deep it is nested.
    :raises InvalidInput: it is not a valid condition.
    """
    if depth > MAX_DEPTH:
        raise InvalidInput(
            path, None, "is nested too deeply", "Keep it within %d levels" % MAX_DEPTH
        )
    if not isinstance(condition, dict):
        raise InvalidInput(path, condition, "is not a condition", _HINT)
    for tree in _TREES:
        if tree in condition:
            if len(condition) > 1:
                raise InvalidInput(
                    path, sorted(map(str, condition)), "mixes two kinds of condition", _HINT
                )
            return _check_tree(tree, condition[tree], "%s.%s" % (path, tree), depth)
    unknown = sorted(str(name) for name in set(condition) - {"field", "operator", "value"})
    if unknown:
        raise InvalidInput("%s.%s" % (path, unknown[0]), None, "is not an allowed field", _HINT)
    field, operator = condition.get("field"), condition.get("operator")
    if not isinstance(field, str) or templates.path_of(field) is None:
        hint = "Write a path, such as testResults.passed or context['Run Tests'].passed"
        raise InvalidInput(path + ".field", field, "is not a path", hint)
    if not isinstance(operator, str) or operator not in OPERATORS:
        hint = "Use one of " + " ".join(OPERATORS)
        raise InvalidInput(path + ".operator", operator, "is not an operator", hint)
    value = condition.get("value")
    if operator in _ORDER and not _is_number(value) and not isinstance(value, str):
        hint = "Compare with a number or with text"
        raise InvalidInput(path + ".value", value, "cannot be ordered", hint)
    return {"field": field, "operator": operator, "value": value}


def _check_tree(tree: str, branches: object, path: str, depth: int) -> Condition:
    if tree == "not":
        return {"not": check(branches, path, depth + 1)}
    if not isinstance(branches, list) or not 1 <= len(branches) <= MAX_PARTS:
        hint = "Give 1 to %d conditions" % MAX_PARTS
        raise InvalidInput(path, branches, "must be a list of conditions", hint)
    parts = [check(part, "%s[%d]" % (path, n), depth + 1) for n, part in enumerate(branches)]
    return {"and": parts} if tree == "and" else {"or": parts}


def holds(condition: Condition, roots: templates.Roots) -> bool:
    """Return whether `condition`, in its normal form, holds."""
    if "and" in condition:
        return all(holds(part, roots) for part in condition["and"])
    if "or" in condition:
        return any(holds(part, roots) for part in condition["or"])
    if "not" in condition:
        return not holds(condition["not"], roots)
    actual = templates.lookup(condition["field"], roots)
    operator, expected = condition["operator"], condition["value"]
    if operator == "exists":
        return actual is not templates.MISSING and actual is not None
    if operator in ("==", "==="):
        return actual is not templates.MISSING and same(actual, expected)
    if operator in ("!=", "!=="):
        return actual is templates.MISSING or not same(actual, expected)
    if operator == "contains":
        return actual is not templates.MISSING and _contains(actual, expected)
    comparable = (_is_number(actual) and _is_number(expected)) or (
        isinstance(actual, str) and isinstance(expected, str)
    )
    return comparable and _ORDER[operator](actual, expected)


def same(first: Any, second: Any) -> bool:
    """Return whether two JSON values are equal; 1 and 1.0 are the same number in JSON."""
    if _is_number(first) and _is_number(second):
        return bool(first == second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


def _contains(container: Any, value: Any) -> bool:
    """Return whether a list has the item, an object the key, or a text the text of `value`."""
    if isinstance(container, list):
        return any(same(item, value) for item in container)
    if isinstance(container, dict):
        return isinstance(value, str) and value in container
    if container is None or value is None:
        return False
    return templates.as_text(value) in templates.as_text(container)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
