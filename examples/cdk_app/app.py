"""Your own CDK app: a reranker by sagerank's stacks, and a function of yours that may call it.

    pip install 'sagerank[infra]'
    sagerank build --model micro --output model.tar.gz
    python examples/cdk_app/app.py --output cdk.out
    npx cdk deploy --all --app 'python examples/cdk_app/app.py'

The third command writes the templates, and asks AWS for nothing.
"""

from __future__ import annotations

import argparse
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as functions
from constructs import Construct

from sagerank_infra import rules
from sagerank_infra.app import Deployment, build

OPTIONS = {"model": "micro", "mode": "serverless", "name": "my-reranker"}
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
    """The caller: it may invoke this one endpoint, and nothing else."""

    def __init__(
        self, scope: Construct, id: str, *, reranker: Deployment, endpoint: str, **stack: Any
    ) -> None:
        super().__init__(scope, id, **stack)
        function = functions.Function(
            self,
            "Search",
            runtime=functions.Runtime.PYTHON_3_13,
            handler="index.handler",
            code=functions.Code.from_inline(CODE),
            environment={"ENDPOINT": endpoint},
            timeout=cdk.Duration.seconds(60),
        )
        arn = self.format_arn(service="sagemaker", resource="endpoint", resource_name=endpoint)
        function.add_to_role_policy(
            iam.PolicyStatement(actions=["sagemaker:InvokeEndpoint"], resources=[arn])
        )
        self.add_stack_dependency(cdk.Stack.of(reranker.endpoint))


def main() -> None:
    """Write the templates of both."""
    parser = argparse.ArgumentParser(description="A reranker, and a function that may call it.")
    parser.add_argument("--output", help="folder of the cloud assembly")
    parser.add_argument("--artefact", default="model.tar.gz", help="a file, or its s3:// address")
    given = parser.parse_args()
    app = cdk.App(outdir=given.output)
    config = rules.read(None, {**OPTIONS, "artefact": given.artefact})
    reranker = build(app, config)
    SearchStack(
        app, "search", reranker=reranker, endpoint=config.name, env=cdk.Environment(region=config.region)
    )
    app.synth()


if __name__ == "__main__":
    main()
