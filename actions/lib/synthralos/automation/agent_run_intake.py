"""Turns webhooks of agent platforms about failed runs into incidents.

A webhook is a hint: only the ids of the run are read from it. Whatever starts a recovery is what
the platform itself says of that run, when it is asked with the credentials of the configuration.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Optional

from synthralos.automation import admission, observation, outcomes
from synthralos.automation.alert_triage import NOT_A_FAILURE
from synthralos.automation.config import AutomationConfig
from synthralos.automation.incident import Incident, failure_fields
from synthralos.calls import idempotency, output_schema
from synthralos.calls.agent_platforms import connect
from synthralos.calls.agent_platforms.protocol import (
    ASKING,
    COMPLETED,
    FAILED,
    RUNNING,
    UNKNOWN,
    Handle,
    RunDetails,
    RunSource,
)
from synthralos.calls.agent_platforms.run_notifications import RunNotification, read_notification
from synthralos.calls.http import CallError
from synthralos.config.platforms import Platform
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.core.timestamps import to_iso
from synthralos.runtime.environment import Environment
from synthralos.storage import agent_runs, incidents

# Of one platform, for all that it is asked.
ASK_SECONDS = 30.0
MAX_MESSAGE_CHARS = 2000
# How the platform answers for a run that does not exist, or that is not ours to see. Everything
# else may be different the next time.
_REFUSALS = (400, 403, 404, 405, 410, 414, 422)
_NOT_FAILED = {
    RUNNING: "the platform says that the run is still working",
    ASKING: "the platform says that the run waits for an answer, which is no failure",
    COMPLETED: "the platform says that the run has completed",
}

Result = dict[str, Any]


class _ConfiguredAgent(NamedTuple):
    """An agent of the configuration, and its run by the agent's name at the platform."""

    agent_id: str
    handle: Handle


class _PlatformRun(NamedTuple):
    platform: Platform
    source: RunSource
    details: RunDetails


def receive(
    env: Environment,
    config: AutomationConfig,
    payload: Mapping[str, Any],
    platform_name: Optional[str] = None,
) -> tuple[bool, Result]:
    """Process a webhook about a run of an agent.

    :param payload: of the trigger of a webhook: {body}.
    :param platform_name: of the platform that posts to it; by default, any that speaks the API of
        the notification.
    :returns: (succeeded, {summary, outcome, reason, subject, workflow, run, ticket}). It has not
        succeeded if the platform could not be asked: nothing is recorded then, so the same webhook
        once more is not a repetition.
    :raises InvalidInput: the body is no notification about a run; the platform is not configured.
    """
    notification = read_notification(payload.get("body"))
    platforms = _platforms(env, notification.api, platform_name)
    if not notification.ids:
        return True, _nothing(NOT_A_FAILURE, "the webhook is not about a run of an agent")
    if not notification.is_over:
        return True, _nothing(NOT_A_FAILURE, "the webhook says that the run is working")
    try:
        platform_run = _find(env, platforms, notification)
    except CallError as error:
        return False, _not_asked(error)
    if platform_run is None:
        reason = "no configured agent's platform knows this run, or lets our credential see it"
        return True, _nothing(outcomes.UNCONFIRMED, reason)
    return True, _receive_run(env, config, platform_run)


def _receive_run(env: Environment, config: AutomationConfig, platform_run: _PlatformRun) -> Result:
    details = platform_run.details
    agents = _agents_of(env, platform_run)
    if len(agents) != 1:
        return _nothing(outcomes.NOT_CONFIGURED, _reason_for_agents(agents))
    [agent] = agents
    failure = _failure_of(details)
    if failure is None:
        return _nothing(NOT_A_FAILURE, _NOT_FAILED[details.state.status], agent)
    if failure.cause == "cancelled":
        reason = "the run was cancelled, which is taken for somebody's decision"
        return _nothing(NOT_A_FAILURE, reason, agent)
    if _is_own(env, details, agent):
        reason = "a run of this pack has started it, and handles its failure"
        return _nothing(outcomes.OWN_EXECUTION, reason, agent)
    age = 0.0 if details.started_at is None else env.now() - details.started_at
    if age > incidents.TTL_SECONDS:
        # What is recorded of older runs has expired: this may be a repetition.
        reason = "the run began more than %d days ago" % (incidents.TTL_SECONDS // 86400)
        return _nothing(outcomes.EXPIRED, reason, agent)
    incident = _incident(platform_run, agent, failure, _blocked_reason(env, details, agent))
    if details.is_superseded and not _was_acted_on(env, incident):
        reason = "a later run has begun on the same thread"
        return _nothing(NOT_A_FAILURE, reason, agent)
    result = admission.admit(env, config, incident)
    summary = observation.describe_result(result, agent.agent_id)
    outcome = (result.get("would") or result)["outcome"]
    return dict({"summary": summary, "reason": outcomes.REASONS.get(outcome)}, **result)


def _platforms(env: Environment, api: str, name: Optional[str]) -> list[Platform]:
    """Return the platforms that may have sent a notification, each followed by its standbys."""
    platforms = [
        platform
        for platform in env.settings.platforms
        if name is None or name in (platform.name, platform.standby_of)
    ]
    if name is not None and not platforms:
        names = ", ".join(platform.name for platform in env.settings.platforms)
        hint = "Use one of the names in `platforms` of the configuration: %s" % (names or "none")
        raise InvalidInput("platform", name, "is not configured", hint)
    speakers = [platform for platform in platforms if platform.api == api]
    if not speakers:
        hint = "Set `api: %s` for the platform that posts this, or correct the rule" % api
        raise InvalidInput(
            "platform", name, "no platform with the API of this webhook is configured", hint
        )
    return speakers


def _find(
    env: Environment, platforms: list[Platform], notification: RunNotification
) -> Optional[_PlatformRun]:
    """Return the run at the first platform that knows it, or None.

    :raises CallError: none knows it, and not all could be asked.
    """
    unasked: Optional[CallError] = None
    for platform in platforms:
        source = connect(env.client, platform)
        assert isinstance(source, RunSource)
        for agent in _names_to_ask(env, platform):
            handle = Handle(platform.api, platform.name, agent, notification.ids)
            try:
                details = source.describe(handle, ASK_SECONDS)
            except CallError as error:
                if error.failure.status not in _REFUSALS:
                    unasked = unasked or error
                continue
            if details.state.status != UNKNOWN:
                return _PlatformRun(platform, source, details)
    if unasked is not None:
        raise unasked
    return None


def _names_to_ask(env: Environment, platform: Platform) -> list[str]:
    """Return what configured agents are called at a platform, one for each address; only A2A has
    several.
    """
    names = [
        endpoint.agent
        for agent_id in env.settings.agents
        for endpoint in env.settings.agent_endpoints(agent_id)
        if endpoint.platform.name == platform.name
    ]
    unique = list(dict.fromkeys(names))
    return unique if "{agent}" in platform.agent_path else unique[:1]


def _agents_of(env: Environment, platform_run: _PlatformRun) -> list[_ConfiguredAgent]:
    """Return the configured agents that a run may be of; one of them, if the run names it."""
    agents: dict[str, _ConfiguredAgent] = {}
    for agent_id, agent in env.settings.agents.items():
        for endpoint in env.settings.agent_endpoints(agent_id):
            is_same_platform = endpoint.platform.name == platform_run.platform.name
            if is_same_platform and platform_run.source.is_agent(
                platform_run.details, endpoint.agent, agent.config
            ):
                handle = replace(platform_run.details.state.handle, agent=endpoint.agent)
                agents.setdefault(agent_id, _ConfiguredAgent(agent_id, handle))
    named = agents.get(str(platform_run.details.metadata.get("agent_id")))
    return list(agents.values()) if named is None else [named]


def _reason_for_agents(agents: list[_ConfiguredAgent]) -> str:
    if not agents:
        return "no agent of the configuration runs as the agent of this run"
    names = ", ".join(agent.agent_id for agent in agents)
    return "it may be a run of %s; set agent_id in its metadata to one of them" % names


def _failure_of(details: RunDetails) -> Optional[Failure]:
    """Return why a run has no answer, or None if it has, or may still have one."""
    state = details.state
    if state.status == COMPLETED:
        failure: Optional[Failure] = output_schema.accept_output(state.output)[1]
        return failure
    return state.failure if state.status == FAILED else None


def _is_own(env: Environment, details: RunDetails, agent: _ConfiguredAgent) -> bool:
    if any(idempotency.is_key(key) for key in details.keys):
        return True
    handles = (
        Handle.restore(run.handle) for run in agent_runs.undelivered(env.store, agent.agent_id)
    )
    return any(
        handle is not None and _run_id(handle) == _run_id(agent.handle) for handle in handles
    )


def _was_acted_on(env: Environment, incident: Incident) -> bool:
    """Return whether the run was reported before: what followed it may be its own recovery."""
    events = incidents.recent_events(env.store, incident.id)
    return any(event["kind"] != incidents.OBSERVED for event in events)


def _run_id(handle: Handle) -> Optional[str]:
    """Return the id of the run itself: a thread or a context may have several."""
    return handle.ids.get("run") or handle.ids.get("task") or handle.ids.get("response")


def _blocked_reason(
    env: Environment, details: RunDetails, agent: _ConfiguredAgent
) -> Optional[str]:
    """Return why a person decides what becomes of a run that failed, or None."""
    if env.settings.agents[agent.agent_id].unsafe_to_repeat:
        # Also where it is continued: the step that failed would begin again.
        return outcomes.UNSAFE
    return outcomes.NO_QUERY if details.query is None else None


def _incident(
    platform_run: _PlatformRun, agent: _ConfiguredAgent, failure: Failure, blocked: Optional[str]
) -> Incident:
    details = platform_run.details
    # A standby is another address of the same platform.
    platform = platform_run.platform.standby_of or platform_run.platform.name
    identity = "%s %s" % (platform, _run_id(agent.handle))
    digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()
    incident_id = "agent-run-" + digest[:32]
    message = failure.message[:MAX_MESSAGE_CHARS]
    return Incident(
        id=incident_id,
        since="" if details.started_at is None else to_iso(details.started_at),
        subject=agent.agent_id,
        workflow="agent_recovery",
        parameters={
            "agent_id": agent.agent_id,
            "failure_type": failure.type,
            "original_query": "@case",
        },
        request={
            "original_query": details.query,
            "failure_details": {"message": message, "cause": failure.cause},
            "context": {
                "handle": agent.handle.as_dict(), "idempotency_key": "failure " + incident_id,
            },
        },
        failure=failure_fields(failure),
        summary="%s failed at %s: %s" % (agent.agent_id, platform, message),
        blocked=blocked,
        is_state=False,
    )


def _nothing(outcome: str, reason: str, agent: Optional[_ConfiguredAgent] = None) -> Result:
    subject = None if agent is None else agent.agent_id
    return {
        "summary": "%s: %s" % (outcome, reason),
        "outcome": outcome,
        "reason": reason,
        "subject": subject,
        "workflow": None,
        "run": None,
        "ticket": None,
    }


def _not_asked(error: CallError) -> Result:
    message = "the platform could not be asked about the run: %s" % error.failure.message
    hint = "Nothing is recorded of this webhook; it counts when it is sent, or run, once more"
    result = _nothing(outcomes.FAILED, message)
    return dict(result, error={"cause": error.failure.cause, "message": message, "hint": hint})
