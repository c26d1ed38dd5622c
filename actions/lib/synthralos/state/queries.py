"""The last query of each agent, so that "recover this agent" needs no query."""

from synthralos import seal
from synthralos.names import key_part
from synthralos.refusals import Refused
from synthralos.state.datastore import PREFIX
from synthralos.state.kinds import lifetime_of

KEPT_SECONDS = lifetime_of("query")
LARGEST = 256 * 1024


def remember(store, agent_id, query):
    """Keeps `query`, cleared of secrets. One that is too large is not kept."""
    sealed = seal.seal(query)
    if len(sealed) <= LARGEST:
        store.put(_key(agent_id), sealed, KEPT_SECONDS)


def last(store, agent_id):
    """The query, or None when none is known."""
    sealed = store.get(_key(agent_id))
    if sealed is None:
        return None
    try:
        query = seal.unseal(sealed)
    except Refused:
        return None
    return query if isinstance(query, str) and query.strip() else None


def _key(agent_id):
    return "%squery.%s" % (PREFIX, key_part(agent_id))
