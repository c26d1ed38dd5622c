"""The schema of orchestrations and roles: validates definitions and returns their normal form.

A normal form is plain JSON with every field present; the normal form of a normal form is itself.
Roles are in role_schema.py, steps in step_schema.py; dependencies.py defines the order of steps.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Optional, TypedDict, TypeVar
from urllib.parse import urlsplit

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.orchestration import role_schema
from synthralos.orchestration import step_schema as of_steps
from synthralos.orchestration.field_reader import Allowed, Fields
from synthralos.orchestration.role_schema import Named, Role
from synthralos.orchestration.step_schema import Step, WithSteps
from synthralos.storage import state_codec

T = TypeVar("T")
MAX_CONCURRENT = 20
MAX_TAGS = 50
MAX_TAG_CHARS = 64
MAX_RESUMES, DEFAULT_RESUMES = 10, 2
MAX_RESUME_DELAY_SECONDS, DEFAULT_RESUME_DELAY_SECONDS = 24 * 3600, 60
MAX_DEFINITION_BYTES = 1024 * 1024
# Prefix of the datastore keys that a webhook may read; no definition can send out other secrets.
WEBHOOK_KEYS = "synthralos_webhook"
_FIELDS: Allowed = {
    "name": (),
    "description": (),
    "tags": (),
    "active": ("is_active",),
    "max_concurrent": ("max_concurrency",),
    "on_failure": (),
    "auto_resume": (),
    "webhook": (),
    "output": ("output_mapping",),
    "steps": (),
}


class AutoResume(TypedDict):
    """That a failed run resumes itself after `resume_delay` seconds, at most `max_resumes` times in
    a row; see resuming.
    """

    max_resumes: int
    resume_delay: float


class Webhook(TypedDict):
    """Where the report of a run is sent. `url_from`, `headers_from`: datastore keys; there is a
    `url` or a `url_from`.
    """

    url: Optional[str]
    url_from: Optional[str]
    headers_from: Optional[str]


class Orchestration(Named, WithSteps):
    """An orchestration in its normal form.

    `max_concurrent`: how many steps may run at the same time; `on_failure`: fail or continue, where
    a step does not say it; `output`: with templates.
    """

    description: Optional[str]
    tags: list[str]
    active: bool
    max_concurrent: int
    on_failure: str
    auto_resume: Optional[AutoResume]
    webhook: Optional[Webhook]
    output: Optional[dict[str, Any]]


def role(raw: object, path: str = "role") -> Role:
    """Return the normal form of a role.

    :raises InvalidInput: `raw` is not a valid role, or is too large.
    """
    return _require_small(path, role_schema.role(raw, path))


def orchestration(
    raw: object, path: str = "orchestration", max_concurrent: int = 5
) -> Orchestration:
    """Return the normal form of an orchestration.

    :param max_concurrent: how many steps may run at the same time if `raw` does not set it.
    :raises InvalidInput: `raw` is not a valid orchestration, or is too large.
    """
    fields = Fields(raw, path, _FIELDS, role_schema.IGNORED)
    normal: Orchestration = {
        "name": fields.title("name"),
        "description": fields.text("description"),
        "tags": tags(fields),
        "active": fields.boolean("active", True),
        "max_concurrent": fields.integer("max_concurrent", max_concurrent, 1, MAX_CONCURRENT),
        "on_failure": fields.choice("on_failure", "fail", of_steps.POLICIES),
        "auto_resume": _auto_resume(fields),
        "webhook": _webhook(fields),
        "output": fields.mapping("output"),
        "steps": of_steps.steps(fields.value("steps"), fields.path("steps"), fields.style),
    }
    return _require_small(path, normal)


def role_updated(before: Role, updates: object, path: str = "updates") -> Role:
    """Return the normal form of a role after `updates`; see role_schema.updated."""
    return _require_small(path, role_schema.updated(before, updates, path))


def orchestration_updated(
    before: Orchestration, updates: object, path: str = "updates"
) -> Orchestration:
    """Return the normal form of an orchestration after `updates`.

    :param updates: fields in either spelling; null resets a field to its default, and `steps`
        replaces all steps.
    :raises InvalidInput: `updates` are not valid.
    """
    fields = Fields(updates, path, _FIELDS, role_schema.IGNORED)
    role_schema.keep_name(fields, before)
    merged: dict[str, Any] = dict(before, **dict.fromkeys(fields.blank))
    merged.update((name, fields.value(name)) for name in fields.names())
    if fields.has("steps"):
        # Normalized here: mixed with normal forms, the style of their times could not be detected.
        merged["steps"] = of_steps.steps(merged["steps"], fields.path("steps"), fields.style)
    return orchestration(merged, path)


def every_step(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield each step of a list of normal forms, including those in loops and branches."""
    for step in steps:
        yield step
        for inner in inside(step):
            yield from every_step(inner)


def inside(step: Step) -> Iterator[list[Step]]:
    """Yield the lists of steps that a loop or branch contains."""
    if step["loop"] is not None:
        yield step["loop"]["steps"]
    if step["branch"] is not None:
        for case in step["branch"]["cases"]:
            yield case["steps"]
        yield step["branch"]["otherwise"]


def roles_used(orchestration: WithSteps) -> list[str]:
    """Return the sorted names of the roles of its steps and their critics."""
    names: set[str] = set()
    for step in every_step(orchestration["steps"]):
        if step["role"] is not None:
            names.add(step["role"])
        if step["critic"] is not None:
            names.add(step["critic"]["role"])
    return sorted(names)


def tags(fields: Fields) -> list[str]:
    """Return the unique tags of an orchestration."""
    def tag(path: str, value: object) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_TAG_CHARS:
            hint = "Tags are text of at most %d characters" % MAX_TAG_CHARS
            raise InvalidInput(path, value, "is not a valid tag", hint)
        return value

    return fields.unique_list("tags", tag, MAX_TAGS)


def _auto_resume(fields: Fields) -> Optional[AutoResume]:
    """Return when runs resume themselves, or None if they do not; `true` stands for the defaults.
    """
    raw_policy = fields.value("auto_resume", False)
    if isinstance(raw_policy, bool):
        raw_policy = {} if raw_policy else None
    if raw_policy is None:
        return None
    allowed = {"max_resumes": (), "resume_delay": ()}
    policy = Fields(raw_policy, fields.path("auto_resume"), allowed, parent_style=fields.style)
    return {
        "max_resumes": policy.integer("max_resumes", DEFAULT_RESUMES, 1, MAX_RESUMES),
        "resume_delay": policy.seconds(
            "resume_delay", DEFAULT_RESUME_DELAY_SECONDS, 0, MAX_RESUME_DELAY_SECONDS
        ),
    }


def _webhook(fields: Fields) -> Optional[Webhook]:
    raw_webhook = fields.value("webhook")
    if raw_webhook is None:
        return None
    raw_webhook = {"url": raw_webhook} if isinstance(raw_webhook, str) else raw_webhook
    allowed = {"url": (), "url_from": (), "headers_from": ()}
    webhook = Fields(raw_webhook, fields.path("webhook"), allowed, parent_style=fields.style)
    if webhook.has("url") == webhook.has("url_from"):
        reason = "has both url and url_from" if webhook.has("url") else "has no url"
        raise InvalidInput(
            webhook.base_path, None, reason, "Set url, or url_from: a datastore key"
        )
    url_from, headers_from = (
        _webhook_key(webhook, name) for name in ("url_from", "headers_from")
    )
    return {"url": _url(webhook), "url_from": url_from, "headers_from": headers_from}


def _webhook_key(webhook: Fields, name: str) -> Optional[str]:
    if not webhook.has(name):
        return None
    value = require_identifier(webhook.path(name), webhook.value(name))
    if not value.startswith(WEBHOOK_KEYS):
        reason = "is not the datastore key of a webhook"
        hint = "Name the key %s_<name>; webhooks cannot read other secrets" % WEBHOOK_KEYS
        raise InvalidInput(webhook.path(name), value, reason, hint)
    return value


def _url(webhook: Fields) -> Optional[str]:
    value = webhook.text("url", max_length=2000)
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_valid = False
    if not is_valid or not value.isprintable() or " " in value:
        hint = "Write it as https://host[:port][/path]"
        raise InvalidInput(webhook.path("url"), value, "is not a valid URL", hint)
    return value


def _require_small(path: str, normal: T) -> T:
    """Return `normal` if it is JSON of at most MAX_DEFINITION_BYTES; raise InvalidInput if not."""
    size = len(state_codec.canonical_json(path, normal))
    if size > MAX_DEFINITION_BYTES:
        reason = "takes %d bytes, more than %d" % (size, MAX_DEFINITION_BYTES)
        raise InvalidInput(path, None, reason, "Shorten its prompts, or store long text elsewhere")
    return normal
