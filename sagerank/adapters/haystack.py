"""Haystack: a ranker.

pipeline.add_component("ranker", SagerankRanker(endpoint="my-reranker", top_k=3))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .target import KEY, Connection, Target, missing

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import Secret, deserialize_secrets_inplace
except ModuleNotFoundError as error:
    raise missing("haystack", error) from None


@component
class SagerankRanker:
    """Keeps the best documents, best first, each with its score from 0 to 1."""

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        url: str | None = None,
        inference_component: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        api_key: Secret | None = Secret.from_env_var(KEY, strict=False),  # noqa: B008 - as Haystack's own
        top_k: int | None = 10,
        score_threshold: float | None = None,
        meta_fields_to_embed: Sequence[str] = (),
        embedding_separator: str = "\n",
        timeout: float = 120.0,
    ) -> None:
        """Make a ranker of a SageMaker endpoint or of a URL; it connects when it first ranks.

        top_k: at most so many; None: all. score_threshold: documents below are left out. meta_fields_to_embed: what stands
        before the content, with embedding_separator between. timeout: in seconds. Raises InvalidRequest.
        """
        self.endpoint, self.url = endpoint, url
        self.inference_component, self.region, self.profile = inference_component, region, profile
        self.api_key, self.timeout = api_key, timeout
        self.top_k, self.score_threshold = top_k, score_threshold
        self.meta_fields_to_embed, self.embedding_separator = list(meta_fields_to_embed), embedding_separator
        self._connection = Connection(Target.of(self, api_key.resolve_value() if api_key else None))

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Rank documents for a query. top_k, score_threshold: instead of the ranker's own. Raises an error of sagerank.errors."""
        documents = _distinct(documents)
        if not documents:
            return {"documents": []}
        options = self._options(top_k, score_threshold)
        return _kept(documents, self._connection.rerank(query, self._texts(documents), **options))

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]:
        """Rank documents for a query while the event loop does other things."""
        documents = _distinct(documents)
        if not documents:
            return {"documents": []}
        options = self._options(top_k, score_threshold)
        return _kept(documents, await self._connection.arerank(query, self._texts(documents), **options))

    def _options(self, top_k: int | None, score_threshold: float | None) -> dict[str, Any]:
        return {
            "top_n": self.top_k if top_k is None else top_k,
            "min_score": self.score_threshold if score_threshold is None else score_threshold,
            "timeout": self.timeout,
        }

    def _texts(self, documents: Sequence[Document]) -> list[str]:
        def text(document: Document) -> str:
            found = [document.meta.get(name) for name in self.meta_fields_to_embed]
            parts = [*(str(value) for value in found if value), document.content or ""]
            return self.embedding_separator.join(parts)

        return [text(document) for document in documents]

    def to_dict(self) -> dict[str, Any]:
        """Return what from_dict makes this ranker of; a key that is no environment variable cannot be written."""
        names = (
            "endpoint",
            "url",
            "inference_component",
            "region",
            "profile",
            "top_k",
            "score_threshold",
            "meta_fields_to_embed",
            "embedding_separator",
            "timeout",
        )
        values = {name: getattr(self, name) for name in names}
        key = self.api_key.to_dict() if self.api_key else None
        return dict(default_to_dict(self, **values, api_key=key))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SagerankRanker:
        """Make the ranker that to_dict described."""
        if data.get("init_parameters", {}).get("api_key"):
            deserialize_secrets_inplace(data["init_parameters"], keys=["api_key"])
        made: SagerankRanker = default_from_dict(cls, data)
        return made


def _distinct(documents: Sequence[Document]) -> list[Document]:
    """Return the documents without those whose id came before."""
    return list({document.id: document for document in documents}.values())


def _kept(documents: Sequence[Document], ranking: Any) -> dict[str, list[Document]]:
    return {"documents": [replace(documents[result.index], score=result.score) for result in ranking.results]}
