"""Where StackStorm's client defines the class; actions import it from here too."""
from st2client.models import KeyValuePair

__all__ = ["KeyValuePair"]
