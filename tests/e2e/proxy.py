"""A TCP proxy in this process that can listen in, cut, stall and refuse.

Nodes meet through it when its URL stands in `nodes`; a client meets its node through it when it calls `proxy.url`.
Two directions: "in" goes to the node behind the proxy, "out" comes from it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

CHUNK = 64 * 1024
# Closing with this discards what is under way and resets the connection, as when a cable is cut.
ABORT = struct.pack("ii", 1, 0)


class Connection:
    """One connection through a proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.sockets = {"in": client, "out": server}
        self.captured = {"in": bytearray(), "out": bytearray()}
        self.passed = {"in": 0, "out": 0}
        self.is_cut = False
        self._ended: list[str] = []
        for direction in ("in", "out"):
            threading.Thread(target=self._pump, args=(direction,), daemon=True).start()

    def cut(self) -> None:
        """Ends it in both directions at once, without a farewell."""
        if len(self._ended) < 2:
            self.is_cut = True
        self._close(abort=True)

    def _pump(self, direction: str) -> None:
        source = self.sockets[direction]
        sink = self.sockets["out" if direction == "in" else "in"]
        try:
            while data := source.recv(CHUNK):
                while data:
                    now = self.proxy._admit(self, direction, len(data))
                    if now is None:
                        return self.cut()
                    # Noted before it is passed on: whoever has seen its effect finds it here.
                    self.passed[direction] += now
                    if self.proxy.capturing:
                        self.captured[direction] += data[:now]
                    sink.sendall(data[:now])
                    data = data[now:]
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return self._close(abort=True)
        self._ended.append(direction)
        if len(self._ended) == 2:
            self._close(abort=False)
        return None

    def _close(self, *, abort: bool) -> None:
        for end in self.sockets.values():
            if abort:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            with contextlib.suppress(OSError):
                # Wakes the other thread, which closing alone does not.
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Listens on a port of its own from the beginning to the end; `target` is the node behind it."""

    def __init__(self, base_path: str = "", target: str | None = None, *, capturing: bool = False) -> None:
        # This one never listens: it keeps the port while connections are refused.
        self._holder = self._bind(("127.0.0.1", 0))
        self._address: tuple[str, int] = self._holder.getsockname()
        self.url = f"http://{self._address[0]}:{self._address[1]}{base_path}"
        self.capturing = capturing
        self.connections: list[Connection] = []
        self._target: tuple[str, int] | None = None
        self._changed = threading.Condition()
        self._limit: int | None = None
        self._cuts_left = 0
        self._stall_after: int | None = None
        self._listener: socket.socket | None = None
        if target is not None:
            self.lead_to(target)

    def lead_to(self, url: str) -> None:
        """Connects callers with the node at `url` from now on."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self.accept()

    def accept(self) -> None:
        """Takes connections (again)."""
        if self._listener is None:
            self._listener = self._bind(self._address)
            self._listener.listen(128)
            threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Cuts all connections and takes no new ones: callers find the port closed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Cuts all connections; new ones are taken."""
        for connection in list(self.connections):
            connection.cut()

    def cut_after(self, count: int, times: int) -> None:
        """Cuts connections that have carried `count` bytes in one direction; the first `times` of them only."""
        with self._changed:
            self._limit, self._cuts_left = count, times

    def stall_after(self, count: int) -> None:
        """Passes at most `count` bytes of each direction of each connection on; the rest waits."""
        with self._changed:
            self._stall_after = count

    def flow(self) -> None:
        """Ends a stall."""
        with self._changed:
            self._stall_after = None
            self._changed.notify_all()

    def cuts(self) -> int:
        """How many connections were cut here."""
        return sum(connection.is_cut for connection in list(self.connections))

    def captured(self) -> bytes:
        """All that was carried, connection by connection and direction by direction."""
        return b"\n".join(bytes(part) for connection in self.connections for part in connection.captured.values())

    def close(self) -> None:
        self.flow()
        self.refuse()
        self._holder.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                assert self._target is not None
                server = socket.create_connection(self._target)
            except OSError:
                # Nobody is there: the caller's first words are heard and not answered.
                client.settimeout(5)
                with contextlib.suppress(OSError):
                    client.recv(CHUNK)
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.append(Connection(self, client, server))

    def _admit(self, connection: Connection, direction: str, count: int) -> int | None:
        """How many of `count` bytes may pass now; waits while there is a stall. None: cut."""
        with self._changed:
            passed = connection.passed[direction]
            while self._stall_after is not None and passed >= self._stall_after and not connection.is_cut:
                # With a limit: whether the connection was cut meanwhile is not notified.
                self._changed.wait(0.1)
            if connection.is_cut:
                return None
            if self._stall_after is not None:
                count = min(count, self._stall_after - passed)
            if self._limit is not None and self._cuts_left > 0:
                if passed >= self._limit:
                    self._cuts_left -= 1
                    return None
                count = min(count, self._limit - passed)
            return count

    @staticmethod
    def _bind(address: tuple[str, int]) -> socket.socket:
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind(address)
        return found


@contextlib.contextmanager
def proxies(targets: list[str], *, capturing: bool = False) -> Iterator[list[Proxy]]:
    """A proxy before each of these nodes."""
    made = [Proxy(urlsplit(url).path, url, capturing=capturing) for url in targets]
    try:
        yield made
    finally:
        for proxy in made:
            proxy.close()
