"""The HTTP server of the container, which SageMaker and anyone else may call: see routes.py.

Run as `python -m sagerank_inference.server`: SageMaker adds the argument `serve`; `micro` in its place serves the embedded model.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import worker
from .listening import listen
from .log import start as start_log
from .settings import Settings, SettingsError

if TYPE_CHECKING:
    from starlette.applications import Starlette

_MICRO = Path(__file__).parent / "micro"
_SWITCH_SECONDS = 0.0005
_FAILED_DRAIN_SECONDS = 2.0  # all have been told by then, and the platform waits to replace this server

log = logging.getLogger("sagerank")


def create_app(
    settings: Settings, on_failure: Callable[[], None] = lambda: None, child: worker.Child | None = None
) -> Starlette:
    """Make the ASGI application. `on_failure` is called when the model cannot be loaded, after that was logged.

    child: the model's process, where it was started already with these settings.
    """
    from . import routes
    from .metrics import Metrics
    from .service import Service  # who serves no model of this machine needs nothing of it

    metrics = Metrics()
    return routes.create_app(Service(settings, metrics, child), metrics, on_failure)


def main() -> int:
    """Serve as the environment's settings say. Returns the exit code, after the reason was logged.

    1 stands for a model that cannot be used or keeps dying; 2 for settings or an address that cannot.
    """
    start_log()
    try:
        settings = _chosen(Settings.from_env(), sys.argv[1:])
        _open_model_dir(settings)
        if settings.backend == "torch" and importlib.util.find_spec("torch") is None:
            raise SettingsError(
                "SAGERANK_BACKEND is torch, which is not installed here: take the image for GPUs, or leave the setting out."
            )
        sockets = listen(settings.host, settings.port)
    except (SettingsError, OSError) as error:
        hint = ": set SAGERANK_HOST or SAGERANK_PORT." if isinstance(error, OSError) else ""
        log.error(json.dumps({"event": "failed", "reason": f"{error}{hint}"}))
        return 2
    return serve(settings, sockets)


def _chosen(settings: Settings, words: Sequence[str]) -> Settings:
    """Return the settings with the model that the command line's words name: never by itself is the embedded one served."""
    match words:
        case [] | ["serve"]:
            return settings
        case ["micro"]:
            return replace(settings, model_dir=_MICRO)
    raise SettingsError(f"{' '.join(words)!r} is nothing that this server does: give serve, or micro.")


def _open_model_dir(settings: Settings) -> None:
    try:
        os.scandir(settings.model_dir).close()
    except OSError as error:
        raise SettingsError(
            f"SAGERANK_MODEL_DIR is {settings.model_dir}, which cannot be opened ({error.strerror}): "
            "give the folder of an unpacked artefact, or serve the embedded model by the argument micro."
        ) from None


def serve(settings: Settings, sockets: list[socket.socket]) -> int:
    """Serve the model of the settings: as `serve_app` does, to whose exit codes 1 is added for a model that fails."""
    start_log()
    child = None
    with suppress(OSError):  # the service tries again, and says why it cannot
        # Now, and what serves requests is imported while the model loads: each on a core of its own.
        child = worker.start(settings)
    return serve_app(lambda fail: create_app(settings, fail, child), sockets, settings.drain_seconds)


def serve_app(
    make: Callable[[Callable[[], None]], Starlette], sockets: list[socket.socket], drain_seconds: float
) -> int:
    """Serve an application on sockets that listen until SIGTERM, SIGINT or SIGHUP, and finish what is under way.

    make: gets what to call when there is no more use in serving. Logs to standard output. Returns the exit code: 1 after
    that call. The process is to end then; one that a thread holds up is ended.
    """
    from .connections import Server

    start_log()
    # The loop gets the interpreter from the reader's thread after so long, some ten times for an answer. And all objects are
    # looked through for garbage when nothing is under way: with those of 10,000 queries that takes 0.1 s.
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(*gc.get_threshold()[:2], 1_000_000)
    failed = False

    def fail() -> None:
        nonlocal failed
        failed = True
        server.stop(_FAILED_DRAIN_SECONDS, exit_code=1)

    server = Server(make(fail), drain_seconds=drain_seconds)
    # uvicorn sets the same handler for SIGTERM and SIGINT when its loop runs, and what was there before when it has ended.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, server.handle_exit)
    server.run(sockets)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
