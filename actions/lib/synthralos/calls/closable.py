"""An HTTP client for a call in a thread of its own, which another thread can end.

A blocked read ends when its socket is shut down, not when it is closed in another thread. So every
socket is duplicated as soon as it exists, before TLS takes it over: shutting the duplicate down
ends the connection, whatever is made of the original.
"""

import socket
import threading
from typing import Any, Callable

from synthralos.calls.http import Client, CredentialsReader


class OpenSockets:
    """The sockets of one call; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._duplicates: list[socket.socket] = []
        self._is_closed = False

    def add(self, connection: socket.socket) -> None:
        """Note an open socket.

        :raises ConnectionAbortedError: the call has been closed, and so is the socket.
        """
        with self._lock:
            if not self._is_closed:
                self._duplicates.append(connection.dup())
                return
        connection.close()
        raise ConnectionAbortedError("the call was closed")

    def shut_down(self) -> None:
        """End all connections, and those that the call still opens."""
        with self._lock:
            duplicates, self._duplicates, self._is_closed = self._duplicates, [], True
        for duplicate in duplicates:
            try:
                duplicate.shutdown(socket.SHUT_RDWR)
            except OSError:
                # The other side has closed it already.
                pass
            duplicate.close()


class ClosableClient(Client):
    """A client for one call, with a session of its own; see Client.closable."""

    def __init__(self, credentials: CredentialsReader, now: Callable[[], float]) -> None:
        super().__init__(credentials, now)
        self._sockets = OpenSockets()

    def close(self) -> None:
        """End the call, if it has not ended, and close its connections. Any thread may do so."""
        self._sockets.shut_down()
        if self._session is not None:
            self._session.close()

    def _requests_session(self) -> Any:
        if self._session is None:
            import requests

            session = requests.Session()
            # See Client._surroundings_of.
            session.trust_env = False
            for scheme in ("http://", "https://"):
                session.mount(scheme, _noting_adapter(self._sockets))
            self._session = session
        return self._session


def _noting_adapter(sockets: OpenSockets) -> Any:
    """Return an adapter for a session, whose connections note their sockets in `sockets`."""
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            _note_sockets(self.poolmanager, sockets)

        def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*arguments, **options)
            _note_sockets(manager, sockets)
            return manager

    return Adapter()


def _note_sockets(manager: Any, sockets: OpenSockets) -> None:
    manager.pool_classes_by_scheme = {
        scheme: _noting_pool(pool_class, sockets)
        for scheme, pool_class in manager.pool_classes_by_scheme.items()
    }


def _noting_pool(pool_class: Any, sockets: OpenSockets) -> Any:
    """Return `pool_class`, whose connections note their sockets in `sockets`."""

    class Connection(pool_class.ConnectionCls):
        def _new_conn(self) -> Any:
            connection = super()._new_conn()
            sockets.add(connection)
            return connection

    class Pool(pool_class):
        ConnectionCls = Connection

    return Pool
