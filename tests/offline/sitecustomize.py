"""On PYTHONPATH: no Python process reaches, or looks up, any address but this machine's; not even without a proxy. The errors are
those of a machine without a network.

What was asked for is added to the file that OFFLINE_REFUSED names: a program may take the error for its own affair.
"""

from __future__ import annotations

import errno
import os
import socket
import sys

_HERE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    host: object = None
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):  # else a socket in the file system
        host = arguments[1][0]
    if isinstance(host, bytes):  # as anyio gives it
        host = host.decode("ascii", "replace")
    if host not in _HERE:
        if path := os.environ.get("OFFLINE_REFUSED"):
            with open(path, "a", encoding="utf-8") as refused:
                refused.write(f"{host!s}\n")
        words = f"{host!s} is not this machine, and nothing else may be reached"
        if event == "socket.getaddrinfo":
            raise socket.gaierror(socket.EAI_AGAIN, words)
        raise OSError(errno.ENETUNREACH, words)


sys.addaudithook(_refuse)
