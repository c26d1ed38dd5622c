from synthralos.calls.targets import targets_by_kind
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.storage.circuit_breaker import CLOSED, OPEN
from synthralos.storage.datastore import require_available
from synthralos_action import ResourceAction


class Breakers(ResourceAction):
    """`breaker.open`, `breaker.close` and `breaker.release`: an operator decides about a target."""

    def _open(self, env, parameters):
        return _force(env, parameters, OPEN)

    def _close(self, env, parameters):
        return _force(env, parameters, CLOSED)

    def _release(self, env, parameters):
        target = _target(env, parameters)
        released = env.ledger.release(target)
        state = env.ledger.breaker_state(target).state
        require_available(env.store)
        change = "is released" if released else "was not forced"
        return {
            "summary": "The breaker of %s %s; it is %s" % (target, change, state.replace("_", " ")),
            "target": target,
            "state": state,
            "forced_until": None,
            "released": released,
        }


def _force(env, parameters, state):
    target = _target(env, parameters)
    forced = env.ledger.force_state(target, state, parameters["seconds"])
    require_available(env.store)
    until = to_iso(forced.until)
    return {
        "summary": "The breaker of %s is forced %s until %s" % (target, state, until),
        "target": target,
        "state": state,
        "forced_until": until,
    }


def _target(env, parameters):
    """The target, which must be a configured one: a misspelled name would force nothing."""
    target = parameters["target"]
    targets = sorted(sum(targets_by_kind(env.settings).values(), []))
    if target not in targets:
        hint = "Use one of " + ", ".join(targets) if targets else "Configure targets first"
        raise InvalidInput("target", target, "is not a configured target", hint)
    return target
