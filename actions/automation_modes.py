from synthralos.automation import config as automation_config
from synthralos.automation import modes
from synthralos.config.modes import OBSERVE
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.storage.datastore import require_available
from synthralos_action import ResourceAction

# In place of a mode: removes the override.
DEFAULT = "default"


def _unknown_runbook(runbook, names):
    hint = "There are: " + (", ".join(names) or "none")
    return InvalidInput("runbook", runbook, "is not in the configuration", hint)


class AutomationModes(ResourceAction):
    """`automation.get_mode` and `automation.set_mode`: what may start by itself."""

    resource = "automation"

    def _get_mode(self, env, parameters):
        runbook = parameters.get("runbook")
        result = self._in_force(env, runbook)
        if runbook is not None and runbook not in result["runbooks"]:
            raise _unknown_runbook(runbook, result["runbooks"])
        return result

    def _set_mode(self, env, parameters):
        mode, runbook = parameters["mode"], parameters.get("runbook")
        if runbook is not None:
            self._require_runbook(env, runbook, mode)
        modes.set_override(env, None if mode == DEFAULT else mode, runbook)
        require_available(env.store)
        return self._in_force(env, runbook)

    @staticmethod
    def _require_runbook(env, runbook, mode):
        require_identifier("runbook", runbook)
        # The override of a runbook that is gone can still be removed.
        if mode == DEFAULT:
            return
        try:
            names = modes.configured_runbooks(env)
        except InvalidInput:
            # Going down must not wait until the configuration is correct.
            if mode == OBSERVE:
                return
            raise
        if runbook not in names:
            raise _unknown_runbook(runbook, names)

    @staticmethod
    def _in_force(env, runbook=None):
        config, invalid = automation_config.load(env.settings.automation)
        in_force = modes.modes_in_force(env, config)
        require_available(env.store)
        summary = modes.describe(in_force)
        if runbook in in_force["runbooks"]:
            entry = in_force["runbooks"][runbook]
            summary = "%s: %s (%s)" % (runbook, entry["mode"], entry["source"])
        result = dict({"summary": summary}, **in_force)
        return dict(result, configuration=invalid) if invalid else result
