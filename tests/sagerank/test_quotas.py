"""Quotas before a deployment: what the account may have, what it has, and what SageMaker itself says of the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagerank.cli import main
from sagerank.operate import OperateError, quotas
from sagerank.operate.account import Account
from sagerank_infra import rules

from ..servers import wait_for
from .conftest import status

CONCURRENCY = "Maximum total concurrency that can be allocated across all serverless endpoints"
MEMORY = "Memory size in MB per serverless endpoint"
FIXED = {"autoscaling__max": "1"}


@pytest.fixture
def allow(account: Account) -> Iterator[Any]:
    """Let the account have so many; what it had is given back."""
    client, before = account.client("service-quotas"), dict[str, float]()
    codes = {
        each["QuotaName"]: each
        for each in account.pages("service-quotas", "list_service_quotas", "Quotas", ServiceCode="sagemaker")
    }

    def ask(name: str, value: float) -> str:
        name = f"{name} for endpoint usage" if name.startswith("ml.") else name
        code = str(codes[name]["QuotaCode"])
        before.setdefault(code, codes[name]["Value"])
        client.request_service_quota_increase(
            ServiceCode="sagemaker", QuotaCode=code, DesiredValue=float(value)
        )
        return code

    yield ask
    for code, value in before.items():
        client.request_service_quota_increase(ServiceCode="sagemaker", QuotaCode=code, DesiredValue=value)


def check(account: Account, instance: str = "ml.m5.large", **options: str) -> list[str]:
    given = {"model": "micro", "artefact": "s3://artefacts/model.tar.gz", "region": account.region}
    given |= {"instance": instance} if instance else {"mode": "serverless"}
    return quotas.check(
        rules.read(None, given | {k.replace("__", "."): v for k, v in options.items()}), account
    )


def refused_by_aws(account: Account, variant: dict[str, Any]) -> str:
    """What CreateEndpoint says, as somebody without a preflight hears it."""
    sagemaker, variant = account.client("sagemaker"), {"VariantName": "All", "ModelName": "micro", **variant}
    sagemaker.create_endpoint_config(EndpointConfigName="much", ProductionVariants=[variant])
    try:
        with pytest.raises(ClientError) as caught:
            sagemaker.create_endpoint(EndpointName="much", EndpointConfigName="much")
    finally:
        sagemaker.delete_endpoint_config(EndpointConfigName="much")
    assert caught.value.response["Error"]["Code"] == "ResourceLimitExceeded"
    return str(caught.value.response["Error"]["Message"])


def test_enough_is_not_spoken_of(account: Account) -> None:
    assert check(account) == []
    assert check(account, "") == []
    assert check(account, mode="batch") == [], "it has no endpoint"


def test_a_quota_of_zero_stops_before_anything_is_made(
    account: Account, allow: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code = allow("ml.m5.large", 0)
    with pytest.raises(OperateError) as caught:
        check(account)
    assert str(caught.value) == (
        "The account may have 0 of 'ml.m5.large for endpoint usage' in us-east-1, and this deployment needs 1: give another instance, or ask AWS for 4, "
        f"at https://us-east-1.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas/{code} or with "
        f"`aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code {code} --desired-value 4 --region us-east-1`."
    )
    said = refused_by_aws(account, {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1})
    assert said.startswith(
        "The account-level service limit 'ml.m5.large for endpoint usage' is 0 Instances, with current utilization of 0 Instances and a request delta of 1 Instances."
    )
    given = ["--model", "micro", "--instance", "ml.m5.large", "--bootstrap", "--yes"]
    assert main(["deploy", *given]) == 2
    assert "The account may have 0 of 'ml.m5.large for endpoint usage'" in capsys.readouterr().err
    made = account.client("cloudformation").list_stacks()["StackSummaries"]
    assert not [stack for stack in made if stack["StackName"].startswith("sagerank-")]
    asked = re.search(r"--desired-value (\d+)", str(caught.value))
    assert asked
    allow("ml.m5.large", float(asked[1]))
    assert check(account) == [], "what the sentence asks for is enough"


def test_what_others_have_is_counted_and_its_own_is_not(account: Account, allow: Any) -> None:
    """The local AWS has two endpoints on this type, `whole` and `parts`."""
    allow("ml.c7i.large", 2)
    with pytest.raises(
        OperateError, match="2 of 'ml.c7i.large for endpoint usage', of which others use 2,? in"
    ):
        check(account, "ml.c7i.large", **FIXED)
    assert refused_by_aws(account, {"InstanceType": "ml.c7i.large", "InitialInstanceCount": 1})
    (said,) = check(account, "ml.c7i.large", name="whole", **FIXED)
    assert "starts 1 beside the 1 there are, and AWS would refuse it: ask AWS for 3" in said
    with pytest.raises(ClientError, match="current utilization of 2 Instances and a request delta of 1"):
        account.client("sagemaker").update_endpoint(EndpointName="whole", EndpointConfigName="whole")
    allow("ml.c7i.large", 3)
    assert check(account, "ml.c7i.large", name="whole", **FIXED) == []
    account.client("sagemaker").update_endpoint(EndpointName="whole", EndpointConfigName="whole")
    wait_for(lambda: status(account.client("sagemaker"), "whole") == "InService")


def test_an_update_to_another_type_brings_what_has_scaled_out(account: Account, allow: Any) -> None:
    allow("ml.m5.large", 1)
    assert check(account, name="whole", autoscaling__max="1", autoscaling__min="1") == []
    (said,) = check(account, name="whole", autoscaling__max="2")
    assert "scaling ends at 1" in said


def test_what_only_scaling_would_need_is_said(account: Account, allow: Any) -> None:
    allow("ml.m5.large", 2)
    (said,) = check(account, autoscaling__max="6")
    assert "and scaling may ask for 6: scaling ends at 2. To have more, ask AWS for 6, at https://" in said
    schedules = json.dumps([{"name": "day", "cron": "cron(0 7 * * ? *)", "min": 1, "max": 8}])
    (said,) = check(account, autoscaling__max="2", autoscaling__schedules=schedules)
    assert "ask AWS for 8" in said
    with pytest.raises(OperateError, match="this deployment needs 3: .* ask AWS for 4"):
        check(account, autoscaling__min="3")


def test_a_fleet_of_several_models_is_asked_for_as_it_may_become() -> None:
    other = {"name": "other", "model": "micro", "artefact": "s3://artefacts/model.tar.gz", "min": 1, "max": 3}
    given = {"model": "micro", "artefact": "s3://artefacts/model.tar.gz", "mode": "scale-to-zero"}
    given |= {"instance": "ml.c7i.xlarge", "components": json.dumps([other])}
    (need,) = quotas.wanted(rules.read(None, given))
    assert (need.least, need.most) == (1, 7)


def test_variants_take_of_the_same_quota_or_of_their_own(account: Account, allow: Any) -> None:
    same = json.dumps([{"name": "B", "weight": 1, "count": 2}, {"name": "C", "weight": 1}])
    allow("ml.m5.large", 3)
    with pytest.raises(OperateError, match="this deployment needs 4"):
        check(account, variants=same, **FIXED)
    other = json.dumps([{"name": "B", "weight": 1, "count": 2, "instance": "ml.m5.xlarge"}])
    allow("ml.m5.xlarge", 1)
    with pytest.raises(OperateError, match=r"1 of 'ml\.m5\.xlarge .* needs 2"):
        check(account, variants=other, **FIXED)


def test_any_of_the_pools_is_enough(account: Account, allow: Any) -> None:
    pools = json.dumps([{"instance": "ml.m5.xlarge"}])
    allow("ml.m5.large", 0)
    allow("ml.m5.xlarge", 1)
    assert check(account, pools=pools, **FIXED) == []
    allow("ml.m5.xlarge", 0)
    with pytest.raises(
        OperateError, match=r"0 of 'ml\.m5\.large for endpoint usage' and 0 of 'ml\.m5\.xlarge"
    ):
        check(account, pools=pools, **FIXED)


def test_serverless_has_quotas_of_its_own(account: Account, allow: Any) -> None:
    allow(CONCURRENCY, 5)
    with pytest.raises(
        OperateError, match="5 of 'Maximum total .* needs 10: give another serverless.max_con"
    ):
        check(account, "")
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 10}
    assert "is 5 None" in refused_by_aws(account, {"ServerlessConfig": serverless})
    assert check(account, "", serverless__max_concurrency="5") == []
    allow(CONCURRENCY, 50)
    allow(MEMORY, 3072)
    assert check(account, "", serverless__memory_mb="3072") == []
    with pytest.raises(OperateError, match="needs 4096: give another serverless.memory_mb"):
        check(account, "", serverless__memory_mb="4096")
    serverless = {"MemorySizeInMB": 4096, "MaxConcurrency": 10}
    assert "is 3072 MBs" in refused_by_aws(account, {"ServerlessConfig": serverless})


def test_what_may_not_be_asked_hinders_nothing(away: Account) -> None:
    (said,) = check(away)
    assert said.startswith("The account's quotas for SageMaker are not checked: AWS could not be reached")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_the_link_is_of_the_partition(region: str, host: str) -> None:
    assert quotas.link("L-1", region) == f"https://{host}/servicequotas/home/services/sagemaker/quotas/L-1"
