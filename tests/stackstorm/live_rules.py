"""Rules and policies of the pack on a live StackStorm."""
import contextlib

from fixtures.waiting import let_pass

WRITABLE_FIELDS = ("name", "pack", "description", "type", "trigger", "criteria", "action")


@contextlib.contextmanager
def enabled(st2, *rules):
    """The rules, on until the block ends."""
    try:
        for name in rules:
            _switch_rule(st2, name, True)
        # The rules engine hears of it a moment later, and nothing says when.
        let_pass(1.5)
        yield
    finally:
        for name in rules:
            _switch_rule(st2, name, False)


@contextlib.contextmanager
def policy_enabled(st2, name):
    """The policy, on until the block ends. StackStorm reads it when it schedules a run."""
    policy = st2.call("GET", "/policies/synthralos." + name)
    path = "/policies/" + policy["id"]
    st2.call("PUT", path, json=dict(policy, enabled=True))
    try:
        yield
    finally:
        st2.call("PUT", path, json=dict(policy, enabled=False))


def _switch_rule(st2, name, on):
    rule = st2.call("GET", "/rules/synthralos." + name)
    document = {key: rule[key] for key in WRITABLE_FIELDS if key in rule}
    document["trigger"] = {
        "type": rule["trigger"]["type"], "parameters": rule["trigger"]["parameters"]}
    document["action"] = {
        "ref": rule["action"]["ref"], "parameters": rule["action"]["parameters"]}
    st2.call("PUT", "/rules/" + rule["id"], json=dict(document, enabled=on))
