"""Your own CDK app: a search service with two rerankers, and a pipeline that deploys it to one stage after another.

    pip install 'sagerank[infra]'
    cd examples/cdk/
    sagerank build --model micro --output model.tar.gz
    npx aws-cdk@2.1148.1 synth
    npx aws-cdk@2.1148.1 deploy search
    npx aws-cdk@2.1148.1 deploy search-pipeline

The fourth command runs examples/cdk/app.py, as cdk.json says, and asks AWS for nothing. The fifth deploys the service by
itself, the last one the pipeline that deploys it.
"""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_codepipeline as codepipeline
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as functions
from aws_cdk import pipelines
from constructs import Construct

from sagerank_infra.reranker import Reranker

REPOSITORY, CONNECTION = "me/search", "arn:aws:codeconnections:us-east-1:123456789012:connection/mine"
CODE = """
import json, os, boto3

runtime = boto3.client("sagemaker-runtime")


def handler(event, context):
    answer = runtime.invoke_endpoint(
        EndpointName=os.environ["ENDPOINT"], ContentType="application/json", Body=json.dumps(event)
    )
    return json.load(answer["Body"])
"""


class SearchStack(cdk.Stack):
    """A function that reranks as somebody searches, and tasks that rerank whole collections at night."""

    def __init__(self, scope: Construct, id: str, **stack: Any) -> None:
        super().__init__(scope, id, **stack)
        key = kms.Key(self, "Key", enable_key_rotation=True)
        artefact = self.node.try_get_context("artefact") or "model.tar.gz"

        searching = Reranker(self, "Searching", model="micro", mode="serverless", artefact=artefact, key=key)
        function = functions.Function(
            self,
            "Search",
            runtime=functions.Runtime.PYTHON_3_13,
            handler="index.handler",
            code=functions.Code.from_inline(CODE),
            environment={"ENDPOINT": searching.endpoint_name},
            timeout=cdk.Duration.seconds(60),
        )
        searching.grant_invoke(function)

        nightly = Reranker(
            self,
            "Nightly",
            model="micro",
            mode="async",
            instance="ml.c7i.large",
            autoscaling={"min": 0, "max": 2},
            artefact=artefact,
            key=key,
        )
        tasks = iam.Role(self, "Tasks", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
        nightly.grant_invoke(tasks)
        nightly.metric_queue_age().create_alarm(self, "Late", threshold=4 * 3600, evaluation_periods=1)


class Search(cdk.Stage):
    """The whole service, once for each stage; names of endpoints differ with it."""

    def __init__(self, scope: Construct, id: str, **stage: Any) -> None:
        super().__init__(scope, id, **stage)
        SearchStack(self, "search")


class PipelineStack(cdk.Stack):
    """Deploys what is pushed to `main`: first to Beta, then, when somebody agrees, to Production."""

    def __init__(self, scope: Construct, id: str, **stack: Any) -> None:
        super().__init__(scope, id, **stack)
        source = pipelines.CodePipelineSource.connection(REPOSITORY, "main", connection_arn=CONNECTION)
        commands = [
            "pip install 'sagerank[infra]'",
            "sagerank build --model micro --output model.tar.gz",
            "npx aws-cdk@2.1148.1 synth",
        ]
        pipeline = pipelines.CodePipeline(
            self,
            "Pipeline",
            pipeline_type=codepipeline.PipelineType.V2,
            synth=pipelines.ShellStep("Synth", input=source, commands=commands),
        )
        pipeline.add_stage(Search(self, "Beta"))
        pipeline.add_stage(Search(self, "Production"), pre=[pipelines.ManualApprovalStep("Agree")])


def main() -> None:
    """Write the templates of both."""
    app = cdk.App()
    SearchStack(app, "search")
    PipelineStack(app, "search-pipeline")
    app.synth()


if __name__ == "__main__":
    main()
