"""Every failure of the corpus as the primary's answer, with a healthy fallback of another provider.

Each client gets each failure once, from a target of its own, and runs in its own process.
"""
from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import corpus_server, peers
from benchmarks.figures import Figure
from benchmarks.server import ANSWER, HEALTHY

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests" / "corpus" / "provider_failures.json"
GROUP = "Failures of the corpus (%d), then a healthy fallback of another provider"
# As tests/corpus/README.md says: the same model again, no.
INCURABLE_SCOPES = ("model", "account", "setup", "policy", "request")
# By default the pack sends nowhere else what a policy forbids.
POLICY = "content_policy"
# A call that has not ended by then, with all others of its client, counts as unanswered.
CLIENT_SECONDS = 120.0
# For imports, and for what is prepared before the first call.
START_SECONDS = 120.0
WAITING_WORKERS = 16


@dataclass(frozen=True)
class Failing:
    """An entry of the corpus that is a failure to a client of OpenAI's wire format."""

    id: str
    cause: str
    speaks_of: str

    @property
    def is_incurable(self) -> bool:
        """Whether calling the same target again is no use."""
        return self.speaks_of in INCURABLE_SCOPES


@dataclass(frozen=True, eq=False)
class Client:
    """One that is measured.

    :ivar module: in benchmarks.clients.
    :ivar python: returns its interpreter, from the folder of the peers' environments.
    :ivar options: see the module.
    :ivar waits: whether it waits between its calls, so that many have to run at the same time.
    """

    label: str
    module: str
    python: Callable[[str], str] = lambda folder: sys.executable
    options: dict[str, int] = field(default_factory=dict)
    waits: bool = False


OURS = Client("synthralos, defaults", "corpus_synthralos")
LITELLM = Client(
    "LiteLLM %s Router, num_retries=0" % peers.LITELLM, "corpus_litellm", peers.litellm,
    {"num_retries": 0},
)
CLIENTS = (
    OURS,
    LITELLM,
    Client(
        "LiteLLM %s Router, defaults" % peers.LITELLM, "corpus_litellm", peers.litellm, waits=True
    ),
    Client(
        "LangChain %s with_fallbacks, max_retries=0" % peers.LANGCHAIN, "corpus_langchain",
        peers.langchain, {"max_retries": 0},
    ),
    Client(
        "LangChain %s with_fallbacks, defaults" % peers.LANGCHAIN, "corpus_langchain",
        peers.langchain, waits=True,
    ),
    Client("tenacity, 3 attempts, no fallback", "corpus_tenacity"),
)


@dataclass(frozen=True)
class Score:
    """What became of the failures with one client.

    :ivar outcomes: {id: (text or None, seconds, error or None)}.
    :ivar calls: {id: calls of the target that fails}.
    """

    failing: list[Failing]
    outcomes: dict[str, tuple[str | None, float, str | None]]
    calls: dict[str, int]

    @property
    def answered_ids(self) -> set[str]:
        """Those to which the fallback's answer was returned."""
        return {name for name, outcome in self.outcomes.items() if outcome[0] == ANSWER}

    @property
    def accepted_ids(self) -> set[str]:
        """Those for which a failure was returned as the answer."""
        return {
            name for name, (text, _, error) in self.outcomes.items()
            if error is None and text != ANSWER
        }

    @property
    def repeated_ids(self) -> set[str]:
        """The incurable ones whose target was called more than once."""
        return {
            entry.id for entry in self.failing
            if entry.is_incurable and self.calls.get(entry.id, 0) > 1
        }

    @property
    def seconds(self) -> list[float]:
        return [seconds for _, seconds, _ in self.outcomes.values()]

    def note(self) -> str:
        """Return what the table says beside the median."""
        return "answered %d; failures returned as answers %d; calls %d; repeated %d; %.1f s" % (
            len(self.answered_ids), len(self.accepted_ids), sum(self.calls.values()),
            len(self.repeated_ids), sum(self.seconds),
        )


def failing_entries() -> list[Failing]:
    """Return the failures that can be sent to a client of OpenAI's wire format."""
    entries = json.loads(CORPUS.read_text(encoding="utf-8"))["entries"]
    return [
        Failing(entry["id"], entry["cause"], entry["speaks_of"])
        for entry in entries
        if entry["cause"] is not None and (entry["kind"] == "error" or entry["wire"] == "openai")
    ]


def score(client: Client, healthy: str, environments: str) -> Score:
    """Run one client over all failures.

    :param healthy: the base URL of the provider that answers.
    :param environments: the folder of the peers' environments.
    :raises peers.NotInstalled: its environment could not be made.
    """
    python, failing = client.python(environments), failing_entries()
    with corpus_server.running() as url:
        order = {
            "failing": url,
            "healthy": healthy,
            "ids": [entry.id for entry in failing],
            "workers": WAITING_WORKERS if client.waits else 1,
            "seconds": CLIENT_SECONDS,
            "options": client.options,
        }
        outcomes = _run(python, client.module, order)
        calls = corpus_server.calls(url)
    return Score(failing, outcomes, calls)


def _run(
    python: str, module: str, order: dict[str, Any]
) -> dict[str, tuple[str | None, float, str | None]]:
    env = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join(str(ROOT / path) for path in ("dev", "actions/lib")),
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        NO_PROXY="127.0.0.1",
        no_proxy="127.0.0.1",
    )
    completed = subprocess.run(
        [python, "-m", "benchmarks.clients." + module], input=json.dumps(order), text=True,
        env=env, capture_output=True, timeout=CLIENT_SECONDS + START_SECONDS,
    )
    if completed.returncode:
        raise RuntimeError("%s ended with %d: %s" % (
            module, completed.returncode, completed.stderr[-2000:]
        ))
    return {name: tuple(outcome) for name, outcome in json.loads(completed.stdout).items()}


def only_elsewhere(ours: Score, other: Score) -> set[str]:
    """Return the failures, but for policy, that `other` answers and the pack does not."""
    policy_ids = {entry.id for entry in ours.failing if entry.cause == POLICY}
    return other.answered_ids - ours.answered_ids - policy_ids


def _scores(healthy: str, environments: str) -> dict[str, Score]:
    """Return {label of a client: its score}, in the order of CLIENTS.

    Those that only compute run one after the other; those that wait run at the same time.
    """
    def score_or_none(client: Client) -> Score | None:
        try:
            return score(client, healthy, environments)
        except peers.NotInstalled as error:
            print("%s is skipped: %s" % (client.label, error), file=sys.stderr)
            return None

    scores = {client: score_or_none(client) for client in CLIENTS if not client.waits}
    waiting = [client for client in CLIENTS if client.waits]
    with concurrent.futures.ThreadPoolExecutor(len(waiting)) as executor:
        scores.update(zip(waiting, executor.map(score_or_none, waiting)))
    return {
        client.label: result for client in CLIENTS for result in [scores[client]]
        if result is not None
    }


def measure(base: str, environments: str) -> list[Figure]:
    """Return the figures.

    :param base: of the server that answers; environments: the folder of the peers' environments.
    """
    scores = _scores(base + HEALTHY, environments)
    group = GROUP % len(failing_entries())
    figures = [
        Figure(group, label, 1000 * statistics.median(result.seconds), "ms", note=result.note())
        for label, result in scores.items()
    ]
    ours = scores[OURS.label]
    figures.append(Figure(
        group, "synthralos: incurable targets called again", len(ours.repeated_ids), "entries",
        budget=0,
    ))
    if LITELLM.label in scores:
        missing = only_elsewhere(ours, scores[LITELLM.label])
        figures.append(Figure(
            group, "answered by LiteLLM's Router and not by synthralos, policy aside",
            len(missing), "entries", budget=0, note=", ".join(sorted(missing)),
        ))
    return figures
