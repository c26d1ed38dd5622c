"""Interleaved measurement. The standard library only: clients in other environments use it too."""
import statistics
import time


def interleaved(tasks, rounds, warm_up=1):
    """{name: [seconds, one for each round]}.

    Each round runs every task once, and every other round in reverse order, so that neither a slow
    moment of the machine nor a place in the order favours one of them.

    :param tasks: {name: a callable}; one that returns a number has measured its seconds itself.
    :param warm_up: rounds that are run first and not counted.
    """
    timings = {name: [] for name in tasks}
    for number in range(warm_up + rounds):
        names = list(tasks)
        for name in names if number % 2 == 0 else reversed(names):
            started_at = time.perf_counter()
            seconds = tasks[name]()
            if not isinstance(seconds, float):
                seconds = time.perf_counter() - started_at
            if number >= warm_up:
                timings[name].append(seconds)
    return timings


def median(values):
    return statistics.median(values)


def ratio(values, floor):
    """The median of the ratios of each round."""
    return statistics.median(value / low for value, low in zip(values, floor))


def over(values, floor):
    """The median of the differences of each round."""
    return statistics.median(value - low for value, low in zip(values, floor))
