"""Runs a StackStorm pack's Python actions and Orquesta workflows without StackStorm.

    from st2local import St2Local

    local = St2Local("path/to/pack", config={...}, state="path/to/state")
    execution = local.run("pack.action", {"name": "value"})
"""
from st2local.errors import ConfigError, InvalidInput, NotFound
from st2local.local import St2Local

__all__ = ["ConfigError", "NotFound", "InvalidInput", "St2Local"]
