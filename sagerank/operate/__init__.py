"""A deployment's life after its configuration: deploy, verify, status, idle, transform, destroy.

cdk (the CDK's app and command line), artefact and account (boto3) <- stacks, endpoint, invoke <- deploy, verify, idle, transform, destroy
<- deploying, commands, which say it with screen and terminal.
"""


class OperateError(Exception):
    """What AWS or the CDK would not do; the text says what to change."""
