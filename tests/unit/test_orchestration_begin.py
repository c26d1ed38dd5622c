"""The beginning of a run of an orchestration."""
import pytest

from synthralos.orchestration import definition_service, engine
from synthralos.orchestration.run_store import RunStore

SECONDS = 60


@pytest.fixture
def begin(make_env, clock):
    """begin(run, late, ...) begins a run, whose workflow was requested `late` seconds ago."""
    steps = [{"name": name, "description": "do your part"} for name in "ab"]
    definition_service.create_orchestration(make_env(), {"name": "flow", "steps": steps}, "someone")

    def run(run_id, late=0, **parameters):
        return engine.begin(
            make_env(run=run_id), dict(parameters, timeout=SECONDS), clock() - late)

    return run


def test_a_run_out_of_time_before_its_first_wave_has_no_checkpoint(begin, make_env):
    report = begin("late", late=SECONDS + 1, orchestration="flow")
    assert report["status"] == "failed" and report["error"]["message"] == "the run timed out"
    assert report["checkpoints"] == []
    stored = RunStore(make_env(run="late"), "late")
    assert stored.waves(stored.definition(), stored.newest()) == []


def test_a_resume_out_of_time_before_its_first_wave_has_no_checkpoint(begin, make_env):
    begin("first", orchestration="flow")
    assert RunStore(make_env(), "first").newest()["cursor"] == 1
    report = begin("late", late=SECONDS + 1, resume_of="first")
    assert report["status"] == "failed" and report["checkpoints"] == []


def test_a_resume_has_its_own_checkpoints_only(begin, make_env):
    begin("first", orchestration="flow")
    begin("second", resume_of="first")
    stored = RunStore(make_env(), "second")
    (checkpoint,) = stored.waves(stored.definition(), stored.newest())
    assert checkpoint.startswith("synthralos.wave.second.")
