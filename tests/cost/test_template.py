"""The month of templates, whoever wrote them, and of configurations; its change for a pull request, and the gate."""

from __future__ import annotations

import argparse
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagerank.cli import main
from sagerank_cost import CostError, commands
from sagerank_cost.catalogue import Catalogue
from sagerank_cost.lines import AtLeast, Statement
from sagerank_cost.reports.diff import diff_report
from sagerank_cost.template import read
from sagerank_infra.config import ConfigError, DeployConfig
from sagerank_infra.estimate import monthly, priced

from ..infra.conftest import stacks
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


def write(path: Path, parts: dict[str, Any] | None = None, /, **resources: Any) -> Path:
    """A template of the resources, with `parts` beside them."""
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({"Resources": resources, **(parts or {})}), encoding="utf-8")
    return path


def month(path: Path) -> Statement:
    return read(path, CATALOGUE, "us-east-1")


def lines(path: Path) -> dict[str, Decimal]:
    return {name: line.usd for name, line in month(path).lines.items()}


def test_an_endpoint_costs_its_hours_and_volumes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.template.json", Config=endpoint(variant(count=2, VolumeSizeInGB=50)))
    assert lines(path) == {
        "Config/main: 2 x ml.m5.xlarge": Decimal("335.80"),
        "Config/main: volumes, 2 x 50 GB": Decimal("14.00"),
    }
    assert month(path).usd == Decimal("349.80")


def test_local_disks_are_not_billed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=endpoint(variant("ml.g4dn.xlarge")))
    assert list(lines(path).values()) == [Decimal("537.28")]


def test_numbers_may_be_text(tmp_path: Path) -> None:
    one = write(tmp_path / "a.json", Config=endpoint(variant(count=2, VolumeSizeInGB=50)))
    other = write(
        tmp_path / "b.json", Config=endpoint({**variant(VolumeSizeInGB="50"), "InitialInstanceCount": "2"})
    )
    assert lines(one) == lines(other)


def test_what_scaling_may_go_down_to_is_what_always_stands(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=endpoint(variant(count=4)), Scaling=scaling(2))
    assert "Config/main: 2 x ml.m5.xlarge" in lines(path)
    assert "Config/main: 2 to 8 x ml.m5.xlarge" in month(path).by_use
    other = write(tmp_path / "b.json", Config=endpoint(variant(count=4)), Scaling=scaling(2, name="shadow"))
    assert "Config/main: 4 x ml.m5.xlarge" in lines(other)


def test_scaling_is_of_the_endpoint_that_it_names(tmp_path: Path) -> None:
    def named(config: str) -> dict[str, Any]:
        properties = {"EndpointConfigName": {"Fn::GetAtt": [config, "EndpointConfigName"]}}
        return {"Type": "AWS::SageMaker::Endpoint", "Properties": properties}

    path = write(
        tmp_path / "a.json",
        A=endpoint(variant()),
        B=endpoint(variant()),
        Endpoint=named("A"),
        Other=named("B"),
        Scaling=scaling(3),
    )
    assert [name for name in lines(path) if "volumes" not in name] == [
        "Endpoint/main: 3 x ml.m5.xlarge",
        "Other/main: 1 x ml.m5.xlarge",
    ]


def test_one_configuration_of_two_endpoints_is_paid_twice(tmp_path: Path) -> None:
    twice = {"Type": "AWS::SageMaker::Endpoint", "Properties": {"EndpointConfigName": "shared"}}
    config = endpoint(variant("ml.g4dn.xlarge"), EndpointConfigName="shared")
    assert month(write(tmp_path / "a.json", C=config, One=twice, Two=twice)).usd == 2 * Decimal("537.28")
    assert isinstance(month(write(tmp_path / "b.json", One=twice)).usd, AtLeast)


def test_an_asynchronous_endpoint_at_zero_depends_on_use(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Config=endpoint(variant(), AsyncInferenceConfig={}), Scaling=scaling(0))
    found = month(path)
    assert not found.lines
    assert not found.unknown
    assert found.by_use["Config/main: 0 to 8 x ml.m5.xlarge"] == "above 0, each at 0.23 USD an hour"


@pytest.mark.parametrize("least", [0, 2])
def test_managed_scaling_stands_at_its_minimum(least: int, tmp_path: Path) -> None:
    managed = {"Status": "ENABLED", "MinInstanceCount": least, "MaxInstanceCount": 4}
    config = endpoint(variant("ml.g4dn.xlarge", ManagedInstanceScaling=managed))
    component = {"Type": "AWS::SageMaker::InferenceComponent", "Properties": {"VariantName": "main"}}
    found = month(write(tmp_path / "a.json", Config=config, Component=component))
    assert found.usd == least * Decimal("537.28")
    assert not found.unknown
    assert f"Config/main: {least} to 4 x ml.g4dn.xlarge" in found.by_use
    managed["Status"] = "DISABLED"
    assert month(write(tmp_path / "b.json", Config=config)).usd == Decimal("537.28")


def test_shadows_are_paid_too(tmp_path: Path) -> None:
    shadow = variant("ml.g4dn.xlarge", name="shadow")
    config = endpoint(variant("ml.g4dn.xlarge"), ShadowProductionVariants=[shadow])
    assert month(write(tmp_path / "a.json", Config=config)).usd == 2 * Decimal("537.28")


def test_variants_whose_names_are_decided_later_are_all_counted(tmp_path: Path) -> None:
    each = {**variant("ml.g4dn.xlarge"), "VariantName": {"Fn::GetAtt": ["Model", "ModelName"]}}
    assert month(write(tmp_path / "a.json", Config=endpoint(each, each))).usd == 2 * Decimal("537.28")


def serverless(**config: object) -> dict[str, Any]:
    return endpoint({"VariantName": "main", "ServerlessConfig": {"MaxConcurrency": 5, **config}})


def test_serverless_is_use_and_provisioned_concurrency_is_not(tmp_path: Path) -> None:
    config = serverless(MemorySizeInMB="2048", ProvisionedConcurrency=1)
    found = month(write(tmp_path / "a.json", Config=config))
    assert [line.usd for line in found.lines.values()] == [Decimal("26.28")]
    assert "0.0000400 USD for each second" in found.by_use["Config/main: processing"]


def test_sizes_that_are_not_sold_are_named(tmp_path: Path) -> None:
    found = month(write(tmp_path / "a.json", Config=serverless(MemorySizeInMB=1500)))
    (why,) = found.unknown.values()
    assert (
        why == "MemorySizeInMB: serverless memory is one of 1024, 2048, 3072, 4096, 5120, 6144 MB, not 1500"
    )
    with pytest.raises(CostError, match="No serverless price of 1500 MB is known anywhere: .* 1024, 2048"):
        CATALOGUE.rate("us-east-1", "serverless", 1500)


def test_what_stands_beside_the_endpoint(tmp_path: Path) -> None:
    interface = {
        "Type": "AWS::EC2::VPCEndpoint",
        "Properties": {"VpcEndpointType": "Interface", "SubnetIds": ["a", "b"]},
    }
    path = write(
        tmp_path / "a.json",
        Door=interface,
        Free={"Type": "AWS::EC2::VPCEndpoint", "Properties": {"VpcEndpointType": "Gateway"}},
        Nat={"Type": "AWS::EC2::NatGateway"},
        Alarm={"Type": "AWS::CloudWatch::Alarm", "Properties": {}},
        Other={"Type": "AWS::CloudWatch::Alarm", "Properties": {}},
        Role={"Type": "AWS::IAM::Role", "Properties": {}},
        Log={"Type": "AWS::Logs::LogGroup", "Properties": {}},
    )
    found = month(path)
    assert found.usd == Decimal("14.60") + Decimal("32.85") + Decimal("0.20")
    assert found.lines["alarms: 2"].usd == Decimal("0.20")
    assert not found.unknown
    assert "AWS::Logs::LogGroup" in found.by_use


def test_alarms_that_the_template_does_not_list_are_counted(tmp_path: Path) -> None:
    metric = {"MetricStat": {"Stat": "Sum"}}
    two = [metric, metric, {"Expression": "a / b"}]
    follows = {"PolicyType": "TargetTrackingScaling"}
    path = write(
        tmp_path / "a.json",
        Alarm={"Type": "AWS::CloudWatch::Alarm", "Properties": {"Metrics": two}},
        Policy={"Type": "AWS::ApplicationAutoScaling::ScalingPolicy", "Properties": follows},
    )
    assert lines(path) == {"alarms: 4": Decimal("0.40")}


def test_what_is_not_known_to_be_free_has_no_known_price(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", Db={"Type": "AWS::RDS::DBInstance"}, New={"Type": "AWS::No::Such"})
    assert list(month(path).unknown) == ["Db: AWS::RDS::DBInstance", "New: AWS::No::Such"]


def test_a_seller_may_charge_for_a_package(tmp_path: Path) -> None:
    def model(package: object) -> dict[str, Any]:
        return {
            "Type": "AWS::SageMaker::Model",
            "Properties": {"PrimaryContainer": {"ModelPackageName": package}},
        }

    arn = "arn:aws:sagemaker:us-east-1:123456789012:model-package/jina-reranker-v1-base-en"
    assert month(write(tmp_path / "a.json", Model=model(arn))).unknown
    assert not month(write(tmp_path / "b.json", Model=model(f"{arn}/3"))).unknown
    own = {"Type": "AWS::SageMaker::ModelPackage"}
    assert not month(write(tmp_path / "c.json", Model=model({"Ref": "Own"}), Own=own)).unknown


def test_a_folder_knows_its_regions(tmp_path: Path) -> None:
    write(tmp_path / "cdk.out/endpoint.template.json", Config=endpoint(variant("ml.m5.large")))
    write(tmp_path / "cdk.out/assembly-Prod/b.template.json", Config=endpoint(variant("ml.m5.large")))
    manifest = {
        "artifacts": {
            "e": {
                "environment": "aws://unknown-account/eu-west-1",
                "properties": {"templateFile": "endpoint.template.json"},
            }
        }
    }
    (tmp_path / "cdk.out/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    found = lines(tmp_path / "cdk.out")
    assert found["endpoint/Config/main: 1 x ml.m5.large"] == Decimal("93.44")
    assert found["assembly-Prod/b/Config/main: 1 x ml.m5.large"] == Decimal("83.95")


def test_a_nested_stack_is_priced_where_its_template_is_there(tmp_path: Path) -> None:
    nested = {"Type": "AWS::CloudFormation::Stack", "Metadata": {"aws:asset:path": "n.nested.template.json"}}
    path = write(tmp_path / "a.template.json", Nested=nested)
    assert list(month(path).unknown) == ["Nested: AWS::CloudFormation::Stack"]
    write(tmp_path / "n.nested.template.json", Config=endpoint(variant("ml.g4dn.xlarge")))
    assert month(tmp_path).usd == Decimal("537.28")
    assert not month(tmp_path).unknown
    assert month(path).unknown, "alone it is read alone"


# In the style of the documentation of AWS, short tags and all.
WRITTEN = """
AWSTemplateFormatVersion: 2010-09-09
Parameters:
  Stage: {Type: String, Default: %s, AllowedValues: [dev, prod]}
  Type: {Type: String, Default: ml.g4dn.xlarge}
  Subnets: {Type: "List<AWS::EC2::Subnet::Id>", Default: "subnet-a,subnet-b,subnet-c"}
Mappings:
  Stages:
    dev: {Count: 1}
    prod: {Count: 3}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
Resources:
  Config:
    Type: AWS::SageMaker::EndpointConfig
    Properties:
      ProductionVariants:
        - VariantName: main
          InstanceType: !Sub "${Type}"
          InitialInstanceCount: !FindInMap [Stages, !Ref Stage, Count]
        - !If [IsProd, {VariantName: next, InstanceType: ml.g4dn.xlarge, InitialInstanceCount: "1"}, !Ref AWS::NoValue]
  Door:
    Type: AWS::EC2::VPCEndpoint
    Condition: IsProd
    Properties: {VpcEndpointType: Interface, SubnetIds: !Ref Subnets, ServiceName: !Sub "com.amazonaws.${AWS::Region}.logs"}
"""


@pytest.mark.parametrize(("stage", "instances", "doors"), [("dev", 1, 0), ("prod", 4, 3)])
def test_parameters_conditions_and_mappings(stage: str, instances: int, doors: int, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(WRITTEN % stage, encoding="utf-8")
    found = month(path)
    assert not found.unknown
    assert found.usd == instances * Decimal("537.28") + doors * Decimal("7.30")
    assert any(f"defaults: Stage {stage}" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"InitialInstanceCount": {"Ref": "Count"}},
            "InitialInstanceCount: the parameter 'Count' has no default",
        ),
        ({"InitialInstanceCount": "abc"}, "InitialInstanceCount: it is 'abc', give a whole number from 0"),
        ({"InitialInstanceCount": 1e300}, "InitialInstanceCount: it is '1e+300', give a whole number from 0"),
        ({"InitialInstanceCount": None}, "InitialInstanceCount: it is not given"),
        ({"InitialInstanceCount": True}, "InitialInstanceCount: True stands where text belongs"),
        ({"InstanceType": {"Fn::ImportValue": "x"}}, "InstanceType: Fn::ImportValue is decided when"),
        (
            {"InstanceType": {"Fn::FindInMap": ["A", "b", "c"]}},
            "InstanceType: the mapping 'A' has no 'b', 'c'",
        ),
        ({"InstanceType": "ml.m5.xlage"}, "did you mean ml.m5.xlarge"),
        ({"InstanceType": "ml.m6i.large"}, "No hosting price of ml.m6i.large is known in us-east-1"),
        ({"ServerlessConfig": {"MemorySizeInMB": "much"}}, "MemorySizeInMB: it is 'much'"),
        ({"ManagedInstanceScaling": []}, "ManagedInstanceScaling: a list stands where an object belongs"),
    ],
)
def test_what_a_template_does_not_say_has_no_known_price(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    parts = {"Parameters": {"Count": {"Type": "Number"}}}
    path = write(tmp_path / "a.json", parts, Config=endpoint({**variant(), **change}))
    found = month(path)
    assert isinstance(found.usd, AtLeast)
    assert found.usd == 0
    assert list(found.unknown) == ["Config/main: what it runs"]
    assert reason in found.unknown["Config/main: what it runs"]
    assert run(path, path) == 0
    assert run(path, path, "--max-monthly", "1000") == 2


def test_variants_of_an_undecided_condition_have_no_known_price(tmp_path: Path) -> None:
    config = endpoint()
    config["Properties"]["ProductionVariants"] = {"Fn::If": ["Unknown", [variant()], []]}
    found = month(write(tmp_path / "a.json", Config=config))
    assert found.unknown == {
        "Config: what it runs": "ProductionVariants: the condition 'Unknown' is decided when it is deployed"
    }


def run(*words: object) -> int:
    """`cost diff`, with the prices of configurations as the `sagerank` command has them; 2 for a sentence on standard error."""
    parser = argparse.ArgumentParser()
    commands.add(parser.add_subparsers(), priced)
    options = parser.parse_args(["cost", "diff", *map(str, words)])
    try:
        return int(options.run(options))
    except CostError:
        return 2


def test_the_change_as_a_comment_and_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alarm = {"Type": "AWS::CloudWatch::Alarm"}
    old = write(
        tmp_path / "old/app.template.json",
        Config=endpoint(variant("ml.m5.xlarge")),
        Same=endpoint(variant("ml.g4dn.xlarge")),
        Alarm=alarm,
    )
    new = write(
        tmp_path / "new/app.template.json",
        Config=endpoint(variant("ml.c7i.xlarge"), variant("ml.m5.large", name="b")),
        Same=endpoint(variant("ml.g4dn.xlarge")),
        Alarm=alarm,
    )
    command = ["cost", "diff", str(old.parent), str(new.parent), "--format", "markdown"]
    assert main([*command, "--max-monthly", "1000"]) == 0
    sentence, _, *table = capsys.readouterr().out.split("\n")
    assert sentence == (
        "Monthly cost rises from 709.48 to 785.95 USD (+76.47, +11%): within the budget of 1,000 USD, without what depends on use."
    )
    assert table[:7] == [
        "| resource | what | old USD | new USD | change USD |",
        "| --- | --- | ---: | ---: | ---: |",
        "| app/Config/b | 1 x ml.m5.large, volumes, 1 x 30 GB | - | 88.15 | 88.15 |",
        "| app/Config/main | 1 x ml.m5.xlarge → 1 x ml.c7i.xlarge | 172.10 | 160.42 | -11.68 |",
        "| 2 without a change |  | 537.38 | 537.38 | 0.00 |",
        "| total |  | 709.48 | 785.95 | 76.47 |",
        "",
    ]
    assert table[7].startswith("<details>")
    assert not any(line.startswith(("|", "#")) for line in table[7:])
    assert main([*command, "--max-monthly", "200"]) == 1
    assert "OVER the budget" in capsys.readouterr().out
    report = diff_report(month(old), month(new))
    *rows, last = report.tables[0].rows
    for column in (2, 3, 4):
        assert sum(Decimal(str(row[column] or 0)) for row in rows) == last[column]


def test_a_gate_does_not_pass_on_what_has_no_known_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = serverless(MemorySizeInMB=2048, ProvisionedConcurrency=2)
    old = write(tmp_path / "old.json", Config=endpoint(variant()), Nat={"Type": "AWS::EC2::NatGateway"})
    unpriced = CATALOGUE.rates.keys() & {("us-east-1", "provisioned", "4096")}
    assert not unpriced, "a test of what has no price"
    new = write(tmp_path / "new.json", Config=serverless(MemorySizeInMB=4096, ProvisionedConcurrency=2))
    assert main(["cost", "diff", str(old), str(new), "--max-monthly", "500"]) == 2
    shown = capsys.readouterr()
    assert "Monthly cost goes from 204.95 to ≥ 0.00 USD" in shown.out
    assert "no price is known of Config/main: provisioned concurrency, 2 x 4096 MB" in shown.out
    assert "within" not in shown.out.replace("whether it is within", "")
    assert "no price is known of Config/main: provisioned concurrency, 2 x 4096 MB" in shown.err
    # Without a budget the change is shown, and a bound above the budget is above it.
    assert main(["cost", "diff", str(old), str(new)]) == 0
    assert main(["cost", "diff", str(new), str(old), "--max-monthly", "500"]) == 0
    assert (
        main(
            ["cost", "diff", str(old), str(write(tmp_path / "k.json", Config=known)), "--max-monthly", "500"]
        )
        == 0
    )
    both = write(tmp_path / "b.json", Config=endpoint(variant(count=4)), Db={"Type": "AWS::RDS::DBInstance"})
    assert main(["cost", "diff", str(old), str(both), "--max-monthly", "500"]) == 1


def test_the_other_formats_say_what_is_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "a.json", Nat={"Type": "AWS::EC2::NatGateway"}, Db={"Type": "AWS::RDS::DBInstance"}
    )
    assert main(["cost", "diff", str(path), str(path), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["monthly_usd"] == "32.85"
    rows = {row["line"]: row for row in found["tables"]["lines"]["rows"]}
    assert rows["Db: AWS::RDS::DBInstance"]["not counted"] == "no price of these is known here"
    assert rows["Db: AWS::RDS::DBInstance"]["new USD"] is None
    assert main(["cost", "diff", str(path), str(path), "--format", "csv"]) == 0
    assert "lines,Db: AWS::RDS::DBInstance,,,no price of these is known here" in capsys.readouterr().out


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
    assert run(old, new) == 0
    shown = capsys.readouterr().out
    assert "falls" in shown
    assert "serverless processing, 4096 MB" in shown
    write(template, Config=endpoint(variant()))
    assert run(template, old) == 0
    assert "Monthly cost rises from 172.10 to 177.83 USD" in capsys.readouterr().out


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
        ('{"Resources": []}', "Resources is a list: give an object"),
        ('{"Resources": {"A": 5}}', "'A' of Resources is malformed"),
        ('{"Resources": {"A": {"Type": 5}}}', "'A' of Resources is malformed"),
        (
            '{"Resources": {"A": {"Type": "AWS::IAM::Role", "Properties": [1]}}}',
            "Properties that are an object",
        ),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "is not JSON"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(content: str, sentence: str, tmp_path: Path) -> None:
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


def test_files_of_other_people(tmp_path: Path) -> None:
    path = write(tmp_path / "a.template.json", Nat={"Type": "AWS::EC2::NatGateway"})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert month(path).usd == Decimal("32.85")
    (tmp_path / "b.template.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(CostError, match="b.template.json is not JSON: it is not UTF-8 text"):
        month(tmp_path)
    (tmp_path / "b.template.json").unlink()
    (tmp_path / "manifest.json").write_text('{"artifacts": [1]}', encoding="utf-8")
    assert month(tmp_path).usd == Decimal("32.85")
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(CostError, match="manifest.json is not JSON"):
        month(tmp_path)


def test_nesting_beyond_what_can_be_followed_is_a_sentence(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = {"Fn::If": ["On", deep, "y"]}
    parts = {"Conditions": {"On": {"Fn::Not": [{"Condition": "On"}]}}}
    path = write(tmp_path / "a.json", parts, Config=endpoint({**variant(), "InstanceType": deep}))
    with pytest.raises(CostError, match="nested too deeply"):
        month(path)


# What may stand anywhere in a template, and what none of its authors meant to.
WRONG = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["2", "ml.m5.xlage", "AWS::NoValue", "AWS::RDS::DBInstance", "aws://x", "${X}", "IsProd"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Ref", "Fn::If", "Fn::Sub", "Fn::Join", "Fn::GetAtt", "Fn::FindInMap", "Condition", "Type"]
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=6,
)
PRICED = ("scale-to-zero", "async", "serverless", "marketplace")


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in children for place in _places(value, (*path, key)))]


@pytest.mark.parametrize("name", PRICED)
def test_whatever_stands_in_a_template_is_an_answer_or_a_sentence(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "cdk.out"
    shutil.copytree(stacks(name, "prod").assembly, folder)
    file = folder / "sagerank-endpoint.template.json"
    template = file.read_text(encoding="utf-8")
    places = [place for place in _places(json.loads(template)) if place]
    before = month(folder)

    @settings(max_examples=150)
    @given(st.lists(st.tuples(st.sampled_from(places), WRONG), min_size=1, max_size=3))
    def check(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
        content = json.loads(template)
        for (*above, last), wrong in changes:
            try:
                node = content
                for key in above:
                    node = node[key]
                node[last] = wrong
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change has taken the place away
        file.write_text(json.dumps(content), encoding="utf-8")
        try:
            found = month(folder)
        except CostError:
            return
        assert found.usd >= 0
        assert diff_report(before, found, Decimal(500)).conclusion

    check()
