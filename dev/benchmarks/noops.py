"""A pack whose one Python action does nothing, and whose workflow is llm_retry made of it."""
import re

import yaml

ACTION, WORKFLOW = "noops.noop", "noops.pair"
_SOURCE = '''from st2common.runners.base_action import Action


class Noop(Action):
    def run(self, **parameters):
        return {"success": True, "next": {"cursor": 1, "delay": 0, "carry": "e"}}
'''


def write_pack(folder, pack):
    """Write the pack to `folder`, a path, and return the path.

    The workflow has the tasks, transitions and expressions of `pack`'s llm_retry, so that what a
    run of llm_retry takes beyond it is what the actions take.
    """
    actions, pack_actions = folder / "actions", pack / "actions"
    (actions / "workflows").mkdir(parents=True)
    (folder / "pack.yaml").write_text(
        "ref: noops\nname: noops\ndescription: Does nothing.\nversion: 0.1.0\n"
        "author: synthralos\nemail: nobody@example.com\n"
    )
    strings = {name: {"type": "string"} for name in ("execution_id", "case")}
    noop = {
        "name": "noop", "pack": "noops", "runner_type": "python-script", "enabled": True,
        "description": "Does nothing.", "entry_point": "noop.py",
        "parameters": dict(strings, cursor={"type": "integer"}),
    }
    pair = yaml.safe_load((pack_actions / "llm_retry.yaml").read_text())
    pair.update(name="pair", pack="noops", entry_point="workflows/pair.yaml")
    for metadata in (noop, pair):
        (actions / (metadata["name"] + ".yaml")).write_text(yaml.safe_dump(metadata))
    (actions / "noop.py").write_text(_SOURCE)
    workflow = (pack_actions / "workflows" / "llm_retry.yaml").read_text()
    (actions / "workflows" / "pair.yaml").write_text(
        re.sub(r"action: synthralos\.\w+", "action: " + ACTION, workflow)
    )
    return folder
