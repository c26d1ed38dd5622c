"""Lookup of the pack's config for the command line."""
import contextlib
import os

from st2local.errors import ConfigError
from st2local.pack import load_yaml


@contextlib.contextmanager
def open_config(pack, state, explicit_path, say):
    """Yield (config, its source).

    :param explicit_path: a file's path, or None: then $ST2LOCAL_CONFIG, then the state folder's
        configs/<pack>.yaml, then the sandbox where there is one, else an empty config.
    :param say: called with a line about a sandbox.
    """
    path = explicit_path or os.environ.get("ST2LOCAL_CONFIG")
    usual = os.path.join(state, "configs", pack.ref + ".yaml")
    if not path and os.path.exists(usual):
        path = usual
    if path:
        if not os.path.isfile(path):
            raise ConfigError("%s: file not found" % path)
        yield load_yaml(path) or {}, path
        return
    try:
        from sandbox import Sandbox
    except ImportError:
        yield {}, "the empty config"
        return
    with Sandbox() as box:
        say("no configuration found: using the sandbox at %s" % (
            getattr(box, "base_url", "127.0.0.1")))
        yield box.pack_config(), "the sandbox's config"
