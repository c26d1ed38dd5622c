"""The library, with its defaults: rounds over the failing provider and the healthy one.

PYTHONPATH has dev/ and actions/lib. Each entry has a store of its own, so that no failure changes
what is tried after another.
"""
import time

from benchmarks.clients.corpus_client import KEY, MESSAGES, MODEL, main
from benchmarks.clients.ours import Memory
from synthralos.calls import llm_calls, llm_providers, rounds
from synthralos.calls.attempts import RunProgress
from synthralos.calls.deadline import Deadline
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.relations import Target
from synthralos.config.settings import Settings
from synthralos.core.redaction import Redactor
from synthralos.recovery.llm_retry import DEFAULT_RUN_SECONDS
from synthralos.runtime.environment import Environment
from synthralos.storage.datastore import BestEffortDatastore

REQUEST = ChatRequest(MESSAGES)


def asker(failing, healthy):
    """Return a callable that plays rounds until one answers, and waits between them."""
    settings = Settings.from_config({
        "providers": [
            {"name": name, "base_url": base_url, "api_key": KEY, "models": [MODEL]}
            for name, base_url in (("failing", failing), ("healthy", healthy))
        ]
    })
    store = BestEffortDatastore(Memory())
    env = Environment(settings, store, time.time, "benchmark", Redactor())
    models = [
        llm_providers.resolve_model(settings.providers, MODEL, provider.name)
        for provider in settings.providers
    ]
    targets = [
        Target.over(
            served_model.connection, served_model.target, served_model.provider.name,
            served_model,
        )
        for served_model in models
    ]

    def attempt(target, seconds, number):
        return llm_calls.complete(env.client, target.endpoint, REQUEST, seconds, env.run)

    def ask():
        progress = RunProgress()
        deadline = Deadline.of_run(time.time(), DEFAULT_RUN_SECONDS, time.time)
        while True:
            round_result = rounds.play_round(
                targets, progress, rounds.RetryRules(), attempt, env.ledger, deadline, time.time,
                env.run, env.host_memory,
            )
            if round_result.result is not None:
                return round_result.result["response"]
            if round_result.delay is None:
                raise RuntimeError(round_result.reason)
            time.sleep(round_result.delay)

    return ask


def prepare(order):
    return {
        entry_id: asker(order.base_url(entry_id), order.healthy) for entry_id in order.ids
    }


if __name__ == "__main__":
    main(prepare)
