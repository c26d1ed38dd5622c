"""Orchestrations and roles: what people give becomes one normal form, or is refused.

The normal form is plain JSON with every field there, and is its own normal form. An orchestration:

    {name, description: text or null, tags [texts], active, max_concurrent 1-20,
     on_failure "fail" | "continue",
     auto_resume: null or {max_resumes 1-10, resume_delay: seconds},
     webhook: null or {url or url_from, headers_from},
     output: a mapping with templates, or null, steps [step]}

With `auto_resume` a run that failed starts the run that resumes it itself, after `resume_delay`, at
most `max_resumes` times in a row; see resuming.

A step:

    {name, description, order, kind "llm" | "action" | "approval" | "loop" | "branch" |
     "orchestration", role: name or null, action: reference or null, parameters: a mapping or null,
     group: id or null, depends_on: names or null, condition: a tree or null (conditions),
     input: a mapping with templates or null, of an LLM step also one text; output: a mapping or
     null, max_retries 0-10, retry_delay and timeout: seconds, priority: higher goes first,
     fallback_models [names], context_keys [keys], schema: of draft 4 or null,
     critic: null or {role, threshold 0-1}, cache, on_failure: null for the orchestration's,
     loop: null or {steps, until, max_rounds}, branch: null or {cases [{when, steps}], otherwise},
     orchestration: the name of another or null, approval: null or {question, timeout: seconds}}

Roles are in roles.py. How steps follow each other is in graph.py.
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
# Which datastore keys a webhook may read: a definition must not send any other secret anywhere.
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


def role(given, where="role"):
    """The normal form of a role. InvalidInput names what is wrong in `given`."""
    return _small(where, role_schema.role(given, where))


def orchestration(given, where="orchestration", max_concurrent=5):
    """The normal form of an orchestration. InvalidInput names what is wrong in `given`.

    :param max_concurrent: how many steps run at once where the orchestration does not say.
    """
    fields = Fields(given, where, _FIELDS, role_schema.IGNORED)
    return _small(
        where,
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
            "steps": of_steps.steps(fields.value("steps"), fields.at("steps"), fields.style),
        },
    )


def role_updated(before, updates, where="updates"):
    """The normal form of a role after `updates`; see roles.updated."""
    return _small(where, role_schema.updated(before, updates, where))


def orchestration_updated(before, updates, where="updates"):
    """The normal form of an orchestration after `updates`: fields as people give them; null is the
    default; steps are all of them. InvalidInput names what is wrong in `updates`.
    """
    fields = Fields(updates, where, _FIELDS, role_schema.IGNORED)
    role_schema.keep_name(fields, before)
    merged = dict(before, **dict.fromkeys(fields.blank))
    merged.update((name, fields.value(name)) for name in fields.names())
    if fields.has("steps"):
        # Beside normal forms nothing would tell how these spell their times.
        merged["steps"] = of_steps.steps(merged["steps"], fields.at("steps"), fields.style)
    return orchestration(merged, where)


def every_step(steps):
    """Each step of a list of normal forms, those of loops and branches too."""
    for step in steps:
        yield step
        for inner in inside(step):
            yield from every_step(inner)


def inside(step):
    """The lists of steps that a step holds."""
    if step["loop"] is not None:
        yield step["loop"]["steps"]
    if step["branch"] is not None:
        for case in step["branch"]["cases"]:
            yield case["steps"]
        yield step["branch"]["otherwise"]


def roles_used(orchestration):
    """The sorted names of the roles that its steps and their critics have."""
    found = set()
    for step in every_step(orchestration["steps"]):
        found.add(step["role"])
        found.add((step["critic"] or {}).get("role"))
    return sorted(found - {None})


def tags(fields):
    def tag(where, value):
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_TAG_CHARS:
            way_out = "Tags are text of at most %d characters" % MAX_TAG_CHARS
            raise InvalidInput(where, value, "is no tag", way_out)
        return value

    return fields.unique_list("tags", tag, MAX_TAGS)


def _auto_resume(fields: Fields) -> Optional[dict[str, Any]]:
    """{max_resumes, resume_delay}, or None: a run that failed stays so. `true` is the defaults."""
    policy = fields.value("auto_resume", False)
    if isinstance(policy, bool):
        policy = {} if policy else None
    if policy is None:
        return None
    known_fields = {"max_resumes": (), "resume_delay": ()}
    policy = Fields(policy, fields.at("auto_resume"), known_fields, around=fields.style)
    return {
        "max_resumes": policy.whole("max_resumes", DEFAULT_RESUMES, 1, MAX_RESUMES),
        "resume_delay": policy.seconds(
            "resume_delay", DEFAULT_RESUME_DELAY_SECONDS, 0, MAX_RESUME_DELAY_SECONDS
        ),
    }


def _webhook(fields):
    given = fields.value("webhook")
    if given is None:
        return None
    given = {"url": given} if isinstance(given, str) else given
    known = {"url": (), "url_from": (), "headers_from": ()}
    webhook = Fields(given, fields.at("webhook"), known, around=fields.style)
    if webhook.has("url") == webhook.has("url_from"):
        why = "has both url and url_from" if webhook.has("url") else "has no url"
        raise InvalidInput(webhook.where, None, why, "Give url, or url_from: a datastore key")
    found = {name: _webhook_key(webhook, name) for name in ("url_from", "headers_from")}
    found["url"] = _url(webhook)
    return {name: found[name] for name in known}


def _webhook_key(webhook, name):
    value = webhook.value(name)
    if value is None:
        return None
    require_identifier(webhook.at(name), value)
    if not value.startswith(WEBHOOK_KEYS):
        why = "is no datastore key of a webhook"
        way_out = "Call the key %s_<name>; no other secret leaves by a webhook" % WEBHOOK_KEYS
        raise InvalidInput(webhook.at(name), value, why, way_out)
    return value


def _url(webhook):
    value = webhook.text("url", longest=2000)
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good or not value.isprintable() or " " in value:
        way_out = "Write it as https://host[:port][/path]"
        raise InvalidInput(webhook.at("url"), value, "is no URL", way_out)
    return value


def _small(where, normal):
    """`normal` when it is JSON of at most LARGEST bytes, else InvalidInput."""
    size = len(state_codec.canonical_json(where, normal))
    if size > MAX_DEFINITION_BYTES:
        why = "takes %d bytes, more than %d" % (size, MAX_DEFINITION_BYTES)
        raise InvalidInput(where, None, why, "Shorten its prompts, or keep long text elsewhere")
    return normal
