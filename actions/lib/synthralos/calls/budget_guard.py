"""The budget guard of LLM calls: each call must fit the budget of its run and of the day.

A call reserves its estimated prompt and its maximum output; afterwards its real usage is counted.
So a limit is exceeded by estimation errors at most: of each call in progress, a prompt of more
tokens than a third of its bytes, and, for a request without max_tokens, an answer longer than
`budget.assumed_output_tokens`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable, Optional

from synthralos.calls.http import CallNotMade
from synthralos.config.budget import STOP
from synthralos.core import failures
from synthralos.storage.llm_spending import ZERO, Amount, LlmSpending, Reservation
from synthralos.telemetry import llm_pricing, run_log
from synthralos.telemetry.llm_pricing import Tokens, TokenUsage

if TYPE_CHECKING:
    from synthralos.calls.llm_providers import ServedModel
    from synthralos.calls.llm_wires.chat_messages import Message
    from synthralos.config.settings import Settings
    from synthralos.core.failures import Failure
    from synthralos.storage.datastore import BestEffortDatastore

# Few languages and little code take more tokens; per message, for its role and separators.
BYTES_PER_TOKEN, TOKENS_PER_MESSAGE = 3, 8
# An image and the like, whatever its size.
TOKENS_PER_PART = 1500
_OUTPUT_PARAMETERS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_TEXT_FIELDS = ("role", "content")
# Parameters that the model reads.
_PROMPT_PARAMETERS = ("tools", "functions", "response_format", "tool_choice")
_HINTS = {
    "per_run": "Raise it in the configuration, or let the run request less",
    "per_day": "It starts again at 00:00 UTC; raise it in the configuration, or clear what was "
    "spent with synthralos.storage.clear kinds=budget",
}


class BudgetGuard:
    """Reserves LLM calls against the budget, and settles them.

    :param settings: with a `budget`.
    :param now: a callable that returns seconds since the epoch.
    :ivar warnings: the exceeded limits if `on_exceeded` is warn, for the result.
    """

    def __init__(
        self, settings: "Settings", store: "BestEffortDatastore", now: Callable[[], float]
    ) -> None:
        self._budget, self._settings = settings.budget, settings
        self._spending = LlmSpending(store, now)
        self.warnings: list[str] = []

    def reserve(
        self,
        served_model: "ServedModel",
        messages: "list[Message]",
        parameters: Mapping[str, Any],
        default_output: Optional[int],
        run: str,
    ) -> Reservation:
        """Reserve a call and return the keys that `settle` needs.

        :param default_output: max_tokens that is sent if the request has none, or None.
        :raises CallNotMade: it does not fit, by cause `budget`; or the model has no price and there
            is a limit on cost, by cause `configuration`.
        """
        tokens = (
            prompt_tokens(messages, parameters),
            _output_tokens(parameters, default_output, self._budget.assumed_output_tokens),
        )
        amount = (sum(tokens), self._cost(served_model, *tokens))
        keys = self._spending.reserve(
            run, amount, bool(self._budget.per_run), bool(self._budget.per_day)
        )
        if keys is None:
            self._on_unknown_spending()
            return []
        try:
            self._check(
                "per_run", self._budget.per_run, amount, lambda: self._spending.run_total(run)
            )
            self._check("per_day", self._budget.per_day, amount, self._spending.day_total)
        except CallNotMade:
            self._spending.settle(keys, ZERO)
            raise
        return keys

    def settle(
        self,
        keys: Reservation,
        served_model: "ServedModel",
        usage: Optional[TokenUsage],
        failure: "Optional[Failure]",
    ) -> None:
        """Counts what a call took.

        :param usage: None if it is unknown; failure: why there is no completion, or None.
        """
        # Some servers respond without usage.
        if usage is not None and usage["total_tokens"]:
            tokens = usage["input_tokens"], usage["output_tokens"]
            self._spending.settle(keys, (sum(tokens), self._cost(served_model, *tokens)))
        elif usage is None and failure is not None and _was_free(failure):
            self._spending.settle(keys, ZERO)
        # Otherwise the usage is unknown: the reservation counts.

    def _check(
        self,
        period: str,
        limits: Mapping[str, float],
        amount: Amount,
        used: Callable[[], Optional[Amount]],
    ) -> None:
        if not limits:
            return
        total = used()
        if total is None:
            self._on_unknown_spending()
            return
        for index, name in enumerate(("tokens", "cost")):
            limit = limits.get(name)
            if limit is not None and total[index] > limit:
                self._exceeded(period, name, limit, total[index] - amount[index], amount[index])

    def _exceeded(
        self, period: str, name: str, limit: float, used: float, call_amount: float
    ) -> None:
        unit = "tokens" if name == "tokens" else self._settings.currency
        message = (
            "budget.%s.%s, %s %s, does not allow the call: %s are used, and it may take %s" %
            (period, name, _format(limit), unit, _format(used), _format(call_amount))
        )
        if self._budget.on_exceeded == STOP:
            raise CallNotMade(
                failures.make_failure("budget", "%s. %s." % (message, _HINTS[period]))
            )
        run_log.emit("over_budget", period=period, limited=name, limit=limit, used=used)
        self._warn(message.replace("does not allow the call", "is exceeded"))

    def _on_unknown_spending(self) -> None:
        if self._budget.on_datastore_unavailable == STOP:
            message = (
                "spending is unknown because the datastore is unavailable, and "
                "budget.on_datastore_unavailable is stop"
            )
            raise CallNotMade(failures.make_failure("budget", message))

    def _cost(self, served_model: "ServedModel", read: int, written: int) -> float:
        provider, model = served_model.provider.name, served_model.model.name
        usage: Tokens = {"input_tokens": read, "output_tokens": written}
        cost = llm_pricing.call_cost(provider, model, usage, self._settings)
        if cost is not None:
            return cost
        if "cost" in self._budget.per_run or "cost" in self._budget.per_day:
            message = "%s/%s has no price, and budget has a limit on cost. Give it one: price " \
                "{input, output} of the model in the configuration, 0 where it is free"
            message %= (provider, model)
            if self._budget.on_exceeded == STOP:
                raise CallNotMade(failures.make_failure("configuration", message))
            self._warn(message)
        return 0.0

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)


def prompt_tokens(messages: "Iterable[Message]", parameters: Mapping[str, Any]) -> int:
    """Return an upper estimate of the tokens of chat messages and of what is sent with them."""
    total = 0
    for message in messages:
        other_fields = {name: value for name, value in message.items() if name not in _TEXT_FIELDS}
        total += TOKENS_PER_MESSAGE + _tokens(message.get("content"))
        total += _tokens(json.dumps(other_fields)) if other_fields else 0
    prompt_parameters = {
        name: parameters[name] for name in _PROMPT_PARAMETERS if name in parameters
    }
    return total + (_tokens(json.dumps(prompt_parameters)) if prompt_parameters else 0)


def _tokens(content: object) -> int:
    if isinstance(content, str):
        return -(-len(content.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)
    if not isinstance(content, list):
        return 0
    return sum(
        _tokens(part["text"])
        if isinstance(part, dict) and isinstance(part.get("text"), str)
        else TOKENS_PER_PART
        for part in content
    )


def _output_tokens(parameters: Mapping[str, Any], default: Optional[int], assumed: int) -> int:
    for name in _OUTPUT_PARAMETERS:
        value = parameters.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return assumed if default is None else default


def _was_free(failure: "Failure") -> bool:
    """Return whether the provider rejected the call, or never received it."""
    was_rejected = failure.status is not None and failure.status >= 300
    was_rejected = was_rejected or failure.cause == "configuration"
    return was_rejected or failure.evidence.get("sent") is False


def _format(number: float) -> str:
    return "%d" % number if isinstance(number, int) else "%.6g" % number
