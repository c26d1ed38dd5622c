from synthralos.core.timestamps import to_iso
from synthralos.loop_detection import detector
from synthralos.runtime import run_parameters
from synthralos.storage.datastore import answered
from synthralos_action import ResourceAction

TRIGGER = "synthralos.agent_loop"


class Loops(ResourceAction):
    """`loop.check`, `loop.patterns` and `loop.reset`: whether an agent runs in circles."""

    def _check(self, env, parameters):
        given = {name: parameters.get(name) for name in ("input", "output")}
        given = {
            name: detector.parse_json_text(run_parameters.decode_base64(name, value))
            for name, value in given.items()
        }
        found = detector.record_step(
            env.store,
            env.now(),
            detector.LoopDetectionConfig.from_config(env.settings.loop_detection),
            parameters["agent_id"],
            parameters["action"],
            given["input"],
            given["output"],
            parameters.get("progress"),
            parameters.get("task_id"),
            env.redactor,
        )
        if found["level"] == detector.CRITICAL and _is_news(found, env.now()):
            env.fire(TRIGGER, _payload(env, parameters, found))
        told = found["reason"] or "no loop in %d steps" % found["steps"]
        state = "paused" if found["paused"] else found["level"]
        return dict({"summary": "%s: %s (%s)" % (parameters["agent_id"], told, state)}, **found)

    def _patterns(self, env, parameters):
        found = detector.patterns(env.store, parameters["agent_id"])
        answered(env.store)
        return {"summary": "%d patterns" % len(found), "patterns": found}

    def _reset(self, env, parameters):
        agent_id = parameters["agent_id"]
        _, resumed = detector.reset(env.store, agent_id, env.now())
        answered(env.store)
        told = "its window is forgotten" + (", its pause has ended" if resumed else "")
        return {"summary": "%s: %s" % (agent_id, told), "agent_id": agent_id, "resumed": resumed}


def _is_news(found, now):
    """Whether this check saw the loop first, where that can be told: it began the pause."""
    return not found["paused"] or found["pause"]["since"] == to_iso(now)


def _payload(env, parameters, found):
    return {
        "source": "loop.check",
        "agent_id": parameters["agent_id"],
        "task_id": parameters.get("task_id"),
        "kind": found["pattern"]["kind"],
        "severity": "critical",
        "details": {"steps": found["steps"], "paused": found["paused"]},
        "occurred_at": to_iso(env.now()),
    }
