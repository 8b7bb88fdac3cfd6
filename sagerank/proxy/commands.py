"""The command line of the proxy."""

from __future__ import annotations

import argparse
import logging
import math
import os
from pathlib import Path
from typing import Any

from sagerank_cost.text import examples

from ..aws import PROFILE_HELP, REGION_HELP
from ..errors import InvalidRequest
from ..listening import add_address, announce, open_sockets

_UPSTREAM_KEY = "SAGERANK_PROXY_UPSTREAM_KEY"
_DRAIN_SECONDS = 25.0


def add(commands: Any) -> None:
    """Add the command to those of the parser."""
    description = "serve a SageMaker endpoint over HTTP, behind a key"
    shown = (
        "sagerank proxy --endpoint sagerank",
        "sagerank proxy --endpoint sagerank --host '*' --key-file keys.txt",
    )
    proxy: argparse.ArgumentParser = commands.add_parser(
        "proxy", help=description, description=description, epilog=examples(*shown)
    )
    proxy.set_defaults(run=_proxy, extra="proxy", group="try")
    behind = proxy.add_mutually_exclusive_group(required=True)
    behind.add_argument("--endpoint", help="name of the SageMaker endpoint")
    behind.add_argument("--url", help="HTTP server that speaks Jina's API, in place of an endpoint")
    proxy.add_argument("--component", help="inference component of the endpoint, where it has some")
    proxy.add_argument("--region", help=REGION_HELP)
    proxy.add_argument("--profile", help=PROFILE_HELP)
    proxy.add_argument("--endpoint-url", help="where the endpoint's API is, if not at AWS")
    proxy.add_argument(
        "--serverless", action="store_true", help="split requests at 4 MiB, as serverless endpoints want it"
    )
    add_address(proxy)
    proxy.add_argument(
        "--key-file", type=Path, help="keys that callers send, one a line (or one in SAGERANK_PROXY_KEY)"
    )
    proxy.add_argument(
        "--cors-origins",
        default="none",
        help="whose web pages may call, with commas between, or * (default: %(default)s)",
    )
    proxy.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        help="seconds until a request is answered 504 (default: %(default)g)",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is no time: give seconds from 1 to 86400")
    return seconds


def _proxy(options: argparse.Namespace) -> int:
    from starlette.middleware import Middleware

    from sagerank_inference import log, server
    from sagerank_inference.metrics import Metrics
    from sagerank_inference.routes import create_app

    from ..client import AsyncRerankClient
    from ..transport import SERVERLESS_BYTES
    from ..wire import Split
    from .backend import Proxy
    from .keys import Guard, is_loopback, read_keys

    if options.url and (options.component or options.endpoint_url or options.serverless):
        raise InvalidRequest(
            "--component, --endpoint-url and --serverless go with --endpoint, not with --url."
        )
    keys = read_keys(options.key_file, os.environ)
    if not keys and not is_loopback(options.host):
        raise InvalidRequest(
            f"Others reach {options.host}, and there is no key: set SAGERANK_PROXY_KEY or give --key-file, "
            "or listen on 127.0.0.1."
        )
    split = Split(max_bytes=SERVERLESS_BYTES) if options.serverless else Split()
    if options.endpoint:
        client = AsyncRerankClient.sagemaker(
            options.endpoint,
            region=options.region,
            profile=options.profile,
            inference_component=options.component,
            endpoint_url=options.endpoint_url,
            split=split,
        )
    else:
        key = os.environ.get(_UPSTREAM_KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else None
        client = AsyncRerankClient.http(options.url, headers=headers)
    name = options.component or options.endpoint or "reranker"
    metrics = Metrics()
    proxy = Proxy(
        client, metrics, name=name, request_seconds=options.timeout, cors_origins=options.cors_origins
    )
    app = create_app(proxy, metrics, inner=[Middleware(Guard, keys=keys, metrics=metrics)])
    log.start()
    for name_of_log in ("botocore", "httpx2"):  # which have a line for each request
        logging.getLogger(name_of_log).setLevel(logging.WARNING)
    sockets = open_sockets(options.host, options.port)
    shown = ['"Authorization: Bearer $KEY"'] if keys else []
    announce(name, options.host, options.port, *shown)
    return server.serve_app(lambda _: app, sockets, _DRAIN_SECONDS)
