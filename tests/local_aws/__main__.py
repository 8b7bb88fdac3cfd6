"""The process of the local AWS."""

from __future__ import annotations

import argparse
import os
import signal
import sys


def main() -> None:
    # An exit, so that containers end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    parser = argparse.ArgumentParser(
        prog="python -m tests.local_aws", description="Serve a local AWS on loopback."
    )
    parser.add_argument("--port", type=int, default=5123)
    port = parser.parse_args().port
    from .launch import environment

    own = environment(port)
    sys.stdout.write("".join(f"export {name}={text}\n" for name, text in own.items()))
    sys.stdout.flush()
    os.environ.update(own)

    from moto.server import main as serve

    from . import endpoints, resources, runtime, transform

    for part in (resources, endpoints, runtime, transform):
        part.install()
    serve(["-H", "127.0.0.1", "-p", str(port)])


if __name__ == "__main__":
    main()
