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


def test_a_new_vpc_has_the_doors_that_were_asked_for() -> None:
    found = stacks("realtime", "prod")
    services = {
        json.dumps(each["Properties"]["ServiceName"]) for each in found.resources("AWS::EC2::VPCEndpoint")
    }
    for name in ("s3", "ecr.api", "ecr.dkr", "logs", "sagemaker.runtime"):
        assert any(re.search(rf"[.]{name}\"", service) for service in services), name
    assert len(stacks("realtime").resources("AWS::EC2::VPCEndpoint")) == 1
    found["network"].has_resource_properties("AWS::EC2::FlowLog", {"TrafficType": "REJECT"})
