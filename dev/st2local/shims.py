"""Patches with which orquesta 1.2.0 runs on Python 3.10 and later, and imports quickly.

1.2.0 is the newest orquesta on PyPI. It and the networkx it pins were written for Python <= 3.9:

- `collections.Mapping` and its like moved to `collections.abc`;
- `fractions.gcd` moved to `math`;
- `orquesta.utils.parameters.REGEX_INLINE_PARAMS` has `(?i)` in its middle, which Python 3.11
  refuses.

The rest is speed. orquesta finds its parts through the entry points of every installed
distribution, which takes longer than everything else in it; its few parts are imported
directly instead. jsonschema 2.6 imports requests when it can, only to follow remote references.
Each part of a specification merges the schemas of its class and of that one's bases, and the graph
of a workflow makes thousands of parts; what is merged is remembered for each class instead, as are
the parsed forms of expressions, which are evaluated again and again.
"""
import collections
import collections.abc
import fractions
import functools
import importlib
import math
import sys
import threading
import warnings

_MODULES = {
    ("orquesta.composers", "native"): ("orquesta.composers.native", "WorkflowComposer"),
    ("orquesta.expressions.evaluators", "jinja"): ("orquesta.expressions.jinja", "JinjaEvaluator"),
    ("orquesta.expressions.evaluators", "yaql"): ("orquesta.expressions.yql", "YAQLEvaluator"),
}

_FUNCTIONS = {
    "completed": ("workflow", "completed_"),
    "ctx": ("common", "ctx_"),
    "failed": ("workflow", "failed_"),
    "item": ("workflow", "item_"),
    "json": ("common", "json_"),
    "result": ("workflow", "result_"),
    "succeeded": ("workflow", "succeeded_"),
    "task_status": ("workflow", "task_status_"),
    "zip": ("common", "zip_"),
}

_applied = False
_lock = threading.Lock()


def import_jsonschema():
    """Import jsonschema without requests, which takes 60 ms and is never used here."""
    if "jsonschema" in sys.modules or "requests" in sys.modules:
        return importlib.import_module("jsonschema")
    sys.modules["requests"] = None
    try:
        return importlib.import_module("jsonschema")
    finally:
        del sys.modules["requests"]


def apply(functions):
    """Make orquesta importable, once for each process.

    :param functions: {name: function} that StackStorm adds to orquesta's expressions.
    """
    global _applied
    with _lock:
        if not _applied:
            _apply(functions)
            _applied = True


def _apply(functions):
    for name in collections.abc.__all__:
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    if not hasattr(fractions, "gcd"):
        fractions.gcd = math.gcd
    import_jsonschema()
    with warnings.catch_warnings():
        # The old networkx imports lib2to3, which is deprecated.
        warnings.simplefilter("ignore")
        _name_the_plugins(functions)
    _mend_inline_parameters()
    _remember_schemas()
    _remember_expressions()


def _name_the_plugins(functions):
    from orquesta.utils import plugin

    by_entry_point = plugin.get_module

    def get_module(namespace, name):
        location = _MODULES.get((namespace, name))
        if location is None:
            return by_entry_point(namespace, name)
        return getattr(importlib.import_module(location[0]), location[1])

    plugin.get_module = get_module

    from orquesta.expressions.functions import base as function_base

    catalog = {
        name: getattr(importlib.import_module("orquesta.expressions.functions." + module), attr)
        for name, (module, attr) in _FUNCTIONS.items()
    }
    catalog.update(functions)
    function_base._EXP_FUNC_CATALOG = catalog
    importlib.import_module("orquesta.conducting")

    from orquesta.expressions import base as expression_base

    expression_base._EXP_EVALUATORS = {
        name: get_module("orquesta.expressions.evaluators", name) for name in ("jinja", "yaql")
    }


def _mend_inline_parameters():
    from orquesta.utils import parameters

    parameters.REGEX_INLINE_PARAMS = (
        parameters.REGEX_INLINE_PARAMS.replace("(?i)true", "(?i:true)")
        .replace("(?i)false", "(?i:false)")
    )


def _remember_schemas():
    """Merge the schemas of each class once. They are read by orquesta, or copied, never changed."""
    from orquesta.specs import base
    from orquesta.specs.native.v1 import models

    merged_meta, merged = base.Spec.get_meta_schema.__func__, base.Spec.get_schema.__func__
    get_task = models.TaskMappingSpec.get_task

    @functools.cache
    def get_meta_schema(cls):
        return merged_meta(cls)

    @functools.cache
    def get_schema_once(cls, includes, resolve_specs):
        return merged(cls, includes, resolve_specs)

    def get_schema(cls, includes=("meta",), resolve_specs=True):
        return get_schema_once(cls, tuple(includes or ()), resolve_specs)

    @functools.cache
    def reserved_task(name):
        return models.TaskSpec({"name": name})

    def get_task_once(self, task_name):
        if task_name in models.RESERVED_TASK_NAMES:
            return reserved_task(task_name)
        return get_task(self, task_name)

    base.Spec.get_meta_schema = classmethod(get_meta_schema)
    base.Spec.get_schema = classmethod(get_schema)
    models.TaskMappingSpec.get_task = get_task_once


def _remember_expressions():
    """Parse each expression once. What the parser returns is evaluated in any context."""
    from orquesta.expressions.yql import YAQLEvaluator

    YAQLEvaluator._engine = functools.lru_cache(maxsize=2048)(YAQLEvaluator._engine)
