"""The scheduler of orchestrations: which steps come next, whatever becomes of those before."""
import hypothesis
import pytest
from hypothesis import strategies as st

from synthralos.orchestration import orchestration_schema, scheduler

COMPLETED = scheduler.COMPLETED


class Hooks:
    """Conditions hold whose field is in `true`; `until` of loops likewise, counted."""

    def __init__(self, true=(), max_concurrent=5):
        self.true, self.max_concurrent = set(true), max_concurrent
        self.stored, self.checked_fields = [], []

    def now(self):
        return 100.0

    def holds(self, condition):
        self.checked_fields.append(condition["field"])
        return condition["field"] in self.true

    def keep(self, step, slot):
        self.stored.append((step["name"], slot))


def condition(field):
    return {"field": field, "operator": "exists"}


def define(*steps, **more):
    return orchestration_schema.orchestration(dict({"name": "o", "steps": list(steps)}, **more))


def play(definition, hooks=None, fails=(), refuses=(), max_waves=200):
    """(waves as lists of names, the state at the end)."""
    hooks, state, seen = hooks or Hooks(), scheduler.initial_state(definition, 0.0), []
    for _ in range(max_waves):
        scheduler.advance(definition, state, hooks)
        if state["outcome"] is not None:
            return seen, state
        jobs = state["wave"]["jobs"]
        seen.append(jobs)
        results = {}
        for name in jobs:
            status = scheduler.FAILED if name in fails else COMPLETED
            status = scheduler.REFUSED if name in refuses else status
            log = {"error": "broke"} if status != COMPLETED else {}
            results[name] = scheduler.StepResult(status, log, {name: {"v": 1}}, {"v": name})
        scheduler.merge_results(definition, state, results, 1.0)
    raise AssertionError("no end after %d waves" % max_waves)


def statuses(state):
    return {entry["step_id"]: entry["status"] for entry in state["log"]}


def test_one_after_the_other():
    seen, state = play(define({"name": "a"}, {"name": "b"}, {"name": "c"}))
    assert seen == [["a"], ["b"], ["c"]] and state["outcome"]["status"] == COMPLETED
    assert state["cursor"] == 3 and statuses(state) == {
        "a": COMPLETED,
        "b": COMPLETED,
        "c": COMPLETED,
    }


def test_groups_each_by_its_own_id():
    seen, _ = play(define(
        {"name": "a", "group": "x"}, {"name": "b", "group": "x"}, {"name": "c", "group": "y"},
        {"name": "d", "group": "y"}, {"name": "e"},
    ))
    assert seen == [["a", "b"], ["c", "d"], ["e"]]


def test_priority_comes_first_among_what_is_ready():
    seen, _ = play(define(
        {"name": "a", "group": "x"}, {"name": "b", "group": "x", "priority": 5},
        {"name": "c", "group": "x", "priority": 1},
    ))
    assert seen == [["b", "c", "a"]]


def test_where_one_may_run_at_a_time_each_is_a_wave():
    steps = [{"name": name, "group": "x"} for name in "abc"]
    assert play(define(*steps), Hooks(max_concurrent=1))[0] == [["a"], ["b"], ["c"]]


def test_a_condition_that_does_not_hold_skips_a_step_and_nothing_else():
    definition = define(
        {"name": "a"}, {"name": "b", "condition": condition("no")}, {"name": "c"},
    )
    seen, state = play(definition)
    assert seen == [["a"], ["c"]]
    assert state["log"][1] == {
        "step_id": "b", "step_name": "b", "status": "skipped", "reason": "Condition not met"}


def test_a_failed_step_ends_the_run_and_the_rest_says_so():
    seen, state = play(define({"name": "a"}, {"name": "b"}, {"name": "c"}), fails=["b"])
    assert seen == [["a"], ["b"]]
    assert state["outcome"] == {"status": "failed", "step": "b", "error": "broke"}
    assert state["log"][-1]["reason"] == "not reached: step b failed"


def test_a_failed_parallel_step_ends_the_run_once_its_wave_has_ended():
    steps = [{"name": name, "group": "x"} for name in "abc"]
    seen, state = play(define(*steps, {"name": "d"}), fails=["b"])
    assert seen == [["a", "b", "c"]] and state["outcome"]["step"] == "b"
    assert statuses(state) == {"a": COMPLETED, "b": "failed", "c": COMPLETED, "d": "skipped"}


@pytest.mark.parametrize("where", ["step", "orchestration"])
def test_a_policy_of_continue(where):
    own = {"on_failure": "continue"}
    step = dict({"name": "b"}, **(own if where == "step" else {}))
    definition = define(
        {"name": "a"}, step, {"name": "c"}, **(own if where == "orchestration" else {}))
    seen, state = play(definition, fails=["b"])
    assert seen == [["a"], ["b"], ["c"]] and state["outcome"]["status"] == COMPLETED


def test_a_step_s_own_policy_is_over_the_orchestration_s():
    definition = define({"name": "a", "on_failure": "fail"}, {"name": "b"},
                        on_failure="continue")
    assert play(definition, fails=["a"])[1]["outcome"]["status"] == "failed"


def test_what_depends_on_a_failed_step_is_skipped_and_says_on_which():
    definition = define(
        {"name": "a"}, {"name": "b"}, {"name": "c", "depends_on": ["a"]},
        {"name": "d", "depends_on": ["c", "b"]}, {"name": "e", "depends_on": ["b"]},
        on_failure="continue",
    )
    seen, state = play(definition, fails=["a"])
    assert seen == [["a", "b"], ["e"]]
    reasons = {entry["step_name"]: entry.get("reason") for entry in state["log"]}
    assert reasons["c"] == "it depends on a, which did not complete"
    assert reasons["d"] == "it depends on c, which did not complete"


def test_what_depends_on_a_skipped_step_runs():
    definition = define(
        {"name": "a", "condition": condition("no")}, {"name": "b", "depends_on": ["a"]})
    assert play(definition)[0] == [["b"]]


def looped(until="met", rounds=3, **more):
    return dict(
        {"name": "L", "loop": {
            "steps": [{"name": "a"}, {"name": "b"}], "max_rounds": rounds,
            "until": condition(until) if until else None}},
        **more,
    )


def test_a_loop_ends_when_its_condition_holds():
    hooks = Hooks(["met"])
    seen, state = play(define(looped(), {"name": "z"}), hooks)
    assert seen == [["a"], ["b"], ["z"]] and state["outcome"]["status"] == COMPLETED
    assert statuses(state) == {
        "L[1]/a": COMPLETED,
        "L[1]/b": COMPLETED,
        "L": COMPLETED,
        "z": COMPLETED,
    }
    assert hooks.stored == [("L", {"v": "b"})]


def test_a_loop_is_bounded_and_one_that_never_met_its_condition_has_failed():
    seen, state = play(define(looped(rounds=2), {"name": "z"}))
    assert seen == [["a"], ["b"], ["a"], ["b"]]
    assert state["outcome"]["step"] == "L"
    assert "did not hold after 2 rounds" in state["outcome"]["error"]
    assert state["log"][-2]["rounds"] == 2


@pytest.mark.parametrize("more, rounds", [
    ({}, 5), ({"max_retries": 2}, 2), ({"max_retries": 0}, 1),
])
def test_a_step_s_retries_bound_the_rounds_of_its_loop(more, rounds):
    step = dict({"name": "L", "loop": {"steps": [{"name": "a"}]}}, **more)
    assert len(play(define(step))[0]) == rounds
    normal = define(step)["steps"][0]
    assert define(normal)["steps"][0] == normal
    step["loop"]["max_rounds"] = 3
    assert len(play(define(step))[0]) == 3


def test_a_loop_without_a_condition_runs_its_rounds():
    seen, state = play(define(looped(None, 2), {"name": "z"}))
    assert len(seen) == 5 and state["outcome"]["status"] == COMPLETED


def test_a_failure_within_a_loop_is_the_loop_s_whose_policy_decides():
    definition = define(looped(on_failure="continue"), {"name": "z"})
    seen, state = play(definition, fails=["a"])
    assert seen == [["a"], ["z"]] and state["outcome"]["status"] == COMPLETED
    assert statuses(state)["L[1]/b"] == "skipped" and statuses(state)["L"] == "failed"
    assert play(define(looped()), fails=["a"])[1]["outcome"] == {
        "status": "failed", "step": "L", "error": "Step a failed: broke"}


def branched(**more):
    return dict(
        {"name": "B", "branch": {
            "cases": [{"when": condition("x"), "steps": [{"name": "a"}]},
                      {"when": condition("y"), "steps": [{"name": "b"}, {"name": "c"}]}],
            "otherwise": [{"name": "d"}]}},
        **more,
    )


@pytest.mark.parametrize("true, ran", [
    (["x"], ["a"]), (["y"], ["b", "c"]), (["x", "y"], ["a"]), ([], ["d"]),
])
def test_a_branch_takes_the_first_case_that_holds(true, ran):
    seen, state = play(define(branched(), {"name": "z"}), Hooks(true))
    assert seen == [[name] for name in ran + ["z"]]
    assert statuses(state)["B"] == COMPLETED and statuses(state)["B/" + ran[0]] == COMPLETED


def test_a_branch_of_which_no_case_holds_is_skipped():
    step = branched()
    step["branch"]["otherwise"] = []
    seen, state = play(define(step, {"name": "z"}))
    assert seen == [["z"]] and state["log"][0]["reason"] == "no case holds"


def test_loops_and_branches_within_each_other():
    inner = looped("met", 2)
    step = {"name": "O", "loop": {"max_rounds": 2, "steps": [
        {"name": "B", "branch": {"cases": [{"when": condition("x"), "steps": [inner]}]}}]}}
    seen, state = play(define(step), Hooks(["x", "met"]))
    assert seen == [["a"], ["b"]] * 2
    assert "O[2]/B/L[1]/b" in statuses(state) and state["outcome"]["status"] == COMPLETED


def test_an_approval_and_a_sub_orchestration_are_waves_of_their_own():
    definition = define(
        {"name": "a", "group": "x"},
        {"name": "ok", "group": "x", "approval": {"question": "?"}},
        {"name": "sub", "group": "x", "orchestration": "other"}, {"name": "b", "group": "x"},
    )
    state, kinds = scheduler.initial_state(definition, 0.0), []
    while True:
        scheduler.advance(definition, state, Hooks())
        if state["outcome"]:
            break
        kinds.append((state["wave"]["kind"], state["wave"]["jobs"]))
        jobs = state["wave"]["jobs"]
        scheduler.merge_results(
            definition, state, {name: scheduler.StepResult(COMPLETED, {}) for name in jobs}, 1.0
        )
    assert kinds == [("steps", ["a", "b"]), ("ask", ["ok"]), ("child", ["sub"])]


def test_a_refusal_is_no_failure_of_the_run():
    definition = define({"name": "ok", "approval": {"question": "?"}}, {"name": "b"})
    _, state = play(definition, refuses=["ok"])
    assert state["outcome"]["status"] == "refused" and statuses(state)["ok"] == "failed"
    step = dict(looped(), loop={"steps": [{"name": "ok", "approval": {"question": "?"}}]})
    assert play(define(step), refuses=["ok"])[1]["outcome"]["status"] == "refused"


def test_a_refusal_with_a_policy_of_continue():
    definition = define(
        {"name": "ok", "approval": {"question": "?"}, "on_failure": "continue"}, {"name": "b"})
    seen, state = play(definition, refuses=["ok"])
    assert seen == [["ok"], ["b"]] and state["outcome"]["status"] == COMPLETED
    assert state["context"]["ok"] == {"v": 1}


def test_a_sub_orchestration_is_tried_again_where_it_ended():
    definition = define({"name": "s", "orchestration": "o2", "max_retries": 1, "retry_delay": 7})
    state = scheduler.initial_state(definition, 0.0)
    scheduler.advance(definition, state, Hooks())
    failed = scheduler.StepResult(scheduler.FAILED, {"error": "x"}, child="run1")
    assert scheduler.merge_results(definition, state, {"s": failed}, 1.0) == 7
    assert state["stack"][-1]["children"] == {"s": "run1"} and state["log"] == []
    scheduler.advance(definition, state, Hooks())
    assert state["wave"] == {"kind": "child", "jobs": ["s"]}
    assert scheduler.merge_results(definition, state, {"s": failed}, 1.0) == 0
    scheduler.advance(definition, state, Hooks())
    assert state["outcome"]["status"] == "failed" and state["log"][0]["attempts"] == 2
    assert state["stack"][-1]["children"] == {}


def test_what_completed_of_a_wave_is_reused_and_the_rest_runs_again():
    steps = [{"name": name, "group": "x"} for name in "abc"]
    definition = define(*steps)
    state = scheduler.initial_state(definition, 0.0)
    scheduler.advance(definition, state, Hooks())
    scheduler.reuse_completed(
        definition,
        state,
        {
            "a": scheduler.StepResult(COMPLETED, {}, {"a": {"v": 1}}),
            "b": scheduler.StepResult(scheduler.FAILED, {}),
            "c": scheduler.crashed_result(),
        },
        1.0,
    )
    scheduler.advance(definition, state, Hooks())
    assert state["wave"]["jobs"] == ["b", "c"] and state["cursor"] == 2
    assert [entry["step_name"] for entry in state["log"]] == ["a"]


def test_no_run_has_more_waves_than_it_may():
    step = {"name": "L", "loop": {"max_rounds": 50, "steps": [
        {"name": "M", "loop": {"max_rounds": 50, "steps": [{"name": "a"}]}}]}}
    seen, state = play(define(step), max_waves=3000)
    assert len(seen) == scheduler.MAX_WAVES and state["outcome"]["status"] == "failed"
    assert "no run may have more" in state["outcome"]["error"]


def test_a_definition_whose_steps_wait_for_each_other_ends():
    definition = define({"name": "a"}, {"name": "b", "depends_on": ["a"]})
    definition["steps"][0]["depends_on"] = ["b"]
    _, state = play(definition)
    assert state["outcome"]["error"] == "no step can run: each waits for another"


def test_what_would_run_in_which_order():
    definition = define({"name": "p", "group": "g"}, {"name": "q", "group": "g"}, looped())
    steps_and_waves = [
        (entry["step_id"], entry["wave"]) for entry, _ in scheduler.preview(definition)
    ]
    assert steps_and_waves == [("p", 1), ("q", 1), ("L", 2), ("L/a", 1), ("L/b", 2)]


@st.composite
def graphs(draw):
    """Orchestrations of plain steps: any order, groups, dependencies, priorities and policies."""
    count = draw(st.integers(1, 12))
    names = ["s%d" % n for n in range(count)]
    steps = []
    for name in names:
        step = {
            "name": name, "order": draw(st.integers(0, 5)), "priority": draw(st.integers(-3, 3)),
            "on_failure": draw(st.sampled_from([None, "fail", "continue"])),
        }
        kind = draw(st.sampled_from(["order", "group", "graph"]))
        if kind == "group":
            step["group"] = draw(st.sampled_from(["g", "h"]))
        elif kind == "graph":
            # Only on those before it by order too, so that order and dependencies agree.
            earlier = [
                earlier_step["name"]
                for earlier_step in steps
                if earlier_step["order"] < step["order"]
            ]
            if earlier:
                chosen = draw(st.lists(st.sampled_from(earlier), unique=True))
                step["depends_on"] = chosen
        if draw(st.integers(0, 4)) == 0:
            step["condition"] = condition(draw(st.sampled_from(["yes", "no"])))
        steps.append(step)
    return define(*steps), draw(st.sets(st.sampled_from(names))), draw(st.integers(1, 4))


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(graphs())
def test_any_graph_is_run_in_order_once_and_to_an_end(drawn):
    definition, fails, most = drawn
    from synthralos.orchestration import dependencies

    seen, state = play(definition, Hooks(["yes"], most), fails)
    ran = [name for jobs in seen for name in jobs]
    assert len(ran) == len(set(ran))
    assert all(len(jobs) == 1 for jobs in seen) or most > 1
    plan = dependencies.dependency_map(definition)
    log = [entry["step_name"] for entry in state["log"]]
    assert sorted(log) == sorted(plan)
    explicit = {step["name"]: step["depends_on"] or [] for step in definition["steps"]}
    failed = {name for name in ran if name in fails}
    place = {name: n for n, jobs in enumerate(seen) for name in jobs}
    for name in ran:
        for before in plan[name]:
            assert before not in place or place[before] < place[name]
        assert not failed & set(explicit[name])
    policies = {step["name"]: scheduler.policy(definition, step) for step in definition["steps"]}
    fatal = [name for name in ran if name in failed and policies[name] == "fail"]
    assert state["outcome"]["status"] == ("failed" if fatal else COMPLETED)
    assert all(place[name] == len(seen) - 1 for name in fatal)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(graphs(), st.data())
def test_a_run_cut_off_at_any_wave_and_resumed_runs_nothing_completed_twice(drawn, data):
    definition, _, most = drawn
    hooks, state, completed = Hooks(["yes"], most), scheduler.initial_state(definition, 0.0), []
    for _ in range(100):
        scheduler.advance(definition, state, hooks)
        if state["outcome"] is not None:
            break
        jobs = state["wave"]["jobs"]
        assert not set(jobs) & set(completed)
        good = data.draw(st.sets(st.sampled_from(jobs)))
        completed += good
        results = {name: scheduler.StepResult(COMPLETED, {}, {}) for name in good}
        if good == set(jobs):
            scheduler.merge_results(definition, state, results, 1.0)
        else:
            scheduler.reuse_completed(definition, state, results, 1.0)
            if not good:
                completed += jobs
                state["wave"] = {"kind": "steps", "jobs": jobs}
                results = {name: scheduler.StepResult(COMPLETED, {}, {}) for name in jobs}
                scheduler.merge_results(definition, state, results, 1.0)
    assert state["outcome"]["status"] == COMPLETED
