"""The sockets that a server listens on: opened before anything heavy is imported, so that an address in use is known at once."""

from __future__ import annotations

import os
import socket
from errno import EADDRINUSE
from typing import Any

_UNSENT = 131_072  # bytes of an answer that wait in the system


def _listen(address: Any, family: int, both: bool) -> socket.socket:
    listening = socket.create_server(address, family=family, dualstack_ipv6=both)
    # Accepted sockets inherit these. Head and body of an answer are two writes: without the first, a client that delays
    # its acknowledgements has the second 40 ms late (asyncio sets it where the protocol is named, which nothing here does).
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # An answer waits here, where its progress is seen, and not by megabytes in the system.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
    return listening


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of the host; on "*" with one socket for IPv6 and IPv4, or for IPv4 where that is all.

    Raises OSError with a text that says what is in the way.
    """
    sockets: list[socket.socket] = []
    reason: Exception | None = None
    every = host == "*"
    try:
        if every:
            families = [socket.AF_INET6] * socket.has_dualstack_ipv6() + [socket.AF_INET]
            addresses: list[tuple[Any, Any]] = [(family, ("", port)) for family in families]
        else:
            named = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = [(family, address) for family, _, _, _, address in named]
        for family, address in addresses:
            both = every and family == socket.AF_INET6
            try:
                sockets.append(_listen(address, family, both))
            except OSError as error:  # an address of a family that this machine has not
                reason = error
                if error.errno == EADDRINUSE:
                    raise
            if every and sockets:
                break
    except (OSError, UnicodeError) as error:
        reason = error
        for opened in sockets:
            opened.close()
        sockets = []
    if not sockets:
        code = getattr(reason, "errno", None) or 0
        # The system's own words: Python adds the address again to some. Look-ups that fail have negative codes.
        words = os.strerror(code) if code > 0 else getattr(reason, "strerror", None) or reason
        raise OSError(f"Nobody can listen on {host} port {port} ({words})")
    return sockets
