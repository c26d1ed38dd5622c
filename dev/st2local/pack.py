"""A pack's metadata, read as StackStorm reads it: actions/*.yaml, pack.yaml, config.schema.yaml."""
import functools
import os
import pickle

import yaml

from st2local.errors import InvalidInput
from st2local.runners import CORE_ACTIONS, RUNNERS

# The C parser is ten times as fast, and reads the same documents.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(path):
    """Return the document in a file.

    :raises InvalidInput: if it is not YAML; the message names the file.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        # A copy for each caller, which may change it.
        return pickle.loads(_pickle(text))
    except yaml.YAMLError as error:
        raise InvalidInput("%s is not valid YAML: %s" % (path, error)) from None


@functools.lru_cache(maxsize=512)
def _pickle(text):
    """Parse a text. The same few files are read for every run."""
    return pickle.dumps(yaml.load(text, Loader=_LOADER))


class Action:
    """One action: its metadata with every default filled in, and its runner's parameters."""

    def __init__(self, pack, metadata, folder=None, path=None):
        self.pack, self.name = pack, metadata["name"]
        self.ref = "%s.%s" % (pack, self.name)
        self.runner = metadata["runner_type"]
        self.enabled = metadata.get("enabled", True)
        self.description = metadata.get("description") or ""
        self.parameters = metadata.get("parameters") or {}
        self.output_schema = metadata.get("output_schema") or {}
        self.entry_point = os.path.join(folder, metadata["entry_point"]) if (
            folder and metadata.get("entry_point")) else None
        self.metadata = metadata
        self.path = path
        if self.runner not in RUNNERS:
            raise InvalidInput("%s: unsupported runner %r; st2local supports %s" % (
                path or self.ref, self.runner, ", ".join(sorted(RUNNERS))))

    @property
    def runner_parameters(self):
        return RUNNERS[self.runner]

    @property
    def specs(self):
        """Every parameter by name: the runner's, overridden by the action's."""
        merged = {name: dict(spec) for name, spec in self.runner_parameters.items()}
        for name, spec in self.parameters.items():
            merged[name] = dict(merged.get(name, {}), **(spec or {}))
        return merged

    def document(self):
        """The action as StackStorm's API shows it."""
        return {
            "uid": "action:%s:%s" % (self.pack, self.name),
            "ref": self.ref,
            "name": self.name,
            "pack": self.pack,
            "description": self.description,
            "enabled": self.enabled,
            "runner_type": self.runner,
            "entry_point": self.metadata.get("entry_point") or "",
            "parameters": self.parameters,
            "output_schema": self.output_schema,
            "tags": self.metadata.get("tags") or [],
            "notify": self.metadata.get("notify") or {},
        }


class Pack:
    """A pack's metadata.

    :param folder: the pack's directory, which contains pack.yaml and actions/.
    """

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        about = os.path.join(self.folder, "pack.yaml")
        self.about = (load_yaml(about) or {}) if os.path.exists(about) else {}
        self.ref = self.about.get("ref") or self.about.get("name") or os.path.basename(self.folder)
        self._schema = None
        self._actions = {}
        self._seen = None

    @property
    def config_schema(self):
        if self._schema is None:
            path = os.path.join(self.folder, "config.schema.yaml")
            self._schema = (load_yaml(path) or {}) if os.path.exists(path) else {}
        return self._schema

    def action(self, ref):
        """Return the action, or None if it does not exist."""
        if not isinstance(ref, str):
            return None
        if ref not in self._actions:
            self._actions[ref] = self._find(ref)
        return self._actions[ref]

    def actions(self):
        """Every action of the pack and of `core`, by name."""
        refs = ["core." + name for name in CORE_ACTIONS]
        refs += ["%s.%s" % (self.ref, name) for name in self._files()]
        return [self.action(ref) for ref in sorted(refs)]

    def _find(self, ref):
        pack, _, name = ref.partition(".")
        own = self._read(name) if pack == self.ref else None
        if own is None and pack == "core" and name in CORE_ACTIONS:
            return Action("core", dict(CORE_ACTIONS[name], name=name))
        return own

    def _read(self, name):
        # Most actions are in the file of their name; only for others is every file read.
        folder = os.path.join(self.folder, "actions")
        own = self._read_file(folder, name, os.path.join(folder, name + ".yaml"))
        return own or self._read_file(folder, name, self._files().get(name))

    def _read_file(self, folder, name, path):
        if path and os.path.exists(path):
            metadata = load_yaml(path)
            if isinstance(metadata, dict) and metadata.get("name") == name:
                return Action(self.ref, metadata, folder, path)
        return None

    def _files(self):
        """Action name -> metadata file."""
        if self._seen is None:
            folder = os.path.join(self.folder, "actions")
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            self._seen = {}
            for name in names:
                if name.endswith((".yaml", ".yml")):
                    path = os.path.join(folder, name)
                    metadata = load_yaml(path)
                    if isinstance(metadata, dict) and "name" in metadata:
                        self._seen[metadata["name"]] = path
        return self._seen
