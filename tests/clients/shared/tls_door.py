"""A proxy on loopback for clients whose address is fixed: it ends TLS itself for whatever host they name, and hands on to a server.

The client is told so as it would be of a company's proxy: by HTTPS_PROXY and, for its certificate, SSL_CERT_FILE.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import trustme


@contextmanager
def tls_door(url: str) -> Iterator[None]:
    """Within, this process's clients reach the server at `url` whatever https address they ask for."""
    authority = trustme.CA()
    with TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as door:
        certificate = f"{folder}/ca.pem"
        authority.cert_pem.write_to_path(certificate)
        threading.Thread(target=_accept, args=(door, authority, url), daemon=True).start()
        proxy = f"http://127.0.0.1:{door.getsockname()[1]}"
        kept = dict(os.environ)
        os.environ.update(HTTPS_PROXY=proxy, SSL_CERT_FILE=certificate)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(kept)


def _accept(door: socket.socket, authority: trustme.CA, url: str) -> None:
    with suppress(OSError):  # closed
        while True:
            connection, _ = door.accept()
            threading.Thread(target=_serve, args=(connection, authority, url), daemon=True).start()


def _serve(connection: socket.socket, authority: trustme.CA, url: str) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    host = head.split()[1].decode().rpartition(":")[0]  # of CONNECT host:443 HTTP/1.1
    connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    address = urlsplit(url)
    server = socket.create_connection((address.hostname, address.port))
    with context.wrap_socket(connection, server_side=True) as client, server:
        threading.Thread(target=_copy, args=(server, client), daemon=True).start()
        _copy(client, server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError), source.makefile("rb", 0) as reading, target.makefile("wb", 0) as writing:
        shutil.copyfileobj(reading, writing)
