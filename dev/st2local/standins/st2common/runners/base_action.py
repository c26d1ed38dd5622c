"""The base class of Python actions, with StackStorm's names and arguments."""
import abc

from st2common.runners.utils import PackConfigDict, get_logger_for_python_runner_action

__all__ = ["Action"]


class Action(metaclass=abc.ABCMeta):
    """Subclasses have a `run` that takes the action's parameters by name."""

    description = None

    def __init__(self, config=None, action_service=None):
        wrapper = getattr(action_service, "_action_wrapper", None)
        self.config = PackConfigDict(getattr(wrapper, "_pack", "unknown"), config or {})
        self.action_service = action_service
        self.logger = get_logger_for_python_runner_action(
            action_name=type(self).__name__,
            log_level=getattr(wrapper, "_log_level", "debug"),
        )

    @abc.abstractmethod
    def run(self, **kwargs):
        """A value, or (True or False, value)."""
