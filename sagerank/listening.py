"""What `sagerank serve` and `sagerank proxy` have in common: where to listen, and a first request to try there."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add --host and --port."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="port to listen on (default: %(default)s)")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text} is no port: give one from 1 to 65535")
    return int(text)


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen there. Raises OSError with a sentence that says what to change."""
    from sagerank_inference.listening import listen

    try:
        return listen(host, port)
    except OSError as error:
        raise OSError(f"{error}: give another --port, or another --host.") from None


def announce(what: str, host: str, port: int, *headers: str) -> None:
    """Say on standard error what is served, and a request to try with those headers. Nobody need read it."""
    name = "localhost" if host in ("*", "0.0.0.0", "::") else host
    url = f"http://{f'[{name}]' if ':' in name else name}:{port}"
    body = json.dumps(
        {
            "query": "how do glaciers move",
            "documents": ["Cats sleep all day.", "Glaciers flow downhill under their own weight."],
        }
    )
    sent = " ".join(f"-H {header}" for header in ("'Content-Type: application/json'", *headers))
    hint = f"Serving {what} at {url} until Ctrl-C. Try:\n\n  curl {url}/v1/rerank {sent} -d '{body}'\n"
    if sys.stderr:
        try:
            print(hint, file=sys.stderr, flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
