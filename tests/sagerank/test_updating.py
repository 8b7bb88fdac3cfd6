"""An update in the steps that AWS allows, and what is said where one of them ends early: the CDK's command is one that writes down its words."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sagerank.operate import OperateError, tools, updating
from sagerank.operate.account import Account
from sagerank.operate.cdk import Assembly
from sagerank.operate.stacks import find
from sagerank.operate.unscaled import MARK, told, unscaled

from ..infra.conftest import synthesise
from ..infra.synth import example
from ..local_aws.launch import REGION
from ..servers import wait_for

OFF = {
    "Metadata": {MARK: "{}"},
    "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
}
EXTRA = ("--verbose", "--role-arn", "arn:aws:iam::123456789012:role/cloudformation")


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    """A deployment whose endpoint's stack says that its scaling is off."""
    name = f"u-{uuid.uuid4().hex[:8]}"
    formation = account.client("cloudformation")
    formation.create_stack(StackName=f"{name}-endpoint", TemplateBody=json.dumps(OFF))
    yield name
    formation.delete_stack(StackName=f"{name}-endpoint")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """The words of every call of the CDK's command, which fails where a file `fails` is."""
    command, said = tmp_path / "cdk", tmp_path / "said"
    command.write_text(f'#!/bin/sh\nprintf "%s\\t" "$@" >>{said}\necho >>{said}\n[ ! -e {tmp_path}/fails ]\n')
    command.chmod(0o755)
    monkeypatch.setattr(tools, "cdk", lambda: (str(command), tmp_path))
    return lambda: [line.split("\t")[:-1] for line in said.read_text().splitlines()] if said.exists() else []


def off(account: Account, name: str) -> Any:
    return unscaled(
        account, name, find(account, name), synthesise(example("realtime", name=name)).assembly, EXTRA
    )


def test_the_cdks_words_reach_the_deployments_that_take_scaling_off_and_put_it_back(
    account: Account, name: str, calls: Callable[[], list[list[str]]]
) -> None:
    with off(account, name):
        pass
    assert len(calls()) == 2
    for words in calls():
        assert words[:2] == ["deploy", f"{name}-endpoint"]
        assert " ".join(EXTRA) in " ".join(words)


def test_ctrl_c_says_what_goes_on_before_what_is_done_about_it(
    account: Account,
    name: str,
    calls: Callable[[], list[list[str]]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    planned = Assembly(synthesise(example("realtime", name=name)).assembly, {}, {}, "", "")

    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        updating.update(account, name, planned, stopped)
    said = capfd.readouterr().err
    assert said.count("CloudFormation goes on") == 1
    assert said.count("The scaling is back.") == 1, "which was off since an earlier update"
    assert "Scaling is off since an update that was cut short" in str(
        updating.outlook(account, name, planned)
    )
    with pytest.raises(KeyboardInterrupt), off(account, name), told(name, REGION):
        stopped()
    said = " ".join(capfd.readouterr().err.split())
    places = [
        said.index(text) for text in ("CloudFormation goes on", "Putting the scaling back", "scaling is back")
    ]
    assert places == sorted(places)


def test_scaling_that_cannot_be_put_back_is_one_sentence_with_what_failed_first(
    account: Account,
    name: str,
    calls: Callable[[], list[list[str]]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "fails").touch()
    with pytest.raises(OperateError) as failed, off(account, name):
        pass
    text = str(failed.value)
    assert text.count("`cdk deploy` failed with exit code 1") == 2
    hint = f"`sagerank deploy` with the same options puts it back, and `sagerank status {name} --region {REGION}`"
    assert text.count(hint) == 1
    assert hint not in " ".join(capfd.readouterr().err.split())


def test_ctrl_c_while_scaling_is_put_back_says_so_once(
    account: Account,
    name: str,
    calls: Callable[[], list[list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt), off(account, name):
        monkeypatch.setattr(tools, "cdk", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    said = " ".join(capfd.readouterr().err.split())
    assert said.count(f"The scaling of {name} may be off") == 1


def test_a_stack_that_was_destroyed_meanwhile_has_no_scaling_to_put_back(
    account: Account, name: str, calls: Callable[[], list[list[str]]]
) -> None:
    def destroyed() -> None:
        account.client("cloudformation").delete_stack(StackName=f"{name}-endpoint")
        raise OperateError("what failed")

    with pytest.raises(OperateError, match="^what failed$"), off(account, name):
        destroyed()


def test_counts_that_an_interrupted_deployment_left_are_shown_and_given(account: Account) -> None:
    """The stacks are the new ones already, so that nothing but the endpoint says that the count is the old one."""
    name = f"u-{uuid.uuid4().hex[:8]}"
    sagemaker = account.client("sagemaker")
    variant = {"ModelName": "micro", "InstanceType": "ml.c7i.large", "InitialInstanceCount": 1}
    variants = [{"VariantName": each, **variant} for each in ("AllTraffic", "B")]
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def counts() -> dict[str, int]:
        found = sagemaker.describe_endpoint(EndpointName=name)
        assert found["EndpointStatus"] == "InService"
        return {each["VariantName"]: each["DesiredInstanceCount"] for each in found["ProductionVariants"]}

    def settled() -> bool:
        return bool(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService")

    wait_for(settled)
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}],
    )
    wait_for(settled)
    beside = json.dumps([{"name": "B", "weight": 1, "count": 2}])
    made = synthesise(example("realtime", name=name, variants=beside))
    planned = replace(
        Assembly(Path(), {}, {}, "", ""), templates={f"{name}-endpoint": made.templates["endpoint"]}
    )
    endpoint = {"Type": "AWS::SNS::Topic"}
    account.client("cloudformation").create_stack(
        StackName=f"{name}-endpoint", TemplateBody=json.dumps({"Resources": {"Topic": endpoint}})
    )
    (line,) = updating.outlook(account, name, planned)
    assert line.startswith("Variant B gets 2 instances, in place of 1")
    updating.update(account, name, planned, lambda: None)
    wait_for(settled)
    assert counts() == {"AllTraffic": 3, "B": 2}
    assert updating.outlook(account, name, planned) == []
    account.client("cloudformation").delete_stack(StackName=f"{name}-endpoint")
    sagemaker.delete_endpoint(EndpointName=name)
