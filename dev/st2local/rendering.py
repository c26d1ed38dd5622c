"""Rendering of parameters as Jinja, as StackStorm renders those of every requested action.

Twice: "live" when the execution is requested (the caller's values, with templates evaluated), and
"final" when it runs (defaults added; the caller's values are not evaluated again).
"""
import json
import re

from st2local.casts import cast
from st2local.errors import ParamException
from st2local.functions import JINJA_FILTERS

_MARKS = ("{{", "{%")
_environment = None


def has_template(value):
    return isinstance(value, str) and any(mark in value for mark in _MARKS)


def live(action, raw_parameters, context, config, datastore):
    """Return the parameters of the execution.

    :param raw_parameters: the caller's.
    :param context: the execution's context, `action_context` in templates.
    :param config: the pack's config, `config_context` in templates.
    :raises ParamException: if a name is unknown or a template fails.
    """
    schemas = [action.parameters, action.runner_parameters]
    scope = _Scope(context, config, datastore)
    for name, value in raw_parameters.items():
        scope.add(name, value)
    scope.add_defaults(schemas)
    values = scope.render()
    rendered = {
        name: _cast(name, values[name], _schema_of(name, schemas)) for name in raw_parameters
    }
    # A default that is a template is rendered now and stored: validation comes after this.
    for schema in schemas:
        for name, spec in schema.items():
            spec = spec or {}
            default = spec.get("default")
            if spec.get("immutable") or name in raw_parameters or not has_template(default):
                continue
            if default != values[name]:
                rendered[name] = _cast(name, values[name], spec)
    return rendered


def final(action, parameters, context, config, datastore):
    """Return (runner parameters, action parameters) of the run, with every declared one."""
    schemas = [action.parameters, action.runner_parameters]
    scope = _Scope(context, config, datastore)
    for name, value in parameters.items():
        scope.add_plain(name, value)
    scope.add_defaults(schemas)
    values = scope.render()
    runner, own = {}, {}
    for name, value in values.items():
        if name in action.runner_parameters:
            runner[name] = _cast(name, value, _schema_of(name, schemas))
        elif name in action.parameters:
            own[name] = _cast(name, value, _schema_of(name, schemas))
    return runner, own


def render_text(text, datastore):
    """Render a config value's template, in which only the datastore is available.

    :raises jinja2.TemplateError: if it cannot be rendered.
    """
    return _jinja(datastore).from_string(text).render(st2kv={"system": _Lookup(datastore)})


def _schema_of(name, schemas):
    spec = {}
    for schema in schemas:
        if name in schema:
            spec = schema[name] or {}
    return spec


def _cast(name, value, spec):
    try:
        return cast(value, spec.get("type"))
    except (ValueError, TypeError, SyntaxError) as error:
        raise ParamException(
            'Failed to cast value "%s" for parameter "%s" of type "%s": %s'
            % (value, name, spec.get("type"), error)
        ) from None


class _Scope:
    """The variables of one request: each a value, or a template that may need others."""

    def __init__(self, context, config, datastore):
        self._datastore = datastore
        self._plain = {
            "st2kv": {"system": _Lookup(datastore), "user": _Lookup(datastore)},
            "action_context": context,
            "config_context": config,
        }
        self._templates = {}
        self._needs = {}
        self._unknown = []

    def add_plain(self, name, value):
        self._templates.pop(name, None)
        self._plain[name] = value

    def add(self, name, value):
        """Add a value of the caller or a default; it is evaluated if it contains a template."""
        text = str(value) if isinstance(value, (dict, list)) else value
        if not has_template(text):
            self.add_plain(name, value)
            return
        from jinja2 import exceptions, meta

        try:
            tree = _jinja(self._datastore).parse(text)
        except exceptions.TemplateSyntaxError:
            # As in StackStorm, a value with a syntax error is not a template and stays as it is.
            self.add_plain(name, value)
            return
        self._plain.pop(name, None)
        self._templates[name] = value
        self._needs[name] = sorted(meta.find_undeclared_variables(tree))

    def add_defaults(self, schemas):
        for schema in schemas:
            for name, spec in schema.items():
                spec = spec or {}
                has_value = name in self._templates or self._plain.get(name) is not None
                if not has_value or spec.get("immutable"):
                    self.add(name, spec.get("default"))

    def render(self):
        """Return {name: value} of all variables, with templates evaluated."""
        for name in list(self._templates):
            for needed in self._needs[name]:
                if needed not in self._plain and needed not in self._templates:
                    raise ParamException('Dependency unsatisfied in variable "%s"' % needed)
        values, under_way = dict(self._plain), []
        for name in list(self._templates):
            self._evaluate(name, values, under_way)
        return values

    def _evaluate(self, name, values, under_way):
        if name in values:
            return
        if name in under_way:
            raise ParamException(
                "Cyclic dependency found in the following variables: %s. Likely the variable is"
                " referencing itself" % name
            )
        under_way.append(name)
        for needed in self._needs[name]:
            self._evaluate(needed, values, under_way)
        try:
            values[name] = self._rendered(self._templates[name], values)
        except Exception as error:
            # StackStorm rejects the request with the message of any error of a template.
            raise ParamException(
                'Failed to render parameter "%s": %s' % (name, error)
            ) from None
        under_way.pop()

    def _rendered(self, template, values):
        jinja = _jinja(self._datastore)
        if not isinstance(template, (dict, list)):
            return jinja.from_string(template).render(values)
        text = json.dumps(template, ensure_ascii=False)
        # A member that consists of a single name keeps the type of its value.
        text = re.sub(r'"{{([A-z0-9_-]+)}}"', r"{{\1 | to_complex}}", text)
        return json.loads(jinja.from_string(text).render(values))


class _Lookup:
    """`st2kv.system.a.b` -> the value of the key `a.b`, or "" if it does not exist."""

    def __init__(self, datastore, name=""):
        self._datastore, self._name = datastore, name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name):
        return _Lookup(self._datastore, "%s.%s" % (self._name, name) if self._name else name)

    def __str__(self):
        return self._datastore.raw(self._name)

    def __int__(self):
        return int(float(str(self)))

    def __float__(self):
        return float(str(self))


def _jinja(datastore):
    """StackStorm's Jinja: sandboxed, and an unknown name is an error."""
    global _environment
    if _environment is None:
        import jinja2
        import jinja2.sandbox

        _environment = jinja2.sandbox.SandboxedEnvironment(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        _environment.filters.update(JINJA_FILTERS)
        _environment.tests["in"] = lambda item, members: item in members
    overlay = _environment.overlay()
    overlay.filters = dict(_environment.filters, decrypt_kv=_decryption(datastore))
    return overlay


def _decryption(datastore):
    def decrypt_kv(value):
        text = str(value)
        if isinstance(value, _Lookup) and text == "":
            raise ValueError(
                'Referenced datastore item "st2kv.system.%s" doesn\'t exist or it contains an'
                " empty string" % value._name
            )
        return datastore.encrypted_text(text)

    return decrypt_kv
