"""Loops are found, and long, busy runs that get on are let alone."""
import json
import random
import uuid

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import settings
from hypothesis import strategies as st

from synthralos.core.errors import InvalidInput
from synthralos.loop_detection import detector, patterns
from synthralos.loop_detection.detector import LoopDetectionConfig
from synthralos.storage import pauses
from synthralos.storage.datastore import PREFIX, BestEffortDatastore

LIMITS = LoopDetectionConfig()
AGENT = "invoice-bot"
START = 1_700_000_000.0


def steps(actions, every=2.0):
    """Steps of (action, input, output[, progress]), one every so many seconds."""
    return [
        detector.build_step(START + n * every, *step) for n, step in enumerate(actions)
    ]


def worst(actions, every=2.0, limits=LIMITS):
    """(level, kind) of the worst pattern that was ever seen as these steps came in."""
    levels, seen = ["none", "warn", "critical"], ("none", None)
    built_steps = steps(actions, every)
    for n in range(1, len(built_steps) + 1):
        oldest = built_steps[n - 1].at - limits.time_window_seconds
        window = [step for step in built_steps[max(0, n - 100):n] if step.at > oldest]
        for pattern in detector.detect(window, limits)[:1]:
            if levels.index(pattern.level) > levels.index(seen[0]):
                seen = (pattern.level, pattern.kind)
    return seen


def when(actions, level, every=2.0):
    """After how many steps this level was reached."""
    built_steps = steps(actions, every)
    for n in range(1, len(built_steps) + 1):
        if any(pattern.level == level for pattern in detector.detect(built_steps[:n], LIMITS)):
            return n
    return None


def read(path, output="one text"):
    return ("read_file", {"path": path}, output)


# Runs that get on.

def paging(pages=200):
    return [
        ("list_items", {"page": n, "size": 2}, {"items": [2 * n, 2 * n + 1]})
        for n in range(pages)
    ]


def paging_unheard(pages=200):
    return [("list_items", {"page": n}, None) for n in range(pages)]


def paging_by_cursor(pages=200):
    return [
        ("next_page", {}, {"rows": ["customer %s %s" % (chr(97 + n % 26), uuid.UUID(int=n).hex),
                                    "row %d" % n]})
        for n in range(pages)
    ]


def building(files=200):
    return [
        ("compile", {"file": "src/module_%d/part.c" % n, "flags": ["-O2"]}, {"ok": True})
        for n in range(files)
    ]


def building_in_three_steps(files=66):
    run = []
    for n in range(files):
        path = "src/%s.py" % chr(97 + n % 26) * (1 + n // 26)
        run += [
            ("read_file", {"path": path}, "def f_%d(): pass" % n),
            ("write_file", {"path": path, "content": "def f_%d(): return %d" % (n, n)}, "written"),
            ("run_tests", {}, {"passed": n, "failed": 66 - n}),
        ]
    return run


def polling_with_news(times=200):
    return [("get_job", {"job": "export"}, {"state": "running", "percent": n / 2})
            for n in range(times - 1)] + [("get_job", {"job": "export"}, {"state": "done"})]


def polling_that_ends():
    quiet = [("get_status", {"job": 7}, {"state": "running"})] * 9
    return quiet + [("get_status", {"job": 7}, {"state": "done"}),
                    ("fetch", {"job": 7}, "the result")]


def same_step_with_progress(times=200):
    return [("process_next", {}, {"ok": True}, n) for n in range(times)]


def batch_of_numbers(items=200):
    return [("update", {"order": 1000 + n}, {"ok": True}) for n in range(items)]


def deletes(items=200):
    return [("delete", {"order": 1000 + n}, "") for n in range(items)]


def different_questions(times=200):
    things = "apples bridges candles dolphins engines forests glaciers hammers islands jackets"
    places = "Paris London Tokyo Lima Oslo Cairo Delhi Rome Quito Accra Perth Sofia Minsk Kyiv Riga"
    pairs = [(thing, place) for thing in things.split() for place in places.split()]
    return [
        ("search", {"query": "%s in %s %d" % (thing, place, n)}, "about %s %s" % (thing, place))
        for n, (thing, place) in enumerate(pairs[:times])
    ]


def debugging(rounds=60):
    """Edit after edit, while the same test fails with the same words."""
    run = []
    for n in range(rounds):
        run.append(("edit", {"path": "a.py", "line": n, "text": "x = %d" % n}, "edited"))
        run.append(("run_tests", {}, "1 failed: test_total"))
    return run


def batch_with_a_ceremony(items=40):
    """Each item in five steps, of which only one tells which item it is."""
    run = []
    for n in range(items):
        run += [("login", {}, "ok"), ("open", {"form": "order"}, "open"),
                ("handle", {"order": n}, {"ok": True}), ("save", {}, "saved"), ("close", {}, "bye")]
    return run


def queue_with_a_ceremony(items=40):
    """The same, where only the output of that step tells it, in words."""
    names = ["Anna", "Boris", "Carla", "David", "Elena", "Fritz", "Greta", "Henry", "Irene"]
    run = batch_with_a_ceremony(items)
    for n in range(items):
        customer = "%s %s" % (names[n % 9], names[(n + n // 9 + 1) % 9])
        run[5 * n + 2] = ("take_next", {}, {"did": "the order of " + customer})
    return run


def validated_batch(items=200):
    """That there are no errors is no empty page."""
    return [("update", {"order": 1000 + n}, {"ok": True, "errors": []}) for n in range(items)]


def notes():
    """A tool whose only argument are thoughts."""
    things, weathers = ["apples", "pears", "plums", "figs"], ["rain", "snow", "hail", "fog"]
    return [
        ("think", {"thought": "how do %s stand the %s" % (thing, weather)}, "Noted.")
        for thing in things for weather in weathers
    ]


def booking():
    return [("book", {"room": "A", "time": "%02d:00" % n}, {"booked": True}) for n in range(24)]


def aligning():
    texts = ["ACGT", "GGCA", "TTAG", "CCAT", "GATT", "TACA"]
    return [("align", {"sequence": text}, {"ok": True}) for text in texts]


def waiting_for_a_job():
    """A wait between two looks: the wait's name says that it is meant."""
    looks = [("get_job", {"id": 7}, {"state": "running"}), ("sleep", {"seconds": 5}, None)] * 4
    return looks + [("get_job", {"id": 7}, {"state": "done"}), ("fetch", {"id": 7}, "the result")]


GETTING_ON = [
    paging, paging_unheard, paging_by_cursor, building, building_in_three_steps,
    polling_with_news, polling_that_ends, same_step_with_progress, batch_of_numbers, deletes,
    different_questions, debugging, batch_with_a_ceremony, queue_with_a_ceremony, validated_batch,
    notes, booking, aligning, waiting_for_a_job,
]


@pytest.mark.parametrize("every", [0.1, 2.0])
@pytest.mark.parametrize("run", GETTING_ON, ids=[run.__name__ for run in GETTING_ON])
def test_a_run_that_gets_on_is_let_alone(run, every):
    assert worst(run(), every) == ("none", None)


def test_retries_with_back_off_that_succeed():
    at, window, run = START, [], []
    for n in range(7):
        run.append(
            detector.build_step(at, "call", {"url": "https://a.example/x"}, {"status": 503})
        )
        at += 2.0 ** n * random.Random(n).uniform(0.75, 1.25)
    run.append(detector.build_step(at, "call", {"url": "https://a.example/x"}, {"status": 200}))
    limits = LoopDetectionConfig(time_window_seconds=3600)
    for step in run:
        window.append(step)
        assert detector.detect(window, limits) == []


def test_a_long_mixed_run():
    actions = []
    for n in range(50):
        actions += [
            ("list_items", {"page": n}, {"items": [n]}),
            ("get_status", {}, {"state": "busy"}),
            ("handle", {"item": n, "note": "please handle it"}, {"result": "item %d" % n}),
            ("save", {"item": n}, "saved"),
        ]
    assert worst(actions) == ("none", None)


# Runs that do not.

def test_identical_steps():
    actions = [("search", {"query": "weather in Paris"}, "no result")] * 6
    assert (when(actions, "warn"), when(actions, "critical")) == (3, 4)
    assert worst(actions) == ("critical", "identical")


def test_identical_steps_whose_outcome_is_not_told():
    assert when([("search", {"query": "weather"}, None)] * 6, "critical") == 4


def test_alternating_steps():
    actions = [read("a.py"), ("grep", {"word": "x"}, [])] * 3
    assert (when(actions, "warn"), when(actions, "critical")) == (5, 6)
    assert worst(actions) == ("critical", "alternating")


@pytest.mark.parametrize("period", [3, 4, 7])
def test_cycles(period):
    actions = [read("%d.py" % n) for n in range(period)] * 3
    assert when(actions, "critical") == 3 * period
    assert detector.detect(steps(actions), LIMITS)[0].period == period


def test_a_cycle_longer_than_the_longest_looked_for():
    actions = [read("%d.py" % n) for n in range(6)] * 6
    short = LoopDetectionConfig(max_pattern_length=5)
    assert patterns.cycle(steps(actions), short) is None
    assert detector.detect(steps(actions), short)[0].kind == "no_progress"


def test_a_cycle_with_other_steps_in_between():
    actions = []
    for n in range(4):
        actions += [read("a"), read("b"), read("c")] + (
            [("look", {"at": n}, "at")] if n % 2 else []
        )
    pattern = patterns.interrupted_cycle(steps(actions[:-1]), LIMITS)
    assert (pattern.level, pattern.period, pattern.interrupted) == ("critical", 3, True)


def test_notes_in_between_hide_no_cycle():
    actions = []
    for word in ("hope", "fear", "doubt", "faith", "luck"):
        actions += [read(letter) for letter in "abcd"] + [
            ("note", {"text": "my " + word}, "Noted.")
        ]
    pattern = patterns.interrupted_cycle(steps(actions[:-1]), LIMITS)
    assert (pattern.level, pattern.period, pattern.interrupted) == ("critical", 4, True)


def test_too_many_other_steps_in_between_are_no_cycle():
    actions = []
    for n in range(8):
        actions += [read("a"), ("edit", {"line": n}, "edited")]
    assert patterns.interrupted_cycle(steps(actions), LIMITS) is None


def test_the_same_steps_in_any_order():
    order = random.Random(3)
    actions = [read(order.choice("abcde") + ".py") for _ in range(40)]
    assert worst(actions)[0] == "critical"


@pytest.mark.parametrize("wordings", [
    ["weather in Paris today", "What is the weather in Paris today?", "today's weather, Paris",
     "Paris: weather for today", "please tell me the weather today in Paris",
     "Weather of Paris - today!"],
    ["find overdue invoices for Acme", "Find the overdue invoices of ACME.",
     "overdue invoices: acme", "Could you find Acme's overdue invoices",
     "invoices that are overdue, for Acme", "find me the overdue invoice list for Acme"],
    ["\u6771\u4eac\u306e\u5929\u6c17\u306f", "\u6771\u4eac\u306e\u5929\u6c17",
     "\u6771\u4eac\u306e\u5929\u6c17\u306f\u3001", "\u6771\u4eac\u306e\u5929\u6c17\u306f\uff1f",
     "\u6771\u4eac\u306e\u5929\u6c17\u3002", "\u6771\u4eac\u306e\u5929\u6c17 \u306f"],
])
def test_paraphrased_arguments(wordings):
    actions = [("search", {"query": wording}, "nothing was found") for wording in wordings]
    assert worst(actions) == ("critical", "similar")
    actions = [("search", {"query": wording}, None) for wording in wordings * 4]
    assert worst(actions)[0] == "critical"


def test_changing_thoughts_hide_no_loop():
    actions = [
        ("search", {"query": "x", "thought": "try %s" % ("again " * n)}, "nothing")
        for n in range(4)
    ]
    assert when(actions, "critical") == 4


def test_changing_request_ids_and_times_hide_no_loop():
    actions = [
        (
            "create_ticket",
            {"title": "Broken", "requestId": str(uuid.UUID(int=n)), "timestamp": 1700000000 + n},
            {"created": "2023-11-14T22:13:%02dZ" % n, "elapsed_ms": n, "ok": True},
        )
        for n in range(4)
    ]
    assert when(actions, "critical") == 4


@pytest.mark.parametrize("changing", [
    lambda n: str(uuid.UUID(int=n * 7919)),
    lambda n: "%040x" % (n * 7919 + 2**150),
    lambda n: "req_%dabc4def8ghi" % n,
    lambda n: "ORD-%06d" % n,
    lambda n: 123_456_789_012 + n,
    lambda n: str(987_654_321_098 + n),
    lambda n: "kubectl describe order %s" % uuid.UUID(int=n * 7919),
    lambda n: "/orders/%032x/state" % (n * 7919 + 2**120),
    lambda n: [str(uuid.UUID(int=n)), str(uuid.UUID(int=n + 1))],
])
@pytest.mark.parametrize("output", [{"status": "shipped"}, {"ok": True, "id": "a" * 8 + "1"}, None])
def test_another_identifier_each_time_is_a_batch(changing, output):
    actions = [("get_order", {"order_id": changing(n), "kind": "x"}, output) for n in range(100)]
    assert worst(actions) == ("none", None)


def test_an_error_whose_message_has_another_id_each_time_is_a_loop_in_the_end(store, clock):
    levels = []
    for n in range(20):
        error = {"cause": "server_error", "message": "request %s failed" % uuid.UUID(int=n * 7919)}
        levels.append(check(store, clock, "error", error, None, compare_ids=False)["level"])
    assert (levels.index("warn") + 1, levels.index("critical") + 1) == (10, 20)


def test_few_identifiers_in_turn_are_a_loop():
    ids = [str(uuid.UUID(int=n * 7919)) for n in range(3)]
    actions = [("get_order", {"id": ids[n % 3]}, {"status": "shipped"}) for n in range(9)]
    assert when(actions, "critical") == 9
    assert when([actions[0]] * 4, "critical") == 4


@pytest.mark.parametrize("changing", [
    lambda n: "2023-11-14T22:13:%02d.123456+00:00" % n,
    lambda n: 1_700_000_000 + n,
    lambda n: 1_700_000_000_000 + 1000 * n,
    lambda n: str(1_700_000_000 + n),
])
def test_changing_timestamps_are_a_loop_in_the_end(changing):
    """One item after another may be meant, so it takes longer."""
    actions = [("create", {"id": changing(n), "kind": "x"}, {"ok": True}) for n in range(20)]
    assert (when(actions, "warn"), when(actions, "critical")) == (10, 20)


def test_page_after_page_of_nothing():
    actions = [("list_items", {"page": n}, {"items": [], "page": n}) for n in range(20)]
    assert (when(actions, "warn"), when(actions, "critical")) == (10, 20)


def test_endless_polling():
    actions = [("getJobStatus", {"job": 7}, {"state": "running"})] * 25
    assert (when(actions, "warn"), when(actions, "critical")) == (10, 20)


NO_NEWS = "[The command has no new output after %s seconds. You may wait longer to see more ...]"


@pytest.mark.parametrize("step_input, output", [
    ({"command": ""}, lambda n: NO_NEWS % 10),
    ({"command": ""}, lambda n: NO_NEWS % (10 * n)),
    ({"command": ""}, lambda n: ""),
    ({}, lambda n: {"stdout": NO_NEWS % n, "exit_code": -1}),
    ({"job": 7}, lambda n: {"status": "running", "elapsed": "%ds" % (10 * n)}),
    ({"job": 7}, lambda n: {"status": "RUNNING", "elapsedSeconds": 10 * n}),
    ({"job": 7}, lambda n: {"job": {"state": "IN_PROGRESS", "since": "2023-11-14T22:13:20Z"}}),
    ({"job": 7}, lambda n: {"jobs": [{"phase": "Pending", "age": "%dm%ds" % (n // 60, n % 60)}]}),
    ({"job": 7}, lambda n: {"phase": "ContainerCreating"}),
    ({"job": 7}, lambda n: {"done": False, "id": "0c1f6a83-5c7d-4d6c-9d9b-0a4f0f6d3f11"}),
    ({"job": 7}, lambda n: {"content": [{"type": "text", "text": "Status: queued"}]}),
    ({"job": 7}, lambda n: "The build is still running (0:%02d)." % n),
    ({"job": 7}, lambda n: "Waiting for approval"),
    ({"job": 7}, lambda n: "queued"),
])
def test_waiting_is_patient_whatever_the_action_is_called(step_input, output):
    actions = [("execute_bash", step_input, output(n)) for n in range(20)]
    assert worst(actions[:9]) == ("none", None)
    assert (when(actions, "warn"), when(actions, "critical")) == (10, 20)


@pytest.mark.parametrize("step_input, output", [
    ({"job": 7}, {"status": "done"}),
    ({"job": 7}, {"status": "failed"}),
    ({"job": 7}, {"status": "not running"}),
    ({"job": 7}, {"status": "processing failed"}),
    ({"job": 7}, {"done": True}),
    ({"job": 7}, {"running": False}),
    ({"job": 7}, {"name": "running"}),
    ({"job": 7}, {"error": "no such job"}),
    ({"job": 7}, "no more results"),
    ({"job": 7}, "The server is up and running."),
    ({"job": 7}, "Finished."),
    ({"path": "a.py"}, ""),
    ({}, {"ok": True}),
    ({"path": "a.py"}, "the job is still running, says the manual. " * 20),
])
def test_an_output_that_does_not_wait_is_not(step_input, output):
    assert when([("execute_bash", step_input, output)] * 6, "critical") == 4


def test_the_same_request_that_creates_something_again_does_not_wait():
    actions = [
        ("submit", {"job": "export"}, {"status": "queued", "id": str(uuid.UUID(int=n * 7919))})
        for n in range(6)
    ]
    assert when(actions, "critical") == 4


def test_two_looks_in_turn_at_what_runs():
    actions = [("get_job", {"id": 7}, {"state": "running"}), ("tail", {"id": 7}, NO_NEWS % 1)] * 15
    assert (when(actions, "warn"), when(actions, "critical")) == (10, 20)
    actions[1::2] = [("read", {"path": "a.py"}, "x = 1")] * 15
    assert when(actions, "critical") == 6


def test_endless_back_off():
    at, window = START, []
    for n in range(20):
        window.append(detector.build_step(at, "call", {}, "503"))
        at += 2.0 + n
    limits = LoopDetectionConfig(time_window_seconds=3600)
    assert detector.detect(window[:9], limits) == []
    assert detector.detect(window, limits)[0].level == "critical"


def test_endless_waiting_for_a_job():
    actions = [("get_job", {"id": 7}, {"state": "running"}), ("sleep", {"seconds": 5}, None)] * 15
    assert (when(actions, "warn"), when(actions, "critical")) == (10, 20)


def test_the_same_thought_over_and_over():
    assert when([("think", {"thought": "what now"}, "Noted.")] * 6, "critical") == 4


def test_steps_of_which_nothing_is_known():
    actions = [("search", {}, None), ("read", {}, None)] * 30
    assert when(actions, "warn") == 10 and when(actions, "critical") == 20


def test_too_many_steps_of_which_hardly_one_is_new():
    order = random.Random(1)
    actions = [(order.choice(["search", "read", "write"]), {}, None) for _ in range(60)]
    pattern = patterns.rate(steps(actions, every=1.0), LIMITS)
    assert (pattern.kind, pattern.level, pattern.steps) == ("rate", "critical", 60)
    assert patterns.rate(steps(actions[:45], every=1.0), LIMITS).level == "warn"
    assert patterns.rate(steps(actions[:39], every=1.0), LIMITS) is None
    assert patterns.rate([], LIMITS) is None


def test_progress_that_does_not_grow_is_none():
    actions = [("work", {"on": "x"}, {"ok": True}, 5)] * 4
    assert when(actions, "critical") == 4


def test_a_progress_of_0_is_known(store, clock):
    check(store, clock, progress=0)
    for n in range(1, 6):
        assert check(store, clock, progress=n)["steps"] == n + 1
        assert detector.patterns(store, AGENT) == []


def test_progress_in_between_breaks_a_loop():
    actions = [("work", {"on": "x"}, {"ok": True}, n // 2) for n in range(100)]
    assert worst(actions) == ("none", None)


def test_no_steps_no_patterns():
    assert detector.detect([], LIMITS) == []


# Signatures.

def same(first, second, form="signature"):
    forms = [getattr(detector.build_step(START, "a", value), form) for value in (first, second)]
    return forms[0] == forms[1]


@pytest.mark.parametrize("first, second", [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"q": "Hello  World"}, {"q": "hello world "}),
    ({"n": 1}, {"n": 1.0}),
    ({"q": "\uff41\uff42"}, {"q": "ab"}),
    ({"q": "logs of 2023-11-14T22:13:20Z"}, {"q": "logs of 2023-11-14T22:13:21Z"}),
    ({"at": 1_700_000_000}, {"at": 1_700_000_001.5}),
    ({"request-id": "a", "x": 1}, {"request_id": "b", "x": 1}),
    ({"toolCallId": "a"}, {"toolCallId": "b"}),
])
def test_these_are_the_same(first, second):
    assert same(first, second)


@pytest.mark.parametrize("first, second", [
    ({"page": 1}, {"page": 2}),
    ({"q": "run 1f3870be274f6c49b3e31a0c6728957f"}, {"q": "run 0cc175b9c0f1b6a831c399e269772661"}),
    ({"id": 123_456_789_012}, {"id": 123_456_789_013}),
    ({"path": "a.py"}, {"path": "b.py"}),
    ({"a": "1"}, {"a": 1}),
    ({"a": True}, {"a": 1}),
    ({"a": None}, {}),
    ({"a": [1, 2]}, {"a": [2, 1]}),
    ({"a": {"b": 1}}, {"a": [["b", 1]]}),
    ({"q": "turn it on"}, {"q": "turn it off"}),
    ({"date": "2023-11-14"}, {"date": "2023-11-15"}),
])
def test_these_are_not(first, second):
    assert not same(first, second)


def test_free_text_and_its_numbers():
    assert same({"q": "sum up chapter one"}, {"q": "the weather"}, "shape")
    assert not same({"q": "sum up chapter 1"}, {"q": "sum up chapter 2"}, "shape")
    assert not same({"path": "a"}, {"path": "b"}, "shape")


def test_similarity_is_the_originals_formula():
    first = detector.build_step(START, "a", {"q": "red green blue"})
    second = detector.build_step(START, "a", {"q": "red green brown"})
    assert patterns.similarity(first, first) == 1.0
    assert patterns.similarity(first, second) == pytest.approx(0.6 + 0.4 * 2 / 4)
    assert (
        patterns.similarity(first, detector.build_step(START, "b", {"q": "red green blue"})) == 0.0
    )


def test_no_text_is_kept(store, datastore, clock):
    detector.record_step(
        store,
        clock(),
        LIMITS,
        AGENT,
        "search",
        {"query": "Alice owes 500 to Bob"},
        "Bob says thanks to Alice",
        task="t1",
    )
    stored = "".join(datastore.get(name) for name in datastore.names())
    for word in ("alice", "owes", "500", "bob", "thanks", "query"):
        assert word not in stored.lower().replace("output", "")
    assert len(stored) < 2000


def test_a_huge_input_is_a_small_step(store, datastore, clock):
    text = " ".join("word%d" % n for n in range(150_000))
    detector.record_step(store, clock(), LIMITS, AGENT, "write", {"text": text}, text)
    assert len(datastore.get(datastore.names()[0])) < 2000


@pytest.mark.parametrize("value", [
    float("nan"), float("inf"), pytest.param(10**5000, id="huge"), "\ud800 \x00", {"\ud800": 1},
    "{{ foo }} <% ctx() %>",
])
def test_hostile_values_have_a_signature(value):
    step = detector.build_step(START, "a", {"x": value}, value)
    assert step == detector.build_step(START, "a", {"x": value}, value)
    json.dumps(detector._encode_step(step))


def test_what_is_nested_too_deeply():
    deep = []
    for _ in range(500):
        deep = [deep]
    assert detector.build_step(START, "a", {"x": deep}, deep).signature
    deep = {"a": 1}
    for _ in range(500):
        deep = {"a": deep}
    assert detector.build_step(START, "a", deep, deep).signature


# What an agent sees.

def check(store, clock, action="search", step_input=None, output="nothing", limits=LIMITS, **more):
    step_input = {"query": "x"} if step_input is None else step_input
    clock.forward(1)
    return detector.record_step(store, clock(), limits, AGENT, action, step_input, output, **more)


def test_first_a_warning_then_a_pause(store, clock):
    seen = [check(store, clock) for _ in range(4)]
    assert [result["level"] for result in seen] == ["none", "none", "warn", "critical"]
    assert [result["looping"] for result in seen] == [False, False, True, True]
    assert [result["paused"] for result in seen] == [False, False, False, True]
    last = seen[-1]
    assert last["reason"] == "search was repeated 4 times with the same outcome"
    assert last["pattern"]["kind"] == "identical" and last["pattern"]["repeats"] == 4
    assert last["pause"]["by"] == "loop_detector" and last["recorded"] is True
    paused = pauses.pause_of(store, AGENT, clock())
    assert paused["until"] == clock() + 300 and paused["probe_at"] == clock() + 60


def test_no_pause_where_it_is_switched_off(store, clock):
    limits = LoopDetectionConfig(enable_auto_pause=False)
    seen = [check(store, clock, limits=limits) for _ in range(6)]
    assert seen[-1]["level"] == "critical" and not seen[-1]["paused"]
    assert pauses.pause_of(store, AGENT, clock()) is None


def test_a_step_while_paused_says_so_and_pauses_no_further(store, datastore, clock):
    for _ in range(4):
        check(store, clock)
    until = pauses.pause_of(store, AGENT, clock())["until"]
    result = check(store, clock, "read", {"path": "a"}, "news")
    assert result["paused"] and result["level"] == "none" and result["reason"].startswith("loop: ")
    for _ in range(4):
        assert check(store, clock)["paused"]
    assert pauses.pause_of(store, AGENT, clock())["until"] == until


def test_after_a_pause_the_window_begins_anew(store, clock):
    limits = LoopDetectionConfig(pause_seconds=60, time_window_seconds=3600, probe_seconds=30)
    for _ in range(4):
        check(store, clock, limits=limits)
    clock.forward(60)
    result = check(store, clock, limits=limits)
    assert (result["level"], result["steps"], result["paused"]) == ("none", 1, False)


def test_after_a_resume_by_hand_the_window_begins_anew(store, clock):
    for _ in range(4):
        check(store, clock)
    pauses.resume(store, AGENT, clock())
    assert check(store, clock)["level"] == "none"


def test_the_agent_may_step_while_it_is_probed_and_is_paused_again_when_it_loops(
    store, clock, make_env
):
    limits = LoopDetectionConfig(pause_seconds=3600, time_window_seconds=3600)
    for _ in range(4):
        check(store, clock, limits=limits)
    clock.forward(60)
    pauses.refuse_if_paused(make_env(), AGENT)
    seen = [check(store, clock, limits=limits) for _ in range(4)]
    assert [result["paused"] for result in seen] == [False, False, False, True]
    assert pauses.pause_of(store, AGENT, clock())["since"] == clock()


def test_each_task_is_judged_by_itself(store, clock):
    for n in range(12):
        assert check(store, clock, task="task-%d" % (n % 6))["level"] == "none"


def test_a_loop_in_one_of_many_tasks_at_the_same_time(store, clock):
    """The other tasks' steps push none of it out of the window."""
    levels = []
    for n in range(4):
        levels.append(check(store, clock, task="stuck")["level"])
        for other in range(40):
            check(store, clock, "work", {"item": 40 * n + other}, "done", task="task-%d" % other)
    assert levels == ["none", "none", "warn", "critical"]


def test_how_many_datastore_calls_a_check_makes(datastore, clock):
    calls = []

    class Counted:
        def __getattr__(self, name):
            def call(*arguments):
                calls.append(name)
                return getattr(datastore, name)(*arguments)
            return call

    counts = []
    for _ in range(5):
        check(BestEffortDatastore(Counted()), clock)
        counts.append(len(calls) - sum(counts))
    # The third notes a pattern; the fourth does so too, and pauses the agent.
    assert counts == [4, 4, 5, 8, 4]


def test_only_the_time_window_counts(store, clock):
    for _ in range(10):
        clock.forward(150)
        assert check(store, clock)["level"] == "none"


def test_another_agent_s_steps_do_not_count(store, clock):
    for n in range(10):
        detector.record_step(store, clock(), LIMITS, "bot-%d" % n, "search", {"q": 1}, "x")
    assert check(store, clock)["steps"] == 1


def test_patterns_are_listed_once_each(store, clock):
    limits = LoopDetectionConfig(enable_auto_pause=False)
    for _ in range(6):
        check(store, clock, limits=limits)
    detector.reset(store, AGENT, clock())
    for _ in range(4):
        check(store, clock, limits=limits)
    (pattern,) = detector.patterns(store, AGENT)
    assert pattern["kind"] == "identical" and pattern["level"] == "critical"
    assert pattern["occurrences"] == 2 and pattern["actions"] == ["search"]
    assert pattern["first_seen"] < pattern["last_seen"]
    assert detector.patterns(store, "somebody") == []


def test_a_cycle_is_the_same_wherever_it_is_seen_to_begin(store, clock):
    limits = LoopDetectionConfig(enable_auto_pause=False)
    for n in range(20):
        check(store, clock, "read", {"path": "abc"[n % 3]}, "x", limits)
    kinds = [pattern["kind"] for pattern in detector.patterns(store, AGENT)]
    assert kinds.count("cycle") == 1


def test_a_loop_of_hours_is_written_down_once_per_window(store, datastore, clock):
    limits = LoopDetectionConfig(enable_auto_pause=False)
    for _ in range(400):
        check(store, clock, limits=limits)
    facts = [name for name in datastore.names() if ".loop." in name]
    assert len(facts) <= 12


def test_reset_forgets_the_window_and_ends_the_detector_s_pause(store, clock):
    for _ in range(4):
        check(store, clock)
    assert detector.reset(store, AGENT, clock()) == (True, True)
    assert pauses.pause_of(store, AGENT, clock()) is None
    result = check(store, clock)
    assert (result["level"], result["steps"], result["paused"]) == ("none", 1, False)


def test_reset_leaves_a_person_s_pause(store, clock):
    pauses.pause(store, AGENT, clock(), "maintenance", 3600)
    assert detector.reset(store, AGENT, clock()) == (True, False)
    result = check(store, clock)
    assert result["paused"] and result["pause"]["by"] == "person"


def test_without_a_datastore_a_step_shows_nothing(store, datastore, clock):
    datastore.away = True
    for _ in range(10):
        result = check(store, clock)
    assert (result["level"], result["recorded"], result["steps"]) == ("none", False, 1)
    assert "step" in store.unrecorded_note()


def test_a_datastore_that_only_reads(store, datastore, clock):
    datastore.away = ("put",)
    assert check(store, clock)["level"] == "none"


def test_steps_expire(store, datastore, clock):
    check(store, clock)
    clock.forward(361)
    assert datastore.names() == []


@pytest.mark.parametrize("field, more", [
    ("agent_id", {"agent_id": "a b"}),
    ("action", {"action": "{{ foo }}"}),
    ("task_id", {"task": "no name"}),
    ("progress", {"progress": float("nan")}),
    ("progress", {"progress": "half"}),
    ("progress", {"progress": True}),
    ("progress", {"progress": 10**400}),
])
def test_refusals(store, clock, field, more):
    step = dict({"agent_id": AGENT, "action": "search"}, **more)
    with pytest.raises(InvalidInput) as caught:
        detector.record_step(store, clock(), LIMITS, **step)
    assert caught.value.field == field and caught.value.hint


def test_what_others_wrote_is_passed_over(store, datastore, clock):
    check(store, clock)
    good = json.loads(datastore.get(datastore.names()[0]))
    bad = ["", "{", "[]", "null", '{"v": 2}', '{"v": 1}']
    bad += [json.dumps(dict(good, **{name: value})) for name, value in (
        ("words", [1, "a"]), ("words", 5), ("signature", {}), ("action", None), ("more", 1),
        ("progress", "x"), ("output", []),
    )]
    for kind in ("step.%s.~" % AGENT, "loop.%s" % AGENT):
        for n, value in enumerate(bad + ['{"v": 1, "event": "pattern"}']):
            at = clock() * 1000 + n
            datastore.put("%s%s.%013d-%d" % (PREFIX, kind, at, n), value)
        datastore.put("%s%s.zzz" % (PREFIX, kind), json.dumps(good))
    clock.forward(1)
    assert check(store, clock)["steps"] == 2
    assert detector.patterns(store, AGENT) == []


# Configuration.

def test_the_defaults():
    assert (
        LoopDetectionConfig.from_config(None) ==
        LoopDetectionConfig.from_config({}) ==
        LoopDetectionConfig()
    )


def test_the_readme_s_configuration():
    entry = {
        "max_iterations": 100, "similarity_threshold": 0.9, "time_window_seconds": 600,
        "enable_auto_pause": True,
    }
    limits = LoopDetectionConfig.from_config(entry)
    assert (limits.max_iterations, limits.similarity_threshold) == (100, 0.9)
    assert limits.time_window_seconds == 600 and limits.enable_auto_pause


@pytest.mark.parametrize("entry, field", [
    ([], "loop_detection"),
    ({"max_iterations": 0}, "loop_detection.max_iterations"),
    ({"max_iterations": 101}, "loop_detection.max_iterations"),
    ({"max_iterations": 7.5}, "loop_detection.max_iterations"),
    ({"similarity_threshold": 0.5}, "loop_detection.similarity_threshold"),
    ({"similarity_threshold": True}, "loop_detection.similarity_threshold"),
    ({"time_window_seconds": "300"}, "loop_detection.time_window_seconds"),
    ({"pause_seconds": 5}, "loop_detection.pause_seconds"),
])
def test_wrong_configuration_is_refused(entry, field):
    with pytest.raises(InvalidInput) as caught:
        LoopDetectionConfig.from_config(entry)
    assert caught.value.field == field


# Anything.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() |
    st.text(st.characters(), max_size=20) |
    st.sampled_from(["weather in Paris", "the weather of Paris", "a.py", str(uuid.UUID(int=5))]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3),
    max_leaves=5,
)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["search", "read", "get_status", "write"]),
        st.just({}) | st.dictionaries(st.sampled_from("qp"), JSON, max_size=2),
        st.none() | JSON,
        st.none() | st.floats(0, 10),
    ),
    max_size=40,
)


@settings(max_examples=500)
@hypothesis.given(ACTIONS, st.floats(0.0, 100.0))
def test_any_sequence_has_one_verdict(actions, every):
    built_steps = steps(actions, every)
    result = detector.detect(built_steps, LIMITS)
    assert result == detector.detect(steps(actions, every), LIMITS)
    back = [
        detector._decode_step("x.%013d-1" % (step.at * 1000), detector._encode_step(step))
        for step in built_steps
    ]
    assert None not in back
    for pattern in result:
        assert pattern.level in ("warn", "critical") and pattern.steps <= len(built_steps)
        json.dumps(detector._pattern_payload(AGENT, pattern))
        assert detector._reason(detector._pattern_payload(AGENT, pattern))


@settings(max_examples=200)
@hypothesis.given(st.lists(st.integers(0, 1000), unique=True, min_size=1, max_size=100))
def test_a_run_whose_every_output_is_new_is_let_alone(numbers):
    assert detector.detect(steps([("work", {}, {"found": n}) for n in numbers]), LIMITS) == []


@settings(max_examples=200)
@hypothesis.given(
    st.dictionaries(st.sampled_from("qp"), JSON, min_size=1, max_size=2),
    st.sampled_from(["search", "read", "write"]),
    st.none() | st.integers() | st.sampled_from(["one text", {"ok": True}, {"state": "done"}, [1]]),
)
def test_the_same_step_with_the_same_output_is_a_loop(step_input, action, output):
    assert when([(action, step_input, output)] * 4, "critical") == 4


@settings(max_examples=200)
@hypothesis.given(st.lists(st.uuids(version=4), unique=True, min_size=25, max_size=25))
def test_25_identifiers_are_25_requests(ids):
    actions = [("get_order", {"order_id": str(name)}, {"status": "shipped"}) for name in ids]
    assert worst(actions) == ("none", None)


@settings(max_examples=200)
@hypothesis.given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8), st.integers(3, 6))
def test_every_cycle_of_three_rounds_is_found(block, rounds):
    actions = [read(letter) for letter in block] * max(rounds, -(-4 // len(block)))
    assert detector.detect(steps(actions), LIMITS)[0].level == "critical"
