"""StackStorm's additions: filters of Jinja and functions of orquesta's expressions."""
import json
import os
import re


def to_json_string(value, indent=None, sort_keys=False):
    return json.dumps(value, indent=indent, sort_keys=sort_keys, separators=(",", ": "))


def from_json_string(value):
    return json.loads(value)


def from_yaml_string(value):
    import yaml

    return yaml.safe_load(value)


def to_yaml_string(value):
    import yaml

    return yaml.safe_dump(value, default_flow_style=False)


def to_complex(value):
    """A value as JSON text, for a template that is itself JSON."""
    return json.dumps(value)


def json_escape(value):
    return json.dumps(value)[1:-1]


def use_none(value):
    """StackStorm's word for null where a template can only give text."""
    return NONE_MAGIC_VALUE if value is None else value


NONE_MAGIC_VALUE = "%*****__%NONE%__*****%"


def regex_match(value, pattern="", ignorecase=False):
    return bool(re.match(pattern, value, re.I if ignorecase else 0))


def regex_search(value, pattern="", ignorecase=False):
    return bool(re.search(pattern, value, re.I if ignorecase else 0))


def regex_replace(value="", pattern="", replace="", ignorecase=False):
    return re.sub(pattern, replace, value, flags=re.I if ignorecase else 0)


def regex_substring(value, pattern="", result_index=0, ignorecase=False):
    return re.findall(pattern, value, re.I if ignorecase else 0)[result_index]


def basename(path):
    return os.path.basename(path)


def dirname(path):
    return os.path.dirname(path)


def to_human_time_from_seconds(seconds):
    """3725 -> `1h2m5s`."""
    remaining, parts = int(seconds), []
    if seconds < 1:
        return "0s" if seconds == 0 else "%ss" % seconds
    for letter, size in (("y", 31536000), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, remaining = divmod(remaining, size)
        if count or (parts and letter != "y"):
            parts.append("%d%s" % (count, letter))
    return "".join(parts)


JINJA_FILTERS = {
    "to_json_string": to_json_string,
    "from_json_string": from_json_string,
    "to_yaml_string": to_yaml_string,
    "from_yaml_string": from_yaml_string,
    "to_complex": to_complex,
    "json_escape": json_escape,
    "use_none": use_none,
    "regex_match": regex_match,
    "regex_search": regex_search,
    "regex_replace": regex_replace,
    "regex_substring": regex_substring,
    "basename": basename,
    "dirname": dirname,
    "to_human_time_from_seconds": to_human_time_from_seconds,
}


_NAMES = {
    "from_json_string": from_json_string, "json_parse": from_json_string,
    "to_json_string": to_json_string, "json_dump": to_json_string,
    "from_yaml_string": from_yaml_string, "yaml_parse": from_yaml_string,
    "to_yaml_string": to_yaml_string, "yaml_dump": to_yaml_string,
    "json_escape": json_escape, "use_none": use_none,
    "regex_match": regex_match, "regex_search": regex_search,
    "regex_replace": regex_replace, "regex_substring": regex_substring,
    "basename": basename, "dirname": dirname,
    "to_human_time_from_seconds": to_human_time_from_seconds,
}


def orquesta_functions():
    """name -> function. The datastore and the tasks are found through the run's own context."""
    functions = dict(_NAMES)
    functions["st2kv"] = st2kv
    functions["task"] = task
    return functions


# orquesta's functions are one catalogue a process, while a process may hold several stores: a run
# is found by the id that its context carries.
_datastores = {}
_tasks = {}


def register_run(execution_id, datastore, tasks):
    """:param tasks: a function from a task's name to its record."""
    _datastores[execution_id], _tasks[execution_id] = datastore, tasks


def forget_run(execution_id):
    _datastores.pop(execution_id, None)
    _tasks.pop(execution_id, None)


def _run_of(context):
    try:
        return context["__vars"]["st2"]["action_execution_id"]
    except (KeyError, TypeError):
        raise KeyError("the expression is not evaluated in a run") from None


_ABSENT = object()


def st2kv(context, key, decrypt=False, default=_ABSENT):
    """Return a value of the datastore; the prefix `system.` of the name is optional."""
    from st2local.errors import NotFound

    if not isinstance(key, str):
        raise TypeError("Given key is not typeof string.")
    datastore = _datastores[_run_of(context)]
    name = key[len("system."):] if key.startswith("system.") else key
    try:
        return datastore.get(name, decrypt)
    except NotFound:
        if default is not _ABSENT:
            return default
        raise ValueError('The key "%s" does not exist in the StackStorm datastore.' % key) from None


def task(context, task_name=None):
    """The record of a task: id, name, status, result, times."""
    if task_name is None:
        task_name = context["__current_task"]["id"]
    record = _tasks[_run_of(context)](task_name)
    if record is None:
        raise ValueError('Unable to find task execution for "%s".' % task_name)
    return record
