"""Runbooks: the ordered repair steps for one kind of alert, as the configuration describes them.

A runbook matches an alert by its labels. Each of its steps is a StackStorm action, or a crew. A
label of the alert reaches an action only as the value of a whole parameter that declares it; see
runbook_parameters.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from synthralos.config.modes import MODES, read_mode
from synthralos.config.reader import default_if_none, read_int, read_seconds
from synthralos.core import safe_regex
from synthralos.core.errors import InvalidInput, shorten_repr
from synthralos.core.identifiers import MAX_NAME_CHARS, is_name, require_identifier
from synthralos.infrastructure.parameter_names import holds_command
from synthralos.infrastructure.parameter_templates import variables_in
from synthralos.infrastructure.promql import require_query, tells_healthy_apart

NONE, REQUIRED = APPROVALS = ("none", "required")
DEFAULT_STEP_SECONDS = 60.0
MAX_RETRIES = 10
MAX_SETTLE_SECONDS = 3600
MAX_RUNBOOKS, MAX_STEPS = 200, 10
MAX_VALUE_CHARS = 500
# Of a runbook and of a step: together with the slash they are the name of a crew.
MAX_PART_CHARS = (MAX_NAME_CHARS - 1) // 2
_HINT = "See docs/runbooks.md"
_RUNBOOK_KEYS = ("name", "description", "match", "mode", "steps")
_STEP_KEYS = (
    "name", "action", "crew", "parameters", "approval", "seconds", "retries", "check",
    "settle_seconds",
)
# Of a step that is an action.
_ACTION_KEYS = ("parameters", "approval", "seconds", "retries")
_LABEL_KEYS = ("label", "pattern", "host", "one_of")
_STEP_OF_FIELD = re.compile(r"\.steps\[(\d+)\]")


class InvalidRunbook(InvalidInput):
    """An entry of infrastructure.runbooks that cannot be used.

    :ivar runbook: its name, or where it is if it has none.
    :ivar step: the name of the step at fault, or "".
    :ivar error: the error, which does not say which runbook it is of.
    """

    def __init__(self, error: InvalidInput, path: str, entry: Any) -> None:
        self.error, self.step = error, ""
        name = _readable_name(entry)
        match = _STEP_OF_FIELD.match(error.field, len(path))
        if match is not None:
            index = int(match.group(1))
            self.step = _readable_name(entry["steps"][index]) or _step_name(index)
        self.runbook = name or path
        names = [
            "%s %s" % named for named in (("runbook", name), ("step", self.step)) if named[1]
        ]
        reason = "%s (%s)" % (error.reason, ", ".join(names)) if names else error.reason
        super().__init__(error.field, error.value, reason, error.hint)


@dataclass(frozen=True)
class LabelCondition:
    """What one label of an alert must be: one of `values`, or a full match of `pattern`."""

    label: str
    values: tuple[str, ...] = ()
    pattern: Optional["re.Pattern[str]"] = None

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        if self.pattern is not None:
            return len(value) <= MAX_VALUE_CHARS and self.pattern.fullmatch(value) is not None
        return value in self.values

    def __str__(self) -> str:
        if self.pattern is not None:
            return "match %s" % self.pattern.pattern
        return "be " + " or ".join(self.values)


@dataclass(frozen=True)
class LabelParameter:
    """A parameter whose value is a label of the alert.

    :ivar pattern: what the whole label must match; None for a name, or what `one_of` lists.
    :ivar is_host: whether it must be a node of the topology, or in `one_of`.
    :ivar one_of: the labels that are accepted; () for any that `pattern` and `is_host` accept.
    """

    label: str
    pattern: Optional["re.Pattern[str]"] = None
    is_host: bool = False
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunbookStep:
    """A step of a runbook: an action or a crew.

    :ivar parameters: of the action; a LabelParameter, or the value itself.
    :ivar approval: REQUIRED if a person must approve the action before it runs, else NONE.
    :ivar seconds: how long to wait for an execution of the action.
    :ivar retries: how often the action is run again if it fails.
    :ivar check: PromQL with one sample for each healthy thing, which shows whether the step has
        repaired what the alert is about; None for the sources that have shown the failure.
    :ivar settle_seconds: None for infrastructure.settle_seconds.
    """

    name: str
    action: Optional[str] = None
    crew: Optional[str] = None
    parameters: Mapping[str, Union[LabelParameter, Any]] = field(default_factory=dict)
    approval: str = REQUIRED
    seconds: float = DEFAULT_STEP_SECONDS
    retries: int = 0
    check: Optional[str] = None
    settle_seconds: Optional[int] = None


@dataclass(frozen=True)
class Runbook:
    """The ordered repair steps for the alerts whose labels fulfil all conditions of `match`.

    :ivar mode: one of config.modes.MODES, or None for automation.mode.
    """

    name: str
    match: tuple[LabelCondition, ...]
    steps: tuple[RunbookStep, ...]
    mode: Optional[str] = None
    description: str = ""

    def mismatch(self, labels: Mapping[str, Any]) -> Optional[str]:
        """Return why the runbook does not match an alert with these labels, or None."""
        for condition in self.match:
            value = labels.get(condition.label)
            if not value:
                return "the alert has no label %s" % condition.label
            if not condition.accepts(value):
                return "the label %s is %s; it must %s" % (
                    condition.label, shorten_repr(value), condition
                )
        return None

    def work_for(self, labels: Mapping[str, Any]) -> str:
        """Return a name of what the runbook does for an alert with these labels: another one if its
        actions get other parameters.
        """
        names = sorted({
            value.label
            for step in self.steps
            for value in step.parameters.values()
            if isinstance(value, LabelParameter)
        })
        text = json.dumps([[name, labels.get(name)] for name in names], default=str)
        return "%s/%s" % (self.name, hashlib.sha256(text.encode()).hexdigest()[:12])

    def seconds_needed(self, settle_seconds: int) -> int:
        """Return how long the runbook takes at most, in seconds, without approvals.

        :param settle_seconds: of the steps that have none of their own.
        """
        return int(sum(
            step.seconds * (step.retries + 1) + default_if_none(step.settle_seconds, settle_seconds)
            for step in self.steps
        ))


def find_runbook(runbooks: Iterable[Runbook], labels: Mapping[str, Any]) -> Optional[Runbook]:
    """Return the first runbook that matches an alert with these labels, or None."""
    return next((runbook for runbook in runbooks if runbook.mismatch(labels) is None), None)


def parse_runbooks(
    entries: list[Any],
    allowed_actions: Iterable[str],
    crew_names: Iterable[str],
    path: str = "infrastructure.runbooks",
) -> tuple[Runbook, ...]:
    """Parse the list under `infrastructure.runbooks`.

    :raises InvalidInput: an entry is invalid; the error names the first.
    """
    if len(entries) > MAX_RUNBOOKS:
        hint = "List at most %d runbooks" % MAX_RUNBOOKS
        raise InvalidInput(path, len(entries), "is too long", hint)
    runbooks, errors = read_runbooks(entries, allowed_actions, crew_names, path)
    if errors:
        raise errors[0]
    return runbooks


def read_runbooks(
    entries: list[Any],
    allowed_actions: Iterable[str],
    crew_names: Iterable[str],
    path: str = "infrastructure.runbooks",
) -> tuple[tuple[Runbook, ...], list[InvalidRunbook]]:
    """Return (the valid ones of at most MAX_RUNBOOKS runbooks, what is wrong with the others)."""
    allowed, crews = frozenset(allowed_actions), frozenset(crew_names)
    runbooks: list[Runbook] = []
    errors: list[InvalidRunbook] = []
    for n, entry in enumerate(entries[:MAX_RUNBOOKS]):
        runbook_path = "%s[%d]" % (path, n)
        try:
            runbook = _runbook(runbook_path, entry, allowed, crews)
            _require_unique(runbook_path + ".name", runbook.name, runbooks)
        except InvalidInput as error:
            errors.append(InvalidRunbook(error, runbook_path, entry))
        else:
            runbooks.append(runbook)
    return tuple(runbooks), errors


def read_outlines(entries: Any) -> tuple[Runbook, ...]:
    """Return the runbooks without their steps, as far as they can be read, valid or not.

    An alert of one that is invalid is still an alert of it: it must not be handled as if there were
    none.
    """
    outlines = []
    for entry in entries[:MAX_RUNBOOKS] if isinstance(entries, list) else ():
        name, match = _readable_name(entry), entry.get("match") if isinstance(entry, dict) else None
        if name is None or not isinstance(match, dict) or not match:
            continue
        try:
            conditions = tuple(_conditions("match", match))
        except InvalidInput:
            continue
        mode = entry.get("mode")
        outlines.append(Runbook(name, conditions, (), mode if mode in MODES else None))
    return tuple(outlines)


def _readable_name(entry: Any) -> Optional[str]:
    """Return the name of a runbook or step as it is configured, or None if it has no valid one."""
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if is_name(name, MAX_PART_CHARS) else None


def _step_name(index: int) -> str:
    return "step%d" % (index + 1)


def _runbook(path: str, entry: Any, allowed: frozenset[str], crews: frozenset[str]) -> Runbook:
    entry = _object(path, entry, _RUNBOOK_KEYS)
    mode = read_mode(path + ".mode", entry.get("mode"))
    match = _object(path + ".match", entry.get("match"))
    if not match:
        hint = "Name the labels of the alert, such as {alertname: HostDiskFull}"
        raise InvalidInput(path + ".match", match, "is empty, so it would match any alert", hint)
    entries = entry.get("steps")
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_STEPS:
        hint = "List 1 to %d actions or crews, in their order" % MAX_STEPS
        raise InvalidInput(path + ".steps", entries, "must be a list of steps", hint)
    steps: list[RunbookStep] = []
    for n, step_entry in enumerate(entries):
        step_path = "%s.steps[%d]" % (path, n)
        step = _step(step_path, step_entry, n, allowed, crews)
        _require_unique(step_path + ".name", step.name, steps)
        if "%s/%s" % (entry.get("name"), step.name) in crews:
            hint = "Rename one of them: results name the crew, or the runbook and its step"
            raise InvalidInput(step_path + ".name", step.name, "is the name of a crew", hint)
        steps.append(step)
    return Runbook(
        name=_part_name(path + ".name", entry.get("name")),
        match=tuple(_conditions(path + ".match", match)),
        steps=tuple(steps),
        mode=mode,
        description=str(entry.get("description") or ""),
    )


def _conditions(path: str, match: Mapping[Any, Any]) -> Iterator[LabelCondition]:
    for label, expected in match.items():
        condition_path = "%s.%s" % (path, label)
        if not isinstance(label, str):
            raise InvalidInput(path, label, "is not the name of a label", "Write it in quotes")
        if isinstance(expected, dict):
            pattern = _object(condition_path, expected, ("pattern",)).get("pattern")
            yield LabelCondition(label, pattern=_pattern(condition_path + ".pattern", pattern))
        else:
            values = expected if isinstance(expected, list) else [expected]
            yield LabelCondition(label, values=_texts(condition_path, values))


def _step(
    path: str, entry: Any, index: int, allowed: frozenset[str], crews: frozenset[str]
) -> RunbookStep:
    entry = _object(path, entry, _STEP_KEYS)
    action, crew = entry.get("action"), entry.get("crew")
    if (action is None) == (crew is None):
        reason = "has %s an action %s a crew" % (
            ("neither", "nor") if action is None else ("both", "and")
        )
        raise InvalidInput(path, entry.get("name"), reason, "Set exactly one of the two")
    if action is not None and (not isinstance(action, str) or action not in allowed):
        hint = "Add it to infrastructure.allowed_actions (now: %s)" % (
            ", ".join(sorted(allowed)) or "none"
        )
        raise InvalidInput(path + ".action", action, "is not allowed", hint)
    if crew is not None and (not isinstance(crew, str) or crew not in crews):
        hint = "Name one of infrastructure.crews (now: %s)" % (", ".join(sorted(crews)) or "none")
        raise InvalidInput(path + ".crew", crew, "is not a configured crew", hint)
    if crew is not None and any(entry.get(name) is not None for name in _ACTION_KEYS):
        hint = "Leave out %s: those of the crew apply" % ", ".join(_ACTION_KEYS)
        raise InvalidInput(path + ".crew", crew, "is a crew, not an action", hint)
    approval = read_approval(path, entry)
    name = _part_name(
        path + ".name", default_if_none(entry.get("name"), _step_name(index))
    )
    settle = entry.get("settle_seconds")
    if settle is not None:
        settle = read_int(entry, "settle_seconds", None, 0, MAX_SETTLE_SECONDS, path + ".")
    return RunbookStep(
        name=name,
        action=action,
        crew=crew,
        parameters=_parameters(path + ".parameters", entry.get("parameters")),
        approval=approval,
        seconds=read_seconds(entry, path + ".seconds", DEFAULT_STEP_SECONDS),
        retries=read_int(entry, "retries", 0, 0, MAX_RETRIES, path + "."),
        check=_check(path + ".check", entry.get("check")),
        settle_seconds=settle,
    )


def _parameters(path: str, entry: Any) -> dict[str, Union[LabelParameter, Any]]:
    parameters = {
        require_identifier(path, name): _parameter("%s.%s" % (path, name), name, value)
        for name, value in _object(path, entry).items()
    }
    labels = {name for name, value in parameters.items() if isinstance(value, LabelParameter)}
    for name, value in parameters.items():
        inserted = set() if name in labels else labels & variables_in(value)
        if inserted:
            reason = "is a template with the parameter %s, which is a label" % min(inserted)
            hint = "Write the value in the step: a label is never a part of a text"
            raise InvalidInput("%s.%s" % (path, name), None, reason, hint)
    return parameters


def _parameter(path: str, name: str, value: Any) -> Union[LabelParameter, Any]:
    """Return the LabelParameter that `value` describes, or else `value` itself."""
    if not isinstance(value, dict) or "label" not in value:
        _require_no_label_in(path, value)
        return value
    value = _object(path, value, _LABEL_KEYS)
    if holds_command(name):
        reason = "is named like a command line, code or a credential, which takes no label"
        hint = "Write the value in the step, in a runbook for each value of the label"
        raise InvalidInput(path, value["label"], reason, hint)
    label = value["label"]
    if not isinstance(label, str) or not label.strip():
        raise InvalidInput(path + ".label", label, "is not the name of a label", _HINT)
    one_of, is_host = value.get("one_of"), default_if_none(value.get("host"), False)
    if not isinstance(is_host, bool):
        raise InvalidInput(path + ".host", is_host, "must be true or false", "Use true or false")
    return LabelParameter(
        label=label,
        pattern=None if value.get("pattern") is None else _pattern(
            path + ".pattern", value["pattern"]
        ),
        is_host=is_host,
        one_of=() if one_of is None else _texts(path + ".one_of", one_of),
    )


def _require_no_label_in(path: str, value: Any) -> None:
    """Raise InvalidInput if an object or a list contains what would be a label as a parameter."""
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        parts = (("%s.%s" % (path, name), part) for name, part in value.items())
    elif isinstance(value, list):
        parts = (("%s[%d]" % (path, n), part) for n, part in enumerate(value))
    for part_path, part in parts:
        if isinstance(part, dict) and isinstance(part.get("label"), str) and (
            part.keys() <= set(_LABEL_KEYS)
        ):
            hint = "Make it the whole parameter; write an object that is not a label as JSON text"
            raise InvalidInput(part_path, part["label"], "is a label inside a parameter", hint)
        _require_no_label_in(part_path, part)


def _pattern(path: str, pattern: Any) -> "re.Pattern[str]":
    # The label comes from elsewhere: no text of it may make the match take for ever.
    return safe_regex.compile_bounded(path, pattern)


def read_approval(path: str, entry: Mapping[str, Any]) -> str:
    """Return the `approval` of a crew or a step, one of APPROVALS; REQUIRED if it has none.

    :raises InvalidInput: it is not one of them.
    """
    approval: str = entry.get("approval") or REQUIRED
    if approval not in APPROVALS:
        hint = "Use one of " + ", ".join(APPROVALS)
        raise InvalidInput(path + ".approval", approval, "is invalid", hint)
    return approval


def _check(path: str, value: Any) -> Optional[str]:
    if value is None:
        return None
    query = require_query(path, value)
    if not tells_healthy_apart(query):
        hint = "Compare it, such as up == 1, so that it returns samples for healthy things only"
        raise InvalidInput(path, query, "returns samples for unhealthy things, too", hint)
    return query


def _part_name(path: str, value: Any) -> str:
    if value is None:
        raise InvalidInput(path, None, "is missing", "Give it a name, such as disk_full")
    if not is_name(value, MAX_PART_CHARS) or "/" in value:
        hint = "Use 1 to %d of A-Z a-z 0-9 . _ : @ + -, of which the first is a letter or a digit"
        raise InvalidInput(path, value, "is not a valid name", hint % MAX_PART_CHARS)
    return str(value)


def _require_unique(path: str, name: str, existing: Iterable[Union[Runbook, RunbookStep]]) -> None:
    if any(other.name == name for other in existing):
        raise InvalidInput(path, name, "is a duplicate", "Give each a name of its own")


def _texts(path: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(
        isinstance(text, str) and text for text in value
    ):
        raise InvalidInput(path, value, "is not a text or a list of texts", _HINT)
    return tuple(value)


def _object(path: str, value: Any, keys: Optional[tuple[str, ...]] = None) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(path, value, "must be an object", _HINT)
    unknown = sorted(str(name) for name in value if keys is not None and name not in keys)
    if unknown:
        hint = "Known fields: " + ", ".join(keys or ())
        raise InvalidInput("%s.%s" % (path, unknown[0]), None, "is an unknown field", hint)
    return value
