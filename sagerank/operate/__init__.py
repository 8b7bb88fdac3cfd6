"""A deployment's life after its configuration: deploy, verify, status, idle, transform, destroy.

cdk (the CDK command line) and account (boto3) <- stacks, endpoint <- deploy, verify, idle, transform, destroy <- commands.
"""


class OperateError(Exception):
    """What AWS or the CDK would not do; the text says what to change."""
