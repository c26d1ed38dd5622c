"""Rules of the pack on a live StackStorm."""
import contextlib

from fixtures.waiting import let_pass


@contextlib.contextmanager
def enabled(st2, *rules):
    """The rules, on until the block ends."""
    for on in (True, False):
        for name in rules:
            rule = st2.call("GET", "/rules/synthralos." + name)
            writable_fields = (
                "name",
                "pack",
                "description",
                "type",
                "trigger",
                "criteria",
                "action",
            )
            document = {key: rule[key] for key in writable_fields if key in rule}
            document["trigger"] = {
                "type": rule["trigger"]["type"], "parameters": rule["trigger"]["parameters"]}
            document["action"] = {
                "ref": rule["action"]["ref"], "parameters": rule["action"]["parameters"]}
            st2.call("PUT", "/rules/" + rule["id"], json=dict(document, enabled=on))
        if on:
            # The rules engine hears of it a moment later, and nothing says when.
            let_pass(1.5)
            yield
