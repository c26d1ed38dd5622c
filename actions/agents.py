from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.runtime import run_parameters
from synthralos.storage import pauses
from synthralos.storage.datastore import require_available
from synthralos_action import ResourceAction


class Agents(ResourceAction):
    """`agent.pause` and `agent.resume`: leaves an agent alone for a while."""

    def _pause(self, env, parameters):
        agent_id = require_identifier("agent_id", parameters["agent_id"])
        reason = run_parameters.require_text(
            "reason", run_parameters.decode_base64("reason", parameters["reason"])
        )
        seconds, probe = parameters["seconds"], parameters.get("probe_seconds")
        if probe is not None and probe >= seconds:
            raise InvalidInput(
                "probe_seconds", probe, "is not before the end", "Give less than seconds"
            )
        paused = pauses.pause(
            env.store,
            agent_id,
            env.now(),
            reason,
            seconds,
            probe_seconds=probe,
            redactor=env.redactor,
        )
        require_available(env.store)
        public = pauses.public_pause(paused)
        summary = "%s is paused until %s" % (agent_id, public["until"])
        return {"summary": summary, "agent_id": agent_id, "paused": True, "pause": public}

    def _resume(self, env, parameters):
        agent_id = require_identifier("agent_id", parameters["agent_id"])
        resumed = pauses.resume(env.store, agent_id, env.now())
        require_available(env.store)
        state_text = "is resumed" if resumed else "was not paused"
        return {
            "summary": "%s %s" % (agent_id, state_text),
            "agent_id": agent_id,
            "paused": False,
            "resumed": resumed,
        }
