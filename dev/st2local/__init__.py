"""Runs a StackStorm pack's Python actions and Orquesta workflows without StackStorm.

    from st2local import St2Local

    local = St2Local("path/to/pack", config={...}, state="path/to/state")
    execution = local.run("pack.action", {"name": "value"})
"""
from st2local.local import St2Local
from st2local.refusals import ConfigError, NotFound, Refused

__all__ = ["ConfigError", "NotFound", "Refused", "St2Local"]
