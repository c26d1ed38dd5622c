from synthralos.automation import reaper, retry_run
from synthralos.automation.config import AutomationConfig
from synthralos.core.errors import InvalidInput
from synthralos_action import ResourceAction


class Recoveries(ResourceAction):
    """`recovery.retry` runs again what failed; `recovery.reap` closes what nothing will end."""

    # Nothing waits for it, and without the datastore it can do nothing.
    key_seconds = 15.0

    def _retry(self, env, parameters):
        self._reachable(env)
        config = AutomationConfig.from_config(env.settings.automation)
        execution = self.read(env, parameters["execution_id"], retry_run.ATTRIBUTES)
        retried = retry_run.retry(
            env, config, execution, parameters.get("model"), parameters.get("region")
        )
        return dict({"summary": "%(workflow)s runs as %(run)s" % retried}, **retried)

    def _reap(self, env, parameters):
        self._reachable(env)
        return reaper.reap(env, AutomationConfig.from_config(env.settings.automation))

    @staticmethod
    def _reachable(env):
        if env.api is None:
            raise InvalidInput("recovery", None, "there is no StackStorm API", "Run it there")
