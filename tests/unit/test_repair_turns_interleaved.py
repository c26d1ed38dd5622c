"""Whose turn it is, for every order in which runs may call the datastore."""
import random
import types

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.storage import repair_turns
from synthralos.storage.datastore import BestEffortDatastore

from .conftest import Clock, MemoryDatastore
from .interleaving import GatedDatastore, Interleaving

NODES = st.sets(st.sampled_from("abc"), min_size=1)
RUNS = st.lists(st.tuples(NODES, st.floats(-50, 50)), min_size=2, max_size=4)


# How long each of the runs goes on before the next one does; an order is drawn from a seed, because
# what is drawn number by number is nearly always a short list.
BURSTS = (1, 1, 1, 2, 5, 20)


def order_of(seed):
    drawn = random.Random(seed)
    for _ in range(200):
        yield from [drawn.randrange(4)] * drawn.choice(BURSTS)


# Without shrinking: an order of calls does not get simpler by it.
@hypothesis.settings(phases=[hypothesis.Phase.generate], max_examples=300)
@hypothesis.given(RUNS, st.integers(0, 2 ** 32), st.none() | st.integers(1, 60))
def test_no_two_act_on_one_node_and_none_waits_for_ever(runs, seed, killed_at):
    """Whatever the order of their calls, with skewed clocks, and if the first is killed: what it
    has started goes on for a while.
    """
    clock, acting, ended, acted = Clock(), {}, set(), []
    # {execution: when it ends}
    executions = {}
    datastore = MemoryDatastore(clock)
    interleaving = Interleaving()

    def is_running(execution):
        return clock() < executions[execution]

    def acts(turn):
        has_run_ended = turn.has_left or int(turn.run[1:]) in ended
        return not has_run_ended or any(map(is_running, turn.executions))

    def work_of(run, nodes, skew):
        def work(process):
            calls, process.is_gated = 0, True

            def step(*_):
                nonlocal calls
                calls += 1
                clock.forward(0.5)
                if run == 0 and calls == killed_at:
                    # StackStorm sees the end of an execution whose process was killed.
                    ended.add(run)
                    process.is_killed = True
                if process.is_gated:
                    process.gate()

            store = BestEffortDatastore(GatedDatastore(datastore, types.SimpleNamespace(gate=step)))
            turn = None
            while turn is None:
                turn = repair_turns.queue_up(
                    store, lambda: clock() + skew, "r%d" % run, nodes, sleep=step)
            while any(map(acts, repair_turns.turns_before(store, turn))):
                step()
            for other, other_nodes in acting.items():
                is_acting = other not in ended or is_running("e%d" % other)
                assert not (nodes & other_nodes and is_acting), (run, other)
            acting[run] = nodes
            acted.append(run)
            # It starts and notes an execution: nobody can kill it in between here.
            process.is_gated = False
            execution = "e%d" % run
            executions[execution] = clock() + 30
            turn = repair_turns.add_execution(store, turn, execution)
            process.is_gated = True
            while is_running(execution):
                step()
            acting.pop(run)
            ended.add(run)
            repair_turns.leave(store, "r%d" % run, is_running)

        return work

    for run, (nodes, skew) in enumerate(runs):
        interleaving.start(work_of(run, nodes, skew))
    interleaving.run(order_of(seed), max_steps=6000)
    assert set(range(1, len(runs))) <= set(acted)
