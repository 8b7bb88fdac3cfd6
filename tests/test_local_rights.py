"""Rights, in a local AWS that enforces those of the model's role, of a key and of a protected stack."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sagerank.cli import main
from sagerank.models.build import archive
from sagerank.operate import OperateError, deploy, key_policy, log_group, policies
from sagerank.operate.account import Account
from sagerank.operate.destroy import Doomed, _unprotect, survey

from .infra.conftest import synthesise
from .infra.synth import example
from .local_aws.launch import ACCOUNT, REGION, running

Client = Callable[[str], Any]
_TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
_LINE = json.dumps({"query": "rain", "documents": ["clouds bring rain", "cats sleep"]}) + "\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Clients of a local AWS, which is everybody's AWS meanwhile; micro is in a bucket, and so are requests."""
    folder = tmp_path_factory.mktemp("aws")
    archive("micro", folder / "model.tar.gz")
    with running(folder / "log") as environment, pytest.MonkeyPatch.context() as patch:
        for name, text in environment.items():
            patch.setenv(name, text)
        s3 = boto3.client("s3")
        for bucket in ("artefacts", "theirs", "others"):
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="in/requests.jsonl", Body=_LINE.encode())
        s3.upload_file(str(folder / "model.tar.gz"), "artefacts", "model.tar.gz")
        yield boto3.client


def make(client: Client, name: str, mode: str, **options: str) -> dict[str, str]:
    """Make model and endpoint stacks as they are synthesised, and return their outputs."""
    config = example(
        mode,
        model="micro",
        name=name,
        artefact="s3://artefacts/model.tar.gz",
        network__vpc="none",
        bootstrap_rule="false",
        **options,
    )
    found, outputs = synthesise(config), dict[str, str]()
    formation = client("cloudformation")
    for part in ("model", "endpoint"):
        body = json.dumps(found.templates[part])
        formation.create_stack(StackName=f"{name}-{part}", TemplateBody=body)
        (stack,) = formation.describe_stacks(StackName=f"{name}-{part}")["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack
        outputs |= {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}
    return outputs


@pytest.fixture(scope="module")
def batch(client: Client) -> dict[str, str]:
    """A deployment of mode batch that may read and write below prefixes of a bucket of others."""
    return make(client, "scores", "batch", data__read="s3://theirs/in/", data__write="s3://theirs/out/")


def job(client: Client, name: str) -> dict[str, Any]:
    sagemaker = client("sagemaker")
    while True:
        found: dict[str, Any] = sagemaker.describe_transform_job(TransformJobName=name)
        if found["TransformJobStatus"] != "InProgress":
            return found
        time.sleep(0.1)


def transform(*arguments: str) -> int:
    return main(["transform", "scores", "--instance", "ml.c7i.large", *arguments])


def test_a_job_reads_and_writes_where_its_role_may(
    client: Client, batch: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    there = ["--input", "s3://theirs/in/requests.jsonl", "--output", "s3://theirs/out/one"]
    assert transform(*there, "--json") == 0
    done = job(client, json.loads(capsys.readouterr().out)["job"])
    assert done["TransformJobStatus"] == "Completed"
    # The answers as the volumes: with the deployment's key.
    assert done["TransformOutput"]["KmsKeyId"] == done["TransformResources"]["VolumeKmsKeyId"]
    written = client("s3").list_objects_v2(Bucket="theirs", Prefix="out/one/")["Contents"]
    assert [each["Key"] for each in written] == ["out/one/requests.jsonl.out"]
    key_for(client, "alias/theirs", batch["RoleArn"])
    assert transform(*there, "--output-key", "alias/theirs", "--json") == 0
    done = job(client, json.loads(capsys.readouterr().out)["job"])
    assert done["TransformOutput"]["KmsKeyId"] == "alias/theirs"


def key_for(client: Client, alias: str, *roles: str, effect: str = "Allow") -> str:
    """The id of a key that its account may use, and roles by its policy alone."""
    root = {"Principal": {"AWS": ACCOUNT}, "Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    others = [
        {"Principal": {"AWS": role}, "Effect": effect, "Action": "kms:Gen*", "Resource": "*"}
        for role in roles
    ]
    key = client("kms").create_key(Policy=json.dumps({"Statement": [root, *others]}))["KeyMetadata"]["KeyId"]
    client("kms").create_alias(AliasName=alias, TargetKeyId=key)
    return str(key)


def test_a_key_of_the_answers_that_cannot_be_used_is_a_sentence_and_no_job(
    client: Client, batch: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(client("sagemaker").list_transform_jobs()["TransformJobSummaries"])
    off = key_for(client, "alias/off", batch["RoleArn"])
    client("kms").disable_key(KeyId=off)
    key_for(client, "alias/foreign")
    key_for(client, "alias/denied", batch["RoleArn"], effect="Deny")
    for key, sentence in {
        "alias/none": "there is no such key in us-east-1",
        "alias/off": "that key is Disabled: enable it",
        "alias/foreign": "may not use --output-key alias/foreign: deploy it with the key's ARN in data.keys",
        "alias/denied": "may not use --output-key alias/denied",
    }.items():
        assert transform("--input", "s3://theirs/in/requests.jsonl", "--output-key", key) == 2
        assert sentence in capsys.readouterr().err
    assert len(client("sagemaker").list_transform_jobs()["TransformJobSummaries"]) == before


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        (
            "s3://others/in/",
            "s3://theirs/out/x",
            "no right to s3:GetObject, s3:ListBucket at s3://others/in/",
        ),
        ("s3://theirs/in/", "s3://others/out", "no right to s3:PutObject at s3://others/out"),
        ("s3://theirs/none/", "s3://theirs/out/x", "There is nothing at s3://theirs/none/"),
    ],
)
def test_where_the_role_may_not_no_job_is_created(
    source: str,
    target: str,
    sentence: str,
    client: Client,
    batch: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = len(client("sagemaker").list_transform_jobs()["TransformJobSummaries"])
    assert transform("--input", source, "--output", target, "--content-type", "application/jsonlines") == 2
    assert sentence in capsys.readouterr().err
    assert len(client("sagemaker").list_transform_jobs()["TransformJobSummaries"]) == before


def test_a_job_that_is_created_all_the_same_fails_as_on_aws(client: Client, batch: dict[str, str]) -> None:
    from sagerank.operate.transform import Job, request

    asked = request(
        "stray",
        batch["ModelName"],
        Job(instance="ml.c7i.large"),
        mime="application/jsonlines",
        source="s3://others/in/",
        target="s3://theirs/out/stray",
    )
    client("sagemaker").create_transform_job(**asked)
    failed = job(client, "stray")
    assert failed["TransformJobStatus"] == "Failed"
    assert "not authorized to perform: s3:ListBucket" in failed["FailureReason"]


def test_the_model_of_another_mode_takes_no_job(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    make(client, "live", "async")
    given = ["--instance", "ml.c7i.large", "--input", "s3://theirs/in/", "--output", "s3://theirs/out/"]
    assert main(["transform", "live", *given, "--content-type", "application/jsonlines"]) == 2
    assert "live is not of mode batch" in capsys.readouterr().err


def test_a_model_needs_a_role_that_may_read_its_artefact(client: Client) -> None:
    role = client("iam").create_role(RoleName="poor", AssumeRolePolicyDocument=_TRUST)["Role"]["Arn"]
    model = {"Image": "any", "ModelDataUrl": "s3://artefacts/model.tar.gz"}
    with pytest.raises(ClientError, match="Could not access model data"):
        client("sagemaker").create_model(ModelName="poor", ExecutionRoleArn=role, PrimaryContainer=model)


def wanted(**options: str) -> deploy.Wanted:
    given = {"model": "micro", "mode": "async", "instance": "ml.c7i.large", "region": REGION, **options}
    return deploy.want(None, given)


def test_a_model_waits_for_what_it_depends_on_whoever_refers_to_it_first(client: Client) -> None:
    role = {"Version": "2012-10-17", "Statement": []}
    read = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::artefacts/*"}
    policy = {
        "PolicyName": "reads",
        "PolicyDocument": {**role, "Statement": [read]},
        "Roles": [{"Ref": "Role"}],
    }
    variant: dict[str, Any] = {"VariantName": "A", "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]}}
    variant |= {"InstanceType": "ml.c7i.large", "InitialInstanceCount": 1, "InitialVariantWeight": 1}
    model = {
        "ExecutionRoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
        "PrimaryContainer": {
            "Image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/ours:1",
            "ModelDataUrl": "s3://artefacts/model.tar.gz",
        },
    }
    resources = {
        "Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {"ProductionVariants": [variant]},
        },
        "Model": {"Type": "AWS::SageMaker::Model", "Properties": model, "DependsOn": ["Reads"]},
        "Reads": {"Type": "AWS::IAM::Policy", "Properties": policy},
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": role}},
    }
    formation = client("cloudformation")
    formation.create_stack(StackName="order", TemplateBody=json.dumps({"Resources": resources}))
    (stack,) = formation.describe_stacks(StackName="order")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"


def test_what_policies_prints_for_a_role_is_enough_to_run_the_deployment(client: Client) -> None:
    """The role is made by hand of what is printed, before there is a stack; the deployment runs with it."""
    artefact = "s3://artefacts/model.tar.gz"
    options = {"mode": "batch", "artefact": artefact, "data.read": "s3://theirs/in/", "network.vpc": "none"}
    printed = policies.documents(wanted(**options, name="hands"), ACCOUNT)
    role = client("iam").create_role(RoleName="hands", AssumeRolePolicyDocument=json.dumps(printed.trust))
    client("iam").put_role_policy(RoleName="hands", PolicyName="all", PolicyDocument=json.dumps(printed.role))
    made = make(client, "hands", "batch", role=role["Role"]["Arn"], data__read="s3://theirs/in/")
    described = client("sagemaker").describe_model(ModelName=made["ModelName"])
    assert described["ExecutionRoleArn"] == role["Role"]["Arn"]
    assert client("iam").list_role_policies(RoleName="hands")["PolicyNames"] == ["all"]
    given = ["--input", "s3://theirs/in/requests.jsonl", "--instance", "ml.c7i.large", "--no-wait", "--json"]
    assert main(["transform", "hands", *given]) == 0
    name = client("sagemaker").list_transform_jobs(NameContains="hands")["TransformJobSummaries"][0]
    assert job(client, name["TransformJobName"])["TransformJobStatus"] == "Completed"


def test_what_policies_prints_for_a_key_is_what_a_log_group_needs(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    root = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    key = client("kms").create_key(Policy=json.dumps({"Statement": [root]}))["KeyMetadata"]["Arn"]
    needed = policies.key_statements(wanted(**{"encryption.key": key}), ACCOUNT)
    group = {"logGroupName": "/aws/sagemaker/Endpoints/sagerank", "kmsKeyId": key}
    with pytest.raises(ClientError, match="not allowed to be used with LogGroup"):
        client("logs").create_log_group(**group)
    with pytest.raises(
        OperateError, match=r"does not let logs\.us-east-1\.amazonaws\.com, budgets.* use the key"
    ):
        key_policy.check(Account(REGION), key, needed)
    given = [
        "--model",
        "micro",
        "--mode",
        "async",
        "--instance",
        "ml.c7i.large",
        "-c",
        f"encryption.key={key}",
    ]
    assert main(["policies", "--key", *given]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["Statement"] == [root, *needed]
    client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(printed))
    key_policy.check(Account(REGION), key, needed)
    client("logs").create_log_group(**group)
    client("logs").delete_log_group(logGroupName=group["logGroupName"])


def test_a_protected_stack_is_not_deleted_before_that_is_turned_off(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    formation = client("cloudformation")
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    formation.create_stack(StackName="safe-model", TemplateBody=template, EnableTerminationProtection=True)
    with pytest.raises(ClientError, match="TerminationProtection is enabled"):
        formation.delete_stack(StackName="safe-model")
    assert main(["destroy", "safe", "--yes"]) == 2
    assert "safe-model is protected from deletion" in capsys.readouterr().err
    doomed: Doomed = survey(Account(REGION), "safe")
    _unprotect(Account(REGION), doomed)
    assert not survey(Account(REGION), "safe").stacks["model"].protected
    formation.delete_stack(StackName="safe-model")


def test_a_stack_says_by_which_bootstrap_it_was_made(client: Client, tmp_path: Path) -> None:
    from sagerank.operate.assembly import _write_empty

    role = f"arn:aws:iam::{ACCOUNT}:role/cdk-ours-cfn-exec-role-{ACCOUNT}-{REGION}"
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    client("cloudformation").create_stack(StackName="q-model", TemplateBody=template, RoleARN=role)
    account = Account(REGION)
    _write_empty(tmp_path, account, list(survey(account, "q").stacks.values()))
    properties = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]["q-model"]["properties"]
    assert "role/cdk-ours-deploy-role-" in properties["assumeRoleArn"]
    assert "role/cdk-ours-cfn-exec-role-" in properties["cloudFormationExecutionRoleArn"]
    client("cloudformation").delete_stack(StackName="q-model")


def test_deploy_reads_a_keys_policy_before_anything_is_made(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    root = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:*", "Resource": "*"}
    key = client("kms").create_key(Policy=json.dumps({"Statement": [root]}))["KeyMetadata"]["Arn"]
    given = ["--model", "micro", "--instance", "ml.c7i.large", "-c", f"encryption.key={key}"]
    assert main(["deploy", *given, "--bootstrap", "--yes"]) == 2
    said = capsys.readouterr().err
    assert (
        "does not let logs.us-east-1.amazonaws.com, budgets.amazonaws.com, cloudwatch.amazonaws.com" in said
    )
    assert "sagerank policies --key" in said


def test_deploy_looks_for_the_bootstrap_of_the_qualifier(client: Client) -> None:
    account, ours = Account(REGION), wanted(bootstrap_qualifier="ours").config
    client("ssm").put_parameter(Name="/cdk-bootstrap/ours/version", Value="30", Type="String")
    assert deploy.locate(account, ours).bootstrapped is True
    assert deploy.locate(account, wanted().config).bootstrapped is False
    client("ssm").delete_parameter(Name="/cdk-bootstrap/ours/version")


def test_a_log_that_was_kept_is_taken_over_or_named(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    account, name = Account(REGION), "/aws/sagemaker/Endpoints/sagerank"
    dev, prod = (wanted(preset=preset).config for preset in ("dev", "prod"))
    assert log_group.adopt(account, prod) == []
    client("logs").create_log_group(logGroupName=name)
    assert log_group.adopt(account, prod) == ["--import-existing-resources"]
    with pytest.raises(OperateError, match="would refuse to make it: delete it"):
        log_group.adopt(account, dev)
    components = [{"name": "turbo", "model": "turbo", "artefact": "s3://models/turbo/model.tar.gz"}]
    fleet = wanted(preset="prod", mode="scale-to-zero", components=json.dumps(components)).config
    kept = [f"/aws/sagemaker/InferenceComponents/sagerank-{each}" for each in ("component", "turbo")]
    for each in kept:
        client("logs").create_log_group(logGroupName=each)
    capsys.readouterr()
    assert log_group.adopt(account, fleet) == ["--import-existing-resources"]
    said = " ".join(capsys.readouterr().err.split())
    assert all(f"The log group {each} was kept" in said for each in kept)
    for each in (name, *kept):
        client("logs").delete_log_group(logGroupName=each)
    group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": name}}
    template = json.dumps({"Resources": {"Log": group}})
    client("cloudformation").create_stack(StackName="sagerank-model", TemplateBody=template)
    assert log_group.adopt(account, dev) == [], "it is the deployment's own"
    client("cloudformation").delete_stack(StackName="sagerank-model")
