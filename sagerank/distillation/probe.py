"""The curve beside the loss: how near a student that is still trained comes to its teacher on queries that it is not trained on."""

from __future__ import annotations

from statistics import mean

from tokenizers import Tokenizer

from sagerank.evaluation.first_stage import Run, ranked
from sagerank.evaluation.metrics import per_query
from sagerank_inference.jina_bert import JinaBert, score

from .heldout import Reference
from .train import encode

# Few, as they are scored at every checkpoint.
_QUERIES, _CANDIDATES = 16, 20


class Probe:
    """NDCG@10 of a model by the teacher's grades, on a few of the held-out queries."""

    def __init__(self, reference: Reference, tokenizer: Tokenizer, max_tokens: int) -> None:
        """max_tokens: pairs are cut to it, as in the training."""
        collection, candidates = reference
        self._collection = collection.first(_QUERIES)
        self._pairs = {
            query: encode(
                tokenizer,
                text,
                [collection.documents[key] for key, _ in candidates[query][:_CANDIDATES]],
                max_tokens,
            )
            for query, text in self._collection.queries.items()
        }
        self._keys = {query: [key for key, _ in candidates[query][:_CANDIDATES]] for query in self._pairs}

    def __call__(self, model: JinaBert) -> dict[str, float]:
        run: Run = {
            query: ranked(dict(zip(self._keys[query], score(model, pairs), strict=True)))
            for query, pairs in self._pairs.items()
        }
        return {"agreement": mean(per_query(self._collection, run)["ndcg@10"].values())}
