"""What the calls to LLMs of a run took and cost."""

from synthralos.reports.document import Table, Text
from synthralos.telemetry import llm_pricing


def llm_costs(env, run):
    """(facts for the head, blocks): of what was recorded, else of what the run's output tells."""
    calls = [call for group in run.attempt_groups for call in group.calls] or _calls_from_output(
        env, run
    )
    by_model = {}
    for provider, model, _, cause, input_tokens, output_tokens, cost in calls:
        entry = by_model.setdefault((provider, model), [0, 0, 0, 0, 0.0, True])
        entry[0] += 1
        entry[1] += cause is not None
        entry[2] += input_tokens or 0
        entry[3] += output_tokens or 0
        entry[4] += cost or 0.0
        entry[5] = entry[5] and (cost is not None or input_tokens is None)
    if not by_model:
        return [], ()
    currency = run.summary.get("currency") or env.settings.currency
    rows = [
        [
            "%s/%s" % key,
            call_count,
            failed,
            input_tokens,
            output_tokens,
            money(cost, currency) if is_priced else "no price",
        ]
        for key, (call_count, failed, input_tokens, output_tokens, cost, is_priced) in sorted(
            by_model.items()
        )
    ]
    tokens = sum(row[3] + row[4] for row in rows)
    facts = [("Tokens", f"{tokens:,}")]
    priced = [entry for entry in by_model.values() if entry[5]]
    if priced and tokens:
        cost_text = money(sum(entry[4] for entry in priced), currency)
        facts.append(
            ("Cost", cost_text if len(priced) == len(by_model) else "more than " + cost_text)
        )
    columns = ["Model", "Calls", "Failed", "Tokens read", "Tokens written", "Cost"]
    note = "Calls that failed tell of no tokens; prices are those of the configuration."
    return facts, (Table(columns, rows, tuple(columns[1:])), Text(note))


def money(amount, currency):
    """Two digits of what is there: small sums are usual."""
    digits = 2 if amount >= 1 or amount == 0 else 6
    text = ("%.*f" % (digits, amount)).rstrip("0") if digits > 2 else "%.2f" % amount
    return "%s %s" % (text, currency)


def _calls_from_output(env, run):
    """Calls, as telemetry.prices has them, of a run that left no summary."""
    calls = []
    result = run.top.output.get("result")
    result = result if isinstance(result, dict) else {}
    _append_call(env, calls, result.get("provider"), result.get("model"), result.get("usage"))
    for step in run.top.output.get("stepLogs") or ():
        if isinstance(step, dict) and isinstance(step.get("model"), str):
            provider, _, model = step["model"].partition("/")
            _append_call(env, calls, provider, model, step.get("usage"))
    return calls


def _append_call(env, calls, provider, model, usage):
    if isinstance(usage, dict) and isinstance(provider, str) and isinstance(model, str):
        tokens = [usage.get(name) for name in ("input_tokens", "output_tokens")]
        if all(isinstance(count, int) for count in tokens):
            cost = llm_pricing.call_cost(provider, model, usage, env.settings)
            calls.append([provider, model, 0, None] + tokens + [cost])
