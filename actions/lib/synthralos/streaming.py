"""Server-sent events for Python programs: the public home of what `inprocess` has.

    from synthralos.streaming import EnhancedSSEClient

    client = EnhancedSSEClient(url="http://agents.example/api/runs/7/stream",
                               reconnectInterval=3000, onMessage=lambda event: print(event.data))
    client.connect()
"""

from synthralos.inprocess.sse_client import ConnectionState, EnhancedSSEClient, SSEOptions
from synthralos.sensing.sse import Event

__all__ = ["ConnectionState", "EnhancedSSEClient", "Event", "SSEOptions"]
