"""A real Pushgateway and a real Prometheus: what a roll-up pushes can be queried, and alerts fire.

Both are Debian packages (prometheus, prometheus-pushgateway); without them the tests are skipped.
"""
import time

import pytest
from fixtures import PACK
from fixtures.prometheus import PROMETHEUS, PUSHGATEWAY, Gateway
from fixtures.waiting import until

from sandbox import Sandbox, rate_limit, status
from st2local import St2Local

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and PUSHGATEWAY),
    reason="prometheus and prometheus-pushgateway are not installed (Debian packages)",
)
GPT4 = "llm:openai/gpt-4"
LLM = {"original_request": {"prompt": "Hello", "model": "gpt-4"}, "failure_reason": "Server error",
       "fallback_models": ["claude-3-haiku"]}


@pytest.fixture
def gateway(tmp_path):
    running = Gateway(tmp_path)
    try:
        running.start_pushgateway()
        running.start_prometheus()
        yield running
    finally:
        running.close()


@pytest.fixture
def world(gateway, tmp_path):
    with Sandbox() as box:
        config = dict(
            box.pack_config(), backoff={"strategy": "immediate"},
            metrics={"pushgateway": {"url": gateway.address, "job": "st2/one", "instance": "a"}},
        )
        with St2Local(PACK, config, tmp_path / "state") as local:
            yield box, local


def roll_up(local):
    run = local.run("synthralos.metrics.roll_up", {})
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]


def test_what_is_pushed_can_be_queried(gateway, world):
    box, local = world
    box.script(GPT4, [rate_limit(retry_after=30)])
    local.run("synthralos.llm_retry", LLM)
    result = roll_up(local)
    assert result["push"] == {"pushed": True, "url": gateway.address, "error": None}
    assert result["summary"].endswith("; pushed")
    query = "sum by (job, instance, workflow) (synthralos_runs_completed_total)"
    until(lambda: gateway.query(query), "Prometheus has scraped it")
    labels = {"job": "st2/one", "instance": "a", "workflow": "llm_retry"}
    assert gateway.query(query) == [(labels, 1.0)]
    [(labels, value)] = gateway.query("synthralos_fallbacks_total")
    assert (labels["target"], labels["cause"], value) == (GPT4, "rate_limit", 1.0)
    tokens = "sum(gen_ai_client_token_usage_sum) > 0"
    assert gateway.query(tokens)
    quantile = "histogram_quantile(0.5, sum by (le) (synthralos_run_duration_seconds_bucket))"
    assert gateway.query(quantile)[0][1] > 0
    # Again, with nothing new: the same values, not twice as much.
    local.run("synthralos.llm_retry", LLM)
    roll_up(local)
    roll_up(local)
    until(lambda: gateway.query(query)[0][1] == 2.0, "the second run was scraped")
    # The second run passed it over: it had asked for time.
    assert gateway.query("synthralos_attempts_total{target='%s'}" % GPT4)[0][1] == 1.0
    assert gateway.query("sum(synthralos_attempts_total)")[0][1] == 3.0


def test_an_open_breaker_raises_its_alert(gateway, world):
    box, local = world
    box.script(GPT4, [status(500)], forever=True)
    for _ in range(5):
        local.run("synthralos.llm_retry", LLM)
    roll_up(local)
    until(lambda: "SynthralosBreakerOpen" in gateway.alerts(), "the alert fires")
    assert "SynthralosNotCounting" not in gateway.alerts()


def test_a_pushgateway_that_is_away_or_refuses_ends_no_roll_up(gateway, world):
    _, local = world
    local.run("synthralos.llm_retry", LLM)
    gateway.stop("pushgateway")
    result = roll_up(local)
    assert result["counted"] == 2 and result["push"]["pushed"] is False
    assert "not pushed: " + result["push"]["error"] in result["summary"]
    assert "connect" in result["push"]["error"].lower()
    gateway.start_pushgateway()
    began = time.time()
    until(lambda: roll_up(local)["push"]["pushed"], "it is pushed")
    query = "sum(synthralos_runs_completed_total)"
    until(lambda: gateway.query(query) and gateway.query(query)[0][1] == 1.0, "it was scraped")
    assert gateway.query("synthralos_last_rollup_timestamp_seconds")[0][1] >= began - 1
