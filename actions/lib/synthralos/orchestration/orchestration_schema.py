"""The schema of orchestrations and roles: validates definitions and returns their normal form.

A normal form is plain JSON with every field present; the normal form of a normal form is itself.
An orchestration:

    {name, description: text or null, tags [texts], active, max_concurrent 1-20,
     on_failure "fail" | "continue",
     auto_resume: null or {max_resumes 1-10, resume_delay: seconds},
     webhook: null or {url or url_from, headers_from},
     output: a mapping with templates, or null, steps [step]}

With `auto_resume` a failed run resumes itself after `resume_delay`, at most `max_resumes` times in
a row; see resuming.

A step:

    {name, description, order, kind "llm" | "action" | "approval" | "loop" | "branch" |
     "orchestration", role: name or null, action: reference or null, parameters: a mapping or null,
     group: id or null, depends_on: names or null, condition: a tree or null (conditions),
     input: a mapping with templates or null, for an LLM step also a text; output: a mapping or
     null, max_retries 0-10, retry_delay and timeout: seconds, priority: higher goes first,
     fallback_models [names], context_keys [keys], schema: of draft 4 or null,
     critic: null or {role, threshold 0-1}, cache, on_failure: null for the orchestration's,
     loop: null or {steps, until, max_rounds}, branch: null or {cases [{when, steps}], otherwise},
     orchestration: the name of another or null, approval: null or {question, timeout: seconds}}

Roles are in role_schema.py, steps in step_schema.py; dependencies.py defines the order of steps.
"""

from typing import Any, Optional
from urllib.parse import urlsplit

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.orchestration import role_schema
from synthralos.orchestration import step_schema as of_steps
from synthralos.orchestration.field_reader import Fields
from synthralos.storage import state_codec

MAX_CONCURRENT = 20
MAX_TAGS = 50
MAX_TAG_CHARS = 64
MAX_RESUMES, DEFAULT_RESUMES = 10, 2
MAX_RESUME_DELAY_SECONDS, DEFAULT_RESUME_DELAY_SECONDS = 24 * 3600, 60
MAX_DEFINITION_BYTES = 1024 * 1024
# Prefix of the datastore keys that a webhook may read; no definition can send out other secrets.
WEBHOOK_KEYS = "synthralos_webhook"
_FIELDS = {
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


def role(raw, path="role"):
    """Return the normal form of a role.

    :raises InvalidInput: `raw` is not a valid role, or is too large.
    """
    return _require_small(path, role_schema.role(raw, path))


def orchestration(raw, path="orchestration", max_concurrent=5):
    """Return the normal form of an orchestration.

    :param max_concurrent: how many steps may run at the same time if `raw` does not set it.
    :raises InvalidInput: `raw` is not a valid orchestration, or is too large.
    """
    fields = Fields(raw, path, _FIELDS, role_schema.IGNORED)
    return _require_small(
        path,
        {
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
        },
    )


def role_updated(before, updates, path="updates"):
    """Return the normal form of a role after `updates`; see role_schema.updated."""
    return _require_small(path, role_schema.updated(before, updates, path))


def orchestration_updated(before, updates, path="updates"):
    """Return the normal form of an orchestration after `updates`.

    :param updates: fields in either spelling; null resets a field to its default, and `steps`
        replaces all steps.
    :raises InvalidInput: `updates` are not valid.
    """
    fields = Fields(updates, path, _FIELDS, role_schema.IGNORED)
    role_schema.keep_name(fields, before)
    merged = dict(before, **dict.fromkeys(fields.blank))
    merged.update((name, fields.value(name)) for name in fields.names())
    if fields.has("steps"):
        # Normalized here: mixed with normal forms, the style of their times could not be detected.
        merged["steps"] = of_steps.steps(merged["steps"], fields.path("steps"), fields.style)
    return orchestration(merged, path)


def every_step(steps):
    """Yield each step of a list of normal forms, including those in loops and branches."""
    for step in steps:
        yield step
        for inner in inside(step):
            yield from every_step(inner)


def inside(step):
    """Yield the lists of steps that a loop or branch contains."""
    if step["loop"] is not None:
        yield step["loop"]["steps"]
    if step["branch"] is not None:
        for case in step["branch"]["cases"]:
            yield case["steps"]
        yield step["branch"]["otherwise"]


def roles_used(orchestration):
    """Return the sorted names of the roles of its steps and their critics."""
    names = set()
    for step in every_step(orchestration["steps"]):
        names.add(step["role"])
        names.add((step["critic"] or {}).get("role"))
    return sorted(names - {None})


def tags(fields):
    """Return the unique tags of an orchestration."""
    def tag(path, value):
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_TAG_CHARS:
            hint = "Tags are text of at most %d characters" % MAX_TAG_CHARS
            raise InvalidInput(path, value, "is not a valid tag", hint)
        return value

    return fields.unique_list("tags", tag, MAX_TAGS)


def _auto_resume(fields: Fields) -> Optional[dict[str, Any]]:
    """Return {max_resumes, resume_delay}, or None if runs do not resume themselves.

    `true` stands for the defaults.
    """
    policy = fields.value("auto_resume", False)
    if isinstance(policy, bool):
        policy = {} if policy else None
    if policy is None:
        return None
    allowed = {"max_resumes": (), "resume_delay": ()}
    policy = Fields(policy, fields.path("auto_resume"), allowed, parent_style=fields.style)
    return {
        "max_resumes": policy.integer("max_resumes", DEFAULT_RESUMES, 1, MAX_RESUMES),
        "resume_delay": policy.seconds(
            "resume_delay", DEFAULT_RESUME_DELAY_SECONDS, 0, MAX_RESUME_DELAY_SECONDS
        ),
    }


def _webhook(fields):
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
    webhook_fields = {name: _webhook_key(webhook, name) for name in ("url_from", "headers_from")}
    webhook_fields["url"] = _url(webhook)
    return {name: webhook_fields[name] for name in allowed}


def _webhook_key(webhook, name):
    value = webhook.value(name)
    if value is None:
        return None
    require_identifier(webhook.path(name), value)
    if not value.startswith(WEBHOOK_KEYS):
        reason = "is not the datastore key of a webhook"
        hint = "Name the key %s_<name>; webhooks cannot read other secrets" % WEBHOOK_KEYS
        raise InvalidInput(webhook.path(name), value, reason, hint)
    return value


def _url(webhook):
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


def _require_small(path, normal):
    """Return `normal` if it is JSON of at most MAX_DEFINITION_BYTES; raise InvalidInput if not."""
    size = len(state_codec.canonical_json(path, normal))
    if size > MAX_DEFINITION_BYTES:
        reason = "takes %d bytes, more than %d" % (size, MAX_DEFINITION_BYTES)
        raise InvalidInput(path, None, reason, "Shorten its prompts, or store long text elsewhere")
    return normal
