"""The command line of what connects others to an endpoint."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from sagerank_cost.text import examples

from ..aws import PROFILE_HELP, REGION_HELP
from ..errors import InvalidRequest
from .endpoint import PLACEHOLDERS, Piece

_SEARCH = ("opensearch", "elasticsearch")
_APPLICATIONS = ("dify", "litellm", "open-webui")
_URL = "http://127.0.0.1:8080"
_ROLE = r"arn:aws[a-z-]*:iam::([0-9]{12}):role/[\w+=,.@/-]+"


def add(commands: Any) -> None:
    """Add the command to those of the parser."""
    description = "print what makes OpenSearch, LiteLLM and others call an endpoint"
    shown = (
        "sagerank connect opensearch --endpoint sagerank --account 111122223333",
        "sagerank connect litellm --endpoint sagerank --component reranker",
    )
    connect: argparse.ArgumentParser = commands.add_parser(
        "connect", help=description, description=description, epilog=examples(*shown)
    )
    connect.set_defaults(run=_connect, extra="", group="deploy")
    connect.add_argument(
        "client", choices=[*_SEARCH, *_APPLICATIONS], help=", ".join([*_SEARCH, *_APPLICATIONS])
    )
    connect.add_argument("--endpoint", help="name of the SageMaker endpoint")
    connect.add_argument("--component", help="inference component of the endpoint, where it has some")
    connect.add_argument("--region", help=REGION_HELP)
    connect.add_argument("--profile", help=PROFILE_HELP)
    connect.add_argument("--account", help="number of the AWS account that has the endpoint")
    connect.add_argument("--role", help="opensearch: ARN of the role that calls (default: a new one)")
    connect.add_argument("--field", help="opensearch, elasticsearch: field of your documents (default: text)")
    connect.add_argument(
        "--url",
        help=f"dify, litellm, open-webui: where they find the proxy, or another server (default: {_URL})",
    )
    connect.add_argument(
        "--output", type=Path, help="folder to write the files into, in place of printing them"
    )
    connect.add_argument("--json", action="store_true", help="print JSON")


def _connect(options: argparse.Namespace) -> int:
    pieces = _pieces(options)
    if options.output:
        _write(options.output, pieces)
    if options.json:
        print(json.dumps([dataclasses.asdict(each) for each in pieces], indent=2, ensure_ascii=False))
        return 0
    for each in pieces:
        print(f"# {each.name}: {each.what}" + ("" if options.output else f"\n{each.content}"))
    text = "".join(each.content for each in pieces)
    for placeholder, where in PLACEHOLDERS.items():
        if placeholder in text:
            print(f"# Put in place of {placeholder}: {where}")
    return 0


def _pieces(options: argparse.Namespace) -> list[Piece]:
    """Return the pieces for the client that is asked for. Raises InvalidRequest for options that do not go together."""
    from . import applications, search
    from .endpoint import endpoint

    client: str = options.client
    needless = ("url",) if client in _SEARCH else ("role", "field")
    if client == "elasticsearch":
        needless = ("url", "role")
    for name in needless:
        if getattr(options, name):
            raise InvalidRequest(f"--{name} says nothing to {client}: leave it out.")
    if options.field and not options.field.isprintable():
        raise InvalidRequest(f"--field is {options.field!r}: give the name of a field.")
    role = re.fullmatch(_ROLE, options.role or "")
    if options.role and not role:
        raise InvalidRequest(
            f"--role is {options.role!r}: give an ARN such as arn:aws:iam::111122223333:role/name."
        )
    if not options.endpoint and (client in _SEARCH or not options.url):
        raise InvalidRequest(
            f"Nothing says what {client} is to call: give --endpoint"
            + (", or --url of a server." if client in _APPLICATIONS else ".")
        )
    if not options.endpoint and (options.component or options.account):
        raise InvalidRequest("--component and --account go with --endpoint.")
    account = options.account or (role[1] if role else None)
    called = (
        endpoint(options.endpoint, options.component, options.region, account, options.profile)
        if options.endpoint
        else None
    )
    if called and client == "opensearch":
        return search.opensearch(called, role=options.role, field=options.field or "text")
    if called and client == "elasticsearch":
        return search.elasticsearch(called, field=options.field or "text")
    url = applications.base(options.url or _URL)
    if client == "dify":
        return applications.dify(called, url, own_url=bool(options.url))
    return {"litellm": applications.litellm, "open-webui": applications.open_webui}[client](called, url)


def _write(folder: Path, pieces: list[Piece]) -> None:
    """Write the files. Raises InvalidRequest where one is there already and differs."""
    for each in pieces:
        path = folder / each.name
        if path.exists() and path.read_bytes() != each.content.encode():
            raise InvalidRequest(f"{path} is there already: give an empty or a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for each in pieces:
        (folder / each.name).write_bytes(each.content.encode())
