"""A fake outside world on loopback: agent platforms, LLM providers and regions.

Faults are scripted, and every call is recorded.

    from sandbox import Sandbox, ok, rate_limit

    with Sandbox() as box:
        box.script("llm:openai/gpt-4", [rate_limit(retry_after=30), ok(text="hello")])
        ...call box.pack_config()["providers"][0]["base_url"] + "/chat/completions"...
        assert [call.status for call in box.calls_to("llm:openai")] == [429, 200]

What it simulates, and the target by which scripts and the record refer to it:

    /platform, /platform-NAME          the SynthralOS backend: `platform`, `platform:NAME`
    /openai/PROVIDER/...               an OpenAI-compatible provider: `llm:PROVIDER/MODEL`
    /anthropic/PROVIDER/...            an Anthropic-compatible provider: `llm:PROVIDER/MODEL`
    /region/PROVIDER/REGION/...        a generic upstream: `route:PROVIDER/REGION`
    /prometheus/api/v1/query           a Prometheus: `prometheus`; query_range follows it
    /hook/NAME                         a webhook for notifications of people: `hook:NAME`
    /_sandbox/...                      its own control surface, for other processes (`control`)

Steps are made by the constructors in `steps`, targets are explained in `targets`, the wires are one
module each, and `scenario` describes the same scripts as plain data, for files and for HTTP.
"""
from sandbox.box import Sandbox
from sandbox.calls import Call
from sandbox.steps import (
    Step,
    agent_failed,
    blank,
    content_policy,
    context_length,
    cut,
    delay,
    down,
    invalid,
    malformed,
    model_not_found,
    no_finish_reason,
    ok,
    overloaded,
    quota,
    rate_limit,
    reset,
    status,
    unauthorized,
)

__all__ = [
    "Call",
    "Sandbox",
    "Step",
    "agent_failed",
    "blank",
    "content_policy",
    "context_length",
    "cut",
    "delay",
    "down",
    "invalid",
    "malformed",
    "model_not_found",
    "no_finish_reason",
    "ok",
    "overloaded",
    "quota",
    "rate_limit",
    "reset",
    "status",
    "unauthorized",
]
