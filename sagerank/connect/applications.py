"""Applications: those that know no more than a URL and a key reach an endpoint through `sagerank proxy`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..errors import InvalidRequest
from .endpoint import ACCESS_KEY, PROXY_KEY, REGION, SECRET_KEY, Endpoint, Piece

_NAME = "sagerank"
_KEY = "SAGERANK_PROXY_KEY"
_LOCAL = ("127.0.0.1", "localhost", "::1")

# What the form of Dify's SageMaker plugin has in its list.
_DIFY_REGIONS = (
    "us-east-1",
    "us-west-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "eu-central-1",
    "us-gov-west-1",
    "cn-north-1",
    "cn-northwest-1",
)


def base(url: str) -> str:
    """Return the address without what ends it. Raises InvalidRequest for what is no address of a server."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        sound = False
    if not sound or "@" in url or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise InvalidRequest(
            "--url is no address of a server: give one such as http://127.0.0.1:8080, without a password."
        )
    return url.rstrip("/")


def litellm(endpoint: Endpoint | None, url: str) -> list[Piece]:
    """Return a configuration of LiteLLM's proxy."""
    key = f"os.environ/{_KEY}" if endpoint else "none"
    words = f"{_KEY} and a LITELLM_MASTER_KEY" if endpoint else "a LITELLM_MASTER_KEY"
    config = f"""\
model_list:
  - model_name: {_NAME}
    litellm_params:
      model: hosted_vllm/{_NAME}
      api_base: {json.dumps(url)}
      api_key: {key}
    model_info:
      mode: rerank
"""
    return [
        *_proxy(endpoint, url),
        Piece("config.yaml", f"litellm --config config.yaml, with {words} in its environment", config),
    ]


def open_webui(endpoint: Endpoint | None, url: str) -> list[Piece]:
    """Return the environment of Open WebUI."""
    values = {
        "ENABLE_RAG_HYBRID_SEARCH": "True",
        "RAG_RERANKING_ENGINE": "external",
        "RAG_RERANKING_MODEL": _NAME,
        "RAG_EXTERNAL_RERANKER_URL": f"{url}/v1/rerank",
        "RAG_EXTERNAL_RERANKER_API_KEY": PROXY_KEY if endpoint else "none",
        "RAG_EXTERNAL_RERANKER_TIMEOUT": "60",
    }
    what = (
        "docker run --env-file open-webui.env ... It reads them at its first start alone: later they are in Admin Panel, "
        "Settings, Documents"
    )
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    return [*_proxy(endpoint, url), Piece("open-webui.env", what, lines)]


def dify(endpoint: Endpoint | None, url: str, *, own_url: bool) -> list[Piece]:
    """Return what to write into the form of a model provider of Dify's.

    That of SageMaker where it can name the endpoint; else, or with a URL of the caller's own, that of an OpenAI-compatible server.
    """
    if endpoint and not own_url and not endpoint.component and endpoint.region in (*_DIFY_REGIONS, REGION):
        keys = {"Access Key": ACCESS_KEY, "Secret Access Key": SECRET_KEY, "AWS Region": endpoint.region}
        names = {"Model Name": _NAME, "Model ID": _NAME, "sagemaker endpoint": endpoint.name}
        return [
            endpoint.policy("of the user whose keys Dify gets, or of the role of the machine it runs on"),
            _form("Amazon SageMaker (langgenius/sagemaker)", names | keys),
        ]
    key = {"API Key": PROXY_KEY} if endpoint else {}
    server = {"API Base URL": f"{url}/v1", "model name for API endpoint": _NAME, "Model context size": "8192"}
    form = _form(
        "OpenAI-API-compatible (langgenius/openai_api_compatible)", {"Model Name": _NAME} | key | server
    )
    return [*_proxy(endpoint, url), form]


def _form(provider: str, fields: Mapping[str, str]) -> Piece:
    lines = "".join(f"{json.dumps(label)}: {json.dumps(value)}\n" for label, value in fields.items())
    return Piece(
        "dify.yaml",
        f"Settings, Model Provider, {provider}, Add Model, of type Rerank: what its form asks",
        lines,
    )


def _proxy(endpoint: Endpoint | None, url: str) -> list[Piece]:
    """Return what stands between a URL and an endpoint: a policy and a command. Nothing where the URL is a server's already."""
    if endpoint is None:
        return []
    parts = urlsplit(url)
    words = ["sagerank", "proxy", "--endpoint", endpoint.name]
    words += ["--component", endpoint.component] if endpoint.component else []
    words += ["--region", endpoint.region] if endpoint.region != REGION else []
    words += ["--profile", endpoint.profile] if endpoint.profile else []
    what = "the door: start it on the machine of the URL"
    if parts.hostname in _LOCAL:
        what += ". A container reaches its host under another name: --url http://host.docker.internal:8080"
    else:
        words += ["--host", "*"]
    if parts.scheme == "http" and (parts.port or 80) != 8080:
        words += ["--port", str(parts.port or 80)]
    command = f"export {_KEY}={PROXY_KEY} # such as `openssl rand -hex 32` prints\n{shlex.join(words)}\n"
    return [endpoint.policy("of the role or user as whom the proxy runs"), Piece("proxy.sh", what, command)]
