"""The config and the logger that an action gets."""
import logging

_loggers = {}


class PackConfigDict(dict):
    """The pack's config; a missing key raises a ValueError that says what to do."""

    def __init__(self, pack_name, *args):
        super().__init__(*args)
        self._pack_name = pack_name

    def __getitem__(self, key):
        try:
            return super().__getitem__(key)
        except KeyError:
            raise ValueError(
                'Config for pack "%s" is missing key "%s". Make sure that the config file exists'
                " and contains that key." % (self._pack_name, key)
            ) from None


def get_logger_for_python_runner_action(action_name, log_level="debug"):
    """A logger that writes to stderr."""
    name = "actions.python.%s" % action_name
    if name not in _loggers:
        level = getattr(logging, log_level.upper(), logging.DEBUG)
        handler = logging.StreamHandler()
        handler.setLevel(level)
        handler.setFormatter(logging.Formatter("%(name)-12s: %(levelname)-8s %(message)s"))
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        _loggers[name] = logger
    return _loggers[name]
