from synthralos.core.timestamps import to_iso
from synthralos.loop_detection import detector
from synthralos.runtime import run_parameters
from synthralos.storage.datastore import require_available
from synthralos_action import ResourceAction

TRIGGER = "synthralos.agent_loop"


class Loops(ResourceAction):
    """`loop.check`, `loop.patterns` and `loop.reset`: whether an agent runs in circles."""

    def _check(self, env, parameters):
        step = {name: parameters.get(name) for name in ("input", "output")}
        step = {
            name: detector.parse_json_text(run_parameters.decode_base64(name, value))
            for name, value in step.items()
        }
        result = detector.record_step(
            env.store,
            env.now(),
            detector.LoopDetectionConfig.from_config(env.settings.loop_detection),
            parameters["agent_id"],
            parameters["action"],
            step["input"],
            step["output"],
            parameters.get("progress"),
            parameters.get("task_id"),
            env.redactor,
        )
        if result["level"] == detector.CRITICAL and _is_news(result, env.now()):
            env.fire(TRIGGER, _payload(env, parameters, result))
        reason = result["reason"] or "no loop in %d steps" % result["steps"]
        state = "paused" if result["paused"] else result["level"]
        return dict({"summary": "%s: %s (%s)" % (parameters["agent_id"], reason, state)}, **result)

    def _patterns(self, env, parameters):
        patterns = detector.patterns(env.store, parameters["agent_id"])
        require_available(env.store)
        return {"summary": "%d patterns" % len(patterns), "patterns": patterns}

    def _reset(self, env, parameters):
        agent_id = parameters["agent_id"]
        _, resumed = detector.reset(env.store, agent_id, env.now())
        require_available(env.store)
        changes = "its window is forgotten" + (", its pause has ended" if resumed else "")
        return {"summary": "%s: %s" % (agent_id, changes), "agent_id": agent_id, "resumed": resumed}


def _is_news(result, now):
    """Whether this check saw the loop first, where that can be told: it began the pause."""
    return not result["paused"] or result["pause"]["since"] == to_iso(now)


def _payload(env, parameters, result):
    return {
        "source": "loop.check",
        "agent_id": parameters["agent_id"],
        "task_id": parameters.get("task_id"),
        "kind": result["pattern"]["kind"],
        "severity": "critical",
        "details": {"steps": result["steps"], "paused": result["paused"]},
        "occurred_at": to_iso(env.now()),
    }
