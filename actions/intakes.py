from synthralos.automation import alerts, failed
from synthralos.automation.config import Automation
from synthralos.recovery import intake
from synthralos.refusals import Refused
from synthralos_action import SynthralosAction

SWITCHED_OFF = "switched_off"


class Intakes(SynthralosAction):
    """`alert.receive`, `failure.receive`, `execution.receive`: what rules hand over to the pack."""

    def run(self, operation, **parameters):
        return self.perform(getattr(self, "_" + operation), parameters)

    def _alert(self, env, parameters):
        return self._received(
            env,
            parameters,
            lambda config, payload: alerts.receive(
                env, config, payload, parameters.get("workflow") or alerts.AUTO
            ),
        )

    def _failure(self, env, parameters):
        return self._received(
            env, parameters, lambda config, payload: failed.receive(env, config, payload)
        )

    def _execution(self, env, parameters):
        return self._received(
            env, parameters, lambda config, payload: failed.receive_execution(env, config, payload)
        )

    def _received(self, env, parameters, work):
        execution = {}
        if env.api is not None and env.run:
            execution = self.read(env, env.run)
        try:
            intake.check_switch(execution, env.store)
        except Refused as error:
            # Somebody switched it off on purpose: that is no failure.
            return {"summary": str(error), "outcome": SWITCHED_OFF}
        # Read from the execution, too, where a person gives it: parameters are masked or cast.
        payload = parameters.get("payload")
        if not payload:
            payload = (execution.get("trigger_instance") or {}).get("payload")
        if not isinstance(payload, dict) or not payload:
            way_out = "Start it by a rule, or give `payload` as the trigger would hold it"
            raise Refused("payload", payload, "is empty", way_out)
        config = Automation.from_config(env.settings.automation)
        return work(config, intake.decoded("payload", payload))
