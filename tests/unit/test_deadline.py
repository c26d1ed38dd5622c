import pytest

from synthralos.calls.deadline import Deadline


@pytest.mark.parametrize("timeout, reserve", [(300, 10), (180, 10), (60, 10), (30, 5), (6, 1)])
def test_a_run_keeps_time_for_its_record(clock, timeout, reserve):
    assert Deadline.of_run(clock.at, timeout, clock).seconds_left() == timeout - reserve


def test_the_time_runs_from_the_start_of_the_run(clock):
    deadline = Deadline.of_run(clock.at - 40, 120, clock)
    assert deadline.seconds_left() == 70
    clock.forward(80)
    assert deadline.seconds_left() == -10


def test_an_attempt_needs_a_second(clock):
    deadline = Deadline(clock.at + 1.0, clock)
    assert deadline.allows_attempt()
    clock.forward(0.1)
    assert not deadline.allows_attempt()


def test_an_attempt_after_a_wait_needs_the_hop_and_a_second(clock):
    deadline = Deadline(clock.at + 11.5, clock)
    assert deadline.allows_attempt_at(clock.at + 10)
    assert not deadline.allows_attempt_at(clock.at + 10.1)
