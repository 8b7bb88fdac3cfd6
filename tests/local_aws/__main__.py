"""The process of the local AWS."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import threading
from contextlib import ExitStack


def main() -> None:
    # An exit, so that containers end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    parser = argparse.ArgumentParser(
        prog="python -m tests.local_aws", description="Serve a local AWS on loopback."
    )
    parser.add_argument("--port", type=int, default=5123)
    parser.add_argument(
        "--attached", action="store_true", help="end when standard input does: with who started it"
    )
    parser.add_argument(
        "--containers",
        action="store_true",
        help="build, push, pull and run images with podman; else processes",
    )
    options = parser.parse_args()
    if options.attached:
        threading.Thread(target=_end_with_input, daemon=True).start()
    from . import registry
    from .launch import environment, new_registry

    removed = ExitStack()
    atexit.register(removed.close)  # after what is registered later: the registry's own end
    behind = removed.enter_context(new_registry()) if options.containers else registry.given()
    own = environment(options.port, behind)
    sys.stdout.write(
        f"# An endpoint is {'a container of the image' if behind else 'a process of this source'}.\n"
    )
    sys.stdout.write("".join(f"export {name}={text}\n" for name, text in own.items()))
    sys.stdout.flush()
    os.environ.update(own)

    from moto.server import main as serve

    if behind:
        behind.serve()
        # What starts a container leaves a file in the current folder when the kernel ends one for its memory.
        os.chdir(behind.folder)

    from . import components, endpoints, images, quotas, resources, rights, runtime, transform, updates

    for part in (resources, updates, rights, quotas, images, endpoints, components, runtime, transform):
        part.install()
    serve(["-H", "127.0.0.1", "-p", str(options.port)])


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
