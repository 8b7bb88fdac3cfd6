"""The month of a template's resources: what always stands, what depends on use, and what has no known price."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sagerank_cost import CostError
from sagerank_cost.lines import AtLeast

from .conftest import CATALOGUE
from .templates import endpoint, lines, month, scaling, serverless, variant, write


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
