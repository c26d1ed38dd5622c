"""The base class of alias tests, with StackStorm's names and arguments.

What a person types is matched as StackStorm documents it: `{{ name }}` takes the text up to what
follows it in the format, `{{ name=default }}` may be missing, values may be quoted, and `key=value`
at the end of a command adds further parameters.
"""
import inspect
import os
import re
import types
import unittest

import yaml

__all__ = ["BaseActionAliasTestCase"]

_PARAMETER = re.compile(r"\s*{{\s*(\w+)\s*(?:=\s*(.*?)\s*)?}}")
_PAIRS = re.compile(r"""((?:(?:^|\s+)\w+=(?:"[^"]*"|'[^']*'|{.+?}|\S+))*)\s*\Z""", re.DOTALL)
_PAIR = re.compile(r"""(\w+)=(?:"([^"]*)"|'([^']*)'|({.+?}|\S+))""", re.DOTALL)


class _NoMatch(Exception):
    """The command does not match the format."""


def _extracted(format_string, command):
    pairs = _PAIRS.search(command)
    extra_parameters = {match[0]: "".join(match[1:]) for match in _PAIR.findall(pairs.group(1))}
    match = re.search(_pattern(format_string), command[:pairs.start()].strip(), re.DOTALL)
    if match is None:
        raise _NoMatch(command)
    defaults = dict(_PARAMETER.findall(format_string))
    values = {
        name: defaults[name] if value is None else value
        for name, value in match.groupdict().items()
    }
    return dict(values, **extra_parameters)


def _pattern(format_string):
    pattern, position = "", 0
    for parameter in _PARAMETER.finditer(format_string):
        value = r"""\s*["']?(?P<%s>{.+?}|.+?)["']?""" % parameter.group(1)
        pattern += re.escape(format_string[position:parameter.start()])
        # An optional parameter is preceded by a space if it is present.
        pattern += value if parameter.group(2) is None else r"(?:\s+%s)?" % value[3:]
        position = parameter.end()
    return r"^\s*%s\s*$" % (pattern + re.escape(format_string[position:]))


class BaseActionAliasTestCase(unittest.TestCase):
    """Subclasses name their alias as `action_alias_name`."""

    action_alias_name = None
    action_alias_db = None

    def setUp(self):
        super().setUp()
        if not self.action_alias_name:
            raise ValueError('"action_alias_name" class attribute needs to be provided')
        self.action_alias_db = self._get_action_alias_db_by_name(name=self.action_alias_name)

    def assertCommandMatchesExactlyOneFormatString(self, format_strings, command):
        matched = []
        for format_string in format_strings:
            try:
                _extracted(format_string, command)
            except _NoMatch:
                continue
            matched.append(format_string)
        self.assertEqual(len(matched), 1, "%r matches %s" % (command, matched))

    def assertExtractedParametersMatch(self, format_string, command, parameters):
        self.assertIn(format_string, self.action_alias_db.get_format_strings())
        self.assertEqual(_extracted(format_string, command), parameters)

    def _get_action_alias_db_by_name(self, name):
        folder = os.path.join(self._get_base_pack_path(), "aliases")
        for entry in sorted(os.listdir(folder)):
            with open(os.path.join(folder, entry), encoding="utf-8") as file:
                document = yaml.safe_load(file)
            if document["name"] == name:
                formats = _formats(document["formats"])
                return types.SimpleNamespace(get_format_strings=lambda formats=formats: formats)
        raise ValueError('Alias with name "%s" not found' % name)

    def _get_base_pack_path(self):
        return os.path.join(os.path.dirname(os.path.abspath(inspect.getfile(type(self)))), "..")


def _formats(entries):
    format_strings = []
    for entry in entries:
        format_strings += [entry] if isinstance(entry, str) else entry["representation"]
    return format_strings
