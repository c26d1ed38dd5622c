"""Many recoveries at once; what a figure of dev/benchmarks/scale.py is about, as a test."""
from benchmarks.scale import Load

NUMBER = 50


def test_fifty_recoveries_at_once_each_end_as_they_should(world):
    load = Load(world.box, NUMBER)
    handles = [
        world.local.start("synthralos.agent_recovery", load.parameters(n)) for n in range(NUMBER)
    ]
    load.check([handle.wait(timeout=600) for handle in handles])
    keys = world.local.keys.list("synthralos.", limit=-1)
    assert keys and all(row.get("expire_timestamp") for row in keys), keys
    # A run leaves a bounded number of facts: outcomes, history, its summary, what it asked.
    assert len(keys) < 20 * NUMBER
