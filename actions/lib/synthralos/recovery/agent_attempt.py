"""One attempt of agent_recovery: a step of the plan, applied to the request, at one endpoint."""

from typing import TYPE_CHECKING, Any

from synthralos.calls import agent_run, idempotency
from synthralos.calls.agent_platforms.protocol import AgentRequest
from synthralos.config.platforms import AgentEndpoint
from synthralos.recovery import repair_actions

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment


def attempt(
    env: "Environment",
    case: dict[str, Any],
    step: dict[str, Any],
    endpoint: AgentEndpoint,
    seconds: float,
    clock: agent_run.Clock,
) -> dict[str, Any]:
    """Run the agent once and return the result of `agent_run.run_agent`, with the `step` added.

    :param step: of the plan.
    :raises CallError: the platform or the agent failed, or its output is not accepted.
    """
    request = repair_actions.apply(
        step["action"], case["agent"], step["parameters"], _facts(env, case)
    )
    platform_request = _platform_request(env, case, request, endpoint)
    result = agent_run.run_agent(env.client, endpoint, platform_request, seconds, clock)
    return dict(result, step=step["action"])


def _platform_request(
    env: "Environment", case: dict[str, Any], request: dict[str, Any], endpoint: AgentEndpoint
) -> AgentRequest:
    """Return the AgentRequest for an endpoint, from the request that a repair action made.

    After a reply that was lost the same request has the same key, at every platform: its run may
    be live. After a failure that is known, it is a new start.
    """
    agent_id = case["request"]["agent_id"]
    agent = env.settings.agents.get(agent_id)
    causes = [entry.get("cause") for entry in case["progress"]["trail"] if "attempt" in entry]
    known_ends = [cause for cause in causes if cause and cause not in agent_run.LOST_REPLIES]
    parts = dict(request, known_ends=len(known_ends))
    key = idempotency.key(case["run"], "POST", agent_id, parts)
    return AgentRequest(
        agent=endpoint.agent,
        query=request["query"],
        idempotency_key=key,
        config=request["config"],
        schema=case["request"]["context"].get("expected_schema"),
        context={"agent_id": agent_id, "execution_id": case["run"] or ""},
        agent_type=request["agent_type"],
        execute_path=agent.execute_path if agent else None,
        replay_of=request["replay_of"],
    )


def _facts(env: "Environment", case: dict[str, Any]) -> dict[str, Any]:
    request = case["request"]
    return {
        "failure": case["failure"],
        "failure_details": request["failure_details"],
        "context": request["context"],
        "expected_schema": request["context"].get("expected_schema"),
        "model_map": env.settings.model_map,
        "models": [
            (provider.name, model.name)
            for provider in env.settings.providers
            for model in provider.models
        ],
    }
