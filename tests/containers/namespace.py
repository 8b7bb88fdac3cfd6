"""Network namespaces of others: to do something in one, and to reach from outside what listens in it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..conftest import free_port

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@contextmanager
def entered(namespace: int) -> Iterator[None]:
    """Be in a network namespace, an open file of it, with this thread alone. Sockets stay in the one that they were made in."""
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(namespace)
        try:
            yield
        finally:
            _enter(ours)
    finally:
        os.close(ours)


@contextmanager
def opened(namespace: Path) -> Iterator[int]:
    number = os.open(namespace, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def reached(pid: int, port: int) -> Iterator[int]:
    """A port of this machine's loopback for a port of the loopback that a process sees; where it has ended, nobody answers there."""
    network = Path(f"/proc/{pid}/ns/net")
    if not network.exists():
        yield free_port()
        return

    def connect() -> socket.socket:
        with entered(theirs):
            return socket.create_connection(("127.0.0.1", port), 5)

    with opened(network) as theirs, _forwarded(connect) as outside:
        yield outside


@contextmanager
def _forwarded(connect: Callable[[], socket.socket]) -> Iterator[int]:
    """A port of this machine's loopback for what `connect` reaches; both directions close on their own."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                there = connect()
            except OSError:
                return  # the caller sees a closed connection, as from a server that is not up
            with there:
                there.settimeout(None)
                back = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
                back.start()
                _copy(self.request, there)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
