import asyncio
import http.server
import json
import pathlib
import threading

import pytest
import yaml
from fixtures.waiting import let_pass

from synthralos.error_handling import (
    DatastoreUnavailable,
    ErrorContext,
    ErrorHandlingSystem,
    ErrorType,
    InvalidInput,
    MemoryDatastore,
    Severity,
)
from synthralos.inprocess.error_handling import KEYS
from synthralos.inprocess.retry_system import adjusted_prompt

PACK = pathlib.Path(__file__).resolve().parents[2]
CONTEXT = {"agent_id": "trainer_01", "task_id": "training"}


class Agent:
    """Fails `times` times, then answers."""

    def __init__(self, times):
        self.times, self.prompts = times, []

    def __call__(self, prompt=None):
        self.prompts.append(prompt)
        if len(self.prompts) <= self.times:
            raise ConnectionError("reset")
        return "done"

    async def later(self, prompt=None):
        return self(prompt)


@pytest.fixture
def slept():
    return []


@pytest.fixture
def system(slept):
    async def sleep(seconds):
        slept.append(seconds)

    return ErrorHandlingSystem(sleep=sleep)


def handled(system, error, callback=None, **context):
    return asyncio.run(system.handle_error(error, dict(CONTEXT, **context), callback))


@pytest.mark.parametrize("wrapped", ["function", "coroutine"])
def test_a_transient_error_is_retried_until_it_recovers(system, slept, wrapped):
    agent = Agent(1)
    callback = agent if wrapped == "function" else agent.later
    result = handled(system, ConnectionError("reset"), callback)
    assert result["success"] and result["result"] == "done" and result["strategy"] == "auto_retry"
    assert len(slept) == 2 and 0.75 <= slept[0] <= 1.25 and 1.5 <= slept[1] <= 2.5
    health = asyncio.run(system.get_system_health())
    assert health["active_errors"] == 0
    assert health["stats"]["successful_recoveries"] == health["stats"]["total_errors"] == 1


def test_the_prompt_is_adjusted_further_with_each_attempt(system):
    agent = Agent(2)
    handled(system, TimeoutError("slow"), agent, prompt="Train it")
    assert [prompt.startswith("Train it") for prompt in agent.prompts] == [True] * 3
    assert len(agent.prompts[0]) < len(agent.prompts[1]) < len(agent.prompts[2])
    assert adjusted_prompt(None, 1, "timeout") is None


def test_max_retries_and_delays_come_from_the_config(slept):
    async def sleep(seconds):
        slept.append(seconds)

    config = {"retry": {"max_retries": 5, "base_delay": 2.0, "backoff_multiplier": 1.5}}
    system = ErrorHandlingSystem(config, sleep=sleep)
    agent = Agent(9)
    result = handled(system, TimeoutError("slow"), agent)
    assert not result["success"] and result["escalated"] and result["ticket"]
    assert len(agent.prompts) == len(slept) == 5
    for seconds, whole in zip(slept, (2, 3, 4.5, 6.75, 10.125)):
        assert 0.75 * whole <= seconds <= 1.25 * whole


def test_the_config_of_the_guide_is_taken():
    ErrorHandlingSystem({
        "retry": {"max_retries": 5, "base_delay": 2.0, "backoff_multiplier": 1.5,
                  "max_delay": 60.0, "adaptive_learning": True},
        "rollback": {"max_snapshots": 20, "cleanup_after_hours": 48, "compression_enabled": True,
                     "verification_enabled": True},
        "escalation": {"max_auto_recovery_attempts": 3, "escalation_timeout": 600,
                       "critical_error_types": ["resource_error", "infinite_loop"],
                       "notification_channels": {"email": True, "slack": True, "webhook": False}},
        "loop_detection": {"max_iterations": 100, "similarity_threshold": 0.9,
                           "time_window_seconds": 600, "enable_auto_pause": True},
        "history": {"max_versions": 200, "retention_days": 60, "compression_enabled": True},
    })


def test_a_wrong_config_names_its_entry():
    with pytest.raises(InvalidInput, match="retry.max_retries"):
        ErrorHandlingSystem({"retry": {"max_retries": 99}})


def snapshot_of(system, state):
    return asyncio.run(
        system.rollback_system.create_snapshot("trainer_01", "training", state)
    )


def rolled_back(system, agent, restore):
    context = {"agent_id": "trainer_01", "task_id": "training", "strategy": "rollback"}
    error = RuntimeError("x")
    return asyncio.run(system.handle_error(error, context, agent, restore_callback=restore))


def test_a_rollback_puts_the_state_back_and_runs_the_work_again(system):
    state, put_back = {"learning_rate": 0.001}, []
    snapshot = snapshot_of(system, state)
    result = rolled_back(system, None, put_back.append)
    assert result["success"] and result["snapshot"] == snapshot and result["restored"]
    assert put_back == [state]
    result = rolled_back(system, lambda: "done again", put_back.append)
    assert result["success"] and result["result"] == "done again" and put_back == [state, state]
    assert result["strategies_tried"] == ["rollback", "auto_retry"]


def test_a_state_that_nobody_put_back_is_no_success(system):
    snapshot_of(system, {"a": 1})
    result = rolled_back(system, None, None)
    assert not result["success"] and result["state"] == {"a": 1} and not result["restored"]

    def refuse(state):
        raise OSError("the disk is full")

    result = rolled_back(system, None, refuse)
    assert not result["success"] and "the disk is full" in result["steps"][0]["summary"]


@pytest.mark.parametrize("error", [MemoryError("full"), PermissionError("no")])
def test_a_lack_of_resources_is_escalated_at_once(system, error):
    agent = Agent(0)
    result = handled(system, error, agent)
    assert result["escalated"] and result["strategy"] == "escalation" and agent.prompts == []
    assert asyncio.run(system.get_system_health())["stats"]["escalations"] == 1


def test_a_loop_pauses_the_agent_and_it_is_not_called_any_more(system):
    agent = Agent(99)
    seen = [handled(system, TimeoutError("slow"), agent)["strategy"] for _ in range(8)]
    assert "circuit_breaker" in seen
    assert asyncio.run(system.loop_detector.is_agent_paused("trainer_01"))
    calls = len(agent.prompts)
    result = handled(system, TimeoutError("slow"), agent, task_id="another", strategy="auto_retry")
    assert not result["success"] and len(agent.prompts) == calls
    assert "is paused by the loop detector" in result["steps"][0]["summary"]
    asyncio.run(system.loop_detector.reset_agent("trainer_01"))
    assert handled(system, TimeoutError("late"), Agent(0), task_id="another")["success"]


def active(system):
    return asyncio.run(system.get_system_health())["active_errors"]


def test_errors_of_one_agent_and_task_that_overlap_are_all_counted(slept):
    """Both recover, and neither disturbs the other."""
    async def overlap():
        waits, counts = asyncio.Event(), []

        async def sleep(seconds):
            await waits.wait()

        system = ErrorHandlingSystem(sleep=sleep)

        async def handle(agent):
            return await system.handle_error(ConnectionError("reset"), CONTEXT, agent)

        tasks = [asyncio.ensure_future(handle(Agent(0))) for _ in range(2)]
        for _ in range(100):
            await asyncio.sleep(0)
        counts.append((await system.get_system_health())["active_errors"])
        waits.set()
        results = await asyncio.gather(*tasks)
        counts.append((await system.get_system_health())["active_errors"])
        return results, counts

    results, counts = asyncio.run(overlap())
    assert [result["success"] for result in results] == [True, True]
    assert counts == [2, 0]


def test_an_error_is_active_until_its_ticket_is_resolved_or_its_task_recovers(system):
    first = handled(system, MemoryError("full"))
    assert handled(system, PermissionError("no"), task_id="other")["ticket"] == first["ticket"]
    assert handled(system, TimeoutError("slow"), None, task_id="third")["escalated"]
    assert active(system) == 3
    resolve = system.escalation_system.resolve_escalation
    assert asyncio.run(resolve(first["ticket"], "more memory", "ann"))
    assert active(system) == 1
    assert handled(system, TimeoutError("slow again"), Agent(0), task_id="third")["success"]
    assert active(system) == 0


def test_what_is_cancelled_or_refused_is_not_active(system):
    async def cancelled():
        async def forever():
            await asyncio.Event().wait()

        task = asyncio.ensure_future(system.handle_error(TimeoutError("x"), CONTEXT, forever))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(cancelled())
    assert active(system) == 0
    with pytest.raises(InvalidInput, match="strategy"):
        handled(system, TimeoutError("x"), strategy="guess")
    with pytest.raises(InvalidInput, match="severity"):
        handled(system, TimeoutError("x"), severity="grave")
    assert active(system) == 0


def test_errors_that_were_cured_do_not_use_up_the_retries(system):
    """The fourth in an hour, with other words each time, is tried again as the first was."""
    for number, words in enumerate(("mail host", "disk seven", "login page", "table lock", "dns")):
        assert handled(system, ConnectionError(words), Agent(0))["strategy"] == "auto_retry", number


def test_errors_that_were_not_cured_do(system):
    words = ("mail host", "disk seven", "login page", "table lock")
    seen = [handled(system, ConnectionError(text), Agent(9))["strategy"] for text in words]
    assert seen == ["auto_retry"] * 3 + ["escalation"]


@pytest.mark.parametrize("callback, prompts", [
    (lambda: "no argument", []),
    (lambda adjusted_prompt=None: adjusted_prompt, ["adjusted"]),
    (lambda *, adjusted_prompt: adjusted_prompt, ["adjusted"]),
    (lambda text: text, ["adjusted"]),
    (lambda *arguments: arguments[0], ["adjusted"]),
    (lambda **more: more.get("adjusted_prompt", "none"), []),
])
@pytest.mark.parametrize("place", [
    {"prompt": "Train it"}, {"task_data": {"prompt": "Train it"}},
    {"additional_context": {"query": "Train it"}},
])
def test_a_callback_takes_the_adjusted_prompt_or_nothing(system, callback, prompts, place):
    result = handled(system, TimeoutError("slow"), callback, **place)
    assert result["success"]
    assert result["result"].startswith("Train it") == bool(prompts)


def test_a_callback_that_must_have_a_prompt_gets_none_where_there_is_none(system):
    assert handled(system, TimeoutError("slow"), lambda text: [text])["result"] == [None]


def test_max_retries_of_0_calls_nothing(slept):
    system = ErrorHandlingSystem({"retry": {"max_retries": 0}})
    agent = Agent(0)
    assert handled(system, TimeoutError("slow"), agent, strategy="auto_retry")["escalated"]
    assert agent.prompts == [] and slept == []


def test_a_key_that_no_system_reads_is_refused():
    with pytest.raises(InvalidInput, match="retry.max_retry: is not a setting"):
        ErrorHandlingSystem({"retry": {"max_retry": 3}})


def test_the_pack_s_whole_configuration_is_accepted_too():
    schema = yaml.safe_load((PACK / "config.schema.yaml").read_text(encoding="utf-8"))
    for section, keys in KEYS.items():
        assert keys == set(schema[section]["properties"])
    example = yaml.safe_load((PACK / "synthralos.yaml.example").read_text(encoding="utf-8"))
    ErrorHandlingSystem(example)


class UnavailableDatastore(MemoryDatastore):
    away = True

    def put(self, name, value, ttl=None):
        if self.away:
            raise DatastoreUnavailable("no route to the datastore")
        super().put(name, value, ttl)

    def list(self, prefix, limit=100, offset=0):
        if self.away:
            raise DatastoreUnavailable("no route to the datastore")
        return super().list(prefix, limit, offset)


def test_a_datastore_that_is_away_ends_no_recovery_and_gets_another_chance(slept):
    async def sleep(seconds):
        slept.append(seconds)

    datastore = UnavailableDatastore()
    system = ErrorHandlingSystem(datastore=datastore, sleep=sleep)
    assert handled(system, TimeoutError("slow"), Agent(1))["success"]
    lost = handled(system, MemoryError("full"))
    assert lost["escalated"] and lost["ticket"] is None
    assert "no route" in lost["steps"][-1]["summary"]
    with pytest.raises(DatastoreUnavailable, match="no route"):
        snapshot_of(system, {"a": 1})
    health = asyncio.run(system.get_system_health())
    assert all("no route" in status for status in health["subsystem_status"].values())
    datastore.away = False
    assert snapshot_of(system, {"a": 1})
    health = asyncio.run(system.get_system_health())
    assert all(status.startswith("active") for status in health["subsystem_status"].values())


class SlowDatastore:
    """As one behind a network: each call takes a moment, and says from which thread it came."""

    def __init__(self):
        self.memory, self.threads = MemoryDatastore(), set()

    def __getattr__(self, name):
        operation = getattr(self.memory, name)

        def slow(*arguments, **more):
            self.threads.add(threading.current_thread())
            let_pass(0.002)
            return operation(*arguments, **more)

        return slow


def test_a_datastore_of_one_s_own_holds_up_no_other_task(slept):
    async def handle():
        async def sleep(seconds):
            slept.append(seconds)

        system = ErrorHandlingSystem(datastore=datastore, sleep=sleep)
        errors = [
            system.handle_error(
                ConnectionError("reset"), {"agent_id": "agent_%d" % n, "task_id": "t"}, Agent(0)
            )
            for n in range(5)
        ]
        results = await asyncio.gather(*errors)
        version = await system.history_manager.record_state("agent_1", "t", {"a": 1})
        await system.rollback_system.create_snapshot("agent_1", "t", {"a": 1})
        await system.loop_detector.is_agent_paused("agent_1")
        return results, version, await system.get_system_health()

    datastore = SlowDatastore()
    results, version, health = asyncio.run(handle())
    assert all(result["success"] for result in results)
    assert version == "v0003" and health["stats"]["successful_recoveries"] == 5
    assert datastore.threads and threading.main_thread() not in datastore.threads


@pytest.fixture
def server():
    """A platform and a place for copies: `requests` of [method, path, body]."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.server.requests.append([self.command, self.path, json.loads(body)])
            self.send_response(self.server.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.status = [], 200
    server.url = "http://127.0.0.1:%d" % server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_snapshot_is_copied_to_backup_url(server, caplog):
    rollback = {"backup_to_remote": True, "backup_url": server.url + "/copies"}
    snapshot = snapshot_of(ErrorHandlingSystem({"rollback": rollback}), {"a": 1})
    ((method, path, body),) = server.requests
    assert method == "PUT" and path.startswith("/copies/trainer_01/") and body["state"] == {"a": 1}
    assert body["snapshot_id"] == snapshot and not caplog.records
    server.status = 500
    assert snapshot_of(ErrorHandlingSystem({"rollback": rollback}), {"a": 1})
    assert "has no copy" in caplog.text
    # Without an address there is no copy, but a snapshot.
    assert snapshot_of(ErrorHandlingSystem({"rollback": {"backup_to_remote": True}}), {"a": 1})
    assert "backup_url" in caplog.text


def test_a_platform_puts_the_state_back_where_no_callback_does(server):
    platform = {"base_url": server.url, "restore_path": "/agents/{agent_id}/restore"}
    system = ErrorHandlingSystem({"platforms": [platform]})
    snapshot = snapshot_of(system, {"a": 1})
    result = rolled_back(system, None, None)
    assert result["success"] and result["restored"] and result["snapshot"] == snapshot
    ((method, path, body),) = server.requests
    assert (method, path) == ("POST", "/agents/trainer_01/restore") and body["state"] == {"a": 1}
    server.status = 500
    result = rolled_back(system, None, None)
    assert not result["success"] and result["state"] == {"a": 1}


@pytest.mark.parametrize("name", ["TOOL_FAILURE", "tool_failure"])
def test_critical_error_types_are_named_in_any_case(name):
    system = ErrorHandlingSystem({"escalation": {"critical_error_types": [name]}})
    agent = Agent(0)
    result = handled(system, RuntimeError("x"), agent, error_type="tool_failure")
    assert result["strategy"] == "escalation" and agent.prompts == []
    report = asyncio.run(system.escalation_system.get_escalation_report(result["ticket"]))
    assert report["ticket_info"]["level"] == "critical_alert"


def test_facts_of_a_clock_that_stands_still_keep_their_order():
    system = ErrorHandlingSystem(now=lambda: 1_700_000_000.0)

    async def record():
        return [
            await system.history_manager.record_state("agent_01", "t", {"n": n}) for n in range(60)
        ]

    assert asyncio.run(record()) == ["v%04d" % n for n in range(1, 61)]


def test_an_error_context_is_checked():
    error = ErrorContext("TIMEOUT_ERROR", agent_id="agent_01", error_message="slow")
    assert error.error_type is ErrorType.TIMEOUT_ERROR and error.severity is Severity.MEDIUM
    assert error.failure.cause == "timeout" and error.error_id != ErrorContext().error_id
    for wrong, field in (
        ({"error_type": "mishap"}, "error_type"), ({"severity": "grave"}, "severity"),
        ({"agent_id": "two words"}, "agent_id"), ({"task_id": ""}, "task_id"),
    ):
        with pytest.raises(InvalidInput, match=field):
            ErrorContext(**wrong)
    escalation = ErrorHandlingSystem().escalation_system
    mapping = {"error_type": "tool_failure", "agent_id": "agent_01"}
    assert asyncio.run(escalation.create_escalation(mapping)).startswith("T")
    with pytest.raises(InvalidInput, match="error_context.agent: is not a field"):
        asyncio.run(escalation.create_escalation({"agent": "agent_01"}))
    with pytest.raises(InvalidInput, match="error_context"):
        asyncio.run(escalation.create_escalation("timeout"))
    with pytest.raises(InvalidInput, match="level"):
        asyncio.run(escalation.create_escalation(mapping, level="urgent"))


def test_secrets_of_the_configuration_are_stored_nowhere():
    config = {"escalation": {"webhook": {"url": "https://hooks.example.com/T0/secret-path"}}}
    system = ErrorHandlingSystem(config)
    snapshot = snapshot_of(system, {"hook": "https://hooks.example.com/T0/secret-path"})
    rolled = asyncio.run(system.rollback_system.rollback_to_snapshot(snapshot))
    assert "secret-path" not in str(rolled["state_data"])


def test_it_can_be_shut_down(system):
    handled(system, MemoryError("full"))
    assert active(system) == 1
    asyncio.run(system.shutdown())
    assert active(system) == 0
