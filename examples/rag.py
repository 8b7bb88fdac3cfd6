"""Retrieval-augmented generation: find by words, rerank, and put the best passages into a prompt.

    sagerank serve &
    python examples/rag.py "what causes rain"

A second argument is the server's address; `RerankClient.sagemaker("my-reranker")` calls an endpoint instead.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from pathlib import Path

from sagerank import RerankClient

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "what causes rain"
URL = sys.argv[2] if len(sys.argv) > 2 else "http://localhost:8080"
PASSAGES = (Path(__file__).parent / "passages.txt").read_text(encoding="utf-8").splitlines()


def words(text: str) -> set[str]:
    """The words of a text, without those that say nothing."""
    return set(re.findall(r"[a-z]{3,}", text.lower())) - {"and", "are", "for", "how", "the", "what"}


def retrieve(question: str, count: int) -> list[str]:
    """The passages that share the rarest words with the question: stands for your search engine."""
    seen = Counter(word for passage in PASSAGES for word in words(passage))

    def score(passage: str) -> float:
        return sum(math.log(len(PASSAGES) / seen[word]) for word in words(question) & words(passage))

    return sorted(PASSAGES, key=score, reverse=True)[:count]


candidates = retrieve(QUESTION, 10)
with RerankClient.http(URL) as client:
    ranking = client.rerank(QUESTION, candidates, top_n=3)

print(f"First of the search:  {candidates[0]}")
print(f"First when reranked:  {ranking.results[0].document}\n")
print("Answer from these passages alone.\n")
for item in ranking.results:
    print(f"[{item.score:.2f}] {item.document}")
print(f"\nQuestion: {QUESTION}")
