"""A pack and a state folder for each test."""
import os

import pytest
from fixtures.waiting import until
from places import FIXTURES


@pytest.fixture
def make(tmp_path):
    """Makes an St2Local on the fixture pack; task delays are not slept unless `delay` is given."""
    from st2local import St2Local

    instances = []

    def make_one(config=None, pack=FIXTURES, **options):
        options.setdefault("delay", lambda seconds: None)
        local = St2Local(pack, config=config, state=str(tmp_path / "state"), **options)
        instances.append(local)
        return local

    yield make_one
    for local in instances:
        local.close()


@pytest.fixture
def local(make):
    return make()


class Gates:
    """Named pipes, each of which holds up a process that reads it until it is opened."""

    def __init__(self, folder):
        self._prefix = str(folder / "gate-")

    def of(self, names):
        """Makes the gates of these names; returns what their paths begin with."""
        for name in names:
            os.mkfifo(self._prefix + name)
        return self._prefix

    def path(self, name):
        return self._prefix + name

    def open(self, name):
        """Lets the process through that stands at the gate, once it is there."""
        until(lambda: self._opened(name), "somebody stands at the gate %s" % name)

    def _opened(self, name):
        try:
            os.close(os.open(self._prefix + name, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            # Nobody reads it yet.
            return False
        return True


@pytest.fixture
def gates(tmp_path):
    return Gates(tmp_path)
