"""Where the instances stand: nothing has a way to the internet."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import EVERY, MODEL, stacks


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_the_model_has_no_network(name: str, preset: str) -> None:
    found = stacks(name, preset)
    for model in found.resources(MODEL):
        if name == "serverless":
            # What AWS does not have there must not be asked for.
            assert not {"EnableNetworkIsolation", "VpcConfig"} & set(model["Properties"])
        else:
            assert model["Properties"]["EnableNetworkIsolation"] is True
            assert len(model["Properties"]["VpcConfig"]["Subnets"]) == 2
    text = json.dumps(found.templates)
    assert not re.search("AWS::EC2::(InternetGateway|NatGateway|EIP)", text)
    assert "0.0.0.0/0" not in json.dumps(
        [g["Properties"].get("SecurityGroupIngress") for g in found.resources("AWS::EC2::SecurityGroup")]
    )
    assert {net["Properties"]["MapPublicIpOnLaunch"] for net in found.resources("AWS::EC2::Subnet")} <= {
        False
    }


def test_an_existing_vpc_is_used_by_its_ids() -> None:
    found = stacks(
        "realtime",
        network__vpc="vpc-1",
        network__subnets="subnet-1,subnet-2",
        network__security_groups="sg-1",
    )
    assert "network" not in found.templates
    assert found.one(MODEL)["VpcConfig"] == {
        "Subnets": ["subnet-1", "subnet-2"],
        "SecurityGroupIds": ["sg-1"],
    }


def test_a_new_vpc_has_a_gateway_to_s3_and_no_interface_that_nothing_uses() -> None:
    """SageMaker itself pulls the image, ships the log and takes the calls; all that goes through the VPC is the artefact."""
    for preset in ("dev", "prod"):
        found = stacks("realtime", preset)
        (gateway,) = found.resources("AWS::EC2::VPCEndpoint")
        assert gateway["Properties"]["VpcEndpointType"] == "Gateway"
        assert re.search(r"[.]s3\"", json.dumps(gateway["Properties"]["ServiceName"]))
        found["network"].has_resource_properties("AWS::EC2::FlowLog", {"TrafficType": "REJECT"})


def test_calls_stay_inside_the_callers_own_vpc() -> None:
    found = stacks(
        "realtime",
        network__vpc="vpc-1",
        network__subnets="subnet-1,subnet-2",
        network__security_groups="sg-1",
        network__endpoints="runtime",
        network__callers="sg-2,10.1.0.0/16",
    )
    door = found.one("AWS::EC2::VPCEndpoint")
    assert (door["VpcId"], door["SubnetIds"]) == ("vpc-1", ["subnet-1", "subnet-2"])
    assert (door["PrivateDnsEnabled"], door["VpcEndpointType"]) == (True, "Interface")
    assert door["ServiceName"] == "com.amazonaws.us-east-1.sagemaker.runtime"
    (statement,) = door["PolicyDocument"]["Statement"]
    assert all(each.startswith("sagemaker:InvokeEndpoint") for each in statement["Action"])
    assert "aws:PrincipalAccount" in statement["Condition"]["StringEquals"]
    group = found.one("AWS::EC2::SecurityGroup")
    assert [
        each.get("SourceSecurityGroupId", each.get("CidrIp")) for each in group["SecurityGroupIngress"]
    ] == [
        "sg-2",
        "10.1.0.0/16",
    ]
    assert {(each["FromPort"], each["ToPort"]) for each in group["SecurityGroupIngress"]} == {(443, 443)}
    assert "interface endpoints 14.60" in found.outputs()["EstimatedMonthlyCost"]
