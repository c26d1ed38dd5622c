"""The one table of the keys: modules store keys for as long as it says."""
import re

import pytest
from fixtures import PACK
from fixtures.check_each import check_each

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
    """sealing.py is below the table, and cannot read it."""
    assert keyspace.lifetime_of("case") == sealing.BODY_TTL_SECONDS


def test_a_kind_without_a_lifetime_of_its_own_is_an_error():
    with pytest.raises(LookupError, match="snapshot"):
        keyspace.lifetime_of("snapshot")


def _ttl_definitions(path):
    return re.findall(r"^\w*TTL_SECONDS\b.*=.*", path.read_text(encoding="utf-8"), re.M)


@check_each("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: path.name)
def test_no_module_writes_down_a_lifetime_of_its_own(path):
    # This module forgets entries in memory after that time; they are not keys.
    if path.name not in ("agent_errors_poller.py", "sealing.py"):
        definitions = _ttl_definitions(path)
        assert all("lifetime_of(" in line for line in definitions), definitions


def test_modules_name_their_lifetimes_as_that_test_expects():
    """Otherwise it could not fail."""
    assert sum(bool(_ttl_definitions(path)) for path in LIBRARY.rglob("*.py")) >= 10
