"""Where st2local is found, and a pack and a state folder for each test."""
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FIXTURES = os.path.join(HERE, "fixtures")

sys.path.insert(0, os.path.join(ROOT, "dev"))


@pytest.fixture
def make(tmp_path):
    """Makes an St2Local on the fixture pack; task delays are not slept unless `delay` is given."""
    from st2local import St2Local

    made = []

    def make_one(config=None, pack=FIXTURES, **options):
        options.setdefault("delay", lambda seconds: None)
        local = St2Local(pack, config=config, state=str(tmp_path / "state"), **options)
        made.append(local)
        return local

    yield make_one
    for local in made:
        local.close()


@pytest.fixture
def local(make):
    return make()
