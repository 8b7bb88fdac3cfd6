"""The announcement's numbers, as it printed them (jina.ai, "Jina Reranker v1 Turbo and Tiny", April 2024)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """One row: NDCG@10 is the mean over BEIR, in points.

    Hit rate and MRR are those of the LlamaIndex RAG benchmark, means of three embedders.
    """

    name: str
    scorer: str  # as `--model` takes it
    millions: float
    ndcg: float
    hit_rate: float
    mrr: float
    layers: int | None = None


# By position, in the announcement's own columns: a row a line is what can be held against the page.
PUBLISHED = (
    Published("jina-reranker-v1-base-en", "base", 137, 52.45, 0.8439, 0.7006, 12),
    Published("jina-reranker-v1-turbo-en", "turbo", 37.8, 49.60, 0.8351, 0.6498, 6),
    Published("jina-reranker-v1-tiny-en", "tiny", 33, 48.54, 0.8316, 0.6761, 4),
    Published("mxbai-rerank-base-v1", "hf:mixedbread-ai/mxbai-rerank-base-v1", 184, 49.19, 0.8105, 0.6583),
    Published("mxbai-rerank-xsmall-v1", "hf:mixedbread-ai/mxbai-rerank-xsmall-v1", 71, 48.80, 0.8193, 0.6673),
    Published("ms-marco-MiniLM-L-6-v2", "hf:cross-encoder/ms-marco-MiniLM-L-6-v2", 23, 48.64, 0.8052, 0.6121),
    Published("bge-reranker-base", "hf:BAAI/bge-reranker-base", 278, 47.89, 0.8175, 0.6480),
    Published("ms-marco-MiniLM-L-4-v2", "hf:cross-encoder/ms-marco-MiniLM-L-4-v2", 19, 47.81, 0.8246, 0.6354),
)
# BEIR's 13 public test sets, whose mean is the NDCG@10 above is not stated in the announcement; these are the usual ones.
BEIR = (
    "trec-covid",
    "nfcorpus",
    "nq",
    "hotpotqa",
    "fiqa",
    "arguana",
    "webis-touche2020",
    "quora",
    "dbpedia-entity",
    "scidocs",
    "fever",
    "climate-fever",
    "scifact",
)
