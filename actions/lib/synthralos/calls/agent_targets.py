"""The targets of an agent's attempts: a platform, or an agent of it, at one address."""

from collections.abc import Iterable
from dataclasses import replace
from math import inf

from synthralos.calls import agent_platforms
from synthralos.calls.relations import Target
from synthralos.config.platforms import AgentEndpoint, Platform

PREFIX = "platform:"


def target_name(platform: Platform) -> str:
    """Return the name by which the ledger knows a platform."""
    return PREFIX + platform.name


def platform_target(
    platform: Platform, endpoint: object = None, unsafe_to_repeat: bool = False
) -> Target:
    """Return the Target of a platform, whatever agent it runs."""
    target = Target.over(
        platform.connection,
        target_name(platform),
        PREFIX + (platform.standby_of or platform.name),
        endpoint,
        unsafe_to_repeat=unsafe_to_repeat,
    )
    if not agent_platforms.capabilities_of(platform.api).joins:
        return target
    # Its time limit is that of a request; an agent works on between two of them.
    limit = inf if platform.run_seconds is None else float(platform.run_seconds)
    return replace(target, seconds=limit)


def targets_of(endpoints: Iterable[AgentEndpoint], unsafe_to_repeat: bool) -> list[Target]:
    """Return the Targets of an agent, in the order of its endpoints.

    What breaks is the platform, for all its agents. Only where an agent falls over to another one
    of the same platform does a target have that agent in its name.
    """
    targets: list[Target] = []
    for endpoint in endpoints:
        target = platform_target(endpoint.platform, endpoint, unsafe_to_repeat)
        if any(other.name == target.name for other in targets):
            target = replace(target, name="%s/%s" % (target.name, endpoint.agent))
        targets.append(target)
    return targets
