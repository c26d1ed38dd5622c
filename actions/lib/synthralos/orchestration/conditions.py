"""Conditions: trees of comparisons, plain data that is never evaluated as code.

A comparison is {field, operator, value}; `field` is a path as in templates, with or without
`context.` before it. A tree is {and: [...]}, {or: [...]} or {not: ...} of conditions. Equality is
strict: 1 is not "1", and true is not 1. A field that is missing is neither less nor more than
anything; `!=` holds for it, as it does for whatever else differs.
"""

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import templates

OPERATORS = (">", "<", ">=", "<=", "==", "===", "!=", "!==", "contains", "exists")
MAX_DEPTH = 10
MAX_PARTS = 50
_ORDER = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}
_TREES = ("and", "or", "not")
_FORM = "Write {field, operator, value}, {and: [...]}, {or: [...]} or {not: ...}"


def check(condition, where="condition", depth=0):
    """The condition in its normal form. InvalidInput names what is wrong in it."""
    if depth > MAX_DEPTH:
        raise InvalidInput(
            where, None, "is nested too deeply", "Keep it within %d levels" % MAX_DEPTH
        )
    if not isinstance(condition, dict):
        raise InvalidInput(where, condition, "is no condition", _FORM)
    for tree in _TREES:
        if tree in condition:
            if len(condition) > 1:
                raise InvalidInput(where, sorted(map(str, condition)), "mixes two forms", _FORM)
            return {tree: _branches(tree, condition[tree], "%s.%s" % (where, tree), depth)}
    unknown = sorted(str(name) for name in set(condition) - {"field", "operator", "value"})
    if unknown:
        raise InvalidInput("%s.%s" % (where, unknown[0]), None, "is not known here", _FORM)
    field, operator = condition.get("field"), condition.get("operator")
    if not isinstance(field, str) or templates.path_of(field) is None:
        way_out = "Write a path, such as testResults.passed or context['Run Tests'].passed"
        raise InvalidInput(where + ".field", field, "is no path", way_out)
    if not isinstance(operator, str) or operator not in OPERATORS:
        way_out = "Use one of " + " ".join(OPERATORS)
        raise InvalidInput(where + ".operator", operator, "is no operator", way_out)
    value = condition.get("value")
    if operator in _ORDER and not _is_number(value) and not isinstance(value, str):
        way_out = "Order compares numbers with numbers, and text with text"
        raise InvalidInput(where + ".value", value, "has no order", way_out)
    return {"field": field, "operator": operator, "value": value}


def _branches(tree, given, where, depth):
    if tree == "not":
        return check(given, where, depth + 1)
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_PARTS:
        way_out = "Give 1 to %d conditions" % MAX_PARTS
        raise InvalidInput(where, given, "is no list of conditions", way_out)
    return [check(part, "%s[%d]" % (where, n), depth + 1) for n, part in enumerate(given)]


def holds(condition, roots):
    """Whether the condition, in its normal form, holds for what `roots` know; see templates."""
    if "and" in condition:
        return all(holds(part, roots) for part in condition["and"])
    if "or" in condition:
        return any(holds(part, roots) for part in condition["or"])
    if "not" in condition:
        return not holds(condition["not"], roots)
    found = templates.lookup(condition["field"], roots)
    operator, value = condition["operator"], condition["value"]
    if operator == "exists":
        return found is not templates.MISSING and found is not None
    if operator in ("==", "==="):
        return found is not templates.MISSING and same(found, value)
    if operator in ("!=", "!=="):
        return found is templates.MISSING or not same(found, value)
    if operator == "contains":
        return found is not templates.MISSING and _contains(found, value)
    comparable = (_is_number(found) and _is_number(value)) or (
        isinstance(found, str) and isinstance(value, str)
    )
    return comparable and _ORDER[operator](found, value)


def same(one, other):
    """Whether two JSON values are equal; 1 and 1.0 are, as JSON does not tell them apart."""
    if _is_number(one) and _is_number(other):
        return one == other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def _contains(found, value):
    """Whether a list has the item, an object the key, or a text the text of `value`."""
    if isinstance(found, list):
        return any(same(item, value) for item in found)
    if isinstance(found, dict):
        return isinstance(value, str) and value in found
    if found is None or value is None:
        return False
    return templates.as_text(value) in templates.as_text(found)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
