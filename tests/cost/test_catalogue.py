"""Prices and instance types: dated, explained, and refused in a sentence where they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from sagerank_cost import CostError
from sagerank_cost.catalogue import Catalogue

from .conftest import CATALOGUE


@pytest.mark.parametrize(
    ("region", "instance", "usd"),
    [
        ("us-east-1", "ml.m5.xlarge", "0.23"),
        ("us-east-1", "ml.c6g.large", "0.0816"),
        ("eu-central-1", "ml.m5.large", "0.138"),
        ("ap-northeast-1", "ml.g6.xlarge", "1.6341"),
        ("us-east-1", "ml.p4d.24xlarge", "25.251288"),
    ],
)
def test_hosting_prices_that_several_sources_agree_on(region: str, instance: str, usd: str) -> None:
    assert CATALOGUE.hosting(region, instance).usd == Decimal(usd)


def test_every_price_has_a_date_and_a_source_that_is_explained() -> None:
    prices = [
        *CATALOGUE.hosting_prices.values(),
        *CATALOGUE.rates.values(),
        *(service.price for service in CATALOGUE.services.values()),
    ]
    assert len(prices) > 1_600
    for price in prices:
        assert price.source in CATALOGUE.sources
        assert price.date[:2] == "20"
        assert price.confidence
        assert price.usd > 0


def test_every_priced_type_is_specified() -> None:
    assert {instance for _, instance in CATALOGUE.hosting_prices} <= set(CATALOGUE.instances)


def test_serverless_processing_costs_by_memory() -> None:
    rates = [CATALOGUE.rate("us-east-1", "serverless", 1024 * size).usd for size in range(1, 7)]
    assert rates == [Decimal("0.00002") * size for size in range(1, 7)]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: CATALOGUE.hosting("us-est-1", "ml.m5.large"), "did you mean .*us-east-1"),
        (lambda: CATALOGUE.hosting("us-east-1", "ml.c7i.xlage"), "did you mean ml.c7i.xlarge"),
        (lambda: CATALOGUE.hosting("ap-southeast-1", "ml.g6.xlarge"), "it is known in"),
        (lambda: CATALOGUE.rate("eu-central-1", "data_in"), "it is known in eu-west-1, us-east-1"),
        (lambda: CATALOGUE.rate("us-east-1", "volumes"), "did you mean volume"),
        (lambda: CATALOGUE.service("cohere"), "did you mean cohere-rerank"),
        (lambda: Catalogue(overrides={"ml.c7i.larg": Decimal(1)}), "did you mean ml.c7i.large"),
        (lambda: Catalogue(overrides={"ml.c7i.large": Decimal(-1)}), "more than 0"),
    ],
)
def test_what_is_wrong_gets_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(CostError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (
            "hosting.csv",
            "ml.c4.large,0.12",
            "ml.c4.large,zero",
            "hosting.csv:2: usd_per_hour is 'zero', not a number",
        ),
        ("hosting.csv", "ml.c4.large,0.12", "ml.c4.large,-0.12", "hosting.csv:2: .* a price is above 0"),
        ("hosting.csv", "ml.c4.large,0.12", "ml.c4.large,0", "what is unknown has no row"),
        (
            "hosting.csv",
            "ml.c4.large,0.12,",
            "ml.c4.large,",
            "hosting.csv:2: the row has another number of cells",
        ),
        ("hosting.csv", "usd_per_hour", "usd", "lacks the column usd_per_hour"),
        ("instances.csv", "ml.c4.large,2", "ml.c4.large,two", "instances.csv:2"),
    ],
)
def test_a_wrong_row_is_named(file: str, old: str, new: str, sentence: str, folder: Path) -> None:
    path = folder / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CostError, match=sentence):
        Catalogue(folder).hosting("us-east-1", "ml.c4.large")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="cannot be read"):
        Catalogue(tmp_path / "none").hosting("us-east-1", "ml.c4.large")


def test_your_own_price_replaces_the_listed_one() -> None:
    own = Catalogue(overrides={"ml.c7i.large": Decimal("0.05"), "cohere-rerank": Decimal("0.001")})
    assert own.hosting("eu-west-1", "ml.c7i.large").usd == Decimal("0.05")
    assert own.service("cohere-rerank").price.source == "given by you"
    assert own.hosting("us-east-1", "ml.c7i.xlarge") == CATALOGUE.hosting("us-east-1", "ml.c7i.xlarge")
