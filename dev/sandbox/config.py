"""The pack's configuration for a sandbox."""
import copy

from sandbox.openai import key
from sandbox.platform import TOKEN

MODELS = {
    "openai": [("gpt-4", 8192), ("gpt-4o", 128000), ("gpt-3.5-turbo", 16385)],
    "anthropic": [("claude-3-haiku", 200000), ("claude-3-5-sonnet", 200000)],
}
ROUTE_PROVIDERS = ("openai", "anthropic", "google")
REGIONS = ("us-east-1", "eu-west-1", "us-west-2")


# A small data centre: everything depends on the core switch.
TOPOLOGY = [
    {"name": "core-switch", "criticality": "critical", "zone": "east", "skills": ["network"]},
    {"name": "db-1", "depends_on": ["core-switch"], "criticality": "critical", "people": 200,
     "zone": "east", "skills": ["database"], "repair_seconds": 3600},
    {"name": "web-1", "depends_on": ["db-1"], "criticality": "high", "people": 3000,
     "zone": "east", "repair_seconds": 600},
    {"name": "web-2", "depends_on": ["db-1"], "criticality": "high", "people": 2000,
     "zone": "west", "repair_seconds": 600},
    {"name": "reports", "depends_on": ["db-1"], "people": 50, "zone": "west"},
]
CREWS = [
    {"name": "network-team", "skills": ["network"], "zone": "east", "channels": ["webhook"]},
    {"name": "database-team", "skills": ["database"], "zone": "east", "channels": ["webhook"]},
    {"name": "on-call", "zone": "west", "channels": ["webhook"]},
]


def pack_config(base_url):
    """Return the pack's configuration for the sandbox at `base_url`; a new dict."""
    return {
        "platforms": [{
            "base_url": base_url + "/platform",
            "token": TOKEN,
            "failure_webhook": "/webhooks/agent-failures",
            "restore_path": "/api/v1/agents/{agent_id}/restore",
            "fallbacks": [],
        }],
        "providers": [
            {
                "name": name,
                "api": name,
                "base_url": f"{base_url}/{name}/{name}",
                "api_key": key(name),
                "models": [{"name": n, "context_window": window} for n, window in models],
            }
            for name, models in MODELS.items()
        ],
        "routes": [
            {
                "provider": provider,
                "region": region,
                "base_url": f"{base_url}/region/{provider}/{region}",
            }
            for provider in ROUTE_PROVIDERS
            for region in REGIONS
        ],
        "default_provider": "openai",
        "default_region": "us-east-1",
        "model_map": {
            "anthropic": {"gpt-4": "claude-3-5-sonnet", "gpt-3.5-turbo": "claude-3-haiku"},
            "google": {"gpt-4": "gemini-1.5-pro"},
        },
        # Crews are notified by this webhook; tickets only if the channel is enabled.
        "escalation": {"webhook": {"url": base_url + "/hook/crews"}},
        "infrastructure": {
            "prometheus": {"base_url": base_url + "/prometheus"},
            "topology": copy.deepcopy(TOPOLOGY),
            "crews": copy.deepcopy(CREWS),
            "travel_seconds": {"east": {"west": 1800}},
            "settle_seconds": 0,
        },
    }


def models(provider):
    """The names of the provider's models; [] for a provider that is not in the config."""
    return [name for name, _ in MODELS.get(provider, [])]
