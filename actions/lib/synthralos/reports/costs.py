"""Tokens and cost of the LLM calls of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthralos.core.json_safe import object_or_empty
from synthralos.reports.document import Block, Cell, Fact, Table, Text
from synthralos.telemetry import llm_pricing

if TYPE_CHECKING:
    from synthralos.reports.run_data import RunData
    from synthralos.runtime.environment import Environment
    from synthralos.telemetry.llm_pricing import CallRow


@dataclass
class ModelUsage:
    """The calls to one model, added up.

    :ivar calls, failed: number of calls, and of those that failed.
    :ivar cost: in the currency of the run, as far as prices are configured.
    :ivar is_priced: whether every call that used tokens has a price.
    """

    calls: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    is_priced: bool = True

    def add(self, call: Sequence[Any]) -> None:
        """Add one call, [provider, model, ms, cause, input tokens, output tokens, cost]."""
        _, _, _, cause, input_tokens, output_tokens, cost = call
        self.calls += 1
        self.failed += cause is not None
        self.input_tokens += input_tokens or 0
        self.output_tokens += output_tokens or 0
        self.cost += cost or 0.0
        self.is_priced = self.is_priced and (cost is not None or input_tokens is None)


def llm_costs(env: Environment, run: RunData) -> tuple[list[Fact], tuple[Block, ...]]:
    """Return (facts for the head of a report, blocks) of the LLM calls of a run.

    They are those that the run recorded, else those that its output describes.
    """
    calls = [call for group in run.attempt_groups for call in group.calls]
    usage_by_model: dict[tuple[Any, Any], ModelUsage] = {}
    for call in calls or _calls_from_output(env, run):
        usage_by_model.setdefault((call[0], call[1]), ModelUsage()).add(call)
    if not usage_by_model:
        return [], ()
    currency = run.summary.get("currency") or env.settings.currency
    rows: list[list[Cell]] = [
        [
            "%s/%s" % model, usage.calls, usage.failed, usage.input_tokens, usage.output_tokens,
            money(usage.cost, currency) if usage.is_priced else "no price",
        ]
        for model, usage in sorted(usage_by_model.items())
    ]
    usages = list(usage_by_model.values())
    tokens = sum(usage.input_tokens + usage.output_tokens for usage in usages)
    facts: list[Fact] = [("Tokens", f"{tokens:,}")]
    priced = [usage for usage in usages if usage.is_priced]
    if priced and tokens:
        cost_text = money(sum(usage.cost for usage in priced), currency)
        is_complete = len(priced) == len(usages)
        facts.append(("Cost", cost_text if is_complete else "more than " + cost_text))
    columns = ["Model", "Calls", "Failed", "Input tokens", "Output tokens", "Cost"]
    note = "Failed calls report no tokens. Prices are those of the configuration."
    return facts, (Table(columns, rows, tuple(columns[1:])), Text(note))


def money(amount: float, currency: str) -> str:
    """Format an amount: two decimals from 1 on, up to six below."""
    digits = 2 if amount >= 1 or amount == 0 else 6
    text = ("%.*f" % (digits, amount)).rstrip("0") if digits > 2 else "%.2f" % amount
    return "%s %s" % (text, currency)


def _calls_from_output(env: Environment, run: RunData) -> list[CallRow]:
    """Return the calls of a run without a summary, in the form of llm_pricing."""
    calls: list[CallRow] = []
    result = object_or_empty(run.top.output.get("result"))
    _append_call(env, calls, result.get("provider"), result.get("model"), result.get("usage"))
    for step in run.top.output.get("stepLogs") or ():
        if isinstance(step, dict) and isinstance(step.get("model"), str):
            provider, _, model = step["model"].partition("/")
            _append_call(env, calls, provider, model, step.get("usage"))
    return calls


def _append_call(
    env: Environment, calls: list[CallRow], provider: object, model: object, usage: object
) -> None:
    if isinstance(usage, dict) and isinstance(provider, str) and isinstance(model, str):
        read, written = usage.get("input_tokens"), usage.get("output_tokens")
        if isinstance(read, int) and isinstance(written, int):
            tokens: llm_pricing.Tokens = {"input_tokens": read, "output_tokens": written}
            cost = llm_pricing.call_cost(provider, model, tokens, env.settings)
            calls.append([provider, model, 0, None, read, written, cost])
