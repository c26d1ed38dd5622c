"""What calls to LLMs may take: the configuration, what was spent, the guard before each call."""
import itertools
import json

import pytest

from synthralos.calls import budget_guard as guards
from synthralos.calls import llm_calls, llm_providers
from synthralos.calls.http import CallError, CallNotMade
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.config.budget import BudgetConfig
from synthralos.config.settings import Settings
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.storage import llm_spending
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.keyspace import kind_of_key
from synthralos.storage.llm_spending import LlmSpending

# 2026-11-23T12:00:00Z, the beginning of a bucket.
NOON = 1_795_435_200.0
MODELS = [
    {"name": "gpt-4", "price": {"input": 10, "output": 30}}, {"name": "free", "price": {
        "input": 0, "output": 0}}, "unpriced",
]
MESSAGES = [{"role": "user", "content": "x" * 300}]


@pytest.fixture
def spent(store, clock):
    clock.at = NOON
    return LlmSpending(store, clock)


def call(spent, run="r", tokens=10, cost=0.5, end=True):
    keys = spent.reserve(run, (tokens, cost), True, True)
    if end:
        spent.settle(keys, (tokens, cost))
    return keys


class TestConfiguration:
    def test_nothing_is_limited_by_default(self):
        assert not BudgetConfig() and not Settings.from_config({}).budget
        assert not BudgetConfig.from_config({"per_run": None, "per_day": {}})

    def test_a_limit_of_nothing_is_a_limit(self):
        assert BudgetConfig.from_config({"per_day": {"tokens": 0}}).per_day == {"tokens": 0}
        assert BudgetConfig.from_config({"per_run": {"cost": 0.5}})

    @pytest.mark.parametrize(
        "entry, field",
        [
            ({"per_run": 7}, "per_run"), ({"per_run": {"token": 7}}, "per_run"),
            ({"per_day": {"tokens": 1.5}}, "per_day.tokens"),
            ({"per_day": {"tokens": True}}, "per_day.tokens"),
            ({"per_day": {"cost": -1}}, "per_day.cost"),
            ({"per_day": {"cost": float("nan")}}, "per_day.cost"),
            ({"per_run": {"cost": "1"}}, "per_run.cost"), ({"on_exceeded": "x"}, "on_exceeded"),
            ({"on_datastore_unavailable": "x"}, "on_datastore_unavailable"),
            ({"assumed_output_tokens": -1}, "assumed_output_tokens"),
        ],
    )
    def test_a_wrong_entry_is_named(self, entry, field):
        with pytest.raises(InvalidInput) as caught:
            Settings.from_config({"budget": entry})
        assert caught.value.field == "budget." + field and caught.value.hint


class TestSpending:
    def test_a_call_counts_from_its_beginning_and_as_what_it_took_after_its_end(self, spent):
        keys = call(spent, tokens=100, cost=1.0, end=False)
        assert spent.day_total() == spent.run_total("r") == (100, 1.0)
        spent.settle(keys, (7, 0.25))
        assert spent.day_total() == spent.run_total("r") == (7, 0.25)

    def test_runs_are_told_apart_and_days_are_not(self, spent):
        call(spent, "a")
        call(spent, "b")
        assert spent.run_total("a") == (10, 0.5) and spent.day_total() == (20, 1.0)
        assert spent.run_total("c") == (0, 0.0)

    def test_a_day_begins_at_midnight_utc(self, spent, clock):
        clock.at = NOON + 12 * 3600 - 1
        call(spent)
        clock.forward(1)
        assert spent.day_total() == (0, 0.0) and spent.run_total("r") == (10, 0.5)

    def test_the_sum_is_the_same_whoever_reads_whenever(self, spent, clock, datastore):
        """Ten hours of calls that overlap, some of which never end; read by one and by many."""
        often, seldom, expected, under_way = (
            spent,
            LlmSpending(BestEffortDatastore(datastore), clock),
            0,
            [],
        )
        for n in range(1200):
            clock.forward(30)
            keys = call(often, "r%d" % (n % 7), tokens=n, cost=0.0, end=False)
            expected += n
            if n % 3:
                often.settle(keys, (n, 0.0))
            elif n % 50:
                under_way.append((keys, n))
            if len(under_way) > 5:
                keys, tokens = under_way.pop(0)
                often.settle(keys, (2 * tokens, 0.0))
                expected += tokens
            if n % 10 == 0:
                assert often.day_total() == (expected, 0.0)
        assert seldom.day_total() == often.day_total() == (expected, 0.0)
        facts = [json.loads(v) for k, v in rows(datastore) if kind_of_key(k) == "llm_spending"]
        assert sum(fact["tokens"] for fact in facts) == expected

    def test_reading_costs_what_is_open_and_not_the_day(self, spent, clock, datastore):
        for n in range(3000):
            clock.forward(8)
            call(spent)
            if n % 100 == 0:
                spent.day_total()
        calls = counted(datastore)
        assert spent.day_total() == (30000, 1500.0)
        assert calls["list"] <= 5 and calls["put"] <= 1

    def test_a_bucket_with_a_call_under_way_is_not_summed_up(self, spent, clock, datastore):
        keys = call(spent, tokens=10, end=False)
        clock.forward(3000)
        assert spent.day_total()[0] == 10 and "llm_spending_total" not in kinds(datastore)
        spent.settle(keys, (3, 0.0))
        assert spent.day_total()[0] == 3 and "llm_spending_total" in kinds(datastore)
        assert spent.day_total()[0] == 3

    def test_a_call_whose_process_died_counts_as_what_was_reserved(self, spent, clock, datastore):
        call(spent, tokens=10, end=False)
        clock.forward(llm_spending.LOST_SECONDS + 601)
        assert spent.day_total()[0] == 10 and "llm_spending_total" in kinds(datastore)

    def test_of_two_that_begin_at_once_one_sees_the_other(self, store, clock, datastore):
        """Whatever the order of their writing and reading."""
        for order in set(itertools.permutations(["a", "a", "b", "b"])):
            datastore._rows.clear()
            seen, begun = {}, set()
            for who in order:
                if who in begun:
                    seen[who] = LlmSpending(store, clock).day_total()[0]
                else:
                    begun.add(who)
                    call(LlmSpending(store, clock), who, tokens=10, end=False)
            assert 20 in seen.values()

    def test_what_another_wrote_is_passed_over(self, spent, datastore):
        call(spent)
        for text in ("no json", "[]", '{"v": 9}', '{"v": 1, "tokens": "x", "cost": 1, "open": 0}'):
            datastore.put("synthralos.llm_spending.202611231200.1795435200001-000abc", text)
            assert spent.day_total() == (10, 0.5)

    def test_nobody_knows_without_a_datastore(self, spent, datastore):
        datastore.away = ("list",)
        assert spent.day_total() is None
        datastore.away = True
        assert (
            LlmSpending(BestEffortDatastore(datastore), spent._now).reserve(
                "r", (1, 0.0), True, True
            ) is
            None
        )

    def test_all_keys_are_ours_and_expire(self, spent, clock, datastore):
        call(spent, "a run/with odd~names")
        clock.forward(3600)
        spent.day_total()
        assert kinds(datastore) == {"llm_spending", "llm_spending_run", "llm_spending_total"}
        assert all(until is not None for _, until in datastore._rows.values())
        assert None not in {kind_of_key(name) for name in datastore.names()}


def rows(datastore):
    return [(name, value) for name, (value, _) in datastore._rows.items()]


def kinds(datastore):
    return {name.split(".")[1] for name in datastore.names()}


def counted(datastore):
    """{operation: calls from now on}."""
    calls = {}
    reach = datastore._reach

    def count(operation):
        calls[operation] = calls.get(operation, 0) + 1
        reach(operation)

    datastore._reach = count
    calls.update(list=0, put=0)
    return calls


class TestGuard:
    @pytest.fixture(autouse=True)
    def _at_noon(self, clock):
        clock.at = NOON

    def make(self, make_env, **budget):
        config = {
            "providers": [{"name": "openai", "base_url": "http://127.0.0.1:9", "models": MODELS}],
            "budget": budget,
        }
        env = make_env(config)
        return env, lambda name: llm_providers.resolve_model(env.settings.providers, name)

    def test_without_a_budget_there_is_no_guard(self, make_env):
        assert make_env({}).client.guard is None

    @pytest.mark.parametrize("period", ["per_run", "per_day"])
    def test_a_call_that_would_pass_the_limit_is_not_made(self, make_env, datastore, period):
        env, find = self.make(make_env, **{period: {"tokens": 299}})
        # 108 of the prompt and 50 of the answer, twice.
        parameters = {"max_tokens": 50}
        env.client.guard.reserve(find("gpt-4"), MESSAGES, parameters, None, "r")
        with pytest.raises(CallNotMade) as caught:
            env.client.guard.reserve(find("gpt-4"), MESSAGES, parameters, None, "r")
        failure = caught.value.failure
        assert failure.cause == "budget" and not failure.policy.retry_same_target
        assert not failure.policy.retry_other_target
        for words in ("budget.%s.tokens" % period, "299 tokens", "158 are used", "may take 158"):
            assert words in failure.message
        assert ("00:00 UTC" in failure.message) == (period == "per_day")
        assert LlmSpending(env.store, env.now).run_total("r")[0] in (0, 158)

    def test_what_was_refused_is_not_counted(self, make_env):
        env, find = self.make(make_env, per_day={"tokens": 200})
        begin = env.client.guard.reserve
        for _ in range(3):
            with pytest.raises(CallNotMade, match="0 are used"):
                begin(find("gpt-4"), MESSAGES, {"max_tokens": 500}, None, "r")
        assert begin(find("gpt-4"), MESSAGES, {"max_tokens": 10}, None, "r")

    def test_money(self, make_env):
        env, find = self.make(make_env, per_run={"cost": 0.005})
        begin = env.client.guard.reserve
        # 108 * 10 + 100 * 30 = 4,080 millionths
        begin(find("gpt-4"), MESSAGES, {"max_tokens": 100}, None, "r")
        with pytest.raises(CallNotMade, match="budget.per_run.cost, 0.005 USD.*0.00408 are used"):
            begin(find("gpt-4"), MESSAGES, {"max_tokens": 100}, None, "r")
        assert begin(find("free"), MESSAGES, {}, None, "r")
        assert begin(find("gpt-4"), MESSAGES, {"max_tokens": 100}, None, "another")

    def test_a_model_without_a_price_is_passed_over_where_money_is_limited(self, make_env):
        env, find = self.make(make_env, per_run={"cost": 5})
        with pytest.raises(CallNotMade) as caught:
            env.client.guard.reserve(find("unpriced"), MESSAGES, {}, None, "r")
        failure = caught.value.failure
        assert failure.cause == "configuration" and failure.policy.retry_other_target
        assert "openai/unpriced has no price" in failure.message
        env, find = self.make(make_env, per_run={"tokens": 5000})
        assert env.client.guard.reserve(find("unpriced"), MESSAGES, {}, None, "r")

    @pytest.mark.parametrize(
        "usage, failure, counted",
        [
            ({"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}, None, 11),
            ({"input_tokens": 5, "output_tokens": 0, "total_tokens": 5},
             failures.make_failure("blank_output", status=200), 5),
            ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, None, 158),
            (None, failures.make_failure("rate_limit", status=429), 0),
            (None, failures.make_failure("server_error", status=500), 0),
            (None, failures.make_failure("configuration"), 0),
            (None, failures.make_failure("timeout"), 158),
            (None, failures.make_failure("truncated_stream", status=200), 158),
            (None, failures.with_evidence(failures.make_failure("network"), sent=False), 0),
            (None, failures.make_failure("network"), 158),
        ],
    )
    def test_what_counts_afterwards(self, make_env, usage, failure, counted):
        env, find = self.make(make_env, per_day={"tokens": 1000})
        keys = env.client.guard.reserve(find("gpt-4"), MESSAGES, {"max_tokens": 50}, None, "r")
        env.client.guard.settle(keys, find("gpt-4"), usage, failure)
        assert LlmSpending(env.store, env.now).day_total()[0] == counted

    def test_how_much_a_call_may_take(self):
        assert guards.prompt_tokens([{"role": "user", "content": "abcd"}], {}) == 8 + 2
        parts = [{"type": "text", "text": "abc"}, {"type": "image_url", "image_url": {"url": "x"}}]
        assert guards.prompt_tokens([{"role": "user", "content": parts}], {}) == 8 + 1 + 1500
        tools = {"tools": [{"name": "t" * 300}]}
        assert guards.prompt_tokens([], tools) > 100
        assert guards.prompt_tokens([{"role": "assistant", "tool_calls": ["x" * 300]}], {}) > 108
        assert guards._output_tokens({"max_completion_tokens": 7}, None, 1000) == 7
        assert guards._output_tokens({}, 4096, 1000) == 4096
        assert guards._output_tokens({"max_tokens": "x"}, None, 1000) == 1000

    def test_a_warning_lets_the_call_go(self, make_env, capsys):
        env, find = self.make(
            make_env, per_day={"tokens": 1, "cost": 0}, on_exceeded="warn")
        for _ in range(2):
            assert env.client.guard.reserve(
                find("unpriced"), MESSAGES, {"max_tokens": 1}, None, "r"
            )
        warnings = env.client.guard.warnings
        assert any("has no price" in warning for warning in warnings)
        assert any(
            "budget.per_day.tokens, 1 tokens, is exceeded" in warning for warning in warnings
        )
        assert len(warnings) == len(set(warnings))
        assert "over_budget" in capsys.readouterr().out

    @pytest.mark.parametrize("away", [True, ("list",)], ids=["all", "lists"])
    def test_without_a_datastore(self, make_env, datastore, clock, away):
        datastore.away = away
        env, find = self.make(make_env, per_day={"tokens": 1000})
        env.client.guard.reserve(find("gpt-4"), MESSAGES, {}, None, "r")
        env = make_env(dict(providers=[{
            "name": "openai", "base_url": "http://h", "models": MODELS}],
            budget={"per_day": {"tokens": 1000}, "on_datastore_unavailable": "stop"}),
            store=BestEffortDatastore(datastore))
        with pytest.raises(CallNotMade, match="datastore is unavailable"):
            env.client.guard.reserve(find("gpt-4"), MESSAGES, {}, None, "r")

    def test_a_call_that_fails_gives_back_what_it_reserved(self, make_env):
        env, find = self.make(make_env, per_run={"tokens": 5000})
        with pytest.raises(CallError):
            # Nobody listens there.
            llm_calls.complete(env.client, find("gpt-4"), ChatRequest(MESSAGES), 2.0, "r")
        assert LlmSpending(env.store, env.now).run_total("r") == (0, 0.0)
        assert len(env.client.llm_calls) == 1

    def test_a_call_that_is_not_made_is_none(self, make_env):
        env, find = self.make(make_env, per_run={"tokens": 1})
        with pytest.raises(CallNotMade):
            llm_calls.complete(env.client, find("gpt-4"), ChatRequest(MESSAGES), 2.0, "r")
        assert env.client.llm_calls == []
