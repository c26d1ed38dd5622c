"""A pack and a state folder for each test."""
import pytest
from places import FIXTURES


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
