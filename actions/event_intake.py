from synthralos.automation import (
    agent_run_intake,
    alert_incidents,
    alert_intake,
    failure_intake,
    outcomes,
)
from synthralos.automation import config as automation_config
from synthralos.core.errors import InvalidInput
from synthralos.runtime import run_parameters
from synthralos_action import ResourceAction

# Somebody switched it off on purpose: that is no failure.
OFF = {
    "summary": "runs that rules start are switched off: st2 key set %s true" %
    run_parameters.ENABLED_KEY,
    "outcome": outcomes.SWITCHED_OFF,
}


class EventIntake(ResourceAction):
    """`alert.receive`, `failure.receive`, `execution.receive`, `agent_run.receive`: what rules hand
    over to the pack.
    """

    # Nothing waits for it, and without the datastore it can do nothing.
    key_seconds = 15.0

    def _alert(self, env, parameters):
        workflow = parameters.get("workflow") or alert_incidents.AUTO

        def work(config, payload, is_off):
            return alert_intake.receive(env, config, payload, workflow, only_ends=is_off)

        return self._received(env, parameters, work)

    def _failure(self, env, parameters):
        def work(config, payload, is_off):
            return OFF if is_off else failure_intake.receive(env, config, payload)

        return self._received(env, parameters, work)

    def _execution(self, env, parameters):
        def work(config, payload, is_off):
            return OFF if is_off else failure_intake.receive_execution(env, config, payload)

        return self._received(env, parameters, work)

    def _agent_run(self, env, parameters):
        name = parameters.get("platform")

        def work(config, payload, is_off):
            return OFF if is_off else agent_run_intake.receive(env, config, payload, name)

        return self._received(env, parameters, work)

    def _received(self, env, parameters, work):
        execution = {}
        if env.api is not None and env.run:
            execution = self.read(env, env.run)
        payload = parameters.get("payload")
        if payload:
            payload = run_parameters.decode_base64("payload", payload)
        else:
            payload = (execution.get("trigger_instance") or {}).get("payload")
        if not isinstance(payload, dict) or not payload:
            hint = "Start it by a rule, or give `payload` as the trigger would hold it"
            raise InvalidInput("payload", payload, "is empty", hint)
        # What comes in must not be lost for an invalid configuration.
        config, wrong = automation_config.load(env.settings.automation)
        outcome = work(config, payload, run_parameters.is_disabled_for(execution, env.store))
        succeeded, result = outcome if isinstance(outcome, tuple) else (True, outcome)
        return succeeded, dict(result, configuration=wrong) if wrong else result
