"""Which mode of automation is in force, for all that rules start, a workflow or a runbook.

The first of these that is set decides:

1. the override of the runbook;
2. what the configuration says of the runbook or, failing that, of its workflow
   (`automation.modes`), but no higher than the override for all;
3. the override for all;
4. `automation.mode`, which is `observe` by default.

So an override for all takes everything down that has no override of its own, and takes nothing
up that the configuration holds lower on purpose. Overrides are keys in the datastore, which
operators set by `automation.set_mode` or `st2 key set`.
"""

from dataclasses import asdict, dataclass
from typing import Any, Optional

from synthralos.automation.config import STARTABLE_WORKFLOWS, AutomationConfig
from synthralos.config.modes import MODES, OBSERVE, lower_mode
from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.infrastructure.config import InfrastructureConfig, load_config_or_default
from synthralos.runtime.environment import Environment
from synthralos.storage import records
from synthralos.storage.datastore import PREFIX

OVERRIDE_KEY = PREFIX + "mode"
RUNBOOK_KEYS = PREFIX + "runbook_mode."
MAX_RUNBOOK_PAGES = 5
_OVERRIDE_SOURCE = "the key "
_NOT_A_MODE = ", whose value is not a mode"


@dataclass(frozen=True)
class Mode:
    """A mode, and where it comes from.

    :ivar mode: one of config.modes.MODES.
    :ivar source: the configuration's entry or the datastore's key that decides, for people.
    """

    mode: str
    source: str


def mode_of(
    env: Environment,
    config: AutomationConfig,
    workflow: Optional[str],
    runbook_name: Optional[str] = None,
    runbook_mode: Optional[str] = None,
) -> Mode:
    """Return the Mode in force. Costs a call to the datastore, and one more for a runbook.

    Callers check `env.store` afterwards: a key that could not be read counts as missing.

    :param workflow: the workflow that would be started; None for what fits none.
    :param runbook_name: the runbook that would be followed, or None.
    :param runbook_mode: what the configuration says of that runbook, or None.
    """
    if runbook_name is not None:
        own_key = RUNBOOK_KEYS + encode_key_part(runbook_name)
        override = _parse(own_key, env.store.get(own_key))
        if override is not None:
            return override
    override = _parse(OVERRIDE_KEY, env.store.get(OVERRIDE_KEY))
    return _without_runbook_override(config, override, workflow, runbook_name, runbook_mode)


def _without_runbook_override(
    config: AutomationConfig,
    override: Optional[Mode],
    workflow: Optional[str],
    runbook_name: Optional[str] = None,
    runbook_mode: Optional[str] = None,
) -> Mode:
    if runbook_mode is not None:
        configured = Mode(runbook_mode, "the runbook %s" % runbook_name)
    elif workflow in config.modes:
        configured = Mode(config.modes[workflow], "automation.modes.%s" % workflow)
    else:
        return override or Mode(config.mode, "automation.mode")
    if override is not None and lower_mode(override.mode, configured.mode) != configured.mode:
        return override
    return configured


def _parse(key: str, value: Optional[str]) -> Optional[Mode]:
    """Return the Mode of an override; one that is not a mode counts as `observe`."""
    if value is None:
        return None
    mode = value.strip().lower()
    if mode in MODES:
        return Mode(mode, _OVERRIDE_SOURCE + key)
    return Mode(OBSERVE, _OVERRIDE_SOURCE + key + _NOT_A_MODE)


def is_override(source: str) -> bool:
    """Return whether the `source` of a Mode is an override."""
    return source.startswith(_OVERRIDE_SOURCE)


def invalid_overrides(in_force: dict[str, Any]) -> list[str]:
    """Return the keys whose values are no modes, in what `modes_in_force` returned."""
    entries = [in_force, *in_force["workflows"].values(), *in_force["runbooks"].values()]
    sources = dict.fromkeys(str(entry["source"]) for entry in entries)
    return [
        source[len(_OVERRIDE_SOURCE):-len(_NOT_A_MODE)]
        for source in sources
        if source.endswith(_NOT_A_MODE)
    ]


def set_override(env: Environment, mode: Optional[str], runbook_name: Optional[str]) -> None:
    """Set the override for all, or that of a runbook; None removes it.

    Callers check `env.store` afterwards.
    """
    key = OVERRIDE_KEY
    if runbook_name is not None:
        key = RUNBOOK_KEYS + encode_key_part(runbook_name)
    if mode is None:
        env.store.delete(key)
    else:
        env.store.put(key, mode)


def configured_runbooks(env: Environment) -> dict[str, Optional[str]]:
    """Return {runbook: the mode that the configuration sets for it, or None}.

    :raises InvalidInput: the entry `infrastructure` is invalid.
    """
    return _modes_of_runbooks(InfrastructureConfig.from_config(env.settings.infrastructure))


def _modes_of_runbooks(infrastructure: InfrastructureConfig) -> dict[str, Optional[str]]:
    return {runbook.name: runbook.mode for runbook in infrastructure.runbooks}


def modes_in_force(
    env: Environment,
    config: AutomationConfig,
    infrastructure: Optional[InfrastructureConfig] = None,
) -> dict[str, Any]:
    """Return every mode in force: {mode, source, workflows, runbooks}.

    The first two are of everything that the others do not name; these are {name: {mode, source}},
    with each workflow, and each runbook that is configured or has an override. Costs a call to the
    datastore, and one for each 100 overrides.

    :param infrastructure: if the caller has read it; default: as load_config_or_default returns it.
    """
    override = _parse(OVERRIDE_KEY, env.store.get(OVERRIDE_KEY))
    configured = _modes_of_runbooks(infrastructure or load_config_or_default(env))
    runbooks = {
        name: _without_runbook_override(config, override, "infrastructure_repair", name, mode)
        for name, mode in configured.items()
    }
    for page in records.iter_pages(env.store, RUNBOOK_KEYS, MAX_RUNBOOK_PAGES):
        for key, value in page:
            own = _parse(key, value)
            if own is not None:
                runbooks[decode_key_part(key[len(RUNBOOK_KEYS):])] = own
    workflows = {
        workflow: asdict(_without_runbook_override(config, override, workflow))
        for workflow in STARTABLE_WORKFLOWS
    }
    return dict(
        asdict(_without_runbook_override(config, override, None)),
        workflows=workflows,
        runbooks={name: asdict(runbooks[name]) for name in sorted(runbooks)},
    )


def mode_in(in_force: dict[str, Any], workflow: Optional[str], runbook: Optional[str]) -> str:
    """Return the mode of a workflow, or of its runbook, in what `modes_in_force` returned."""
    entry = in_force["runbooks"].get(runbook) or in_force["workflows"].get(workflow) or in_force
    return str(entry["mode"])


def describe(in_force: dict[str, Any]) -> str:
    """Return what `modes_in_force` returned as a line of text, exceptions included."""
    exceptions = [
        "%s: %s" % (name, entry["mode"])
        for kind in ("workflows", "runbooks")
        for name, entry in in_force[kind].items()
        if entry["mode"] != in_force["mode"]
    ]
    text = "%s (%s)" % (in_force["mode"], in_force["source"])
    return "%s; %s" % (text, ", ".join(exceptions)) if exceptions else text
