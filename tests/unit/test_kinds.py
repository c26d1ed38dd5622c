"""The one table of the keys: what modules keep is kept as long as it says."""
import re

import pytest
from fixtures import PACK

from synthralos.core import sealing
from synthralos.storage import keyspace

LIBRARY = PACK / "actions" / "lib" / "synthralos"
# Which kinds share a constant of their module.
SAME = [
    ("run", "uncounted"), ("incident", "start", "attempt", "scheduled_close"),
    ("ticket", "ticket_event", "notification"), ("wave", "step", "orchestration_run"),
    ("llm_spending", "llm_spending_total"),
]


@pytest.mark.parametrize("names", SAME)
def test_kinds_that_a_module_writes_with_one_lifetime_have_one(names):
    assert len({keyspace.lifetime_of(name) for name in names}) == 1


def test_a_sealed_case_is_kept_as_long_as_the_table_says():
    """seal.py is below the table, and cannot read it."""
    assert keyspace.lifetime_of("case") == sealing.BODY_TTL_SECONDS


def test_a_kind_without_a_lifetime_of_its_own_is_an_error():
    with pytest.raises(LookupError, match="snapshot"):
        keyspace.lifetime_of("snapshot")


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: path.name)
def test_no_module_writes_down_a_lifetime_of_its_own(path):
    told = re.findall(r"^_?KEPT_SECONDS\b.*=.*", path.read_text(encoding="utf-8"), re.M)
    # This one forgets what it has in memory; it is no key.
    if path.name != "agent_errors.py":
        assert all("lifetime_of(" in line for line in told), told
