"""What clients ask a server before they rank: is it well, which model is it, what does it take."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .backend import Backend
from .openapi import describe

_MOST_MEGABYTES = 100  # that a batch transform takes, over all requests that are under way


class Discovery:
    """The routes of one backend. Names of models are the callers' own: requests with any are answered."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """Return them, all for GET."""
        handlers: dict[str, Callable[[Request], Response]] = {
            "/": self.root,
            "/ping": self.ping,
            "/health": self.ping,
            "/healthz": self.ping,
            "/.well-known/live": self.ping,
            "/.well-known/ready": self.ping,
            "/info": self.info,
            "/meta": self.meta,
            "/models": self.models,
            "/v1/models": self.models,
            "/v1/models/{model:path}": self.model,
            "/execution-parameters": self.execution_parameters,
            "/openapi.json": self.openapi,
        }
        return [Route(path, _asynchronous(handler), name=path) for path, handler in handlers.items()]

    def root(self, _request: Request) -> Response:
        about = "A reranker: POST a query and documents to /v1/rerank, or what your client sends to its own route."
        links = {"model": "/v1/models", "health": "/ping", "schema": "/openapi.json"}
        return JSONResponse({"name": "sagerank", "version": _version(), "about": about, "links": links})

    def ping(self, request: Request) -> Response:
        state = "draining" if getattr(request.state, "draining", False) else self._backend.state
        return JSONResponse({"status": state, "model": self._backend.model}, 200 if state == "ready" else 503)

    def info(self, _request: Request) -> Response:
        """Answer as text-embeddings-inference does, whose clients look whether this is a reranker."""
        labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        limits = self._backend.limits
        return JSONResponse(
            {
                "model_id": self._backend.model,
                "model_sha": None,
                "model_dtype": "float32",
                "model_type": {"reranker": labels},
                "max_concurrent_requests": 512,
                "max_input_length": self._backend.max_tokens,
                "max_batch_tokens": 16_384,
                "max_batch_requests": None,
                "max_client_batch_size": limits.max_documents,
                "auto_truncate": True,
                "tokenization_workers": 1,
                "version": _version(),
                "sha": None,
                "docker_label": None,
            }
        )

    def meta(self, _request: Request) -> Response:
        """Answer what Weaviate shows of its reranker: any object will do."""
        return JSONResponse({"model": self._backend.model, "version": _version()})

    def models(self, _request: Request) -> Response:
        """Answer as OpenAI's API does, which vLLM's, NVIDIA's and others follow; and, under `models`, as Pinecone's."""
        name = self._backend.model
        pinecone = {"model": name, "short_description": "A reranker.", "type": "rerank"}
        return JSONResponse(
            {
                "object": "list",
                "data": [self._entry(name)],
                "models": [pinecone | {"supported_parameters": []}],
            }
        )

    def model(self, request: Request) -> Response:
        return JSONResponse(self._entry(request.path_params["model"]))

    def _entry(self, name: str) -> dict[str, object]:
        return {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "sagerank",
            "root": self._backend.model,
            "max_model_len": self._backend.max_tokens,
            # As Xinference words it.
            "model_name": self._backend.model,
            "model_type": "rerank",
            "model_ability": ["rerank"],
            "max_tokens": self._backend.max_tokens,
        }

    def execution_parameters(self, _request: Request) -> Response:
        """Answer what a batch transform asks before it begins, where its own settings leave it open."""
        megabytes = max(1, min(_MOST_MEGABYTES, self._backend.limits.max_body_bytes >> 20))
        return JSONResponse(
            {
                "MaxConcurrentTransforms": max(1, min(4, _MOST_MEGABYTES // megabytes)),
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": megabytes,
            }
        )

    def openapi(self, _request: Request) -> Response:
        return JSONResponse(describe(_version()))


def _asynchronous(handler: Callable[[Request], Response]) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        return handler(request)

    return answer


@cache
def _version() -> str:
    try:
        return version("sagerank")
    except PackageNotFoundError:  # an archive brings the modules alone
        return "unknown"
