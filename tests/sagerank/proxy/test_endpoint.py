"""The proxy before an endpoint of the local AWS, whose containers run the real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sagerank_inference.engine import Engine

from ...servers import proxied

QUERY, DOCUMENTS = "what causes rain", ["A cat sleeps.", "Clouds cool and drop water.", "Rain falls. " * 40]
BODY = json.dumps({"query": QUERY, "documents": DOCUMENTS, "raw_scores": True})


@pytest.mark.parametrize("arguments", [["whole"], ["parts", "--component", "reranker"]])
def test_an_endpoint_ranks_as_the_engine_does(
    aws: dict[str, Any], micro: Engine, arguments: list[str]
) -> None:
    expected = micro.score(QUERY, DOCUMENTS).values
    with proxied("--endpoint", *arguments, **aws) as proxy:
        code, answer, _ = proxy.ask("/v1/rerank", BODY)
        assert code == 200
        got = {result["index"]: result["relevance_score"] for result in answer["results"]}
        assert [got[index] for index in range(3)] == pytest.approx(expected, abs=1e-5)
        assert answer["model"] == "sagerank-micro"
        assert proxy.ask("/v1/models")[1]["data"][0]["id"] == arguments[-1]
        code, answer, _ = proxy.ask("/rerank", json.dumps({"query": QUERY, "texts": DOCUMENTS}))
        assert (code, len(answer)) == (200, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gone"], "There is no endpoint gone"),
        (["parts", "--component", "other"], "name one of parts's"),
    ],
)
def test_a_name_that_is_not_there_is_told(aws: dict[str, Any], arguments: list[str], sentence: str) -> None:
    with proxied("--endpoint", *arguments, **aws) as proxy:
        code, answer, _ = proxy.ask("/v1/rerank", BODY)
        assert (code, sentence in answer["detail"]["message"]) == (502, True), answer


def test_what_the_model_refuses_is_the_callers_to_change(aws: dict[str, Any]) -> None:
    body = json.dumps({"query": QUERY, "documents": ["a", "rain " * 9_000], "truncate": False})
    with proxied("--endpoint", "whole", **aws) as proxy:
        code, answer, _ = proxy.ask("/v1/rerank", body)
        assert (code, answer["detail"]["code"]) == (400, "INPUT_TOKEN_LIMIT_EXCEEDED")
        assert answer["detail"]["message"].startswith("query and documents[1] have ")
