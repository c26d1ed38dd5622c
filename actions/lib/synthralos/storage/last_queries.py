"""The last query of each agent, so that "recover this agent" needs no query."""

from typing import Optional

from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.storage.datastore import PREFIX, BestEffortDatastore
from synthralos.storage.keyspace import lifetime_of

TTL_SECONDS = lifetime_of("query")
MAX_QUERY_BYTES = 256 * 1024


def save_query(store: BestEffortDatastore, agent_id: str, query: str) -> None:
    """Store `query`, cleared of secrets, unless it is larger than MAX_QUERY_BYTES."""
    sealed = sealing.seal(query)
    if len(sealed) <= MAX_QUERY_BYTES:
        store.put(_key(agent_id), sealed, TTL_SECONDS)


def last_query(store: BestEffortDatastore, agent_id: str) -> Optional[str]:
    """Return the agent's last query, or None if it is unknown."""
    sealed = store.get(_key(agent_id))
    if sealed is None:
        return None
    try:
        query = sealing.unseal(sealed)
    except InvalidInput:
        return None
    return query if isinstance(query, str) and query.strip() else None


def _key(agent_id: str) -> str:
    return "%squery.%s" % (PREFIX, encode_key_part(agent_id))
