"""Prices from the AWS Price List Query API, through a real boto3 client and a local endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sagerank.cli import main
from sagerank_cost import CostError
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.refresh import SOURCE, Refreshed, apply, client, fetch

REGION = "eu-west-1"


def item(usd: str, unit: str, **attributes: str) -> dict[str, Any]:
    """One element of PriceList, as the API words it."""
    sku = f"SKU{abs(hash((usd, tuple(attributes.items()))))}"
    code = f"{sku}.JRTCKXETXF"
    dimension = {"unit": unit, "beginRange": "0", "endRange": "Inf", "pricePerUnit": {"USD": usd}}
    return {
        "product": {
            "productFamily": "ML Instance",
            "sku": sku,
            "attributes": {
                "servicecode": "AmazonSageMaker",
                "regionCode": REGION,
                "locationType": "AWS Region",
                **attributes,
            },
        },
        "serviceCode": "AmazonSageMaker",
        "terms": {"OnDemand": {code: {"sku": sku, "priceDimensions": {f"{code}.6YS6EN2CT7": dimension}}}},
        "publicationDate": "2026-11-20T10:00:00Z",
    }


def listed(catalogue: Catalogue) -> list[dict[str, Any]]:
    """What the API would say if nothing had changed, with what must be passed over."""
    hosting = [
        item(
            f"{price.usd:.10f}", "Hrs", component="Hosting", instanceName=name, instanceType=f"{name}-Hosting"
        )
        for (region, name), price in catalogue.hosting_prices.items()
        if region == REGION
    ]
    serverless = [
        item(
            f"{price.usd:.10f}",
            "seconds",
            productFamily="ML Serverless",
            group="ServerlessInf",
            memorygb=str(int(size) // 1024),
        )
        for (region, name, size), price in catalogue.rates.items()
        if (region, name) == (REGION, "serverless")
    ]
    others = [
        item("0.1540000000", "GB-Mo", volumeType="General Purpose-Hosting"),
        item("0.0160000000", "GB", operation="Invoke-Endpoint", group="Hosting:IN"),
        item("0.0160000000", "GB", operation="Invoke-Endpoint", group="Hosting:OUT"),
        # To be passed over: a free tier, Outposts, and a group nobody asked for.
        item("0.0000000000", "Hrs", component="Hosting", instanceName="ml.m5.xlarge"),
        item(
            "9.0000000000",
            "Hrs",
            component="Hosting",
            instanceName="ml.m5.xlarge",
            locationType="AWS Outposts",
        ),
        item("5.0000000000", "seconds", productFamily="ML Serverless", group="Other", memorygb="1"),
    ]
    return [*hosting, *serverless, *others]


@contextmanager
def price_list(items: list[dict[str, Any]]) -> Iterator[str]:
    """GetProducts with filters and pages of 100."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body["ServiceCode"] == "AmazonSageMaker"
            wanted = {one["Field"]: one["Value"] for one in body["Filters"]}
            assert all(one["Type"] == "TERM_MATCH" for one in body["Filters"])
            found = [
                one
                for one in items
                if all(
                    ({**one["product"], **one["product"]["attributes"]}).get(name) == value
                    for name, value in wanted.items()
                )
            ]
            begin = int(body.get("NextToken", 0))
            answer: dict[str, Any] = {
                "FormatVersion": "aws_v1",
                "PriceList": [json.dumps(one) for one in found[begin : begin + 100]],
            }
            if begin + 100 < len(found):
                answer["NextToken"] = str(begin + 100)
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")


def asked(folder: Path, items: list[dict[str, Any]]) -> Refreshed:
    with price_list(items) as url:
        api = client(url)
        try:
            return fetch(Catalogue(folder), [REGION], api)
        finally:
            api.close()


def test_unchanged_prices_are_no_changes_and_get_the_new_date(folder: Path) -> None:
    before = Catalogue(folder)
    assert sum(region == REGION for region, _ in before.hosting_prices) > 100  # more than a page
    refreshed = asked(folder, listed(before))
    assert [str(change) for change in refreshed.changes] == []
    apply(before, refreshed)
    after = Catalogue(folder)
    assert after.hosting_prices.keys() == before.hosting_prices.keys()
    price = after.hosting(REGION, "ml.m5.xlarge")
    assert (price.date, price.source) == ("2026-11-20", SOURCE)
    assert SOURCE in after.sources
    assert after.hosting("us-east-1", "ml.m5.xlarge") == before.hosting("us-east-1", "ml.m5.xlarge")
    assert after.rate("us-east-1", "alarm") == before.rate("us-east-1", "alarm")
    assert after.rate(REGION, "serverless", 2048).usd == before.rate(REGION, "serverless", 2048).usd


def changed(items: list[dict[str, Any]], instance: str, usd: str | None) -> list[dict[str, Any]]:
    """The listing with another price for an instance, or without it."""
    kept = [one for one in items if one["product"]["attributes"].get("instanceName") != instance]
    return kept if usd is None else [*kept, item(usd, "Hrs", component="Hosting", instanceName=instance)]


@pytest.mark.parametrize(
    ("usd", "line", "suspicious"),
    [
        ("0.2600000000", "~ eu-west-1 ml.m5.xlarge: 0.257 -> 0.26 (+1.2%)", False),
        ("0.5000000000", "~ eu-west-1 ml.m5.xlarge: 0.257 -> 0.5 (+94.6%)", True),
        (None, "- eu-west-1 ml.m5.xlarge: 0.257, no longer listed", True),
    ],
)
def test_what_looks_wrong_is_shown_and_not_written(
    usd: str | None, line: str, suspicious: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "hosting.csv").read_bytes()
    items = changed(listed(Catalogue(folder)), "ml.m5.xlarge", usd)
    with price_list(items) as url:
        command = ["cost", "refresh", "--data", str(folder), "--region", REGION, "--endpoint-url", url]
        assert main(command) == (2 if suspicious else 0)
        shown = capsys.readouterr()
        assert line in shown.out
        if not suspicious:
            assert Catalogue(folder).hosting(REGION, "ml.m5.xlarge").usd == Decimal("0.26")
            return
        assert "Nothing was written" in shown.err
        assert (folder / "hosting.csv").read_bytes() == before
        assert main([*command, "--yes"]) == 0
    after = Catalogue(folder)
    if usd is None:
        with pytest.raises(CostError, match="No hosting price"):
            after.hosting(REGION, "ml.m5.xlarge")
    else:
        assert after.hosting(REGION, "ml.m5.xlarge").usd == Decimal("0.5")


def test_answers_that_make_no_sense_change_nothing(folder: Path) -> None:
    items = listed(Catalogue(folder))
    two = [*items, item("0.3000000000", "Hrs", component="Hosting", instanceName="ml.m5.xlarge")]
    with pytest.raises(CostError, match="two prices for eu-west-1 hosting ml.m5.xlarge"):
        asked(folder, two)
    with pytest.raises(CostError, match="no hosting price for eu-west-1"):
        asked(folder, [])
    with pytest.raises(CostError, match="price 'n/a'"):
        asked(folder, changed(items, "ml.m5.xlarge", "n/a"))


def test_a_type_without_a_specification_is_left_out(folder: Path) -> None:
    items = [
        *listed(Catalogue(folder)),
        item("1.0000000000", "Hrs", component="Hosting", instanceName="ml.z99.large"),
    ]
    refreshed = asked(folder, items)
    assert refreshed.unspecified == ("ml.z99.large",)
    assert refreshed.changes == ()


def test_a_closed_door_is_a_sentence(folder: Path) -> None:
    from botocore.config import Config

    with price_list([]) as url:
        pass
    import boto3

    api = boto3.client(
        "pricing", region_name="us-east-1", endpoint_url=url, config=Config(retries={"total_max_attempts": 1})
    )
    with pytest.raises(CostError, match="pricing:GetProducts"):
        fetch(Catalogue(folder), [REGION], api)
    api.close()
