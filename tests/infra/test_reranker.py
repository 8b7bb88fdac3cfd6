"""Rerankers in other people's apps, and the stacks of our own, whose resources keep the names that an upgrade finds them by."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from sagerank_infra.app import build
from sagerank_infra.config import ConfigError, DeployConfig
from sagerank_infra.reranker import Reranker

from ..conftest import ROOT
from ..docs.blocks import blocks
from .conftest import CONFIG, ENDPOINT, EVERY, MODEL, new_app, stacks, statements
from .synth import example
from .test_endpoint import references

S3 = "s3://example-models/tiny/model.tar.gz"
SERVERLESS: dict[str, Any] = {"model": "tiny", "mode": "serverless", "artefact": S3}
ASYNC: dict[str, Any] = {"model": "tiny", "mode": "async", "instance": "ml.c7i.large", "artefact": S3}
TO_ZERO: dict[str, Any] = {**ASYNC, "mode": "scale-to-zero", "instance": "ml.c7i.xlarge"}
Template = dict[str, Any]


def templates(app: cdk.App) -> dict[str, Template]:
    folder = Path(app.synth().directory)
    return {
        path.name.partition(".")[0]: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.template.json"))
    }


def of(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    return {id: each for id, each in template["Resources"].items() if each["Type"] == kind}


def stack(**options: Any) -> cdk.Stack:
    return cdk.Stack(new_app(), "mine", **options)


@pytest.fixture(scope="module")
def foreign(archive: Path) -> dict[str, Template]:
    """An app with a synthesizer, a qualifier, stages and resources of its own, none of which asks for a context key."""
    app = new_app(default_stack_synthesizer=cdk.DefaultStackSynthesizer(qualifier="theirs"))
    before = cdk.Stack(app, "before")
    vpc = ec2.Vpc(before, "Vpc", max_azs=2)
    key, bucket = kms.Key(before, "Key"), s3.Bucket(before, "Bucket", encryption=s3.BucketEncryption.KMS)
    role = iam.Role(before, "Role", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
    search = cdk.Stack(app, "search")
    here: dict[str, Any] = {"vpc": vpc, "key": key, "role": role, "bucket": bucket}
    made = {
        "plain": Reranker(search, "Plain", **{**SERVERLESS, "model": "micro", "artefact": str(archive)}),
        "given": Reranker(search, "Given", preset="prod", **ASYNC, **here),
        "zero": Reranker(search, "Zero", name="named", **TO_ZERO),
    }
    after = cdk.Stack(app, "after")
    for name, reranker in made.items():
        caller = iam.Role(after, name, assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        reranker.grant_invoke(caller)
    for name in ("beta", "prod"):
        Reranker(cdk.Stack(cdk.Stage(app, name), "search"), "Reranker", **SERVERLESS)
    return templates(app)


def test_no_resource_of_the_release_before_has_another_logical_id() -> None:
    """CloudFormation knows it by that: with another one an upgrade would make the key, the bucket, the endpoint anew.

    What an upgrade drops on purpose has no successor of its type.
    """
    released = json.loads((Path(__file__).parent / "snapshots/ids-0.6.0.json").read_text(encoding="utf-8"))
    for name, parts in released.items():
        found = stacks(name, "prod").templates
        for part, before in parts.items():
            now = {id: each["Type"] for id, each in found[part]["Resources"].items()}
            gone, come = before.items() - now.items(), now.items() - before.items()
            renamed = {kind for _, kind in gone} & {kind for _, kind in come}
            assert not renamed, (name, part, gone, come)


def test_names_are_made_of_the_path_and_differ(foreign: dict[str, Template]) -> None:
    names = [
        each["Properties"]["EndpointName"]
        for template in foreign.values()
        for each in of(template, ENDPOINT).values()
    ]
    assert len(names) == len(set(names)) == 5
    assert "named" in names
    assert (
        sum(name.startswith(("betasearch-reranker-", "prodsearch-reranker-", "search-")) for name in names)
        == 4
    )
    for template in foreign.values():
        for kind in ("AWS::CloudWatch::Alarm", "AWS::SSM::Parameter", "AWS::Logs::LogGroup"):
            physical = [
                text
                for each in of(template, kind).values()
                for what, text in each["Properties"].items()
                if what in ("AlarmName", "Name", "LogGroupName")
            ]
            assert len(physical) == len(set(physical))


def test_the_image_and_the_artefact_come_from_the_stacks_own_bootstrap(foreign: dict[str, Template]) -> None:
    """`theirs` is the qualifier of the app, whose one synthesizer stands for several stacks."""
    plain = next(each for id, each in of(foreign["search"], MODEL).items() if id.startswith("Plain"))
    container = json.dumps(plain["Properties"]["PrimaryContainer"])
    assert "cdk-theirs-container-assets-" in container
    assert "cdk-theirs-assets-" in container
    assert container.count(".tar.gz") == 1
    policies = json.dumps(
        [each for id, each in of(foreign["search"], "AWS::IAM::Policy").items() if id.startswith("Plain")]
    )
    assert "repository/" in policies
    assert "cdk-theirs-container-assets-" in policies
    assert ".tar.gz" in policies
    assert "hnb659fds" not in json.dumps(foreign["search"])
    assert not of(foreign["search"], "AWS::CloudFormation::Stack")


def test_what_is_given_is_used_and_not_made(foreign: dict[str, Template]) -> None:
    search = foreign["search"]

    def made(kind: str) -> list[str]:
        return [id for id in of(search, kind) if id.startswith("Given")]

    assert not any(map(made, ("AWS::EC2::VPC", "AWS::KMS::Key", "AWS::S3::Bucket")))
    (publisher,) = made("AWS::IAM::Role")  # EventBridge's, not the model's
    assert "Publisher" in publisher
    assert len(made("AWS::EC2::SecurityGroup")) == 1
    (model,) = (each for id, each in of(search, MODEL).items() if id.startswith("Given"))
    assert "Fn::ImportValue" in json.dumps(model["Properties"]["ExecutionRoleArn"])
    assert len(model["Properties"]["VpcConfig"]["Subnets"]) == 2
    (configuration,) = (each for id, each in of(search, CONFIG).items() if id.startswith("Given"))
    output = configuration["Properties"]["AsyncInferenceConfig"]["OutputConfig"]
    assert re_joined(output["S3OutputPath"]).endswith("/output")
    assert "/search-given-" in re_joined(output["S3OutputPath"])
    assert output["KmsKeyId"] == configuration["Properties"]["KmsKeyId"]
    # The role's rights stand here, and so do those of the artefact: the stack of the role knows nothing of this one.
    before = json.dumps(foreign["before"])
    assert "search-given-" not in before.replace("Endpoints/search-given-", "")
    (rights,) = (each for id, each in of(search, "AWS::IAM::Policy").items() if "RolePolicy" in id)
    assert any("logs:PutLogEvents" in each["Action"] for each in statements(rights))
    # Nor is it billed here.
    cost = next(
        each["Value"] for id, each in search["Outputs"].items() if id.startswith("GivenObs") and "Cost" in id
    )
    assert "KMS" not in cost
    assert "kms" not in cost


def re_joined(value: Any) -> str:
    """The text of a Join, what it refers to left out."""
    return "".join(part for part in value["Fn::Join"][1] if isinstance(part, str))


def test_in_one_stack_the_model_comes_after_all_that_it_needs(foreign: dict[str, Template]) -> None:
    """Between our own stacks that is their order: SageMaker would make the log group itself, and tries the role at once."""
    for id, model in of(foreign["search"], MODEL).items():
        kinds = {foreign["search"]["Resources"][each]["Type"] for each in model["DependsOn"]}
        assert {"AWS::Logs::LogGroup", "AWS::IAM::Policy"} <= kinds, id


def test_who_is_granted_may_call_this_endpoint_and_nothing_else(foreign: dict[str, Template]) -> None:
    granted = {
        id.partition("Default")[0]: statements(each)
        for id, each in of(foreign["after"], "AWS::IAM::Policy").items()
    }
    (plain,) = granted["plain"]
    assert plain["Action"] == "sagemaker:InvokeEndpoint"
    assert "endpoint/search-plain-" in re_joined(plain["Resource"])
    (zero,) = granted["zero"]
    assert [re_joined(arn).rpartition(":")[2] for arn in zero["Resource"]] == [
        "endpoint/named",
        "inference-component/named-component",
    ]
    given = {str(each["Action"]): each for each in granted["given"]}
    assert set(given) == {
        "sagemaker:InvokeEndpointAsync",
        "s3:PutObject",
        "s3:GetObject",
        "s3:ListBucket",
        "['kms:Decrypt', 'kms:GenerateDataKey']",
    }
    assert re_joined(given["s3:PutObject"]["Resource"]).endswith("/input/*")
    assert re_joined(given["s3:GetObject"]["Resource"]).endswith("/output/*")
    assert given["s3:ListBucket"]["Condition"]["StringLike"]["s3:prefix"].endswith("/output/*")
    assert (
        len(given["['kms:Decrypt', 'kms:GenerateDataKey']"]["Resource"]) == 2
    )  # the key, and the bucket's own
    # By its name: the caller's stack imports nothing of a real-time endpoint's, which may so be replaced or go.
    assert "Fn::ImportValue" not in json.dumps([plain, zero])


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_what_others_need_to_know_is_an_output_and_a_parameter(name: str, preset: str) -> None:
    found = stacks(name, preset)
    wanted = {"RoleArn": "role", "KeyArn": "key"}
    if name == "batch":
        wanted["ModelName"] = "model-name"
    else:
        wanted |= {
            "EndpointName": "endpoint-name",
            "EndpointArn": "endpoint-arn",
            "CallerPolicyArn": "caller-policy",
        }
    if found.config.traits.components:
        wanted["InferenceComponentName"] = "inference-component-name"
    parameters = {
        each["Properties"]["Name"]: each["Properties"] for each in found.resources("AWS::SSM::Parameter")
    }
    assert {f"/sagerank/sagerank/{name}" for name in wanted.values()} == parameters.keys()
    for output, parameter in wanted.items():
        assert parameters[f"/sagerank/sagerank/{parameter}"]["Value"] == found.outputs()[output]
    # Free of charge, and without a secret.
    assert {(each.get("Tier"), each["Type"]) for each in parameters.values()} == {(None, "String")}


def test_the_callers_policy_outlives_the_endpoint_and_refers_to_nothing_beyond_its_stack() -> None:
    """Who attached it keeps the right while the endpoint is made anew."""
    for name in ("realtime", "async", "scale-to-zero"):
        template = stacks(name).templates["model"]
        (policy,) = of(template, "AWS::IAM::ManagedPolicy").values()
        assert "Fn::ImportValue" not in json.dumps(policy)
        assert any(action.startswith("sagemaker:InvokeEndpoint") for action in actions(policy))
        assert references(policy["Properties"]["PolicyDocument"]) <= template["Resources"].keys() | {
            "AWS::Partition",
            "AWS::AccountId",
        }


def actions(policy: dict[str, Any]) -> list[str]:
    return [
        text
        for each in statements(policy)
        for text in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    ]


def test_metrics_are_those_of_the_mode() -> None:
    mine = stack()
    zero, queued = (
        Reranker(mine, "Zero", name="zero", **TO_ZERO),
        Reranker(mine, "Queued", name="queued", **ASYNC),
    )
    assert zero.metric_latency().to_metric_config().metric_stat.dimensions[0].value == "zero-component"  # type: ignore[union-attr,index]
    assert zero.metric_client_errors().metric_name == "Invocation4XXErrors"
    assert queued.metric_invocations().metric_name == "ModelLatency"  # Invocations is not emitted there
    assert queued.metric_errors(period=cdk.Duration.minutes(5)).period.to_minutes() == 5
    assert queued.metric_queue_age().metric_name == "ApproximateAgeOfOldestRequest"
    assert queued.metric("OverheadLatency", statistic="p50").statistic == "p50"
    with pytest.raises(ConfigError, match=r"mode scale-to-zero has no queue.*only async has"):
        zero.metric_queue_age()


def test_attributes_are_those_of_what_was_made_or_given() -> None:
    mine = stack(env=cdk.Environment(region="eu-west-1"))
    key = kms.Key(mine, "Key")
    one = Reranker(mine, "One", key=key, **SERVERLESS)
    assert one.key is key
    assert one.config.region == "eu-west-1"
    assert one.endpoint_name == one.config.name
    assert ":eu-west-1:" in one.endpoint_arn
    assert one.component_name is None
    assert isinstance(one.role, iam.Role)
    batch = Reranker(mine, "Batch", **{**ASYNC, "mode": "batch"})
    assert batch.bucket is not one.bucket
    for ask in (
        lambda: batch.endpoint_name,
        lambda: batch.endpoint_arn,
        lambda: batch.grant_invoke(one.role),
    ):
        with pytest.raises(ConfigError, match="mode batch has a model for jobs and no endpoint"):
            ask()


@pytest.mark.parametrize(
    ("where", "given", "sentence"),
    [
        ({}, {**SERVERLESS, "instance": "ml.c7i.large"}, "serverless has no instance types"),
        ({}, {**SERVERLESS, "mod": "x"}, "mod is not an option: did you mean mode"),
        (
            {},
            {**SERVERLESS, "config": DeployConfig()},
            "model, mode, artefact is given beside config: give one of them",
        ),
        (
            {"env": cdk.Environment(region="eu-west-1")},
            {**SERVERLESS, "region": "us-east-1"},
            "the stack is in eu-west-1: give that",
        ),
        ({}, {**ASYNC, "image": "dlc"}, "the stack names no region: give it env"),
        (
            {},
            {**SERVERLESS, "bucket": s3.Bucket},
            "mode serverless without capture.percent keeps none: leave it out",
        ),
        ({}, {**SERVERLESS, "vpc": ec2.Vpc}, "serverless endpoints cannot be in one; leave it out"),
        (
            {},
            {**ASYNC, "vpc": ec2.Vpc, "network": {"vpc": "new"}},
            "vpc is given beside options of network",
        ),
        ({}, {**ASYNC, "key": kms.Key, "encryption": {"key": "aws"}}, "key is given beside encryption.key"),
        ({}, {**ASYNC, "vpc_subnets": ec2.SubnetSelection()}, "belong to a VPC: give it as vpc"),
    ],
)
def test_what_contradicts_itself_is_a_sentence(
    where: dict[str, Any], given: dict[str, Any], sentence: str
) -> None:
    mine = stack(**where)
    given = {
        name: value(mine, name) if value in (s3.Bucket, ec2.Vpc, kms.Key) else value
        for name, value in given.items()
    }
    with pytest.raises(ConfigError, match=sentence):
        Reranker(mine, "Reranker", **given)


def test_subnets_and_security_groups_are_those_that_are_given() -> None:
    mine = stack()
    vpc = ec2.Vpc(mine, "Vpc", max_azs=2)
    group = ec2.SecurityGroup(mine, "Group", vpc=vpc)
    for id, chosen in (
        ("Public", ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC)),
        ("One", ec2.SubnetSelection(subnets=[vpc.private_subnets[0]])),
    ):
        Reranker(mine, id, vpc=vpc, vpc_subnets=chosen, security_groups=[group], **ASYNC)
    (template,) = templates(mine.node.root).values()  # type: ignore[arg-type]
    found = {
        id: [each["Ref"] for each in model["Properties"]["VpcConfig"]["Subnets"]]
        for id, model in of(template, MODEL).items()
    }
    public, one = (
        next(ids for id, ids in found.items() if id.startswith(name)) for name in ("Public", "One")
    )
    assert [id.partition("Subnet")[0] for id in public] == ["VpcPublic", "VpcPublic"]
    assert [id.partition("Subnet")[0] for id in one] == ["VpcPrivate"]
    assert len(of(template, "AWS::EC2::SecurityGroup")) == 1


def test_the_page_shows_what_works() -> None:
    """The block in docs/deploy.md, in a stack with what it names."""
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8").partition("## In your own CDK app")[2]
    mine = stack()
    vpc, key = ec2.Vpc(mine, "Vpc", max_azs=2), kms.Key(mine, "Key")
    function = iam.Role(mine, "Function", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    exec(blocks(page)[0].text, {"stack": mine, "vpc": vpc, "key": key, "function": function})
    (template,) = templates(mine.node.root).values()  # type: ignore[arg-type]
    assert len(of(template, ENDPOINT)) == 1
    assert any(id.startswith("Slow") for id in of(template, "AWS::CloudWatch::Alarm"))


def test_a_name_is_given_once_a_stack() -> None:
    mine = stack()
    Reranker(mine, "One", name="same", **SERVERLESS)
    with pytest.raises(
        ConfigError, match=r"name is 'same' for two rerankers of stack mine: give each another, or none\."
    ):
        Reranker(mine, "Two", name="same", **SERVERLESS)


def test_our_stacks_stand_in_an_app_that_has_others_and_in_a_stage() -> None:
    app = new_app()
    cdk.Stack(app, "earlier")
    made = build(app, example("serverless"))
    build(cdk.Stage(app, "staged"), example("serverless", name="staged"))
    caller = iam.Role(
        cdk.Stack(app, "later"), "Caller", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com")
    )
    made.grant_invoke(caller)
    found = templates(app)
    assert "endpoint/sagerank" in json.dumps(found["later"])
    assert {"sagerank-model", "sagerank-endpoint", "sagerank-observability"} < found.keys()


def test_cfn_lint_is_clean_in_other_peoples_apps(foreign: dict[str, Template], tmp_path: Path) -> None:
    paths = []
    for name in foreign:
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(foreign[name]), encoding="utf-8")
    code = "from cfnlint.runner import main; main()"
    # W6001: an output with something of another stack, which is what was given from there.
    ignored = ["-i", "W3005", "W6001"]
    done = subprocess.run(
        [sys.executable, "-c", code, *ignored, "-t", *map(str, paths)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
