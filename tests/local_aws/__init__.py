"""A local AWS, good enough for the unmodified CDK command line and boto3: moto's server, and what it lacks.

    python -m tests.local_aws [--containers]    # prints what to export, and serves until it is interrupted

What is deployed really runs: an endpoint fetches its artefact from the local S3, starts the server with the model's environment, and
is InService once /ping answers 200. With --containers that is the image, which `docker` (CDK_DOCKER) built and pushed to the registry
behind the local ECR; otherwise `sagerank_inference.server` from this source. resources (CloudFormation types) -> endpoints,
components (SageMaker's API) -> images, artefact (what a model needs) -> container, under the limits of a place, with its logs
<- runtime (invocations), transform (batch jobs). Pinned to moto 5.2.5: what is patched is internal.
"""
