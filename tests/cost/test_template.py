"""The month of templates and configurations, and its change for a pull request."""

from __future__ import annotations

import argparse
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sagerank.cli import main
from sagerank_cost import CostError, commands
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.reports.diff import diff_report
from sagerank_cost.template import read
from sagerank_infra.config import ConfigError, DeployConfig
from sagerank_infra.estimate import monthly, priced

from .conftest import CATALOGUE


def variant(
    instance: str = "ml.m5.xlarge", count: int = 1, name: str = "main", **more: object
) -> dict[str, object]:
    return {"VariantName": name, "InstanceType": instance, "InitialInstanceCount": count, **more}


def endpoint(*variants: dict[str, object], **more: object) -> dict[str, Any]:
    return {
        "Type": "AWS::SageMaker::EndpointConfig",
        "Properties": {"ProductionVariants": list(variants), **more},
    }


def scaling(least: int, most: int = 8, name: str = "main") -> dict[str, Any]:
    properties = {
        "MinCapacity": least,
        "MaxCapacity": most,
        "ResourceId": {"Fn::Join": ["", ["endpoint/", {"Ref": "Endpoint"}, f"/variant/{name}"]]},
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    return {"Type": "AWS::ApplicationAutoScaling::ScalableTarget", "Properties": properties}


def write(path: Path, **resources: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({"Resources": resources}), encoding="utf-8")
    return path


def lines(path: Path, region: str = "us-east-1") -> dict[str, Decimal]:
    return {name: line.usd for name, line in read(path, CATALOGUE, region).lines.items()}


def test_an_endpoint_costs_its_hours_and_volumes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.template.json", Config=endpoint(variant(count=2, VolumeSizeInGB=50)))
    assert lines(path) == {
        "a/Config/main: 2 x ml.m5.xlarge": Decimal("335.80"),
        "a/Config/main: volumes, 2 x 50 GB": Decimal("14.00"),
    }
    assert read(path, CATALOGUE, "us-east-1").usd == Decimal("349.80")


def test_local_disks_are_not_billed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=endpoint(variant("ml.g4dn.xlarge")))
    assert list(lines(path).values()) == [Decimal("537.28")]


def test_what_scaling_may_go_down_to_is_what_always_stands(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=endpoint(variant(count=4)), Scaling=scaling(2))
    assert "a.json/Config/main: 2 x ml.m5.xlarge" in lines(path)
    other = write(tmp_path / "b.json", Config=endpoint(variant(count=4)), Scaling=scaling(2, name="shadow"))
    assert "b.json/Config/main: 4 x ml.m5.xlarge" in lines(other)


def test_an_asynchronous_endpoint_at_zero_is_said_to_depend_on_use(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=endpoint(variant(), AsyncInferenceConfig={}), Scaling=scaling(0))
    found = read(path, CATALOGUE, "us-east-1")
    assert found.lines == {}
    assert any("may go to zero" in note for note in found.notes)


def test_serverless_is_use_and_provisioned_concurrency_is_not(tmp_path: Path) -> None:
    serverless: dict[str, object] = {
        "VariantName": "main",
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5, "ProvisionedConcurrency": 1},
    }
    found = read(write(tmp_path / "a.json", Config=endpoint(serverless)), CATALOGUE, "us-east-1")
    assert [line.usd for line in found.lines.values()] == [Decimal("26.28")]
    assert any("0.0000400 USD for each second" in note for note in found.notes)


def test_what_stands_beside_the_endpoint(tmp_path: Path) -> None:
    interface = {
        "Type": "AWS::EC2::VPCEndpoint",
        "Properties": {"VpcEndpointType": "Interface", "SubnetIds": ["a", "b"]},
    }
    gateway = {"Type": "AWS::EC2::VPCEndpoint", "Properties": {"VpcEndpointType": "Gateway"}}
    path = write(
        tmp_path / "a.json",
        Door=interface,
        Free=gateway,
        Nat={"Type": "AWS::EC2::NatGateway", "Properties": {}},
        Alarm={"Type": "AWS::CloudWatch::Alarm", "Properties": {}},
        Key={"Type": "AWS::KMS::Key", "Properties": {}},
        Role={"Type": "AWS::IAM::Role", "Properties": {}},
    )
    found = read(path, CATALOGUE, "us-east-1")
    assert found.usd == Decimal("14.60") + Decimal("32.85") + Decimal("0.10")
    assert any("AWS::KMS::Key" in note for note in found.notes)
    assert not any("AWS::IAM::Role" in note for note in found.notes)


def test_a_folder_knows_its_regions(tmp_path: Path) -> None:
    write(tmp_path / "cdk.out/endpoint.template.json", Config=endpoint(variant("ml.m5.large")))
    manifest = {
        "artifacts": {
            "e": {
                "environment": "aws://unknown-account/eu-west-1",
                "properties": {"templateFile": "endpoint.template.json"},
            }
        }
    }
    (tmp_path / "cdk.out/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert lines(tmp_path / "cdk.out")["endpoint/Config/main: 1 x ml.m5.large"] == Decimal("93.44")


def test_the_change_in_markdown_and_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old/app.template.json", Config=endpoint(variant("ml.m5.xlarge")))
    new = write(
        tmp_path / "new/app.template.json",
        Config=endpoint(variant("ml.c7i.xlarge"), variant("ml.m5.large", name="b")),
    )
    command = ["cost", "diff", str(old.parent), str(new.parent), "--format", "markdown"]
    assert main([*command, "--max-monthly", "1000"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("## Monthly cost\n\nMonthly cost rises: 172.10 -> 248.57 USD, +76.47 (+44%).")
    assert "| resource | old USD | new USD | change USD |" in shown
    assert "| app/Config/main: 1 x ml.m5.xlarge | 167.90 | - | -167.90 |" in shown
    assert "| total | 172.10 | 248.57 | 76.47 |" in shown
    assert "within the budget of 1,000 USD" in shown
    assert main([*command, "--max-monthly", "200"]) == 1
    assert "OVER the budget" in capsys.readouterr().out
    report = diff_report(read(old, CATALOGUE, "us-east-1"), read(new, CATALOGUE, "us-east-1"))
    *rows, last = report.tables[0].rows
    assert sum(Decimal(str(row[3])) for row in rows) == last[3]


def diff(old: Path, new: Path) -> int:
    """`cost diff` with the prices of configurations, as the `sagerank` command has it."""
    parser = argparse.ArgumentParser()
    commands.add(parser.add_subparsers(), priced)
    options = parser.parse_args(["cost", "diff", str(old), str(new)])
    return int(options.run(options))


def test_configurations_are_compared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traffic = {"requests_per_second": 0.01}
    old, new, template = tmp_path / "old.json", tmp_path / "new.yaml", tmp_path / "a.template.json"
    old.write_text(
        json.dumps({"model": "tiny", "instance": "ml.m5.xlarge", "traffic": traffic}), encoding="utf-8"
    )
    new.write_text(
        "model: tiny\nmode: serverless\nserverless: {memory_mb: 4096}\ntraffic: {requests_per_second: 0.01}\n",
        encoding="utf-8",
    )
    assert diff(old, new) == 0
    shown = capsys.readouterr().out
    assert "falls" in shown
    assert "serverless processing, 4096 MB" in shown
    assert "dashboard" in shown
    write(template, Config=endpoint(variant()))
    assert diff(template, old) == 0
    assert "Monthly cost rises: 172.10 -> 177.83 USD" in capsys.readouterr().out


def test_a_configuration_costs_what_its_estimate_says(tmp_path: Path) -> None:
    path = tmp_path / "prod.toml"
    path.write_text('preset = "prod"\nmodel = "base"\ninstance = "ml.g6.xlarge"\n', encoding="utf-8")
    estimate = monthly(DeployConfig.read(path, {}))
    month = read(path, CATALOGUE, "us-east-1", priced)
    assert month.usd == estimate.usd
    assert month.lines["interface endpoints"].usd == Decimal("58.40")
    own = Catalogue(overrides={"ml.g6.xlarge": Decimal("0.5")})
    assert read(path, own, "us-east-1", priced).lines["ml.g6.xlarge hours"].usd == Decimal("730.00")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "is neither a template nor a configuration"),
        ('{"mode": "realtime", "instanse": "x"}', "instanse is not an option: did you mean instance"),
        ('{"mode": "realtime", "instance": "ml.m5.xlage"}', "did you mean ml.m5.xlarge"),
        ('{"instance": "ml.m6i.large"}', "No hosting price of ml.m6i.large"),
        (json.dumps({"Resources": {"C": endpoint({"VariantName": "m"})}}), "no InstanceType"),
        (json.dumps({"Resources": {"C": endpoint(variant("ml.m5.xlage"))}}), "did you mean ml.m5.xlarge"),
        (
            json.dumps({"Resources": {"C": endpoint(variant("ml.m6i.large"))}}),
            "No hosting price of ml.m6i.large",
        ),
    ],
)
def test_what_cannot_be_priced_is_a_sentence(content: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises((CostError, ConfigError), match=sentence):
        read(path, CATALOGUE, "us-east-1", priced)


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_without_somebody_who_reads_configurations_it_says_where_they_are_read(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(CostError, match="has no Resources.*`sagerank cost diff` takes the configuration"):
        read(tmp_path / name, CATALOGUE, "us-east-1")


def test_an_empty_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CostError, match=r"holds no \*\.template\.json"):
        read(tmp_path, CATALOGUE, "us-east-1")
