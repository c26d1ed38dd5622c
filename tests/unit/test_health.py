import json

import pytest

from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.operations import health
from synthralos.runtime.run_parameters import ENABLED_KEY
from synthralos.storage import agent_runs, keyspace, pauses, run_summaries, tickets
from synthralos.storage.agent_runs import AgentRun
from synthralos.storage.datastore import PREFIX
from synthralos.storage.outcome_ledger import Outcome

TARGETS = {
    "platform:synthralos", "platform:standby", "llm:openai/gpt-4", "llm:openai/gpt-4o",
    "llm:anthropic/claude", "route:openai/us", "route:openai/eu", "route:anthropic/us",
    "route:anthropic/eu",
}


@pytest.fixture
def env(make_env, api):
    return make_env(api=api)


def ran(env, clock, outcome="recovered", agent="bot", **facts):
    clock.forward(1)
    summary = dict(
        {
            "workflow": "agent_recovery",
            "outcome": outcome,
            "agent": agent,
            "targets": ["platform:synthralos"],
            "answered": "platform:synthralos" if outcome == "recovered" else None,
        },
        **facts
    )
    run_summaries.record_summary(env.store, "run-%d" % clock(), clock(), **summary)


def break_down(env, *targets):
    for target in targets:
        for n in range(5):
            env.ledger.append(target, Outcome(False, "timeout", env.now() - n))


def failed(env, severity, subject="bot", cause="timeout"):
    failure = {"type": "timeout", "cause": cause, "severity": severity}
    tickets.record_occurrence(
        env.store, env.now(), "agent_recovery", subject, failure, "r", "it failed"
    )


def whats(health_result, level=None):
    return [
        entry["reason"] for entry in health_result["reasons"] if level in (None, entry["level"])
    ]


def test_all_is_well(env):
    result = health.get(env)
    assert result["summary"] == result["status"] == "healthy"
    assert result["reasons"] == [] and result["pauses"] == [] and result["active_errors"] == 0
    assert result["breakers"] == dict.fromkeys(TARGETS, "closed")
    assert result["stats"]["total_errors"] == 0 and result["stats"]["success_rate"] is None
    assert result["subsystem_status"] == {
        "datastore": "ok", "stackstorm_api": "ok", "rules": "ok", "planner": "not_configured",
        "loop_detection": "ok", "tickets": "ok", "notifications": "not_configured",
        "platform": "ok", "providers": "ok", "routes": "ok",
    }
    assert result["datastore"]["outcome"] == {"keys": 0, "capped": False}


def test_the_keys_of_every_kind_are_counted(env, store):
    for number, kind in enumerate(keyspace.KINDS):
        name = keyspace.key_prefix(kind)
        for n in range(1 if name[-1] != "." else 1 + number % 3):
            store.put(name + ("%013d-%d" % (1_700_000_000_000 + n, n) if name[-1] == "." else ""),
                      "{}")
    counts = health.get(env)["datastore"]
    assert sorted(counts) == sorted(keyspace.KINDS)
    for number, kind in enumerate(keyspace.KINDS):
        alone = keyspace.key_prefix(kind)[-1] != "."
        assert counts[kind]["keys"] == (1 if alone else 1 + number % 3), kind


@pytest.mark.parametrize("text", ["", "x", "[]", "5", "null", '{"v": 99}', '{"v": 1}'])
def test_rows_that_cannot_be_read_are_counted(env, clock, text):
    assert health.get(env)["unreadable"] == {}
    break_down(env, "llm:openai/gpt-4")
    last = "%013d-zzz" % (clock() * 1000)
    for name in ("outcome.llm~3Aopenai~2Fgpt-4." + last, "pause.bot." + last, "run." + last,
                 "ticket.T0123456789ab", "agent_run.bot.run-1"):
        env.store.put(PREFIX + name, text)
    result = health.get(env)
    expected = {"agent_run": 1, "outcome": 1, "pause": 1, "run": 1, "ticket": 1}
    if text == '{"v": 1}':
        # A summary has no field that it must have.
        del expected["run"]
    assert result["unreadable"] == expected
    assert result["breakers"]["llm:openai/gpt-4"] == "open"


def at_work(env, agent="bot", request="run-1", progress="", **more):
    agent_run = AgentRun(
        agent_id=agent, request=request, started_by="e1", start_key="k", target="platform:p",
        handle={}, started_at=env.now(), ends_by=env.now() + 900, progress=progress, **more)
    agent_runs.save(env.store, agent_run, env.now())


def test_agents_at_work_are_listed_with_what_their_platforms_said(env, clock):
    at_work(env, progress="reading {{ st2kv.system.x }} page 3\nof 9")
    clock.forward(40)
    at_work(env, "other", "run-2")
    at_work(env, "bot", "run-3", delivered_by="e2")
    clock.forward(2)
    oldest, newest = health.get(env)["running_agents"]
    assert (oldest["agent_id"], oldest["target"], oldest["run"]) == ("bot", "platform:p", "e1")
    assert (oldest["seconds"], newest["seconds"]) == (42, 2)
    assert "page 3 of 9" in oldest["progress"] and "{{" not in oldest["progress"]
    assert (newest["agent_id"], newest["progress"]) == ("other", "")
    assert [run["agent_id"] for run in health.get(env, "other")["running_agents"]] == ["other"]
    assert health.get(env)["status"] == "healthy"


def test_nothing_is_configured(make_env):
    result = health.get(make_env(config={}))
    assert result["status"] == "healthy" and result["breakers"] == {}
    states = result["subsystem_status"]
    assert {states[kind] for kind in ("platform", "providers", "routes")} == {"not_configured"}
    assert states["stackstorm_api"] == "not_configured"


def test_what_the_runs_tell(env, clock):
    ran(env, clock)
    ran(env, clock, agent="other", targets=["platform:synthralos", "platform:standby"],
        answered="platform:standby")
    ran(env, clock, "failed")
    ran(env, clock, workflow="llm_retry", agent="gpt-4", targets=["llm:openai/gpt-4"],
        answered="llm:openai/gpt-4")
    stats = health.get(env)["stats"]
    assert (stats["total_errors"], stats["successful_recoveries"]) == (4, 3)
    assert (stats["failed_recoveries"], stats["success_rate"]) == (1, 0.75)
    assert set(stats["by_agent"]) == {"bot", "other"}
    assert stats["by_agent"]["bot"]["success_rate"] == 0.5
    assert stats["by_target"]["platform:synthralos"] == {
        "attempts": 3, "answered": 1, "success_rate": 0.333,
    }
    own = health.get(env, "other")["stats"]
    assert own["total_errors"] == 1 and set(own["by_agent"]) == {"other"}


def test_summaries_without_an_agent_count_for_no_agent(env, clock):
    run_summaries.record_summary(
        env.store,
        "r",
        clock(),
        workflow="agent_recovery",
        outcome="failed",
        targets=[],
        answered=None,
    )
    stats = health.get(env)["stats"]
    assert stats["total_errors"] == 1 and stats["by_agent"] == {}


@pytest.mark.parametrize("good, bad, status", [
    (10, 0, "healthy"), (9, 1, "healthy"), (8, 2, "degraded"), (5, 5, "degraded"),
    (4, 6, "critical"), (0, 9, "healthy"),
])
def test_the_rate_of_the_last_hour(env, clock, good, bad, status):
    for n in range(good + bad):
        ran(env, clock, "recovered" if n < good else "failed")
    assert health.get(env)["status"] == status
    clock.forward(3601)
    assert health.get(env)["status"] == "healthy"


@pytest.mark.parametrize("severity, status", [
    ("critical", "critical"), ("high", "degraded"), ("medium", "healthy"), ("low", "healthy"),
])
def test_open_tickets(env, severity, status):
    failed(env, severity)
    result = health.get(env)
    assert result["status"] == status and result["active_errors"] == 1
    assert result["tickets"][severity] == 1 and sum(result["tickets"].values()) == 1
    assert health.get(env, "another")["active_errors"] == 0


def test_a_broken_target_degrades(env):
    break_down(env, "llm:openai/gpt-4", "platform:synthralos")
    result = health.get(env)
    assert result["status"] == "degraded"
    assert result["breakers"]["llm:openai/gpt-4"] == "open"
    assert result["subsystem_status"]["providers"] == "degraded"
    assert "breakers not closed: llm:openai/gpt-4, platform:synthralos" in result["summary"]
    assert set(health.get(env, "bot")["breakers"]) == {"platform:synthralos", "platform:standby"}


def test_no_target_left_is_critical(env, clock):
    break_down(env, "platform:synthralos", "platform:standby")
    result = health.get(env)
    assert result["status"] == "critical"
    assert whats(result, "critical") == ["platform: no target may be called"]
    clock.forward(61)
    result = health.get(env)
    assert result["breakers"]["platform:standby"] == "half_open"
    assert result["status"] == "degraded"


def test_a_breaker_that_an_operator_forced(env, clock):
    break_down(env, "route:openai/eu")
    env.ledger.force_state("route:openai/us", "open", 3600)
    env.ledger.force_state("route:openai/eu", "closed", 60)
    result = health.get(env)
    assert result["breakers"]["route:openai/us"] == "open"
    assert result["breakers"]["route:openai/eu"] == "closed"
    assert result["forced"] == {
        "route:openai/us": {"state": "open", "until": "2023-11-14T23:13:20Z"},
        "route:openai/eu": {"state": "closed", "until": "2023-11-14T22:14:20Z"},
    }


def test_more_outcomes_than_are_read_at_once(env, clock):
    for n in range(health.MAX_ROWS + 5):
        env.ledger.append("platform:zzz", Outcome(True, None, clock() - n / 1000))
    break_down(env, "llm:openai/gpt-4")
    result = health.get(env)
    assert result["datastore"]["outcome"] == {"keys": health.MAX_ROWS, "capped": True}
    assert result["breakers"]["llm:openai/gpt-4"] == "open"


def test_a_paused_agent_degrades(env, clock):
    pauses.pause(env.store, "bot", clock(), "secret words", 300, pauses.DETECTOR, 60)
    result = health.get(env)
    assert result["status"] == "degraded" and result["pauses"] == [{
        "agent_id": "bot", "by": "loop_detector", "since": "2023-11-14T22:13:20Z",
        "until": "2023-11-14T22:18:20Z", "probe_at": "2023-11-14T22:14:20Z",
    }]
    assert "secret words" not in json.dumps(result)
    assert health.get(env, "another")["pauses"] == []


def test_the_switch_of_the_rules(env):
    env.store.put(ENABLED_KEY, "off")
    assert health.get(env)["subsystem_status"]["rules"] == "off"


def test_the_mode_in_force(make_env):
    env = make_env(config={"automation": {"mode": "approve", "modes": {"llm_retry": "act"}}})
    automation = health.get(env)["automation"]
    assert (automation["mode"], automation["workflows"]["llm_retry"]["mode"]) == ("approve", "act")
    env.store.put("synthralos.mode", "observe")
    assert health.get(env)["automation"]["workflows"]["llm_retry"]["mode"] == "observe"


@pytest.mark.parametrize("model, status", [("openai/gpt-4", "ok"), ("unknown", "degraded")])
def test_the_planner(make_env, model, status):
    provider = {"name": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["gpt-4"]}
    env = make_env(config={"providers": [provider], "planner": {"model": model}})
    assert health.get(env)["subsystem_status"]["planner"] == status
    break_down(env, "llm:openai/gpt-4")
    assert health.get(env)["subsystem_status"]["planner"] == "degraded"


POOL = {
    "name": "openai", "base_url": "http://127.0.0.1:9/v1", "models": ["gpt-4o", "o3"],
    "api_keys_from": ["key_a", "key_b"],
}
SINGLE = {"name": "local", "base_url": "http://127.0.0.1:9/v1", "api_key_from": "key_c",
          "models": ["m"]}


@pytest.fixture
def pool_env(make_env, store):
    for name in ("key_a", "key_b", "key_c"):
        store.put(name, "sk-secret-of-" + name)
    return make_env(config={"providers": [POOL, SINGLE]})


def accounts_of(health_result):
    return {entry["account"]: entry for entry in health_result["accounts"]}


def test_the_accounts_of_a_pool_are_named_without_their_keys(pool_env):
    result = health.get(pool_env)
    assert result["accounts"] == [
        {"account": name, "provider": "openai", "state": "available", "cause": None, "until": None,
         "cooling": {}}
        for name in ("openai@key_a", "openai@key_b")
    ]
    assert "sk-secret" not in json.dumps(result)
    assert health.get(pool_env, "bot")["accounts"] == []


def test_an_account_at_rest_degrades_until_its_reset(pool_env, clock):
    pool_env.account_memory.remember("openai@key_a", "quota", 3600.0)
    pool_env.account_memory.remember("of@nobody", "quota", 3600.0)
    result = health.get(pool_env)
    resting = accounts_of(result)["openai@key_a"]
    assert (resting["state"], resting["cause"]) == ("resting", "quota")
    assert resting["until"] == to_iso(clock() + 3600)
    assert accounts_of(result)["openai@key_b"]["state"] == "available"
    assert (result["status"], whats(result)) == (
        "degraded", ["accounts not called: openai@key_a (quota)"])
    assert result["subsystem_status"]["providers"] == "degraded"
    assert set(accounts_of(result)) == {"openai@key_a", "openai@key_b"}
    clock.forward(3600)
    assert health.get(pool_env)["status"] == "healthy"


def test_no_account_left_is_critical_unless_an_operator_forces_a_breaker(make_env):
    env = make_env(config={"providers": [POOL]})
    for name in ("openai@key_a", "openai@key_b"):
        env.account_memory.remember(name, "authentication", 60.0)
    assert "providers: no target may be called" in whats(health.get(env), "critical")
    env.ledger.force_state("llm:openai/o3@key_b", "closed", 60)
    result = health.get(env)
    assert (result["status"], whats(result, "critical")) == ("degraded", [])


def test_a_model_that_is_rate_limited_at_one_account_only(pool_env, clock):
    target = "llm:openai/o3@key_b"
    pool_env.ledger.append(
        target, Outcome(False, "rate_limit", clock(), until=clock() + 30))
    accounts = accounts_of(health.get(pool_env))
    assert accounts["openai@key_b"]["cooling"] == {target: to_iso(clock() + 30)}
    assert accounts["openai@key_b"]["state"] == "available"
    assert accounts["openai@key_a"]["cooling"] == {}


def test_accounts_while_the_datastore_is_away(pool_env, datastore):
    pool_env.account_memory.remember("openai@key_a", "quota", 3600.0)
    datastore.away = True
    assert {entry["state"] for entry in health.get(pool_env)["accounts"]} == {"unknown"}


def test_the_datastore_is_away(env, datastore):
    datastore.away = True
    result = health.get(env)
    assert result["status"] == "degraded" and whats(result) == ["datastore is unavailable"]
    assert set(result["breakers"].values()) == {"unknown"}
    for name in ("stats", "tickets", "datastore", "active_errors", "automation"):
        assert result[name] is None
    states = result["subsystem_status"]
    assert (states["datastore"], states["platform"], states["rules"]) == (
        "away", "unknown", "unknown"
    )


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 99, 100, 101, 640, 999, 1000, 1500])
def test_keys_are_counted(store, datastore, count):
    for n in range(count):
        datastore.put("%sanswer.%d" % (PREFIX, n), "x")
    assert health._count(store, PREFIX + "answer.") == min(count, 1000)


def test_counting_large_values_reads_few_of_them(store, datastore):
    for n in range(700):
        datastore.put("%scase.%d" % (PREFIX, n), "x")
    limits = []
    list_keys = store.list
    store.list = lambda prefix, limit=100, offset=0: limits.append(limit) or list_keys(
        prefix, limit, offset
    )
    assert health._count(store, PREFIX + "case.") == 700
    assert set(limits) == {1} and len(limits) <= 21


def test_what_others_wrote_is_passed_over(env, datastore, clock):
    bad = ["", "{", "[]", "null", '{"v": 2}', '{"v": 1}', '{"v": 1, "targets": [1]}',
           '{"v": 1, "targets": [], "agent": {}, "workflow": "agent_recovery"}']
    for kind in health.READ + health.COUNTED:
        for n, value in enumerate(bad):
            datastore.put("%s%s.x.%013d-%d" % (PREFIX, kind, clock() * 1000, n), value)
    result = health.get(env)
    assert result["status"] == "healthy" and result["datastore"]["run"]["keys"] == len(bad)


def test_a_wrong_name_is_refused(env):
    with pytest.raises(InvalidInput) as caught:
        health.get(env, "{{ foo }}")
    assert caught.value.field == "agent_id"


def test_the_result_is_small_and_holds_no_text(env, clock):
    for n in range(300):
        ran(env, clock, agent="bot-%d" % (n % 20))
    for n in range(20):
        failed(env, "low", "bot-%d" % n)
    assert len(json.dumps(health.get(env))) < 32 * 1024
