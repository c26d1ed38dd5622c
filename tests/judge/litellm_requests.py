"""LiteLLM's transformation of chat requests, in the environment of peers.litellm().

Reads one JSON object a line: {"provider": ..., "model": ..., "messages": ..., "parameters": ...}
is answered with {"body": what LiteLLM would send} or {"error": a text}.
"""
import json
import os
import sys

# It reaches for a list of prices on the network otherwise.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from litellm.llms.vertex_ai.gemini.transformation import sync_transform_request_body
from litellm.types.utils import LlmProviders
from litellm.utils import ProviderConfigManager, get_optional_params


def body_of(provider, model, messages, parameters):
    """Return the body that LiteLLM would send."""
    optional = get_optional_params(
        model=model, custom_llm_provider=provider, messages=messages, **parameters
    )
    # Its handlers take out what is for themselves.
    for name in ("json_mode", "stream"):
        optional.pop(name, None)
    if provider == "gemini":
        return sync_transform_request_body(
            gemini_api_key="k", messages=messages, api_base=None, model=model, client=None,
            timeout=None, extra_headers=None, optional_params=optional, logging_obj=None,
            custom_llm_provider=provider, litellm_params={}, vertex_project=None,
            vertex_location=None, vertex_auth_header=None,
        )
    config = ProviderConfigManager.get_provider_chat_config(model, LlmProviders(provider))
    return config.transform_request(model, messages, optional, {}, {})


# LiteLLM prints advice.
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    try:
        answer = {"body": body_of(**json.loads(line))}
    except Exception as error:
        answer = {"error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(answer), file=answers)
