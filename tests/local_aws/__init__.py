"""A local AWS, good enough for the unmodified CDK command line and boto3: moto's server, and what it lacks.

    python -m tests.local_aws            # prints what to export, and serves until it is interrupted

What is deployed really runs: an endpoint fetches its artefact from the local S3, starts `sagerank_inference.server` with the model's
environment, and is InService once /ping answers 200. resources (CloudFormation types) -> endpoints (SageMaker's API) ->
container (the server) <- runtime (invocations), transform (batch jobs). Pinned to moto 5.2.5: what is patched is internal.
"""
