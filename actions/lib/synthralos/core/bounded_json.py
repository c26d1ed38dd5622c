"""JSON from outside, with a bound on its depth: what is nested deeper than DEEPEST is refused."""
import json

MAX_DEPTH = 100


def loads(text):
    """The JSON value in `text`. ValueError when it is none, or nested too deeply."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if exceeds_depth(value):
        raise ValueError("nested too deeply")
    return value


def exceeds_depth(value, deepest=MAX_DEPTH):
    """Whether `value` is nested deeper than `deepest` levels; found without recursion."""
    level = [value]
    for _ in range(deepest + 1):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list, tuple))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
